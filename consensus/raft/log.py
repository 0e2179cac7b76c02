"""The log in memory: entries since the last compaction, and the configurations among them.

A leader serves its followers from here, so the core never waits for a disk. What bounds it is compaction
(`snapshot_after_bytes`) together with `uncommitted_bytes_max`. What of it is on the disk is `durability`'s to know.
"""

import bisect
from collections.abc import Sequence
from typing import Final

from consensus.identity import LogIndex, Term
from consensus.raft import configuration
from consensus.raft.configuration import Configuration
from consensus.raft.messages import Entry, EntryKind, Snapshot

__all__ = ("ENTRY_OVERHEAD_BYTES", "Log")

ENTRY_OVERHEAD_BYTES: Final = 16  # what an entry without data counts for: an endless stream of those is bounded, too


class Log:
    """A run of entries after a base that was compacted away.

    Attributes:
        snapshot: The newest snapshot. Entries after the base and up to it are kept for followers a little behind.
        base_index: The last entry that is gone.
        base_term: Its term.
    """

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry] = ()) -> None:
        self._begin(snapshot)
        self.append([entry for entry in entries if entry.index > snapshot.index])

    def _begin(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.base_index = snapshot.index
        self.base_term = snapshot.term
        self._entries: list[Entry] = []
        self._ends: list[int] = []  # bytes up to and with each entry, counted from `_start`
        self._start = 0
        self._configurations = [(snapshot.index, snapshot.configuration)]

    @property
    def last_index(self) -> LogIndex:
        return LogIndex(self.base_index + len(self._entries))

    @property
    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def configuration(self) -> Configuration:
        """The newest, committed or not: this is the one in force."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> LogIndex:
        return self._configurations[-1][0]

    def configuration_at(self, index: LogIndex) -> Configuration:
        """The one in force at an index that is not compacted away."""
        return next(it for at, it in reversed(self._configurations) if at <= index)

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of an entry, of the base, too; None if it is compacted away or not there yet."""
        place = index - self.base_index
        if place == 0:
            return self.base_term
        return self._entries[place - 1].term if 0 < place <= len(self._entries) else None

    def is_up_to_date(self, last_index: LogIndex, last_term: Term) -> bool:
        """Whether a log with this end may lead us. Dissertation section 3.6.1."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def entries(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Those from `first` to `last`, both in the log."""
        return tuple(self._entries[first - self.base_index - 1 : last - self.base_index])

    def batch(self, first: LogIndex, last: LogIndex, bytes_max: int, entries_max: int) -> tuple[Entry, ...]:
        """As many from `first` on as fit, and one at least if `first` is no later than `last`."""
        place = first - self.base_index - 1
        fitting = bisect.bisect_right(self._ends, self._end_at(place) + bytes_max, place, last - self.base_index)
        return tuple(self._entries[place : min(max(fitting, place + 1), place + entries_max, last - self.base_index)])

    def bytes_between(self, first: LogIndex, last: LogIndex) -> int:
        """What the entries from `first` to `last` count for."""
        low = max(first - self.base_index - 1, 0)
        return self._end_at(max(last - self.base_index, low)) - self._end_at(low)

    def hint(self, index: LogIndex, term: Term) -> tuple[LogIndex, Term]:
        """The greatest place no later than `index` with a term no higher than `term`.

        Both sides use it: the follower answers a mismatch at (index, term) with it, for nothing above can match, and
        the leader looks from that answer in its own log in the same way. Each exchange skips a whole term at least.
        """
        high = max(0, min(index, self.last_index) - self.base_index)
        place = bisect.bisect_right(self._entries, term, 0, high, key=_term_of)
        return LogIndex(self.base_index + place), self._entries[place - 1].term if place else self.base_term

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one."""
        if not entries:
            return
        assert entries[0].index == self.last_index + 1, (entries[0].index, self.last_index)
        end = self._end_at(len(self._entries))
        for entry in entries:
            end += len(entry.data) + ENTRY_OVERHEAD_BYTES
            self._ends.append(end)
            if entry.kind is EntryKind.CONFIGURATION:
                self._configurations.append((entry.index, configuration.decode(entry.data)))
        self._entries.extend(entries)

    def truncate(self, first: LogIndex) -> None:
        """Remove everything from `first` on, configurations included: the one before is in force again."""
        place = first - self.base_index - 1
        assert place >= 0, (first, self.base_index)
        del self._entries[place:], self._ends[place:]
        while self._configurations[-1][0] >= first:
            self._configurations.pop()

    def compact(self, snapshot: Snapshot, trailing_count: int) -> None:
        """Note a newer snapshot, and forget what it replaces but for the last `trailing_count` entries."""
        self.snapshot = snapshot
        upto = LogIndex(max(self.base_index, snapshot.index - trailing_count))
        term = self.term_at(upto)
        assert term is not None, (upto, self.base_index, self.last_index)
        place = upto - self.base_index
        self._start = self._end_at(place)
        del self._entries[:place], self._ends[:place]
        in_force = self.configuration_at(upto)
        self._configurations = [(upto, in_force), *((at, it) for at, it in self._configurations if at > upto)]
        self.base_index, self.base_term = upto, term

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew after a snapshot from the leader."""
        self._begin(snapshot)

    def _end_at(self, count: int) -> int:
        """Bytes of the first `count` entries, from the same zero as `_ends`."""
        return self._ends[count - 1] if count else self._start


def _term_of(entry: Entry) -> Term:
    return entry.term
