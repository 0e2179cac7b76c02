"""All segments of one node: those that it made, those of others that it has mapped, and those on their way to peers.

**In flight.** A handle in a message is worth something only while the segment is there when it arrives. So the sender
keeps a hold on the segment (`lend`) until the receiver has mapped it and says so (`returned`), or the connection that
it travelled on has ended (`forget`). Receivers map when a message arrives, before anybody decides what becomes of it:
one that is dropped, or whose receiver crashes, leaves nothing behind.

**Spares.** Fresh pages, and even the first touch of old ones through a new mapping, cost several times what is
written to them. So segments up to `spare_bytes_max` in all are kept, mapped, and used again, under a new name, once
nothing here refers to one and no other process has a lock on it. All others end with their last reference.

Making a segment may happen on any thread, and the end of one is wherever its last reference goes; all else belongs to
one thread.
"""

import dataclasses
import os
import sys
import threading
import weakref
from typing import Final

from transports.errors import SegmentUnavailable
from transports.shm.names import FOLDER, is_name, open_shared, sweep
from transports.shm.segment import Segment, make_segment, map_segment, release_segment, rename_unused

__all__ = ("Loan", "Pool", "PoolStats")

_PAGE: Final = 4096
_WASTE: Final = 2  # a spare may be so many times larger than what is wanted


@dataclasses.dataclass(frozen=True, slots=True)
class PoolStats:
    """What there is now, and counters since the start."""

    own: int  # segments made here that something here refers to
    own_bytes: int
    mapped: int  # segments of other processes
    mapped_bytes: int
    spare_bytes: int  # kept to be used again
    in_flight: int  # handles sent, and not known to have arrived
    passed: int  # handles sent since the start
    received: int
    copied: int  # handles received whose content was copied, because too many are mapped
    refused: int  # segments that could not be had: /dev/shm is full, or a bound was reached
    lost: int  # handles received whose segment was not there
    swept: int  # files of processes that were killed, removed by us


class Loan:
    """One connection's way to lend segments to the peer at its other end, which is on this host.

    Attributes:
        peer: Its node id.
    """

    __slots__ = ("_pool", "peer")

    def __init__(self, pool: "Pool", peer: str) -> None:
        self._pool = pool
        self.peer = peer

    def lend(self, segment: Segment) -> int:
        """See `Pool.lend`."""
        return self._pool.lend(segment, self)

    def end(self) -> None:
        """The connection has ended."""
        self._pool.forget(self)


