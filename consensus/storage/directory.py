"""A directory of our own: locked while we use it, and synced when names in it change."""

import contextlib
import fcntl
import os
from pathlib import Path

from consensus.storage.errors import DirectoryLocked, StorageFailed

__all__ = ("LockedDirectory",)


class LockedDirectory:
    """A directory that only this process uses. The lock goes with the process, however that ends.

    Args:
        path: Made, with its parents, if it is not there.

    Raises:
        DirectoryLocked: Another process holds it; says which.
        StorageFailed: It cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be used: {error.strerror}; give a directory of this node") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.close()
            raise DirectoryLocked(
                f"{path} is used by another process (pid {holder}); stop it, or give each node a directory of its own"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def sync(self) -> None:
        """Names made, changed or removed in it survive from now on.

        Raises:
            OSError: They may not.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Unlock. Idempotent."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
