"""From what was measured to what is reported: percentiles within a round, medians over rounds."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ("latency", "median_of", "percentile")


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


def median_of(rounds: Iterable[dict[str, Any]], key: str, digits: int = 0) -> float:
    """The median over rounds of one figure: a round that a busy machine has spoilt does not count."""
    middle: float = statistics.median(item[key] for item in rounds)
    return round(middle, digits or None)
