"""What a leader commits, refuses, serves and hands over."""

import dataclasses
from typing import Any, Final

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import (
    Cause,
    ClockJumped,
    EntryKind,
    Outcome,
    Received,
    Refusal,
    Role,
    Send,
    Tick,
)
from consensus.raft.leadership import Leadership, Resignation
from consensus.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    TimeoutNow,
)
from tests.unit.consensus.raft.driver import SETTINGS, Cluster, Letter, nid, seed_log

I, T = LogIndex, Term  # noqa: E741
A, B, C = nid("a"), nid("b"), nid("c")


def led(names: str = "abc", **settings: Any) -> Cluster:
    cluster = Cluster(names, settings=dataclasses.replace(SETTINGS, **settings))
    cluster.now += 1.0  # past the promises that a restart would have to keep
    cluster.elect("a")
    return cluster


def is_append(letter: Letter) -> bool:
    return isinstance(letter.message, AppendEntries)


def elect_with(cluster: Cluster, name: str, *voters: str) -> None:
    """With these votes, and without any append leaving."""
    cluster.isolate(name, *voters)
    node = cluster.nodes[nid(name)]
    for voter in voters:
        cluster.nodes[nid(voter)].raft._timer.heard_at = float("-inf")
    for _ in range(2):  # the first time it may only learn of a higher term
        if node.role is not Role.LEADER:
            node.raft._timer.deadline = cluster.now
            cluster.give(name, Tick())
            cluster.settle(drop=is_append)
    cluster.heal()
    assert node.role is Role.LEADER


# -- commitment


def test_a_leader_begins_with_an_empty_entry():
    cluster = led()
    assert [(it.index, it.term, it.kind) for it in cluster["a"].entries()] == [(1, 1, EntryKind.EMPTY)]
    assert cluster["b"].status().commit_index == 1


# Figure 3.7 of the dissertation, with the same five servers as a to e, at (b): a led term 2, then e was elected in 3.
FIGURE_8 = (("a", [1, 2], 3), ("b", [1, 2], 3), ("c", [1], 3), ("d", [1], 3), ("e", [1, 3], 3))


def test_figure_8_entries_of_earlier_terms_are_not_committed_by_counting():
    cluster = Cluster("abcde")
    for name, terms, term in FIGURE_8:
        seed_log(cluster, name, terms, term)
    # (c) a leads term 4 and copies the entry of term 2 to a majority, but nothing of its own term.
    elect_with(cluster, "a", "b", "c")
    cluster.give("a", Tick())
    leader_log = cluster["a"]
    assert [it.term for it in leader_log.entries()] == [1, 2, 4]
    for name in "bc":
        cluster.give("a", Received(nid(name), AppendEntriesReply(leader_log.status().term, I(2))))
    cluster.sync("a")
    assert cluster["a"].status().commit_index == 0
    # (d) so e may still be elected and replace it. Were 2 committed, the driver would say so.
    cluster.crash("a")
    elect_with(cluster, "e", "b", "c", "d")
    cluster.elapse(0.1)
    assert [it.term for it in cluster["b"].entries()][:2] == [1, 3]


def test_figure_8_with_an_entry_of_its_own_term_all_before_are_committed_along():
    cluster = Cluster("abcde")
    for name, terms, term in FIGURE_8:
        seed_log(cluster, name, terms, term)
    elect_with(cluster, "a", "b", "c")
    cluster.isolate("a", "b", "c")
    cluster.elapse(0.1)
    assert cluster["a"].status().commit_index == 3
    # (e) e can win no more.
    cluster.heal()
    cluster.crash("a")
    cluster.elapse(3.0)
    assert cluster.leader() in ("b", "c")


def test_proposals_are_answered_where_they_were_made_when_they_are_applied():
    cluster = led()
    request = cluster.propose("a")
    assert request not in cluster.answers
    cluster.settle()
    assert cluster.answers[request] == 2


