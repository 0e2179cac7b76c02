"""Ticks at times that are fixed beforehand, from a process of their own: the load of an open loop.

Who measures latency by "send, wait, send again" leaves out what waited meanwhile (coordinated omission): a stall of
one second is one slow request, and not the thousand that should have been sent during it. Here the schedule is fixed
when it starts; each latency counts from the time at which the request was due, whoever was late.

It is a process, because a timer of the measured event loop is as late as that loop, and up to a millisecond late by
itself (epoll counts in milliseconds). Libraries in other languages are driven by the same one.

Run: `python -m fdn.bench.metronome RATE SECONDS`. Writes eight bytes for each tick: when it was due, in nanoseconds of
the machine's monotonic clock, unsigned, big-endian. Before all, the same once for the beginning, which is no tick.
"""

import contextlib
import os
import struct
import subprocess
import sys
import time
from typing import Final

__all__ = ("RATE_MAX", "Metronome", "command", "main")

RATE_MAX: Final = 10_000.0  # above, one process cannot keep its times
_TICK: Final = struct.Struct("!Q")
_READ_BYTES: Final = 64 * 1024
_LEAD_NS: Final = 2_000_000
_NICE: Final = -10  # where allowed: its own lateness would count as the measured library's


def command(rate: float, seconds: float) -> list[str]:
    """What starts one."""
    return [sys.executable, "-m", "fdn.bench.metronome", f"{rate:g}", f"{seconds:g}"]


class Metronome:
    """One that ticks, until it has ended or is closed. Made when it is about to begin.

    Args:
        rate: Ticks a second, at most `RATE_MAX`.
        seconds: For how long.

    Attributes:
        begins_at: When its first tick is due, a time of `time.monotonic`.
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._rest = b""
        self._process = subprocess.Popen(command(rate, seconds), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        beginning = os.read(self.fileno(), _TICK.size)  # written as one, so read as one
        self.begins_at = _TICK.unpack(beginning)[0] / 1e9

    def __enter__(self) -> "Metronome":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def fileno(self) -> int:
        """To be watched: readable when a tick has come, and when there will be none."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> list[float] | None:
        """The ticks that have come, as times of `time.monotonic`; None when there will be none. Waits for one."""
        data = os.read(self.fileno(), _READ_BYTES)
        if not data:
            return None
        data = self._rest + data
        whole = len(data) - len(data) % _TICK.size
        self._rest = data[whole:]
        return [at / 1e9 for (at,) in _TICK.iter_unpack(data[:whole])]

    def close(self) -> None:
        """End it. Idempotent."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Tick: rate and seconds are on the command line."""
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    with contextlib.suppress(BrokenPipeError):
        _tick(rate, round(rate * seconds))


def _tick(rate: float, count: int) -> None:
    first = time.monotonic_ns() + _LEAD_NS
    os.write(1, _TICK.pack(first))
    number = 0
    while number < count:
        now = time.monotonic_ns()
        due = b""
        while number < count and (at := first + round(number * 1e9 / rate)) <= now:
            due += _TICK.pack(at)
            number += 1
        if due:
            os.write(1, due)
        else:
            time.sleep((at - now) / 1e9)


if __name__ == "__main__":
    main()
