"""Snapshots in pieces: what a leader remembers of one it sends, and a follower of one it receives.

The leader offers the snapshot (a piece without data) and the follower says where to begin, so a transfer that broke
off goes on where it was, under the next leader, too, if its snapshot has the same digest. One piece is on its way at
a time; reading and writing are the driver's, so neither a slow disk nor a large snapshot delays a heartbeat.
Dissertation chapter 5.
"""

import dataclasses

import blake3

from consensus.raft.messages import Snapshot

__all__ = ("SnapshotReceiver", "SnapshotTransfer")


@dataclasses.dataclass(slots=True)
class SnapshotTransfer:
    """One snapshot to one follower.

    Attributes:
        snapshot: Which.
        deadline: Ask the follower where it is, if it has not said so until then.
        reading: The offset of the piece that the driver was asked to read, until it comes.
    """

    snapshot: Snapshot
    deadline: float
    reading: int | None = None


class SnapshotReceiver:
    """One snapshot from the leader, verified as it comes.

    Attributes:
        snapshot: Which.
        offset: Bytes received.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.offset = 0
        self._hash = blake3.blake3()

    @property
    def is_whole(self) -> bool:
        return self.offset == self.snapshot.size

    @property
    def is_genuine(self) -> bool:
        """Whether the bytes of a whole snapshot are those that the leader's were."""
        return self._hash.digest() == self.snapshot.digest

    def on_chunk(self, offset: int, data: bytes) -> bool:
        """Take a piece. Returns whether it is the next one and not empty."""
        if offset != self.offset or not data:
            return False
        self._hash.update(data)
        self.offset += len(data)
        return True
