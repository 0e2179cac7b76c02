import pytest

from topologies.hyparview.settings import HyParViewSettings


def test_defaults_are_the_papers():
    """HyParView section 5.1: 10,000 nodes, active view 5, passive view 30, ARWL 6, PRWL 3, ka 3, kp 4."""
    settings = HyParViewSettings()
    assert (settings.active_max, settings.passive_max) == (5, 30)
    assert (settings.arwl, settings.prwl) == (6, 3)
    assert (settings.shuffle_active_count, settings.shuffle_passive_count) == (3, 4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"active_max": 0}, "active_max is 0"),
        ({"request_timeout_s": float("nan")}, "request_timeout_s is nan"),
        ({"shuffle_interval_s": float("inf")}, "shuffle_interval_s is inf"),
        ({"prwl": 7}, "prwl is 7, arwl 6"),
        ({"shuffle_passive_count": 64}, "is too long"),
        ({"retry_min_s": 61.0}, "must not be above the most"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        HyParViewSettings(**wrong)


def test_mixing_may_be_left_out_as_in_the_paper():
    assert HyParViewSettings(mix_interval_s=float("inf")).mix_interval_s == float("inf")
