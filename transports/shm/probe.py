"""Are we on the same host? A file in shared memory that one side has made and the other can open says so.

A host's name would not: containers share one and not their memory, or the other way round. Its name is unguessable, and
is told only to the peer in question.
"""

import os

from transports.shm.names import FOLDER, create, is_name, open_shared, remove_unused

__all__ = ("Probe", "sees")


class Probe:
    """The file of this process. It lives until `close`, or the end of the process.

    Attributes:
        name: What to tell a peer; empty where there is no shared memory.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self.name = ""
        self._fd = -1
        try:
            self._fd, self.name = create(folder)
        except OSError:
            pass  # none: then nothing is shared

    def close(self) -> None:
        """Remove it. Idempotent; in a forked child, only the descriptor is closed."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if os.getpid() == self._pid:
                remove_unused(self._folder, self.name, fd)
        finally:
            os.close(fd)


def sees(name: str, folder: str = FOLDER) -> bool:
    """Whether the file that a peer named is here, and a living process's of our user."""
    if not is_name(name):
        return False
    try:
        os.close(open_shared(folder, name))
    except OSError:
        return False
    return True