def test_a_follower_refuses_and_names_the_leader():
    cluster = led()
    answer = cluster.answer(cluster.propose("b"))
    assert (answer.outcome, answer.refusal, answer.leader) == (Outcome.REFUSED, Refusal.NOT_LEADER, A)


def test_what_a_fallen_leader_cannot_know_it_calls_unknown():
    cluster = led()
    cluster.isolate("a")
    request = cluster.propose("a")
    cluster.give("a", Received(B, HeartbeatReply(T(9), 0)))
    answer = cluster.answer(request)
    assert (answer.outcome, answer.refusal) == (Outcome.UNKNOWN, Refusal.NOT_LEADER)


def test_but_what_was_committed_is_answered_with_its_result():
    cluster = led()
    request = cluster.propose("a")
    for name in "bc":
        cluster.deliver(next(it for it in cluster.letters if it.receiver == name))
        cluster.sync(name)
    for letter in list(cluster.letters):
        cluster.deliver(letter)
    cluster.give("a", Received(B, HeartbeatReply(T(9), 0)))  # committed, and not yet on our own disk
    assert request not in cluster.answers
    cluster.sync("a")
    assert cluster.answers[request] == 2


def test_past_the_uncommitted_cap_proposals_are_refused_but_the_one_that_crosses_it_is_taken():
    cluster = led(uncommitted_bytes_max=1000, proposal_bytes_max=5000)
    taken = cluster.propose("a", bytes(4000))
    refused = cluster.propose("a", b"x")
    assert taken not in cluster.answers
    assert cluster.answer(refused).refusal is Refusal.OVERLOADED
    cluster.settle()
    assert taken in cluster.acknowledged
    again = cluster.propose("a", b"x")
    cluster.settle()
    assert again in cluster.acknowledged


def test_a_slow_own_disk_fills_the_cap_though_the_others_commit():
    cluster = led(uncommitted_bytes_max=1000)
    for _ in range(2):
        cluster.propose("a", bytes(600))
        for name in "bc":
            for letter in [it for it in cluster.letters if it.receiver == name]:
                cluster.deliver(letter)
            cluster.sync(name)
        for letter in [it for it in cluster.letters if it.receiver == "a"]:
            cluster.deliver(letter)
    assert cluster["a"].status().commit_index == 3
    assert cluster.answer(cluster.propose("a")).refusal is Refusal.OVERLOADED


def test_the_empty_entry_passes_whatever_is_uncommitted():
    cluster = Cluster("abc", settings=dataclasses.replace(SETTINGS, uncommitted_bytes_max=10))
    for name in "abc":
        seed_log(cluster, name, [1] * 20)
    cluster.elect("a")
    assert cluster["a"].status().commit_index == 21


def test_a_proposal_that_is_too_large_is_refused_alone():
    cluster = led(proposal_bytes_max=10)
    assert cluster.answer(cluster.propose("a", bytes(11))).refusal is Refusal.TOO_LARGE


def test_committed_entries_are_handed_over_in_bounded_pieces_and_whole():
    cluster = Cluster("abc", settings=dataclasses.replace(SETTINGS, apply_bytes_max=100))
    for name in "abc":
        seed_log(cluster, name, [1] * 50)
    cluster.elect("a")
    assert [index for index, _ in cluster.nodes[A].machine.values] == list(range(1, 51))


# -- reads


def outcome(cluster: Cluster, request: int) -> tuple[Outcome, Refusal | None]:
    answer = cluster.answer(request)
    return answer.outcome, answer.refusal


def test_a_read_at_the_leader_waits_for_a_majority_to_answer_a_round_begun_after_it():
    cluster = led()
    cluster.elapse(0.06)
    old = max(
        it.message.round
        for it in cluster.nodes[B].log
        if isinstance(it, Send) and isinstance(it.message, HeartbeatReply)
    )
    request = cluster.read("a")
    assert request not in cluster.answers
    cluster.give("a", Received(B, HeartbeatReply(T(1), old)))
    assert request not in cluster.answers
    cluster.settle()
    assert cluster.answer(request).index == 1


