"""Where a held blob's bytes are: in a file that stays where it is, or in memory.

A file is read by `pread`, one piece at a time, and never mapped: a mapped file that somebody truncates kills the
process that reads it (SIGBUS), and mapped pages count as memory of the process. What is read comes from the page cache
anyway. All functions here block; they run on threads.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from fdn.errors import Conflict
from fdn.messaging.blobs.outline import Buffer, Outline, OutlineHasher

__all__ = ("Content", "FileContent", "MemoryContent", "Spool")

_PART: Final = 1024 * 1024


class Content(Protocol):
    """The bytes of one blob.

    Attributes:
        memory: Bytes of memory that it holds.
        blocks: Whether reading may wait for a disk.
    """

    memory: int
    blocks: bool

    def read(self, offset: int, length: int) -> Buffer:
        """Exactly these bytes.

        Raises:
            Conflict: They are not what they were any more.
        """

    def close(self) -> None: ...


class MemoryContent:
    """Bytes, or any contiguous buffer. The caller promises not to change it."""

    blocks = False

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B").toreadonly()
        self.memory = self._view.nbytes

    def outline(self, piece_bytes: int) -> Outline:
        """Its digests."""
        hasher = OutlineHasher(piece_bytes)
        for offset in range(0, len(self._view), _PART):
            hasher.update(self._view[offset : offset + _PART])
        return hasher.finish()

    def read(self, offset: int, length: int) -> Buffer:
        return self._view[offset : offset + length]

    def close(self) -> None:
        self._view = memoryview(b"")  # whoever still reads has its own hold on the bytes


class FileContent:
    """An open file, which is found to have changed by its size and time of modification, and by who fetches it.

    Args:
        file: Open for reading; it is closed with the content.
        name: For errors.
    """

    memory = 0
    blocks = True

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._stamp = self._now()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "FileContent":
        """Raises:
        OSError: It cannot be read.
        """
        name = os.fspath(path)
        if not Path(name).is_file():  # opening a pipe would wait for its writer
            raise FileNotFoundError(f"no regular file at {name!r}")
        return cls(Path(name).open("rb"), name)

    def outline(self, piece_bytes: int) -> Outline:
        """Its digests.

        Raises:
            Conflict: It changed while it was read.
        """
        hasher = OutlineHasher(piece_bytes)
        for part in self._parts():
            hasher.update(part)
        self._check()
        return hasher.finish()

    def read(self, offset: int, length: int) -> Buffer:
        self._check()
        data = os.pread(self._file.fileno(), length, offset)
        while 0 < len(data) < length:  # a signal may cut a read short
            more = os.pread(self._file.fileno(), length - len(data), offset + len(data))
            if not more:
                break
            data += more
        if len(data) != length:
            raise self._changed()
        return data

    def close(self) -> None:
        self._file.close()

    def _parts(self) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_PART))
        offset = 0
        while count := os.preadv(self._file.fileno(), [buffer], offset):
            yield buffer[:count]
            offset += count

    def _now(self) -> tuple[int, int]:
        stat = os.fstat(self._file.fileno())
        return stat.st_size, stat.st_mtime_ns

    def _check(self) -> None:
        if self._now() != self._stamp:
            raise self._changed()

    def _changed(self) -> Conflict:
        return Conflict(
            f"{self._name} has changed since a blob was made of it",
            hint="a blob never changes: make a new one, and write new files beside the old",
        )


class Spool:
    """Takes bytes as they come into a file without a name, which the system reclaims with the process.

    Args:
        folder: Where; empty takes the system's folder for temporary files.
    """

    def __init__(self, folder: str, piece_bytes: int) -> None:
        import tempfile  # late: it brings archives and compression into a program's start

        # No name, no context: it lives as long as the blob that is made of it.
        self._file = tempfile.TemporaryFile(dir=folder or None, prefix="fdn-blob-")  # noqa: SIM115
        self._hasher = OutlineHasher(piece_bytes, self._file.write)

    def write(self, data: Buffer) -> None:
        """Raises:
        OSError: The disk is full.
        ValueError: It is too large.
        """
        self._hasher.update(data)

    def finish(self) -> tuple[FileContent, Outline]:
        """What came, as content."""
        self._file.flush()
        return FileContent(self._file, "a blob's temporary file"), self._hasher.finish()

    def close(self) -> None:
        self._file.close()
