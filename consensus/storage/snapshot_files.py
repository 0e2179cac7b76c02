"""Snapshots as files: one that counts, one that is being received, one that is being taken."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import blake3

from consensus.identity import LogIndex, Term
from consensus.raft.configuration import Configuration
from consensus.raft.messages import Snapshot
from consensus.storage.directory import LockedDirectory
from consensus.storage.errors import LogCorrupted

__all__ = ("SnapshotFiles",)

_PIECE_BYTES: Final = 1 << 20
_RECEIVED: Final = "snapshot-received.part"
_TAKEN: Final = "snapshot-taken.part"


class SnapshotFiles:
    """See the module. What fails raises `OSError`: the owner decides what that means."""

    def __init__(self, directory: LockedDirectory) -> None:
        self._directory = directory
        self._path = directory.path

    def save(self, index: LogIndex, term: Term, configuration: Configuration, pieces: Iterable[bytes]) -> Snapshot:
        """Write one and sync it; it has its name from then on."""
        hasher, size = blake3.blake3(), 0
        with open(self._path / _TAKEN, "wb") as file:
            for piece in pieces:
                file.write(piece)
                hasher.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        snapshot = Snapshot(index, term, configuration, size, hasher.digest())
        os.replace(self._path / _TAKEN, self._file(snapshot))
        self._directory.sync()
        return snapshot

    def store_chunk(self, offset: int, data: bytes) -> None:
        """A piece of the one that is being received; it need not survive a crash."""
        with open(self._path / _RECEIVED, "r+b" if offset else "wb") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data)

    def accept(self, snapshot: Snapshot) -> None:
        """The one received is whole: give it its name, if it is what it should be.

        Raises:
            LogCorrupted: It is not.
        """
        received = self._path / _RECEIVED
        with open(received, "rb") as file:
            for _ in _checked(file.fileno(), snapshot, received):
                pass
            os.fsync(file.fileno())
        os.replace(received, self._file(snapshot))
        self._directory.sync()

    def read(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Its bytes.

        Raises:
            LogCorrupted: They are not those that were written, or are not there.
        """
        path = self._file(snapshot)
        try:
            file = open(path, "rb")  # noqa: SIM115  # closed below; what fails to open has its own meaning
        except FileNotFoundError:
            raise LogCorrupted(f"{path} is missing: the snapshot of index {snapshot.index}") from None
        with file:
            yield from _checked(file.fileno(), snapshot, path)

    def read_chunk(self, snapshot: Snapshot, offset: int, length: int) -> bytes | None:
        """A piece, or None if it is not there."""
        try:
            descriptor = os.open(self._file(snapshot), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def check_there(self, snapshot: Snapshot) -> None:
        """Cheaply: is it there, and as long as it should be?

        Raises:
            LogCorrupted: No.
        """
        path = self._file(snapshot)
        found = path.stat().st_size if path.exists() else -1
        if found != snapshot.size:
            what = "is missing" if found < 0 else f"has {found} bytes"
            raise LogCorrupted(f"{path} {what}; expected the {snapshot.size} bytes of the snapshot of {snapshot.index}")

    def keep_only(self, snapshot: Snapshot) -> None:
        """Remove all others."""
        kept = self._file(snapshot)
        for path in self._path.glob("snapshot-*"):
            if path != kept and path.name not in (_RECEIVED, _TAKEN):
                with contextlib.suppress(OSError):  # it takes room, and does no other harm
                    path.unlink()

    def _file(self, snapshot: Snapshot) -> Path:
        return self._path / f"snapshot-{snapshot.index:020d}-{snapshot.term}"


def _checked(descriptor: int, snapshot: Snapshot, path: Path) -> Iterator[bytes]:
    hasher, size = blake3.blake3(), 0
    while piece := os.pread(descriptor, _PIECE_BYTES, size):
        size += len(piece)
        hasher.update(piece)
        yield piece
    if size != snapshot.size or hasher.digest() != snapshot.digest:
        raise LogCorrupted(f"{path} is not the snapshot that was written: {size} bytes, {hasher.hexdigest()[:16]}...")
