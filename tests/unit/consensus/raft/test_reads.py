import math
import random

from consensus.identity import LogIndex, NodeId
from consensus.raft.reads import ForwardedReads, LeaderReads, PendingRead, Rounds
from consensus.raft.settings import RaftSettings

I = LogIndex  # noqa: E741
SETTINGS = RaftSettings(election_timeout_s=1.0, lease_s=1.0, clock_drift_max=0.1)


def test_a_lease_counts_from_the_start_of_an_answered_round_less_the_drift():
    it = Rounds()
    it.begin(10.0)
    it.begin(10.4)
    assert it.lease_until(1, SETTINGS) == 10.9
    assert it.lease_until(2, SETTINGS) == 11.3
    it.forget_before(2)
    assert it.lease_until(1, SETTINGS) == -math.inf
    assert it.lease_until(0, SETTINGS) == -math.inf


def test_without_leases_there_is_none():
    it = Rounds()
    it.begin(10.0)
    assert it.lease_until(1, RaftSettings()) == -math.inf


def test_a_void_lease_needs_a_round_begun_after():
    it = Rounds()
    it.begin(10.0)
    it.void()
    assert it.lease_until(1, SETTINGS) == -math.inf
    it.begin(10.1)
    assert it.lease_until(2, SETTINGS) == 11.0


def test_reads_are_served_by_a_round_begun_after_they_came():
    it = LeaderReads()
    early, late = PendingRead(1), PendingRead(2, NodeId("b"))
    it.add(early)
    it.on_round(5, I(7))
    it.add(late)
    assert it.is_waiting
    assert it.on_agreed(4) == []
    assert it.on_agreed(5) == [(7, early)]
    it.on_round(6, I(9))
    assert len(it) == 1
    assert it.on_agreed(8) == [(9, late)]
    assert len(it) == 0


def test_a_fallen_leader_gives_all_of_them_back():
    it = LeaderReads()
    it.add(PendingRead(1))
    it.on_round(1, I(1))
    it.add(PendingRead(2))
    assert it.take_all() == [PendingRead(1), PendingRead(2)]
    assert (len(it), it.is_waiting, it.on_agreed(9)) == (0, False, [])


def forwarded(seed: int = 1) -> ForwardedReads:
    return ForwardedReads(0.5, random.Random(seed))


def test_one_question_is_out_at_a_time_and_covers_all_that_came_before_it():
    it = forwarded()
    it.add(1, lease=True)
    it.add(2, lease=False)
    question = it.ask(10.0)
    assert question is not None
    context, lease = question
    assert not lease  # one of them wants more than a lease
    assert it.deadline == 10.5
    it.add(3, lease=True)
    assert it.ask(10.1) is None
    assert it.on_answer(context) == [1, 2]
    assert it.ask(10.2) == (context + 1, True)


def test_late_answers_are_nobodys():
    it = forwarded()
    it.add(1, lease=False)
    context, _ = it.ask(10.0) or (0, False)
    assert it.take_all() == [1]
    assert it.deadline == math.inf
    it.add(2, lease=False)
    it.ask(10.0)
    assert it.on_answer(context) == []


def test_a_question_of_a_life_before_is_not_taken_for_one_of_this_life():
    before, after = forwarded(1), forwarded(2)
    before.add(1, lease=False)
    after.add(2, lease=False)
    context, _ = before.ask(0.0) or (0, False)
    after.ask(0.0)
    assert after.on_answer(context) == []
