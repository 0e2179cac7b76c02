"""Names of files in shared memory: what is ours, what may be opened, and what nobody uses any more.

A name is `fdn-` and 128 random bits: whoever was not told it cannot guess it, and the file's mode keeps other users
out. Every process that uses such a file holds a shared lock on it (`flock`), which the system drops with the process,
however that ends. So a file that can be locked exclusively is used by nobody, and is removed by whoever finds it. Time
plays no part: a process that is only paused keeps what is its own.
"""

import errno
import fcntl
import os
import re
import stat
from typing import Final

__all__ = ("FOLDER", "create", "is_name", "new_name", "open_shared", "remove_unused", "sweep")

FOLDER: Final = "/dev/shm"  # Linux; other systems have none, and share no memory
_PREFIX: Final = "fdn-"
_NAME: Final = re.compile(r"fdn-[0-9a-f]{32}")
_TRIES: Final = 8
_SWEPT_MAX: Final = 4096  # files looked at in one sweep


def is_name(name: str) -> bool:
    """Whether it is a name that `create` could have made. Anything else is not opened, whoever says so."""
    return _NAME.fullmatch(name) is not None


def new_name() -> str:
    """One that nobody knows."""
    return f"{_PREFIX}{os.urandom(16).hex()}"


def create(folder: str) -> tuple[int, str]:
    """A new empty file, mode 0600, locked as used by this process: its descriptor and name.

    Raises:
        OSError: There is no such folder, or it cannot be written.
    """
    for _ in range(_TRIES):
        name = new_name()
        path = os.path.join(folder, name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd, name
        except BlockingIOError:
            pass  # a sweep came between the two, and takes it for one that nobody uses
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise OSError(errno.EAGAIN, "new files are swept away before they can be locked", folder)


def open_shared(folder: str, name: str) -> int:
    """Open a file that another process has made, for reading, locked as used by this process, too.

    Raises:
        OSError: It is not there, nobody uses it any more, or it is not a file of this user.
        ValueError: It is no name.
    """
    if not is_name(name):
        raise ValueError(f"{name[:64]!r} is no name of a file in shared memory")
    fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EACCES, "it is not a regular file of this user", name)
        # Who told us its name holds a lock; if nobody does, it is about to be removed.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove_unused(folder: str, name: str, fd: int) -> bool:
    """Remove the file if only `fd` uses it, and lock it exclusively then. If not, `fd` has no lock any more.

    Of several processes that give it up at the same time, at least one finds itself the last: the system gives up the
    old lock before it weighs the new.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        os.unlink(os.path.join(folder, name))
    except FileNotFoundError:
        pass  # a sweep was faster
    return True


def sweep(folder: str) -> int:
    """Remove the files of ours that no process uses: those of processes that were killed. Returns how many."""
    removed = looked_at = 0
    try:
        entries = os.scandir(folder)
    except OSError:
        return 0
    with entries:
        for entry in entries:
            if not is_name(entry.name):
                continue
            looked_at += 1
            if looked_at > _SWEPT_MAX:
                break
            removed += _sweep_one(folder, entry.name)
    return removed


def _sweep_one(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # gone, or another user's
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        return remove_unused(folder, name, fd)
    except OSError:
        return False
    finally:
        os.close(fd)
