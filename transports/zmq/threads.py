"""The I/O threads of a context as the system sees them, to say how much they matter beside others.

libzmq has no option for it: its threads are known by their names, in which a context can have a number.
"""

import itertools
import logging
import os
from pathlib import Path
from typing import Final

import zmq

__all__ = ("be_nice", "io_threads", "name_threads")

logger = logging.getLogger(__name__)

_TASKS: Final = Path("/proc/self/task")
_numbers = itertools.count(1)


def name_threads(context: "zmq.Context[zmq.Socket[bytes]]") -> int:
    """Give the threads of a context a number of their own; to be called before its first socket. Returns it."""
    number = next(_numbers)
    context.set(zmq.THREAD_NAME_PREFIX, number)
    return number


def io_threads(number: int) -> list[int]:
    """The system's ids of the I/O threads with this number; none before the first socket, or without /proc."""
    found = []
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        try:
            name = (task / "comm").read_text(encoding="ascii", errors="replace").strip()
        except OSError:  # it has just ended
            continue
        if name.startswith(f"{number}/ZMQbg/IO/"):
            found.append(int(task.name))
    return sorted(found)


def be_nice(number: int, nice: int, count: int) -> bool:
    """Let the I/O threads with this number yield to others by so much (1 to 19).

    Returns:
        Whether all `count` of them were there; each begins with the first socket, and gives itself its name some time
        later, so it may have to be tried again.
    """
    threads = io_threads(number)
    for thread in threads:
        try:
            os.setpriority(os.PRIO_PROCESS, thread, nice)
        except OSError as error:
            logger.warning("the I/O thread %d cannot be given the nice value %d: %s", thread, nice, error)
    return len(threads) >= count
