import os

import pytest

from fdn.bench.memory import MemoryWatch, slope


@pytest.mark.parametrize(
    ("points", "rise"),
    [
        ([], 0.0),
        ([(1.0, 5.0)], 0.0),
        ([(1.0, 5.0), (1.0, 9.0)], 0.0),
        ([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2.0),
        ([(0.0, 1.0), (1.0, 9.0), (2.0, 1.0)], 0.0),
    ],
)
def test_slope(points: list[tuple[float, float]], rise: float) -> None:
    assert slope(points) == rise


def test_what_a_process_takes_is_seen() -> None:
    with MemoryWatch({"me": os.getpid()}) as watch:
        held = b"x" * (64 * 2**20)
    grown = watch.report()["me"]
    assert len(held) / 2**20 - 8 < grown["end_mib"] - grown["begin_mib"]
    assert grown["peak_mib"] >= grown["end_mib"]
    assert watch.report(since=float("inf"))["me"]["end_mib"] == grown["end_mib"]


def test_a_process_that_has_ended_is_no_error() -> None:
    with MemoryWatch({"me": os.getpid()}) as watch:
        watch._processes["me"]._gone = True
        watch._read()
    assert watch.report()["me"]["end_mib"] > 0
