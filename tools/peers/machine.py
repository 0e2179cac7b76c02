"""What a run ran on, and how busy that was with what is not ours."""

import contextlib
import os
import platform
import resource
import time
from collections.abc import Iterator
from typing import Any

import psutil

__all__ = ("watched",)


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """`cores` and `system`; when the block has ended, also `elapsed_s`, and `others_cores`: how many cores were busy
    with processes that are not ours, on the average.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine: dict[str, Any] = {"cores": cores, "system": f"{platform.system()} {platform.machine()}"}
    started, busy, own = time.monotonic(), _busy_s(), _own_s()
    yield machine
    elapsed_s = time.monotonic() - started
    machine["others_cores"] = round(max(0.0, (_busy_s() - busy) - (_own_s() - own)) / elapsed_s, 2)
    machine["elapsed_s"] = round(elapsed_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    busy: float = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    return busy


def _own_s() -> float:
    """Processor seconds of this process and of all that have ended under it."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
