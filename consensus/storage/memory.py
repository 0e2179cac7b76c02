"""A storage that forgets: for tests, and for clusters that may lose everything when they stop.

Who keeps its log here is a *new* voter at every start, with an id of its own: it cannot remember how it has voted.
"""

from collections.abc import Iterable, Iterator, Sequence

import blake3

from consensus.identity import LogIndex, Term
from consensus.raft.configuration import Configuration
from consensus.raft.interface import Durable, Restore, StoreChunk
from consensus.raft.messages import Snapshot
from consensus.storage.errors import LogCorrupted
from consensus.storage.interface import Opened, Write

__all__ = ("MemoryStorage",)


class MemoryStorage:
    """See the module and `consensus.storage.Storage`. It keeps snapshots only: nobody will read the log again.

    Args:
        founding: What a new member begins with.
    """

    def __init__(self, founding: Snapshot) -> None:
        self._founding = founding
        self._received = bytearray()
        self._snapshots: dict[tuple[LogIndex, Term], bytes] = {}

    def open(self) -> Opened:
        """See `Storage.open`. Always new."""
        return Opened(Durable(self._founding), is_new=True)

    def write(self, writes: Sequence[Write]) -> None:
        """See `Storage.write`."""
        for write in writes:
            match write:
                case StoreChunk():
                    del self._received[write.offset :]
                    self._received += write.data
                case Restore(snapshot=snapshot):
                    data = bytes(self._received)
                    if len(data) != snapshot.size or blake3.blake3(data).digest() != snapshot.digest:
                        raise LogCorrupted(f"the snapshot of {snapshot.index} is not what its leader says")
                    self._snapshots = {(snapshot.index, snapshot.term): data}
                    self._received.clear()

    def save_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, pieces: Iterable[bytes]
    ) -> Snapshot:
        """See `Storage.save_snapshot`."""
        data = b"".join(pieces)
        self._snapshots = {(index, term): data}
        return Snapshot(index, term, configuration, len(data), blake3.blake3(data).digest())

    def read_snapshot(self, snapshot: Snapshot) -> Iterator[bytes]:
        """See `Storage.read_snapshot`."""
        data = self._snapshots.get((snapshot.index, snapshot.term))
        if data is None:
            raise LogCorrupted(f"there is no snapshot of {snapshot.index}")
        yield data

    def read_chunk(self, snapshot: Snapshot, offset: int, length: int) -> bytes | None:
        """See `Storage.read_chunk`."""
        data = self._snapshots.get((snapshot.index, snapshot.term))
        return None if data is None else data[offset : offset + length]

    def tidy(self) -> None:
        """See `Storage.tidy`. There is nothing to tidy."""

    def close(self) -> None:
        """See `Storage.close`."""
        self._snapshots.clear()
