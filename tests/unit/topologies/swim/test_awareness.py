import pytest

from topologies.swim.awareness import Awareness


@pytest.fixture
def awareness():
    return Awareness(7)


def test_a_healthy_node_keeps_the_pace(awareness):
    awareness.answered()
    assert (awareness.score, awareness.stretch) == (0, 1)


def test_silent_helpers_count_against_us_and_those_that_spoke_do_not(awareness):
    awareness.unanswered(nacks_expected=3, nacks_heard=3)
    assert awareness.score == 0
    awareness.unanswered(nacks_expected=3, nacks_heard=1)
    assert awareness.score == 2
    awareness.unanswered(nacks_expected=0, nacks_heard=0)
    assert awareness.score == 3
    awareness.accused()
    assert awareness.stretch == 5


def test_the_score_has_bounds(awareness):
    for _ in range(20):
        awareness.unanswered(3, 0)
    assert awareness.score == 7
    for _ in range(20):
        awareness.answered()
    assert awareness.score == 0


def test_more_nacks_than_were_expected_are_no_cure(awareness):
    awareness.accused()
    awareness.unanswered(nacks_expected=1, nacks_heard=2)
    assert awareness.score == 1


def test_it_can_be_switched_off():
    awareness = Awareness(0)
    awareness.accused()
    assert awareness.stretch == 1
