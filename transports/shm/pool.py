"""All segments of one node: those that it made, those of others that it has mapped, and those on their way to peers.

**In flight.** A handle in a message is worth something only while the segment is there when it arrives. So the sender
keeps a hold on the segment (`lend`) until the receiver has mapped it and says so (`returned`), or the connection that
it travelled on has ended (`forget`). Receivers map when a message arrives, before anybody decides what becomes of it:
one that is dropped, or whose receiver crashes, leaves nothing behind.

**Spares.** Fresh pages cost more than what is written to them: a segment that nobody here refers to any more is kept,
within bounds, and used again under a new name once no other process has a lock on it.

Making a segment may happen on any thread, and the end of one is wherever its last reference goes; all else belongs to
one thread.
"""

import collections
import dataclasses
import fcntl
import os
import secrets
import threading
import weakref
from typing import Final

from transports.errors import SegmentUnavailable
from transports.shm.names import FOLDER, is_name, open_shared, sweep
from transports.shm.segment import Segment, make_segment, map_segment, release_segment

__all__ = ("Loan", "Pool", "PoolStats")

_PAGE: Final = 4096
_SPARES_MAX: Final = 64  # looked through for each segment that is made
_WASTE: Final = 2  # a spare may be so many times larger than what is wanted

_File = tuple[int, str, int]  # descriptor, name, size


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
        spare_bytes_max: Kept to be used again.
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
        self._retired: collections.deque[_File] = collections.deque()  # appended to from any thread
        self._spares: list[_File] = []  # the oldest first
        self._lent: dict[int, tuple[Loan, Segment]] = {}
        self._next_token = 1
        self._closed = False
        self._passed = self._received = self._copied = self._refused = self._lost = self._swept = 0
        # At the end of the program: after the finalizers of the segments, which are younger.
        weakref.finalize(self, _release_all, os.getpid(), folder, self._retired, self._spares)

    # -- making

    def allocate(self, size: int) -> Segment:
        """Memory to be filled, at least `size` bytes; it holds anything at first. From any thread.

        Takes about a third of a second a GiB, unless a spare is used.

        Raises:
            SegmentUnavailable: /dev/shm is full, or there is none, or a bound is reached.
        """
        size = -(-size // _PAGE) * _PAGE
        with self._making:
            self._take_in_retired()
            try:
                spare = self._fitting(size)
                if spare is None:
                    self._check_room(size)
                    segment = make_segment(self._folder, size, self._retire)
                else:
                    segment = make_segment(self._folder, spare[2], self._retire, spare[:2])
            except SegmentUnavailable:
                self._refused += 1
                raise
            self._own.add(segment)
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
            own = list(self._own)
        mapped = list(self._mapped.values())
        return PoolStats(
            own=len(own),
            own_bytes=sum(segment.nbytes for segment in own),
            mapped=len(mapped),
            mapped_bytes=sum(segment.nbytes for segment in mapped),
            spare_bytes=sum(size for _, _, size in (*self._spares, *self._retired)),
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
        self._closed = True
        self._lent.clear()
        with self._making:
            _release_all(os.getpid(), self._folder, self._retired, self._spares)

    def _retire(self, fd: int, name: str, size: int) -> None:
        if self._closed or size > self._spare_bytes_max:
            release_segment(self._folder, fd, name)
            return
        self._retired.append((fd, name, size))
        if self._making.acquire(blocking=False):  # we may be called anywhere, even in the middle of `allocate`
            try:
                self._take_in_retired()
            finally:
                self._making.release()

    def _unmapped(self, fd: int, name: str, size: int) -> None:
        release_segment(self._folder, fd, name)

    def _take_in_retired(self) -> None:
        while self._retired:
            self._spares.append(self._retired.popleft())
        while self._spares and (
            len(self._spares) > _SPARES_MAX or sum(size for _, _, size in self._spares) > self._spare_bytes_max
        ):
            fd, name, _ = self._spares.pop(0)
            release_segment(self._folder, fd, name)

    def _fitting(self, size: int) -> _File | None:
        """A spare that nobody else uses, under a new name."""
        for at, (fd, name, has) in enumerate(self._spares):
            if not size <= has <= size * _WASTE:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                try:
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # trying has cost the lock
                except BlockingIOError:
                    pass  # its last reader is just removing it; the next try finds it ours alone
                continue
            del self._spares[at]
            fresh = f"fdn-{secrets.token_hex(16)}"
            try:
                os.rename(os.path.join(self._folder, name), os.path.join(self._folder, fresh))
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    return fd, fresh, has
            except OSError:
                pass  # its last reader has removed it: its pages are ours, but nobody could open it
            os.close(fd)
            return None
        return None

    def _check_room(self, size: int) -> None:
        own = sum(segment.nbytes for segment in self._own)
        while self._spares and own + size + sum(has for _, _, has in self._spares) > self._bytes_max:
            fd, name, _ = self._spares.pop(0)
            release_segment(self._folder, fd, name)
        if own + size > self._bytes_max:
            raise SegmentUnavailable(f"{size} bytes more than {own} would exceed shared.bytes_max={self._bytes_max}")
        if len(self._own) + len(self._mapped) >= self._segments_max:
            raise SegmentUnavailable(f"shared.segments_max={self._segments_max} segments are in use")

    def _view(self, name: str, offset: int, length: int) -> memoryview:
        segment = self._mapped.get(name)
        if segment is None:
            if len(self._own) + len(self._mapped) >= self._segments_max and is_name(name):
                return self._copy(name, offset, length)
            segment = map_segment(self._folder, name, offset + length, self._unmapped)
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


def _release_all(pid: int, folder: str, *files: "collections.deque[_File] | list[_File]") -> None:
    for held in files:
        while held:
            fd, name, _ = held.pop()
            if os.getpid() == pid:
                release_segment(folder, fd, name)
            else:
                os.close(fd)  # in a forked child: the parent goes on with it
