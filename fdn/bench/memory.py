"""Memory of processes over time, and whether it grows."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psutil

__all__ = ("MemoryWatch", "slope")

_INTERVAL_S: Final = 0.1
_SAMPLES_MAX: Final = 100_000


class MemoryWatch:
    """Reads the resident memory of processes, ten times a second, within its block.

    Args:
        pids: Process ids, by the names under which they are reported.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._samples: dict[str, list[tuple[float, int]]] = {name: [] for name in pids}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fdn-bench-memory", daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def report(self, since: float = 0.0) -> dict[str, dict[str, Any]]:
        """For each process `begin_mib`, `end_mib`, `peak_mib` and `slope_kib_s`, from `since` (monotonic) on."""
        return {name: _report([one for one in of if one[0] >= since] or of) for name, of in self._samples.items()}

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._read()

    def _read(self) -> None:
        for name, process in self._processes.items():
            samples = self._samples[name]
            with contextlib.suppress(psutil.Error):  # it has ended
                if len(samples) < _SAMPLES_MAX:
                    samples.append((time.monotonic(), process.memory_info().rss))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line that lies nearest to the points (least squares); 0.0 for fewer than two times."""
    if not points:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _report(samples: Sequence[tuple[float, int]]) -> dict[str, Any]:
    mib = [bytes_ / 2**20 for _, bytes_ in samples]
    return {
        "begin_mib": round(mib[0], 1),
        "end_mib": round(mib[-1], 1),
        "peak_mib": round(max(mib), 1),
        "slope_kib_s": round(slope(samples) / 1024, 1),
    }
