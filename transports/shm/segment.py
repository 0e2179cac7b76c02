"""A segment: memory that processes of one host can map together.

The mapping is a Python buffer, and lives as long as anything in this process refers to it: an array, a slice, a message
that waits to leave. When the last reference goes, so does the mapping, and with it this process's lock; the last
process removes the file. A child of `fork` inherits mapping and lock, and neither removes nor reuses anything.

Memory is reserved when the segment is made (`posix_fallocate`): where /dev/shm is full that fails here, and no process
is killed later because it touched a page that could not be had. For the same reason one with holes is not mapped.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Callable
from typing import Final

from transports.errors import SegmentUnavailable
from transports.shm.names import create, new_name, open_shared, remove_unused

__all__ = ("Segment", "make_segment", "map_segment", "release_segment", "rename_unused", "segment_of")

_BLOCK: Final = 512  # the unit of st_blocks

Retire = Callable[[int, str, int], None]


class Segment(mmap.mmap):
    """One mapping. Made by `make_segment` and `map_segment` only.

    Attributes:
        names: Of the file; the last is the one that it has.
        nbytes: Its length.
        shared_fd: The descriptor that holds the lock.
        own: Whether this process made it, and may write.
    """

    names: list[str]
    nbytes: int
    shared_fd: int
    own: bool

    __hash__ = object.__hash__

    @property
    def name(self) -> str:
        """Of the file, as peers are told it."""
        return self.names[-1]

    @property
    def is_lost(self) -> bool:
        """Whether the file has no name any more, so that no other process can open it."""
        return not os.fstat(self.shared_fd).st_nlink


def make_segment(folder: str, size: int, retire: Retire) -> Segment:
    """A new segment of at least `size` bytes, to be written.

    Args:
        folder: Where shared memory is.
        size: Bytes, at least 1.
        retire: Called with descriptor, name and size when nothing in this process refers to it any more; from any
            thread, at any time, in the process that made it only. `release_segment` is what it should do in the end.

    Raises:
        SegmentUnavailable: There is no shared memory, or it is full.
    """
    try:
        fd, name = create(folder)
        try:
            os.posix_fallocate(fd, 0, size)
        except BaseException:
            release_segment(folder, fd, name)
            raise
        return _mapped(fd, name, size, mmap.PROT_READ | mmap.PROT_WRITE, retire)
    except (OSError, ValueError, AttributeError) as error:  # macOS has no posix_fallocate
        raise SegmentUnavailable(f"{size} bytes of shared memory are not to be had: {error}") from error


def map_segment(folder: str, name: str, size: int, retire: Retire) -> Segment:
    """A segment that another process has made, whole, to be read.

    Args:
        size: Bytes that it must have at least.

    Raises:
        SegmentUnavailable: It is not there, not of this user, smaller, or has holes.
    """
    try:
        fd = open_shared(folder, name)
    except (OSError, ValueError) as error:
        raise SegmentUnavailable(f"segment {name[:64]} cannot be opened: {error}") from error
    try:
        found = os.fstat(fd)
        if found.st_size < max(size, 1) or found.st_blocks * _BLOCK < found.st_size:
            raise SegmentUnavailable(f"segment {name} has {found.st_size} bytes, {size} were announced")
        return _mapped(fd, name, found.st_size, mmap.PROT_READ, retire)
    except (OSError, ValueError) as error:
        os.close(fd)
        raise SegmentUnavailable(f"segment {name} cannot be mapped: {error}") from error
    except BaseException:
        os.close(fd)
        raise


def rename_unused(folder: str, segment: Segment) -> bool:
    """Give a segment of ours a new name, if no other process uses it; whoever knew it cannot find it any more."""
    fd = segment.shared_fd
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # trying has cost the lock
        except BlockingIOError:
            pass  # its last reader is just removing it; the next try finds it without a name
        return False
    name = new_name()
    try:
        os.rename(os.path.join(folder, segment.name), os.path.join(folder, name))
    except OSError:
        return False  # its last reader has removed it, between our two locks: nobody could open it
    segment.names[:] = [name]
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return not segment.is_lost  # a sweep may have come between these two


def release_segment(folder: str, fd: int, name: str) -> None:
    """Give up this process's part in a file; remove it if that was the last."""
    try:
        remove_unused(folder, name, fd)
    finally:
        os.close(fd)


def segment_of(buffer: object) -> Segment | None:
    """The segment that a buffer lies in, if it does."""
    view = buffer if isinstance(buffer, memoryview) else None
    owner = view.obj if view is not None else buffer
    seen = 0
    while owner is not None and seen < 8:  # an array's base may be another array's view
        if isinstance(owner, Segment):
            return owner
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
        seen += 1
    return None


def _mapped(fd: int, name: str, size: int, protection: int, retire: Retire) -> Segment:
    segment = Segment(fd, size, flags=mmap.MAP_SHARED, prot=protection)
    segment.names = [name]
    segment.nbytes = size
    segment.shared_fd = fd
    segment.own = bool(protection & mmap.PROT_WRITE)
    weakref.finalize(segment, _ended, os.getpid(), retire, fd, segment.names, size)
    return segment


def _ended(pid: int, retire: Retire, fd: int, names: list[str], size: int) -> None:
    # The finalizer runs before the mapping ends: its own descriptor still holds the same lock, which is one for both.
    if os.getpid() == pid:
        retire(fd, names[-1], size)
    else:
        os.close(fd)  # in a forked child: the lock is the parent's as well
