"""Which of several parallel connections to a peer a message takes.

Messages with a partition key keep their order: keys are hashed into buckets, and a bucket stays on one lane. When the
number of lanes in use changes, a bucket moves only once everything that was sent of it is known to have been received;
one that is never quiet stays where it is. That is the rule of Partisan's `partition_key` (a key modulo the number of
connections) made safe for a number that changes.

Messages without a key go where they wait least: large ones to the last lane, so that small ones do not queue behind
them, urgent ones to the emptiest, and the others stay on one lane until it is behind another by a whole batch, because
a batch that is spread over lanes is no batch.
"""

import zlib
from collections.abc import Sequence
from typing import Final, Protocol

__all__ = ("BUCKETS", "BULK_BYTES", "LaneLoad", "LaneTable", "choose_lane")

BUCKETS: Final = 256
BULK_BYTES: Final = 64 * 1024  # a batch; what is larger travels alone
_LAG_BYTES: Final = 64 * 1024


class LaneLoad(Protocol):
    """What counts of an open lane: a `transports.transport.Connection` is one."""

    @property
    def backlog(self) -> int:
        """Estimated bytes that wait in its queue."""

    @property
    def has_credit(self) -> bool:
        """Whether the peer takes a further batch now."""


class LaneTable:
    """The lanes of keys.

    Args:
        active: How many lanes are in use at first; raise or lower it with `set_active`.
    """

    def __init__(self, active: int) -> None:
        self.active = active
        self._lanes: list[int] = [-1] * BUCKETS  # by bucket; -1: never used
        self._last: list[int] = [0] * BUCKETS  # by bucket: number on its lane of what was sent last
        self._sent: dict[int, int] = {}  # by lane: keyed messages handed to it
        self._received: dict[int, int] = {}  # by lane: those of them that are known to have been received, or lost

    def set_active(self, lanes: int) -> None:
        """Use so many lanes from now on; buckets move when they are quiet."""
        self.active = lanes

    def lane_of(self, key: str | bytes) -> int:
        """Where a message of this key must go now. Ask again after waiting for anything."""
        bucket = _bucket(key)
        lane, wanted = self._lanes[bucket], bucket % self.active
        if lane == wanted:
            return lane
        if lane < 0 or self._last[bucket] <= self._received.get(lane, 0):
            self._lanes[bucket] = lane = wanted
            self._last[bucket] = 0
        return lane

    def on_sent(self, key: str | bytes) -> None:
        """A message of this key was handed to the lane that `lane_of` named."""
        bucket = _bucket(key)
        lane = self._lanes[bucket]
        self._last[bucket] = self._sent[lane] = self._sent.get(lane, 0) + 1

    def mark(self, lane: int) -> int:
        """A number for `on_received`: it stands for all that was handed to this lane so far."""
        return self._sent.get(lane, 0)

    def on_received(self, lane: int, mark: int) -> None:
        """The peer has received all that `mark` stands for; or it never will, because the connection is lost."""
        self._received[lane] = max(self._received.get(lane, 0), mark)

    def stray(self) -> int:
        """Buckets that wait to be moved to the lane where they belong."""
        return sum(0 <= lane != bucket % self.active for bucket, lane in enumerate(self._lanes))


def choose_lane(lanes: Sequence[LaneLoad | None], current: int, size: int, priority: int) -> tuple[int, str]:
    """The lane of a message without a key, and why.

    Args:
        lanes: Those in use; None is one that is not open. The first is taken if none is.
        current: Where small messages went last.
        size: Bytes of the body.
        priority: As on the wire: above 0 is urgent.
    """
    last = len(lanes) - 1
    if size > BULK_BYTES and last > 0 and lanes[last] is not None:
        return last, "large: the last lane, out of the way of small messages"
    best, best_rank = 0, (2, 0)
    for index, lane in enumerate(lanes):
        if lane is None or (index == last > 0 and lane.backlog > BULK_BYTES):  # bulk is under way there
            continue
        rank = (0 if lane.has_credit else 1, lane.backlog)
        if rank < best_rank:
            best, best_rank = index, rank
    if priority > 0:
        return best, "urgent: the emptiest lane"
    held = lanes[current] if current <= last else None
    if held is not None and held.has_credit and held.backlog <= best_rank[1] + _LAG_BYTES:
        return current, "small: the lane of those before it, whose batch it joins"
    return best, "small: the emptiest lane, as the one before it has fallen behind"


def _bucket(key: str | bytes) -> int:
    return zlib.crc32(key.encode() if isinstance(key, str) else key) % BUCKETS
