import pytest

from consensus.machine import (
    ABSENT,
    Compare,
    Delete,
    Get,
    KeyChange,
    KeyValue,
    MachineLimits,
    Operator,
    Property,
    Put,
    Txn,
    TxnResult,
)
from consensus.machine.store import Store, TooMuch

EQUAL, UNEQUAL, LESS, GREATER = Operator


class Kept:
    """A store, and its revision."""

    def __init__(self, limits: MachineLimits | None = None) -> None:
        self.store = Store(limits or MachineLimits())
        self.revision = 0
        self.changes: list[KeyChange] = []

    def do(self, *then: Put | Delete | Get, when: tuple[Compare, ...] = (), session: int = 0) -> TxnResult:
        return self.txn(Txn(when, then), session)

    def txn(self, txn: Txn, session: int = 0) -> TxnResult:
        self.revision += 1
        self.store.check(txn)
        result, self.changes = self.store.carry_out(txn, self.revision, session)
        return result

    def keys(self, prefix: str = "", **more: object) -> list[str]:
        return [row.key for row in self.store.get(Get(prefix, prefix=True, **more))]  # type: ignore[arg-type]


def test_revisions_and_versions():
    kept = Kept()
    kept.do(Put("a", b"1"))
    kept.do(Put("b", b"1"))
    assert kept.do(Put("a", b"2")).rows == ((KeyValue("a", b"1", 1, 1, 1),),)
    assert kept.store.get(Get("a")) == (KeyValue("a", b"2", 1, 3, 2),)
    kept.do(Delete("a"))
    assert kept.store.get(Get("a")) == ()
    kept.do(Put("a", b"3"))
    assert kept.store.get(Get("a")) == (KeyValue("a", b"3", 5, 5, 1),)


def test_prefixes_are_ranges_and_can_be_read_in_parts():
    kept = Kept(MachineLimits(rows_max=3))
    for key in ("b/2", "a", "b/1", "c", "b/3", "b", "b/\U0010ffffz", "b0"):
        kept.do(Put(key, b""))
    assert kept.keys("b/") == ["b/1", "b/2", "b/3"]
    assert kept.keys("b/", start="b/3\0") == ["b/\U0010ffffz"]
    assert kept.keys("b/", limit=1) == ["b/1"]
    assert kept.keys("x") == []
    assert len(kept.do(Delete("b/", prefix=True)).rows[0]) == 3
    assert kept.keys() == ["a", "b", "b0"]
    assert kept.keys("", start="b0") == ["b0", "c"]


@pytest.mark.parametrize(
    ("condition", "there", "not_there"),
    [
        (Compare("k", Property.VALUE, EQUAL, value=b"v"), True, False),
        (Compare("k", Property.VALUE, UNEQUAL, value=b"v"), False, True),
        (Compare("k", Property.VALUE, GREATER, value=b"a"), True, False),
        (Compare("k", Property.VALUE, LESS, value=b"a"), False, False),
        (Compare("k", Property.CREATED, EQUAL, ABSENT), False, True),
        (Compare("k", Property.CREATED, EQUAL, 1), True, False),
        (Compare("k", Property.MODIFIED, GREATER, 1), True, False),
        (Compare("k", Property.VERSION, EQUAL, 2), True, False),
        (Compare("k", Property.VERSION, LESS, 1), False, True),
    ],
)
def test_conditions(condition: Compare, there: bool, not_there: bool):
    kept = Kept()
    assert kept.store.holds(condition) is not_there
    kept.do(Put("k", b"u"))
    kept.do(Put("k", b"v"))
    assert kept.store.holds(condition) is there


def test_one_branch_or_the_other():
    kept = Kept()
    create = Txn((Compare("k", Property.VERSION, EQUAL, ABSENT),), (Put("k", b"mine"),), (Get("k"),))
    assert kept.txn(create) == TxnResult(True, ((),), 1)
    assert kept.txn(create) == TxnResult(False, ((KeyValue("k", b"mine", 1, 1, 1),),), 2)
    assert kept.changes == []


def test_a_transaction_sees_what_it_does_and_changes_each_key_once():
    kept = Kept()
    result = kept.do(Put("a", b"1"), Get("a"), Put("a", b"2"), Put("b", b""), Delete("b"))
    assert [row.value for row in result.rows[1]] == [b"1"]
    [change] = kept.changes
    assert (change.key, change.before) == ("a", None)
    assert change.now == KeyValue("a", b"2", 1, 1, 2)


def test_what_is_ephemeral_goes_with_its_session_and_whoever_puts_it_last_owns_it():
    kept = Kept()
    kept.do(Put("a", b"", ephemeral=True), Put("b", b"", ephemeral=True), Put("c", b""), session=7)
    kept.do(Put("b", b"taken over", ephemeral=True), session=8)
    kept.do(Put("d", b"", ephemeral=True), session=7)
    kept.do(Put("d", b"made to last"), session=7)
    assert [change.key for change in kept.store.end_session(7, 9)] == ["a"]
    assert kept.keys() == ["b", "c", "d"]
    assert kept.store.end_session(7, 10) == []
    assert [change.key for change in kept.store.end_session(8, 11)] == ["b"]


@pytest.mark.parametrize(
    ("txn", "says"),
    [
        (Txn(then=(Put("", b""),)), "at least one character"),
        (Txn(then=(Get(""),)), "at least one character"),
        (Txn(then=(Put("k" * 11, b""),)), "10 bytes"),
        (Txn(otherwise=(Put("ü" * 6, b""),)), "10 bytes"),
        (Txn(then=(Put("k", bytes(21)),)), "21 bytes exceeds 20"),
        (Txn(when=(Compare("k", Property.VERSION, EQUAL, 1),) * 4), "3 conditions"),
        (Txn(then=(Put("a", bytes(20)), Put("b", bytes(20)))), "42 more exceed 40"),
    ],
)
def test_limits_are_checked_before_anything_is_done(txn: Txn, says: str):
    limits = MachineLimits(key_bytes_max=10, value_bytes_max=20, operations_max=3, bytes_max=40)
    kept = Kept(limits)
    with pytest.raises(TooMuch, match=says):
        kept.txn(txn)
    assert (len(kept.store), kept.store.size) == (0, 0)


def test_its_size_is_that_of_what_it_holds():
    kept = Kept()
    kept.do(Put("key", bytes(100)), Put("ü", bytes(10), ephemeral=True), session=4)
    assert kept.store.size == 3 + 100 + 2 + 10
    kept.do(Put("key", bytes(50)))
    kept.store.end_session(4, 9)
    assert kept.store.size == 53
    kept.do(Delete("", prefix=True))
    assert (kept.store.size, len(kept.store)) == (0, 0)


def test_it_can_be_taken_over_as_a_whole():
    kept, other = Kept(), Kept()
    kept.do(Put("b", b"1", ephemeral=True), Put("a", b"2"), session=4)
    other.do(Put("z", b"gone"))
    other.store.load(kept.store.dump())
    assert list(other.store.dump()) == list(kept.store.dump())
    assert (other.store.size, len(other.store)) == (kept.store.size, 2)
    assert [change.key for change in other.store.end_session(4, 9)] == ["b"]
