import itertools
import math
import random

import pytest

from consensus.raft.election import ElectionTimer
from consensus.raft.settings import RaftSettings

T = 0.25
SETTINGS = RaftSettings(election_timeout_s=T, stagger_s=0.01)


def timer(seed: int = 1) -> ElectionTimer:
    return ElectionTimer(SETTINGS, random.Random(seed), 0.0)


def test_timeouts_lie_in_t_to_2t_differ_and_are_drawn_anew_each_round():
    it, drawn = timer(), set()
    for _ in range(100):
        it.restart(10.0)
        assert 10 + T <= it.deadline < 10 + 2 * T
        drawn.add(it.deadline)
    assert len(drawn) == 100


@pytest.mark.parametrize("voters", [2, 3, 5])
def test_ranks_wait_in_line_without_touching(voters: int):
    ends = []
    for rank in range(voters):
        it = timer(rank)
        it.rank = rank
        draws = []
        for _ in range(50):
            it.on_leader(1.0, voters)
            draws.append(it.deadline)
        ends.append((min(draws), max(draws)))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(ends))
    assert ends[0][0] >= 1 + T
    assert ends[-1][1] < 1 + 2 * T


def test_a_rank_past_the_voters_is_the_last():
    it = timer()
    it.rank = 99
    it.on_leader(0.0, 3)
    assert it.deadline < 2 * T


def test_a_leader_is_fresh_for_one_timeout():
    it = timer()
    assert not it.is_fresh(0.0)
    it.on_leader(1.0, 3)
    assert it.is_fresh(1.0 + T * 0.99)
    assert not it.is_fresh(1.0 + T)


def test_a_lost_connection_brings_the_turn_forward_and_never_back():
    it = timer()
    it.rank = 2
    it.on_leader(1.0, 5)
    it.on_connection_lost(1.1)
    assert it.heard_at == -math.inf
    assert 1.1 + 0.02 <= it.deadline < 1.1 + 0.03
    before = it.deadline
    it.on_connection_lost(1.13)
    assert it.deadline == before


def test_asking_again_backs_off_up_to_the_timeout_and_begins_anew_with_a_leader():
    it = timer()
    waits = []
    for _ in range(40):
        it.retry(0.0)
        waits.append(it.deadline)
    assert 0.01 <= waits[0] < 0.02
    assert 0.02 <= waits[1] < 0.04
    assert all(T <= wait < 2 * T for wait in waits[10:])
    it.on_leader(0.0, 3)
    it.retry(0.0)
    assert it.deadline < 0.02