class Pool:
    """See the module.

    Args:
        bytes_max: Of segments made here.
        segments_max: Made here or mapped, at once; each costs two descriptors.
        spare_bytes_max: Of segments that are kept to be used again.
        folder: Where shared memory is.
    """

    def __init__(self, bytes_max: int, segments_max: int, spare_bytes_max: int, folder: str = FOLDER) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._segments_max = segments_max
        self._spare_bytes_max = spare_bytes_max
        self._making = threading.Lock()
        self._own: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._mapped: weakref.WeakValueDictionary[str, Segment] = weakref.WeakValueDictionary()
        self._kept: list[Segment] = []  # the oldest first; some of them in use
        self._lent: dict[int, tuple[Loan, Segment]] = {}
        self._next_token = 1
        self._passed = self._received = self._copied = self._refused = self._lost = self._swept = 0

    # -- making

    def allocate(self, size: int) -> Segment:
        """Memory to be filled, at least `size` bytes; it holds anything at first. From any thread.

        Takes about a third of a second a GiB, unless a spare is used.

        Raises:
            SegmentUnavailable: /dev/shm is full, or there is none, or a bound is reached.
        """
        size = -(-size // _PAGE) * _PAGE
        with self._making:
            segment = self._used_again(size)
            if segment is None:
                segment = self._made(size)
            return segment

    # -- passing

    def lend(self, segment: Segment, loan: "Loan") -> int:
        """Hold a segment while a handle to it is on its way; the number that names this hold."""
        token = self._next_token
        self._next_token += 1
        self._lent[token] = (loan, segment)
        self._passed += 1
        return token

    def returned(self, token: int, peer: str) -> bool:
        """The peer has it, or never will. Whether it was lent to that peer: anybody may say any number."""
        lent = self._lent.get(token)
        if lent is None or lent[0].peer != peer:
            return False
        del self._lent[token]
        return True

    def forget(self, loan: "Loan") -> None:
        """What was lent by way of this connection will not arrive any more."""
        for token in [token for token, (by, _) in self._lent.items() if by is loan]:
            del self._lent[token]

    def receive(self, name: str, offset: int, length: int) -> memoryview:
        """The bytes that a handle means, read only: a view of the segment, or a copy when too many are mapped.

        Raises:
            SegmentUnavailable: It is not there, or has no such bytes.
        """
        try:
            if offset < 0 or length < 1:
                raise SegmentUnavailable(f"bytes {offset} to {offset + length} of segment {name[:64]}")
            view = self._view(name, offset, length)
        except SegmentUnavailable:
            self._lost += 1
            raise
        self._received += 1
        return view

    # -- housekeeping

    def sweep(self) -> int:
        """Remove what killed processes left behind. Blocks for a moment. Returns how many files."""
        removed = sweep(self._folder)
        self._swept += removed
        return removed

    def stats(self) -> PoolStats:
        with self._making:
            spares = self._spares()
            own = [segment for segment in self._own if not any(segment is spare for spare in spares)]
        mapped = list(self._mapped.values())
        return PoolStats(
            own=len(own),
            own_bytes=sum(segment.nbytes for segment in own),
            mapped=len(mapped),
            mapped_bytes=sum(segment.nbytes for segment in mapped),
            spare_bytes=sum(spare.nbytes for spare in spares),
            in_flight=len(self._lent),
            passed=self._passed,
            received=self._received,
            copied=self._copied,
            refused=self._refused,
            lost=self._lost,
            swept=self._swept,
        )

    def close(self) -> None:
        """Keep nothing that nobody refers to; segments in use live on until they are not. Idempotent."""
        self._lent.clear()
        with self._making:
            self._spare_bytes_max = 0
            self._kept.clear()

    def _release(self, fd: int, name: str, size: int) -> None:
        release_segment(self._folder, fd, name)

    def _spares(self) -> list[Segment]:
        return [self._kept[at] for at in range(len(self._kept)) if _references(self._kept, at) <= _UNUSED]

    def _used_again(self, size: int) -> Segment | None:
        # In the order of their last use: the one that is likeliest to be free is the first, and goes behind the others.
        for at in range(len(self._kept)):
            if not size <= self._kept[at].nbytes <= size * _WASTE or _references(self._kept, at) > _UNUSED:
                continue
            spare = self._kept[at]
            if rename_unused(self._folder, spare):
                self._kept.append(self._kept.pop(at))
                return spare
            if spare.is_lost:
                self._forsake(spare)
                break  # the places have changed; one that is made anew does as well
        return None

    def _made(self, size: int) -> Segment:
        try:
            self._check_room(size)
            segment = make_segment(self._folder, size, self._release)
        except SegmentUnavailable:
            self._refused += 1
            raise
        self._own.add(segment)
        if self._make_room(size):
            self._kept.append(segment)
        return segment

    def _make_room(self, size: int) -> bool:
        """Whether a segment of this size may be kept, if spares give way to it."""
        for spare in self._spares():
            if sum(kept.nbytes for kept in self._kept) + size <= self._spare_bytes_max:
                break
            self._forsake(spare)
        return sum(kept.nbytes for kept in self._kept) + size <= self._spare_bytes_max

    def _check_room(self, size: int) -> None:
        spares = self._spares()
        while spares and (
            sum(segment.nbytes for segment in self._own) + size > self._bytes_max
            or len(self._own) + len(self._mapped) >= self._segments_max
        ):
            self._forsake(spares.pop(0))
        own = sum(segment.nbytes for segment in self._own)
        if own + size > self._bytes_max:
            raise SegmentUnavailable(f"{size} bytes more than {own} would exceed shared.bytes_max={self._bytes_max}")
        if len(self._own) + len(self._mapped) >= self._segments_max:
            raise SegmentUnavailable(f"shared.segments_max={self._segments_max} segments are in use")

    def _forsake(self, spare: Segment) -> None:
        self._kept = [kept for kept in self._kept if kept is not spare]

    def _view(self, name: str, offset: int, length: int) -> memoryview:
        segment = self._mapped.get(name)
        if segment is None:
            if len(self._own) + len(self._mapped) >= self._segments_max and is_name(name):
                return self._copy(name, offset, length)
            segment = map_segment(self._folder, name, offset + length, self._release)
            self._mapped[name] = segment
        if offset + length > segment.nbytes:
            raise SegmentUnavailable(f"bytes {offset} to {offset + length} of segment {name} of {segment.nbytes}")
        return memoryview(segment)[offset : offset + length].toreadonly()

    def _copy(self, name: str, offset: int, length: int) -> memoryview:
        try:
            fd = open_shared(self._folder, name)
            try:
                if os.fstat(fd).st_size < offset + length:
                    raise SegmentUnavailable(f"segment {name} has no bytes {offset} to {offset + length}")
                data = bytearray(length)
                if os.preadv(fd, [data], offset) != length:
                    raise SegmentUnavailable(f"segment {name} was cut off while it was read")
            finally:
                os.close(fd)
        except OSError as error:
            raise SegmentUnavailable(f"segment {name} cannot be read: {error}") from error
        self._copied += 1
        return memoryview(data).toreadonly()


def _references(kept: list[Segment], at: int) -> int:
    return sys.getrefcount(kept[at])


_UNUSED: Final = _references([Segment(-1, _PAGE)], 0)  # for one that only the list refers to