def test_reads_share_rounds():
    cluster = led()
    cluster.letters.clear()
    requests = [cluster.read("a") for _ in range(10)]
    assert sum(isinstance(it.message, Heartbeat) for it in cluster.letters) == 2  # one round, two followers
    cluster.settle()
    assert all(cluster.answer(it).outcome is Outcome.DONE for it in requests)


def test_a_read_waits_for_the_leaders_first_own_commit():
    cluster = Cluster("abc")
    for name in "abc":
        seed_log(cluster, name, [1, 1])
    elect_with(cluster, "a", "b")
    request = cluster.read("a")
    cluster.settle(drop=is_append)
    assert request not in cluster.answers
    cluster.elapse(0.1)
    assert cluster.answer(request).index == 3


def test_a_deposed_leader_serves_no_read():
    cluster = led()
    cluster.isolate("a")
    request = cluster.read("a")
    cluster.elapse(1.0)
    assert cluster.leader() in ("b", "c")
    cluster.propose(cluster.leader() or "b")
    cluster.heal()
    cluster.elapse(0.5)
    assert outcome(cluster, request) == (Outcome.REFUSED, Refusal.NOT_LEADER)


def test_a_read_at_a_follower_asks_the_leader_and_waits_until_it_has_applied():
    cluster = led()
    write = cluster.propose("a")
    cluster.settle(drop=lambda it: it.receiver == "b" and is_append(it))
    assert write in cluster.acknowledged
    request = cluster.read("b")
    cluster.settle(drop=lambda it: it.receiver == "b" and is_append(it))
    assert request not in cluster.answers
    cluster.elapse(0.06)
    assert cluster.answer(request).index == 2


def test_a_follower_whose_leader_does_not_answer_says_so():
    cluster = led()
    cluster.cut.add((B, A))
    request = cluster.read("b")
    cluster.elapse(0.3)
    assert outcome(cluster, request) == (Outcome.REFUSED, Refusal.NO_ANSWER)


def test_reads_are_bounded_at_leader_and_follower():
    cluster = led(reads_max=2)
    for name in "ab":
        requests = [cluster.read(name) for _ in range(4)]
        assert [it in cluster.answers and cluster.answer(it).refusal for it in requests][2:] == [Refusal.OVERLOADED] * 2
    cluster.settle()


def test_a_group_of_one_reads_at_once():
    cluster = Cluster("a")
    cluster.elapse(0.1)
    assert cluster.answer(cluster.read("a")).outcome is Outcome.DONE


LEASES: Final[dict[str, Any]] = {"lease_s": 0.2, "clock_drift_max": 0.05}


def test_under_a_lease_a_read_is_served_without_a_message():
    cluster = led(**LEASES)
    cluster.elapse(0.06)
    assert cluster.answer(cluster.read("a", lease=True)).outcome is Outcome.DONE
    assert cluster.read("a", lease=False) not in cluster.answers


def test_a_lease_ends_before_the_promises_do():
    cluster = led(**LEASES)
    cluster.elapse(0.06)
    cluster.now += 0.19
    assert cluster.read("a", lease=True) not in cluster.answers


def test_a_clock_that_jumped_voids_the_lease_until_the_next_round():
    cluster = led(**LEASES)
    cluster.elapse(0.06)
    cluster.give("a", ClockJumped())
    request = cluster.read("a", lease=True)
    assert request not in cluster.answers
    cluster.settle()
    assert cluster.answer(cluster.read("a", lease=True)).outcome is Outcome.DONE


def test_who_was_told_to_take_over_ends_the_lease_for_the_rest_of_the_term():
    cluster = led(**LEASES)
    cluster.elapse(0.06)
    transfer = cluster.transfer("a", "b")
    cluster.elapse(0.3, drop=lambda it: isinstance(it.message, TimeoutNow))
    assert outcome(cluster, transfer) == (Outcome.UNKNOWN, Refusal.TIMED_OUT)
    # The message may arrive yet, and no promise holds anybody back then.
    assert cluster.read("a", lease=True) not in cluster.answers


