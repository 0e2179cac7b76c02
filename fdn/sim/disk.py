"""A simulated disk: what was synced survives a crash; what was not is kept, lost or torn, write by write.

It holds one list of records. `persist` writes records and syncs them; it comes back as durable, as failed, or as
"disk full". After a sync that failed nobody knows what is on the disk, and syncing again does not help, though it says
that it did: the kernel has marked the pages clean (the finding of 2018 about PostgreSQL and `fsync`). So the records of
a failed sync are readable until the process ends, and then as uncertain as any unsynced write, while later ones last.

`Journal` reads records the way a write-ahead log is read: a chain of checksums, and nothing after the first bad link.
"""

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from fdn.sim.latency import Latency, LogNormal
from fdn.sim.world import World

__all__ = ("Disk", "DiskConditions", "DiskOutcome", "Journal")

_CHECK_BYTES: Final = 8


class DiskOutcome(enum.Enum):
    """What came of a write."""

    DURABLE = "durable"
    FULL = "full"  # nothing was written
    FAILED = "failed"  # the sync failed: what is on the disk is unknown until it is read again


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskConditions:
    """What a disk is like.

    Attributes:
        latency: Of each sync. They do not overlap: one waits for the one before.
        sync_failure: Chance that a sync fails.
        bytes_max: Past this it is full; None: never.
    """

    latency: Latency = dataclasses.field(default_factory=functools.partial(LogNormal, 0.0005, 0.5, 0.05))
    sync_failure: float = 0.0
    bytes_max: int | None = None


@dataclasses.dataclass(slots=True, eq=False)
class _Write:
    records: tuple[bytes, ...]
    rewrite: bool  # in the place of everything before: a new file, synced and then renamed
    durable: bool = False
    failed: bool = False


class Disk:
    """The disk of one process. It outlives the process.

    Args:
        world: Time and chance.
        name: Whose disk: it has dice of its own.
        conditions: May be replaced at any time.
    """

    def __init__(self, world: World, name: str, conditions: DiskConditions | None = None) -> None:
        self.usual = conditions or DiskConditions()
        self.conditions = self.usual
        self._world = world
        self._latency_rng = world.rng(f"disk latency of {name}")
        self._fault_rng = world.rng(f"disk faults of {name}")
        self._crash_rng = world.rng(f"disk crashes of {name}")
        self._durable: list[bytes] = []
        self._uncertain: list[_Write] = []  # from the first that is not durable; later ones may be
        self._free_at = world.now
        self._life = 0

    def records(self) -> list[bytes]:
        """What a reader sees: after a crash what survived it, and before also what is not yet synced."""
        records = list(self._durable)
        for write in self._uncertain:
            records = [*write.records] if write.rewrite else [*records, *write.records]
        return records

    def persist(
        self, records: Sequence[bytes], done: Callable[[DiskOutcome], object], *, rewrite: bool = False
    ) -> None:
        """Write records and sync them.

        Args:
            records: Appended to what there is.
            done: Called when it is over; never if a crash comes first.
            rewrite: They take the place of all there is, at once or not at all (a compacted log).
        """
        starts = max(self._world.now, self._free_at)
        ends = self._free_at = starts + self.conditions.latency.draw(self._latency_rng)
        if self.conditions.bytes_max is not None:
            held_bytes = 0 if rewrite else sum(map(len, self.records()))
            if held_bytes + sum(map(len, records)) > self.conditions.bytes_max:
                self._world.at(ends, self._finish, self._life, None, done)
                return
        write = _Write(tuple(records), rewrite)
        self._uncertain.append(write)
        self._world.at(ends, self._finish, self._life, write, done)

    def crash(self, *, power: bool = True) -> None:
        """The process ended; with the machine (`power`), what became of each write that was not synced is decided."""
        self._life += 1
        self._free_at = self._world.now
        if not power:
            return  # it stays in the kernel, where the next life reads it; and a crash may still lose it
        uncertain, self._uncertain = self._uncertain, []
        for write in uncertain:
            if write.durable:
                self._settle(write)
            elif not write.rewrite:
                self._durable.extend(kept for record in write.records if (kept := self._survivor(record)) is not None)
            elif self._crash_rng.random() < 0.5:  # the rename made it, or it did not
                self._settle(write)

    def wipe(self) -> None:
        """Lose everything: a new disk in the old machine."""
        self._life += 1
        self._durable.clear()
        self._uncertain.clear()

    def _settle(self, write: _Write) -> None:
        if write.rewrite:
            self._durable.clear()
        self._durable.extend(write.records)

    def _survivor(self, record: bytes) -> bytes | None:
        dice = self._crash_rng.random()
        if dice < 1 / 3:
            return record
        if dice < 2 / 3 or not record:
            return None
        return record[: self._crash_rng.randrange(len(record))]

    def _finish(self, life: int, write: _Write | None, done: Callable[[DiskOutcome], object]) -> None:
        if life != self._life:
            return
        if write is None:
            done(DiskOutcome.FULL)
            return
        if self.conditions.sync_failure and self._fault_rng.random() < self.conditions.sync_failure:
            write.failed = True
            done(DiskOutcome.FAILED)
            return
        position = self._uncertain.index(write)
        if write.rewrite:
            self._durable = [*write.records]
            del self._uncertain[: position + 1]
        else:
            for earlier in self._uncertain[: position + 1]:
                earlier.durable = earlier.durable or not earlier.failed  # also what a killed process had written
            while self._uncertain and self._uncertain[0].durable:
                self._settle(self._uncertain.pop(0))
        done(DiskOutcome.DURABLE)


class Journal:
    """Frames values as records of a chain, so that a reader knows where it is broken.

    Args:
        records: What the disk holds. Everything from the first broken link on is left out of `values`.

    Attributes:
        values: What could be read, in order.
        broken_count: Records that could not. Before anything is appended, those must go (`persist(rewrite=True)`), or
            nobody will ever read past them.
    """

    def __init__(self, records: Sequence[bytes] = ()) -> None:
        self._link = bytes(_CHECK_BYTES)
        self.values: list[bytes] = []
        for record in records:
            value = record[_CHECK_BYTES:]
            if len(record) < _CHECK_BYTES or record[:_CHECK_BYTES] != self._check(value):
                break
            self._link = record[:_CHECK_BYTES]
            self.values.append(value)
        self.broken_count = len(records) - len(self.values)

    def frame(self, value: bytes) -> bytes:
        """The next record of the chain."""
        self._link = self._check(value)
        return self._link + value

    def _check(self, value: bytes) -> bytes:
        return hashlib.blake2b(self._link + value, digest_size=_CHECK_BYTES).digest()
