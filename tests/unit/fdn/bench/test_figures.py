import random

import pytest

from fdn.bench.figures import incidents, latency, median_of, percentile, tail


@pytest.mark.parametrize("count", [1, 2, 3, 99, 100, 101, 1000])
@pytest.mark.parametrize("fraction", [0.5, 0.99, 1.0])
def test_a_percentile_is_the_smallest_value_that_covers_the_fraction(count: int, fraction: float) -> None:
    ordered = sorted(random.Random(count).random() for _ in range(count))
    slow = next(value for value in ordered if sum(other <= value for other in ordered) >= fraction * count)
    assert percentile(ordered, fraction) == slow


def test_latencies_are_microseconds() -> None:
    assert latency([0.003, 0.001, 0.002]) == {"calls": 3, "p50_us": 2000.0, "p99_us": 3000.0}


def test_a_spoilt_round_does_not_count() -> None:
    rounds = [{"rate": 10.2}, {"rate": 0.0}, {"rate": 11.0}]
    assert median_of(rounds, "rate") == 10
    assert median_of(rounds, "rate", 1) == 10.2


def test_a_tail_has_a_thousandth_part() -> None:
    durations_s = [number / 1e6 for number in range(1, 2001)]
    assert tail(durations_s) == {"count": 2000, "p50_us": 1000.0, "p99_us": 1980.0, "p999_us": 1998.0, "max_us": 2000.0}
    assert tail([])["count"] == 0


def test_an_incident_is_later_than_idle_and_ten_milliseconds() -> None:
    assert incidents([0.001, 0.0109, 0.0111, 5.0], idle_p99_us=1000.0) == 2
