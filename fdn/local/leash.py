"""Run a module in a process that cannot outlive its parent, even one that is killed with SIGKILL.

`python -m fdn.local.leash PARENT_PID MODULE [ARGUMENTS]` runs MODULE as `python -m` would. Whoever starts it gives it
a pipe as standard input and keeps the other end open for as long as it lives.

On Linux the kernel sends SIGKILL when the parent is gone, which also ends a process that is stopped or stuck in C code.
Elsewhere a thread waits for the end of the pipe, which the kernel closes with the parent; it needs the GIL to act.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading
from typing import Final, NoReturn

__all__ = ("command", "die_with", "die_with_pipe")

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module on a leash held by this process.

    Start it from the main thread: the kernel goes by the thread that made the process, not by its process.
    """
    return [sys.executable, "-m", "fdn.local.leash", str(os.getpid()), module, *arguments]


def die_with(parent: int) -> None:
    """End this process, by SIGKILL, as soon as `parent` has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked to be told
            _die()
    else:
        die_with_pipe(sys.stdin.fileno())


def die_with_pipe(descriptor: int) -> None:
    """End this process, by SIGKILL, as soon as a pipe's last writer has gone."""
    threading.Thread(target=_wait_for_end, args=(descriptor,), name="fdn-leash", daemon=True).start()


def _wait_for_end(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was not delivered")


if __name__ == "__main__":
    _parent, _module = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    die_with(_parent)
    # By name: the command line stands above this room, and is what a process here is started as.
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
