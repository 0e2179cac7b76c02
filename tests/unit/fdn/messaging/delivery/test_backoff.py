"""Longer with each time, never all at once, never above the bound."""

import random

from fdn.messaging.delivery.backoff import Backoff


def test_each_pause_lies_between_a_half_and_the_whole_of_twice_the_one_before():
    backoff = Backoff(0.25, 5.0, random.Random(1))
    for sends, longest in ((1, 0.25), (2, 0.5), (3, 1.0), (5, 4.0), (6, 5.0), (1000, 5.0)):
        pauses = [backoff.pause(sends) for _ in range(100)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert len(set(pauses)) > 90


def test_where_answers_take_longer_it_is_longer():
    backoff = Backoff(0.25, 5.0, random.Random(1))
    assert 0.5 <= backoff.pause(1, usual_s=1.0) <= 1.0
    assert 0.125 <= backoff.pause(1, usual_s=0.1) <= 0.25
    assert backoff.pause(1, usual_s=60.0) <= 5.0