# -- handing over


def test_a_target_that_is_up_to_date_takes_over_at_once_whatever_the_others_hear():
    cluster = led()
    request = cluster.transfer("a", "b")
    cluster.settle()
    cluster.elapse(0.01)
    assert cluster.leader() == "b"
    assert cluster.answer(request).outcome is Outcome.DONE
    assert [it.cause for it in cluster["b"].status().history][-2:] == [Cause.TRANSFER, Cause.ELECTED]


def test_a_slow_one_when_it_has_caught_up_and_meanwhile_nothing_is_taken():
    cluster = led()
    cluster.isolate("c")
    write = cluster.propose("a")
    cluster.settle()
    cluster.heal()
    cluster.transfer("a", "c")
    refused = cluster.propose("a")
    assert cluster.answer(refused).refusal is Refusal.TRANSFERRING
    cluster.elapse(0.1)
    assert cluster.leader() == "c"
    assert cluster["c"].status().commit_index >= cluster.acknowledged[write]


def test_without_a_name_the_furthest_that_is_heard():
    cluster = led("abcde")
    cluster.isolate("a", "b", "c")
    cluster.propose("a")
    cluster.settle()
    cluster.heal()
    cluster.transfer("a")
    cluster.settle()
    assert cluster.leader() in ("b", "c")


def test_it_times_out_and_proposals_are_taken_again():
    cluster = led()
    cluster.isolate("c")
    cluster.propose("a")
    cluster.settle()
    transfer = cluster.transfer("a", "c")
    cluster.elapse(SETTINGS.election_timeout_s + 0.01)
    assert outcome(cluster, transfer) == (Outcome.REFUSED, Refusal.TIMED_OUT)
    write = cluster.propose("a")
    cluster.settle()
    assert write in cluster.acknowledged


@pytest.mark.parametrize("target", ["a", "z", "d"])
def test_to_itself_to_a_stranger_or_to_a_learner_it_is_refused(target: str):
    cluster = led()
    cluster.add("d")
    cluster.change("a", "abc", "d")
    cluster.settle()
    assert outcome(cluster, cluster.transfer("a", target)) == (Outcome.REFUSED, Refusal.INVALID)


def test_a_second_request_takes_the_place_of_the_first():
    cluster = led()
    cluster.isolate("b")
    cluster.propose("a")
    cluster.settle()
    first = cluster.transfer("a", "b")
    second = cluster.transfer("a", "c")
    cluster.settle()
    cluster.elapse(0.01)
    assert outcome(cluster, first) == (Outcome.REFUSED, Refusal.SUPERSEDED)
    assert cluster.answer(second).outcome is Outcome.DONE
    assert cluster.leader() == "c"


def test_a_vote_of_a_higher_term_ends_it():
    cluster = led()
    cluster.isolate("c")
    cluster.propose("a")
    cluster.settle()
    transfer = cluster.transfer("a", "c")
    cluster.give("a", Received(B, RequestVote(T(5), I(9), T(1), True)))
    assert cluster["a"].status().role is Role.FOLLOWER
    cluster.heal()
    cluster.elapse(2.0)
    assert cluster.answer(transfer).outcome in (Outcome.UNKNOWN, Outcome.DONE)


def test_a_learner_does_not_campaign_when_told_to():
    cluster = led()
    cluster.add("d")
    cluster.change("a", "abc", "d")
    cluster.elapse(0.2)
    cluster.give("d", Received(A, TimeoutNow(T(1))))
    assert cluster["d"].status().role is Role.FOLLOWER


def test_a_leadership_says_why_it_ends():
    cluster = led()
    leadership = cluster["a"]._leadership
    assert isinstance(leadership, Leadership)
    cluster.now += 1
    cluster.nodes[A].raft._state.now = cluster.now
    leadership.on_tick()
    assert leadership.resignation == Resignation(Cause.QUORUM_LOST, "nothing heard from b, c")
