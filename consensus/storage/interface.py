"""What a storage does. All of it waits for the disk, so it runs on a thread of its own; one caller at a time."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from consensus.identity import LogIndex, Term
from consensus.raft.configuration import Configuration
from consensus.raft.interface import Compact, Durable, Persist, Restore, StoreChunk
from consensus.raft.messages import Snapshot

__all__ = ("Opened", "Storage", "Write")

Write = Persist | StoreChunk | Restore | Compact


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """What was found at the start.

    Attributes:
        durable: For the core.
        is_new: Nothing was there: this node has never been in the group.
        loss: In words, what had been written and is not there any more; empty if nothing is missing. `durable.floor`
            then keeps the node from voting before it has got it back.
    """

    durable: Durable
    is_new: bool
    loss: str = ""


class Storage(Protocol):
    """Log, term, vote and snapshots of one node in one group."""

    def open(self) -> Opened:
        """Read and check everything.

        Raises:
            DirectoryLocked: Another process uses it.
            StorageForeign: It belongs to another node, or to a version that we are not.
            LogCorrupted: A checksum does not hold.
            StorageFailed: It cannot be read or written at all.
        """

    def write(self, writes: Sequence[Write]) -> None:
        """Carry out the core's effects, in their order and all at once (group commit); they are on the disk when it
        returns. Give all that have gathered: they share one fsync.

        Raises:
            StorageFailed: They may be there or not. This storage is of no use any more.
        """

    def save_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, pieces: Iterable[bytes]
    ) -> Snapshot:
        """Write a snapshot of the state machine. It counts from the `Compact` that names it.

        Raises:
            StorageFailed: As `write`.
        """

    def read_snapshot(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Its bytes, in pieces, checked at the end.

        Raises:
            LogCorrupted: They are not those that were written, or are not there.
        """

    def read_chunk(self, snapshot: Snapshot, offset: int, length: int) -> bytes | None:
        """A piece of it; None if that snapshot is not there any more."""

    def tidy(self) -> None:
        """Work that can wait for a quiet moment: move the write-ahead log into the database.

        Raises:
            StorageFailed: As `write`.
        """

    def close(self) -> None:
        """Let go of it. Idempotent."""
