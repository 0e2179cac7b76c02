from typing import Any

import pytest

from fdn.errors import ConfigError
from fdn.runtime.schedule import Interval, seconds


def test_an_interval_keeps_its_grid():
    every = Interval(10.0)
    assert every.first(100.0) == 110.0
    assert every.after(110.0, 110.0) == (120.0, 0)
    assert every.after(110.0, 119.9) == (120.0, 0)


@pytest.mark.parametrize(("now", "then"), [(120.0, (130.0, 1)), (125.0, (130.0, 1)), (145.5, (150.0, 3))])
def test_what_fell_due_meanwhile_is_counted(now: float, then: tuple[float, int]):
    assert Interval(10.0).after(110.0, now) == then


def test_a_clock_that_goes_back_misses_nothing():
    assert Interval(10.0).after(110.0, 90.0) == (120.0, 0)


@pytest.mark.parametrize("period", [0.0, -1.0, 1e9, float("nan")])
def test_periods_that_cannot_be(period: float):
    with pytest.raises(ConfigError, match="a period of"):
        Interval(period)


@pytest.mark.parametrize(("value", "read"), [(3, 3.0), (0.5, 0.5), ("250ms", 0.25), ("1m30s", 90.0)])
def test_durations(value: Any, read: float):
    assert seconds("period", value) == read


@pytest.mark.parametrize("value", ["soon", float("inf"), float("nan"), None, [1]])
def test_what_is_no_duration(value: Any):
    with pytest.raises(ConfigError, match="period="):
        seconds("period", value)
