import pytest

from topologies.plumtree.settings import PlumtreeSettings


def test_thresholds_are_the_papers():
    """Plumtree section 4.2: 3 for one sender, 7 for many; a tree of one root has one sender."""
    assert (PlumtreeSettings().threshold, PlumtreeSettings().shared_threshold) == (3, 7)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"graft_timeout_s": 0.0}, "graft_timeout_s is 0.0"),
        ({"graft_timeout_s": float("nan")}, "graft_timeout_s is nan"),
        ({"ihave_interval_s": -1.0}, "ihave_interval_s is -1.0"),
        ({"trees_max": 0}, "trees_max is 0"),
        ({"graft_retry_s": 1.0}, "must not be longer"),
        ({"store_bytes_max": 1}, "must hold one payload"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        PlumtreeSettings(**wrong)


def test_announcements_may_go_out_at_once_and_trees_be_of_roots_from_the_first_message():
    assert PlumtreeSettings(ihave_interval_s=0.0, own_tree_after=0).own_tree_after == 0
