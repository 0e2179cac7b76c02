import pytest

from fdn.runtime.stall_watch import StallWatch


def watch() -> StallWatch:
    return StallWatch(interval_s=0.1, warn_s=0.5, max_s=15.0)


def test_a_beat_that_is_answered_changes_nothing():
    made = watch()
    assert made.due(0.0)
    assert not made.due(0.05)  # one at a time
    assert not made.answered(0.01)
    assert made.last_lag_s == pytest.approx(0.01)
    assert made.next_deadline() == pytest.approx(0.11)
    assert not made.due(0.1)
    assert made.due(0.11)


def test_stalled_then_wedged_then_well_again():
    made = watch()
    made.due(1.0)
    assert made.next_deadline() == 1.5
    assert not made.check(1.49)
    assert made.check(1.5)
    assert str(made.state) == "stalled"
    assert not made.check(2.0)
    assert made.next_deadline() == 16.0
    assert made.check(16.0)
    assert str(made.state) == "wedged"
    assert made.next_deadline() is None  # or the control plane would spin
    assert not made.check(1000.0)
    assert made.lag_s(1000.0) == 999.0
    assert made.answered(1001.0)
    assert str(made.state) == "serving"
    assert (made.last_lag_s, made.worst_lag_s) == (1000.0, 1000.0)
    assert made.lag_s(1001.0) == 0.0
    assert made.next_deadline() == pytest.approx(1001.1)


def test_one_look_after_a_long_sleep_is_enough():
    made = watch()
    made.due(0.0)
    assert made.check(100.0)
    assert str(made.state) == "wedged"


def test_answers_to_nothing_are_ignored():
    assert not watch().answered(5.0)
