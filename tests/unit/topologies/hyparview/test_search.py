import random

import pytest

from topologies.hyparview.search import Search
from topologies.hyparview.settings import HyParViewSettings
from topologies.identity import NodeId


@pytest.fixture
def search():
    return Search(HyParViewSettings(retry_min_s=1.0, retry_max_s=4.0, refusals_max=2), random.Random(1))


def test_pauses_grow_up_to_the_longest_while_nothing_comes_of_it(search):
    pauses = []
    for _ in range(4):
        search.pause(100.0)
        pauses.append(search.retry_at - 100.0)
        search.tick(search.retry_at)
        assert search.retry_at is None
    for pause, longest in zip(pauses, (1.0, 2.0, 4.0, 4.0), strict=True):
        assert longest / 2 <= pause <= longest


def test_success_makes_the_next_pause_short(search):
    search.pause(0.0)
    search.pause(0.0)
    search.succeeded()
    search.pause(0.0)
    assert search.retry_at <= 1.0


def test_a_round_ends_with_enough_refusals_and_the_next_begins_afresh(search):
    search.tried.add(NodeId("a"))
    search.refused()
    assert not search.is_refused_enough
    search.refused()
    assert search.is_refused_enough
    search.pause(0.0)
    search.tick(0.1)
    assert search.is_refused_enough  # the pause is not over
    search.tick(1.0)
    assert not search.is_refused_enough
    assert not search.tried


def test_news_ends_a_pause(search):
    search.wait_a_moment(0.0)
    search.restart()
    assert search.retry_at is None
