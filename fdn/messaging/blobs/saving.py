"""A blob on its way into a file: what has come is kept beside the target, and is believed only after it was checked.

The partial file is `NAME.<first 12 digits of the id>.part`: a name that holds the id is never another blob's, nor a
user's own. A transfer begins by reading it and cutting it off at the first piece that is not what the outline says,
so it may have been left behind by anything, a lost machine among them. At the end the whole is checked against the id,
the file is synchronised and renamed over the target in one step.

All functions here block; they run on threads.
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import BinaryIO, Final

import blake3

from fdn.errors import Conflict, Corrupt
from fdn.messaging.blobs.outline import Buffer, Outline

__all__ = ("PartFile", "part_path", "wrong_reference")

_DIGITS: Final = 12
_OPEN_TRIES: Final = 8


def part_path(target: Path, blob_id: bytes) -> Path:
    """Where the partial file of this blob for this target is."""
    return target.with_name(f"{target.name}.{blob_id.hex()[:_DIGITS]}.part")


def wrong_reference(wanted: bytes, came: bytes) -> Corrupt:
    """The pieces are those of the outline, and yet the whole has another id."""
    return Corrupt(
        f"what came for blob {wanted.hex()} has the id {came.hex()}",
        hint="its reference names the pieces of another blob: ask its maker for a new one",
    )


class PartFile:
    """One partial file, locked while it is open.

    Attributes:
        pieces: How many pieces from the first are there and good.

    Raises:
        Conflict: Another transfer writes it.
        OSError: It cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str], outline: Outline) -> None:
        self._target = Path(target)
        self._path = part_path(self._target, outline.id)
        self._outline = outline
        self._whole = blake3.blake3()
        self._lock = threading.Lock()  # closing must not overtake a write of a transfer that was given up
        self.pieces = 0
        self._file = self._open()
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes that are there and good."""
        return min(self.pieces * self._outline.piece_bytes, self._outline.size)

    def append(self, piece: Buffer) -> None:
        """Write the next piece, which was checked against the outline.

        Raises:
            OSError: The disk is full.
        """
        with self._lock:
            self._file.write(piece)
            self._whole.update(piece)
            self.pieces += 1

    def finish(self) -> None:
        """Check the whole, and put it in the target's place.

        Raises:
            Corrupt: Its pieces are those of the outline, and yet the whole has another id: the reference is wrong.
            OSError: It cannot be written.
        """
        with self._lock:
            self._file.flush()
            if self._whole.digest() != self._outline.id:
                self._path.unlink()
                self._file.close()
                raise wrong_reference(self._outline.id, self._whole.digest())
            os.fsync(self._file.fileno())
            self._path.replace(self._target)
            self._file.close()
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name, too
            finally:
                os.close(folder)

    def close(self) -> None:
        """Leave what has come for another time. Idempotent."""
        with self._lock:
            self._file.close()

    def _open(self) -> BinaryIO:
        for _ in range(_OPEN_TRIES):
            file = open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_ino == os.stat(self._path).st_ino:
                    return file
            except FileNotFoundError:
                pass  # whoever had it has just finished: what we opened is the target by now
            except BlockingIOError:
                file.close()
                raise Conflict(
                    f"another transfer is writing {self._path}", hint="wait for it, or save under another name"
                ) from None
            except BaseException:
                file.close()
                raise
            file.close()
        raise Conflict(f"{self._path} is being replaced again and again", hint="save under another name")

    def _check(self) -> None:
        outline = self._outline
        for index in range(outline.count):
            piece = self._file.read(outline.span(index)[1])
            if not outline.matches(index, piece):
                break
            self._whole.update(piece)
            self.pieces += 1
        self._file.seek(self.size)
        self._file.truncate()
