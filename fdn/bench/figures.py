"""From what was measured to what is reported: percentiles within a round, medians over rounds."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

__all__ = ("INCIDENT_S", "incidents", "latency", "median_of", "percentile", "tail")

INCIDENT_S: Final = 0.010  # later than this beyond the 99th percentile of an idle connection


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The value below or at which this fraction of `ordered` (ascending, not empty) lies: the nearest-rank rule."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def latency(durations_s: list[float]) -> dict[str, Any]:
    """The latencies of one round, in microseconds."""
    ordered = sorted(durations_s)
    return {
        "calls": len(ordered),
        "p50_us": percentile(ordered, 0.5) * 1e6,
        "p99_us": percentile(ordered, 0.99) * 1e6,
    }


def tail(durations_s: Sequence[float]) -> dict[str, Any]:
    """The latencies of one open-loop run, in microseconds; zeros if there were none."""
    ordered = sorted(durations_s) or [0.0]
    fractions = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
    return {"count": len(durations_s)} | {
        name: round(percentile(ordered, fraction) * 1e6, 1) for name, fraction in fractions.items()
    }


def incidents(durations_s: Iterable[float], idle_p99_us: float) -> int:
    """How many came later than `INCIDENT_S` after what 99 of 100 take on an idle connection."""
    limit_s = idle_p99_us / 1e6 + INCIDENT_S
    return sum(duration_s > limit_s for duration_s in durations_s)


def median_of(rounds: Iterable[dict[str, Any]], key: str, digits: int = 0) -> float:
    """The median over rounds of one figure: a round that a busy machine has spoilt does not count."""
    middle: float = statistics.median(item[key] for item in rounds)
    return round(middle, digits or None)
