"""What changed, and when: for watches that go on from a revision.

It is this node's own and no part of the state: how far back it reaches may differ between nodes, and after a snapshot
was loaded it begins there. Who asks for more is told, and reads everything anew.
"""

import bisect
import collections
from collections.abc import Sequence

import msgspec

from consensus.machine.commands import KeyValue

__all__ = ("Compacted", "History", "KeyChange")


class KeyChange(msgspec.Struct, frozen=True, array_like=True):
    """One key changed.

    Attributes:
        revision: Of the change; those of one transaction have the same.
        now: As it is from then on; None if it was removed.
        before: As it was; None if it was created.
    """

    revision: int
    key: str
    now: KeyValue | None
    before: KeyValue | None


class Compacted(Exception):
    """The changes asked for are not here any more.

    Attributes:
        oldest: The first revision from which on all changes are known.
    """

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"changes from revision {asked} on are not kept any more; from {oldest} on they are")
        self.oldest = oldest


class History:
    """The newest changes of one node.

    Args:
        changes_max: How many are kept, at least those of one revision.
        start: The revision that the state has at the start.
    """

    def __init__(self, changes_max: int, start: int = 0) -> None:
        if changes_max <= 0:
            raise ValueError(f"changes_max={changes_max} keeps nothing; give a positive number")
        self._max = changes_max
        self._changes: collections.deque[KeyChange] = collections.deque()
        self._oldest = start + 1

    @property
    def oldest(self) -> int:
        """The first revision from which on all changes are known."""
        return self._oldest

    def add(self, changes: Sequence[KeyChange]) -> None:
        """One revision's changes."""
        self._changes.extend(changes)
        while len(self._changes) > self._max and self._changes[0].revision != self._changes[-1].revision:
            gone = self._changes.popleft().revision
            while self._changes[0].revision == gone:
                self._changes.popleft()
            self._oldest = gone + 1

    def reset(self, revision: int) -> None:
        """The state was replaced by one of this revision."""
        self._changes.clear()
        self._oldest = revision + 1

    def since(self, revision: int, prefix: str = "", exact: bool = False) -> list[KeyChange]:
        """Changes from `revision` on, of keys that begin with `prefix` (or are it), in order.

        Raises:
            Compacted: They are not all here.
        """
        if revision < self._oldest:
            raise Compacted(revision, self._oldest)
        first = bisect.bisect_left(self._changes, revision, key=_revision)
        wanted = (self._changes[at] for at in range(first, len(self._changes)))
        if exact:
            return [change for change in wanted if change.key == prefix]
        return [change for change in wanted if change.key.startswith(prefix)]


def _revision(change: KeyChange) -> int:
    return change.revision
