"""Keys, values and revisions."""

import bisect
import itertools
from collections.abc import Iterable, Iterator

import msgspec

from consensus.machine.commands import ABSENT, Compare, Delete, Get, KeyValue, Operator, Property, Put, Txn, TxnResult
from consensus.machine.history import KeyChange
from consensus.machine.limits import MachineLimits

__all__ = ("Store", "TooMuch")


class TooMuch(Exception):
    """A limit would be exceeded; says which."""


class Store:
    """The key-value half of a machine. What it does depends on nothing but its arguments and what it holds."""

    def __init__(self, limits: MachineLimits) -> None:
        self._limits = limits
        self._rows: dict[str, KeyValue] = {}
        self._keys: list[str] = []  # sorted: prefixes are ranges
        self._owned: dict[int, set[str]] = {}  # ephemeral keys by session
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)

    def check(self, txn: Txn) -> None:
        """Whether it may be carried out, before anything of it is.

        Raises:
            TooMuch: A limit would be exceeded.
        """
        limits = self._limits
        if max(len(txn.when), len(txn.then), len(txn.otherwise)) > limits.operations_max:
            raise TooMuch(f"a transaction may have {limits.operations_max} conditions and as many operations")
        for operation in (*txn.when, *txn.then, *txn.otherwise):
            if not operation.key and not (isinstance(operation, Get | Delete) and operation.prefix):
                raise TooMuch("a key needs at least one character")
            if len(operation.key.encode()) > limits.key_bytes_max:
                raise TooMuch(f"a key may have {limits.key_bytes_max} bytes: {operation.key[:40]!r}...")
            if isinstance(operation, Put) and len(operation.value) > limits.value_bytes_max:
                raise TooMuch(f"a value of {len(operation.value)} bytes exceeds {limits.value_bytes_max}")
        for branch in (txn.then, txn.otherwise):
            added = sum(len(each.key.encode()) + len(each.value) for each in branch if isinstance(each, Put))
            if added and self._bytes + added > limits.bytes_max:
                raise TooMuch(f"{self._bytes} bytes are held, and {added} more exceed {limits.bytes_max}")

    def carry_out(self, txn: Txn, revision: int, session: int) -> tuple[TxnResult, list[KeyChange]]:
        """Do it; `check` has passed."""
        holds = all(map(self.holds, txn.when))
        changes: list[KeyChange] = []
        rows: list[tuple[KeyValue, ...]] = []
        for operation in txn.then if holds else txn.otherwise:
            match operation:
                case Put():
                    rows.append(self._put(operation, revision, session, changes))
                case Delete():
                    rows.append(self._delete(operation, revision, changes))
                case Get():
                    rows.append(self.get(operation))
        return TxnResult(holds, tuple(rows), revision), _merged(changes)

    def holds(self, condition: Compare) -> bool:
        """Whether it does."""
        row = self._rows.get(condition.key)
        found: int | bytes
        wanted: int | bytes = condition.number
        match condition.property:
            case Property.VALUE:
                if row is None:
                    return condition.operator is Operator.UNEQUAL
                found, wanted = row.value, condition.value
            case Property.CREATED:
                found = ABSENT if row is None else row.created
            case Property.MODIFIED:
                found = ABSENT if row is None else row.modified
            case Property.VERSION:
                found = ABSENT if row is None else row.version
        match condition.operator:
            case Operator.EQUAL:
                return found == wanted
            case Operator.UNEQUAL:
                return found != wanted
            case Operator.LESS:
                return found < wanted  # type: ignore[operator]  # both numbers, or both bytes
            case Operator.GREATER:
                return found > wanted  # type: ignore[operator]

    def get(self, wanted: Get) -> tuple[KeyValue, ...]:
        """What is there now."""
        if not wanted.prefix:
            row = self._rows.get(wanted.key)
            return () if row is None else (row,)
        limit = min(wanted.limit or self._limits.rows_max, self._limits.rows_max)
        first = bisect.bisect_left(self._keys, max(wanted.key, wanted.start))
        found: list[KeyValue] = []
        for at in range(first, min(first + limit, len(self._keys))):
            if not self._keys[at].startswith(wanted.key):
                break
            found.append(self._rows[self._keys[at]])
        return tuple(found)

    def end_session(self, session: int, revision: int) -> list[KeyChange]:
        """Remove what is ephemeral of it."""
        changes: list[KeyChange] = []
        for key in sorted(self._owned.get(session, ())):
            self._remove(key, revision, changes)
        return changes

    # -- as a whole

    def dump(self) -> Iterator[KeyValue]:
        """All rows, in the order of their keys."""
        return (self._rows[key] for key in self._keys)

    def load(self, rows: Iterable[KeyValue]) -> None:
        """Hold these and nothing else; they come in the order of their keys."""
        self._rows = {row.key: row for row in rows}
        self._keys = list(self._rows)
        self._owned = {}
        self._bytes = 0
        for row in self._rows.values():
            self._bytes += _weight(row)
            if row.session:
                self._owned.setdefault(row.session, set()).add(row.key)

    # -- one row

    def _put(self, put: Put, revision: int, session: int, changes: list[KeyChange]) -> tuple[KeyValue, ...]:
        before = self._rows.get(put.key)
        owner = session if put.ephemeral else 0
        if before is None:
            now = KeyValue(put.key, put.value, revision, revision, 1, owner)
            bisect.insort(self._keys, put.key)
        else:
            now = KeyValue(put.key, put.value, before.created, revision, before.version + 1, owner)
            self._bytes -= _weight(before)
            self._disown(before)
        self._rows[put.key] = now
        self._bytes += _weight(now)
        if owner:
            self._owned.setdefault(owner, set()).add(put.key)
        changes.append(KeyChange(revision, put.key, now, before))
        return () if before is None else (before,)

    def _delete(self, delete: Delete, revision: int, changes: list[KeyChange]) -> tuple[KeyValue, ...]:
        keys = [delete.key] if delete.key in self._rows else []
        if delete.prefix:
            from_here = itertools.islice(self._keys, bisect.bisect_left(self._keys, delete.key), None)
            keys = list(itertools.takewhile(lambda key: key.startswith(delete.key), from_here))
        found = tuple(self._rows[key] for key in keys)
        for key in keys:
            self._remove(key, revision, changes)
        return found[: self._limits.rows_max]

    def _remove(self, key: str, revision: int, changes: list[KeyChange]) -> None:
        row = self._rows.pop(key)
        del self._keys[bisect.bisect_left(self._keys, key)]
        self._bytes -= _weight(row)
        self._disown(row)
        changes.append(KeyChange(revision, key, None, row))

    def _disown(self, row: KeyValue) -> None:
        if row.session:
            keys = self._owned[row.session]
            keys.discard(row.key)
            if not keys:
                del self._owned[row.session]


def _weight(row: KeyValue) -> int:
    return len(row.key.encode()) + len(row.value)


def _merged(changes: list[KeyChange]) -> list[KeyChange]:
    """A transaction that touches a key twice has changed it once, from what it was to what it is."""
    if len(changes) < 2:
        return changes
    merged: dict[str, KeyChange] = {}
    for change in changes:
        first = merged.get(change.key)
        merged[change.key] = change if first is None else msgspec.structs.replace(change, before=first.before)
    return [change for change in merged.values() if change.now is not None or change.before is not None]
