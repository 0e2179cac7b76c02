"""Changes of members, after dissertation chapter 4."""

import dataclasses
import itertools

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import Cause, ChangeMembers, Configuration, EntryKind, Outcome, Received, Refusal, Role
from consensus.raft.configuration import MEMBERS_MAX, decode
from consensus.raft.membership import MemberChange, flaw_of_change
from consensus.raft.messages import AppendEntries, TimeoutNow
from tests.unit.consensus.raft.driver import SETTINGS, Cluster, Letter, nid

I, T = LogIndex, Term  # noqa: E741
A, B, C, D = (nid(it) for it in "abcd")


def led(voters: str = "abc", others: str = "de", **settings) -> Cluster:
    cluster = Cluster(voters, settings=dataclasses.replace(SETTINGS, **settings))
    for name in others:
        cluster.add(name)
    cluster.elect("a")
    return cluster


def configurations(cluster: Cluster, name: str = "a") -> list[Configuration]:
    return [decode(it.data) for it in cluster[name].entries() if it.kind is EntryKind.CONFIGURATION]


def is_to(*names: str):
    def dropped(letter: Letter) -> bool:
        return letter.receiver in names or letter.sender in names

    return dropped


# -- the parts


def change(voters: str, learners: str = "") -> ChangeMembers:
    return ChangeMembers(1, frozenset(nid(it) for it in voters), frozenset(nid(it) for it in learners))


def test_a_newcomer_catches_up_in_rounds_until_one_is_short_enough():
    it = MemberChange(change("abcd"), frozenset({D}), I(100), 0.0, 60.0)
    it.on_match(D, I(99), I(150), 1.0, 0.25)
    assert it.is_catching_up
    it.on_match(D, I(100), I(150), 5.0, 0.25)  # too long a round: the next one goes up to 150
    assert it.laggards == [D]
    it.on_match(D, I(149), I(160), 5.1, 0.25)
    assert it.is_catching_up
    it.on_match(D, I(150), I(160), 5.2, 0.25)
    assert not it.is_catching_up


def test_matches_of_others_say_nothing_about_it():
    it = MemberChange(change("abcd"), frozenset({D}), I(100), 0.0, 60.0)
    it.on_match(B, I(100), I(100), 0.1, 0.25)
    assert it.is_catching_up


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (change(""), "no voters"),
        (change("ab", "b"), "both vote and learn"),
        (ChangeMembers(1, frozenset(nid(f"n{i}") for i in range(MEMBERS_MAX))), "more than"),
        (ChangeMembers(1, frozenset({nid("")})), "empty"),
    ],
)
def test_absurd_wishes_are_refused(wanted: ChangeMembers, why: str):
    assert why in (flaw_of_change(Configuration((A,)), wanted) or "")
    cluster = led()
    cluster.give("a", dataclasses.replace(wanted, request=99))
    assert cluster.answer(99).refusal is Refusal.INVALID


# -- whole changes


def test_a_newcomer_learns_first_then_both_majorities_then_the_new_one():
    cluster = led()
    request = cluster.change("a", "abcd")
    cluster.elapse(0.5)
    assert cluster.answer(request).outcome is Outcome.DONE
    assert configurations(cluster) == [
        Configuration((A, B, C), (D,)),
        Configuration((A, B, C, D), (), (A, B, C)),
        Configuration((A, B, C, D)),
    ]
    assert cluster["d"].status().configuration == Configuration((A, B, C, D))


def test_a_configuration_is_in_force_when_it_is_appended():  # section 4.1
    cluster = led()
    cluster.change("a", "ab")
    assert cluster["a"].status().configuration == Configuration((A, B), (), (A, B, C))
    assert cluster["a"].status().commit_index == 1
    cluster.deliver(next(it for it in cluster.letters if it.receiver == "b" and isinstance(it.message, AppendEntries)))
    assert cluster["b"].status().configuration.is_joint


def test_and_is_taken_back_when_it_is_truncated():
    cluster = led()
    cluster.isolate("a")
    cluster.change("a", "ab")
    cluster.settle()
    cluster.elapse(1.0)
    cluster.heal()
    cluster.elapse(1.0)
    assert cluster["a"].status().configuration == Configuration((A, B, C))


def test_a_joint_entry_needs_both_majorities():
    cluster = led("abc", "de")
    cluster.change("a", "ade")
    # Learners first; then the joint entry reaches the new half only.
    cluster.elapse(0.06, drop=lambda it: is_to("b", "c")(it) and cluster["a"].status().configuration.is_joint)
    status = cluster["a"].status()
    assert status.configuration.is_joint
    assert status.commit_index < status.last_index
    cluster.elapse(0.2)
    assert cluster["a"].status().configuration == Configuration((A, D, nid("e")))


def test_it_is_left_when_it_is_committed_not_when_something_before_it_is():
    cluster = led()
    cluster.propose("a")
    cluster.sync("a")
    cluster.change("a", "ab")
    for name in "bc":
        cluster.deliver(
            next(it for it in cluster.letters if it.receiver == name and isinstance(it.message, AppendEntries))
        )
        cluster.sync(name)
    for letter in [it for it in cluster.letters if it.receiver == "a"]:
        cluster.deliver(letter)
    assert cluster["a"].status().commit_index == 2
    assert [it.is_joint for it in configurations(cluster)] == [True]


def test_leaving_it_is_proposed_once_though_more_proposals_come():
    cluster = led()
    cluster.change("a", "ab")
    for _ in range(5):
        cluster.propose("a")
    cluster.elapse(0.5)
    assert [it.is_joint for it in configurations(cluster)] == [True, False]


def test_a_new_leader_leaves_a_joint_configuration_by_itself():
    cluster = led()
    request = cluster.change("a", "bc")
    for letter in [it for it in cluster.letters if isinstance(it.message, AppendEntries)]:
        cluster.deliver(letter)
    for name in "bc":
        cluster.sync(name)
    cluster.crash("a")
    cluster.elapse(2.0)
    leader = cluster.leader()
    assert leader in ("b", "c")
    assert cluster[leader].status().configuration == Configuration((B, C))
    assert request not in cluster.answers  # it died with its leader's process


def test_a_second_change_is_refused_while_one_is_under_way():
    cluster = led()
    cluster.change("a", "ab")
    assert cluster.answer(cluster.change("a", "bc")).refusal is Refusal.CHANGE_UNDER_WAY
    cluster.settle()
    cluster.elapse(0.1)
    request = cluster.change("a", "abc")
    cluster.elapse(0.5)
    assert cluster.answer(request).outcome is Outcome.DONE


def test_none_before_the_leader_has_committed_in_its_term():
    cluster = Cluster("abc")
    cluster.nodes[A].raft._timer.deadline = cluster.now
    cluster.elapse(0.01, drop=lambda it: isinstance(it.message, AppendEntries))
    assert cluster["a"].status().role is Role.LEADER
    assert cluster.answer(cluster.change("a", "ab")).refusal is Refusal.CHANGE_UNDER_WAY


def test_what_is_so_already_is_done():
    cluster = led()
    assert cluster.answer(cluster.change("a", "abc")).outcome is Outcome.DONE
    assert configurations(cluster) == []


def test_removing_one_who_is_not_there_is_harmless():
    cluster = led()
    request = cluster.change("a", "abc", "d")
    cluster.settle()
    again = cluster.change("a", "abc", "d")
    assert [cluster.answer(it).outcome for it in (request, again)] == [Outcome.DONE] * 2


def test_a_newcomer_that_does_not_catch_up_does_not_vote():
    cluster = led(catch_up_timeout_s=1.0)
    cluster.crash("d")
    request = cluster.change("a", "abcd")
    cluster.elapse(1.1)
    answer = cluster.answer(request)
    assert (answer.outcome, answer.refusal, answer.detail) == (
        Outcome.REFUSED,
        Refusal.NOT_CAUGHT_UP,
        "d; they stay learners",
    )
    assert cluster["a"].status().configuration == Configuration((A, B, C), (D,))


def test_a_learner_does_not_count():
    cluster = led("abc", "de")
    cluster.change("a", "abc", "de")
    cluster.settle()
    cluster.isolate("a", "d", "e")
    request = cluster.propose("a")
    cluster.settle()
    assert request not in cluster.answers
    assert cluster["d"].status().last_index == cluster["a"].status().last_index


def test_a_demoted_voter_counts_until_the_joint_configuration_is_left():
    cluster = led()
    request = cluster.change("a", "ab", "c")
    assert cluster["a"].status().configuration == Configuration((A, B), (), (A, B, C), (C,))
    cluster.settle()
    assert cluster.answer(request).outcome is Outcome.DONE
    assert cluster["c"].status().configuration == Configuration((A, B), (C,))


def test_a_removed_leader_commits_without_itself_hands_over_and_steps_down():  # section 4.2.2
    cluster = led()
    request = cluster.change("a", "bc")
    while cluster["a"].status().configuration.is_joint or not configurations(cluster):
        cluster.deliver(cluster.letters[0])
        for name in "abc":
            cluster.sync(name)
    # The final entry is on a's disk; it takes both others, for a does not count.
    cluster.sync("a")
    cluster.letters = [it for it in cluster.letters if it.receiver != "c"]
    cluster.settle(drop=is_to("c"))
    assert cluster["a"].status().role is Role.LEADER
    cluster.elapse(0.1)
    assert cluster.answer(request).outcome is Outcome.DONE
    last = [it for it in cluster["a"].status().history if it.cause is Cause.REMOVED]
    assert last[0].role is Role.FOLLOWER
    assert last[0].detail.startswith("handed over to ")
    cluster.elapse(0.02)
    assert cluster.leader() in ("b", "c")


def test_who_was_removed_learns_so_and_campaigns_no_more():
    cluster = led()
    cluster.change("a", "ab")
    cluster.elapse(0.1)
    assert cluster["c"].status().configuration == Configuration((A, B))
    cluster.elapse(5.0)
    assert cluster["c"].status().elections == 0
    assert cluster["c"].next_deadline() is None


def test_who_was_removed_and_does_not_know_disturbs_nobody():
    cluster = led()
    cluster.isolate("c")
    cluster.change("a", "ab")
    cluster.elapse(1.0)
    cluster.heal()
    term = cluster["a"].status().term
    cluster.elapse(3.0)
    assert (cluster.leader(), cluster["a"].status().term) == ("a", term)


def test_a_newcomer_votes_though_it_does_not_know_yet_that_it_may():  # section 4.2.2
    cluster = led("abd", "c")
    cluster.change("a", "abcd")
    # c holds the log up to before the entry that makes it a voter, and a dies: b and d are two of four.
    cluster.elapse(0.06, drop=lambda it: it.receiver == "c" and len(configurations(cluster)) > 1)
    assert cluster["b"].status().configuration.is_voter(C)
    assert not cluster["c"].status().configuration.is_voter(C)
    cluster.crash("a")
    cluster.elapse(2.0)
    assert cluster.leader() in ("b", "d")


def test_replace_the_leader_in_one_change_hand_over_while_joint_and_the_old_one_cannot_come_back():
    cluster = led("abc", "d")
    cluster.change("a", "bcd")
    cluster.elapse(1.0)
    assert cluster.leader() in ("b", "c", "d")
    cluster.give("a", Received(nid(cluster.leader() or "b"), TimeoutNow(cluster["a"].status().term)))
    cluster.elapse(3.0)
    assert cluster["a"].status().role is Role.FOLLOWER
    assert cluster[cluster.leader() or "b"].status().configuration == Configuration((B, C, D))


def test_a_transfer_to_one_who_is_removed_ends():
    cluster = led("abc", "")
    cluster.change("a", "ab")
    cluster.isolate("c")
    transfer = cluster.transfer("a", "c")
    assert cluster.answer(transfer).refusal is Refusal.INVALID


def test_no_change_while_handing_over():
    cluster = led()
    cluster.transfer("a", "b")
    assert cluster.answer(cluster.change("a", "ab")).refusal is Refusal.TRANSFERRING


@pytest.mark.parametrize("seed", range(5))
def test_any_set_becomes_any_other(seed: int):
    cluster = Cluster("abc", seed)
    for name in "def":
        cluster.add(name)
    cluster.elect("a")
    sets = ["abc", "def", "ad", "abcdef", "f", "be"]
    for wanted in itertools.islice(itertools.cycle(sets[seed:] + sets[:seed]), 8):
        for _ in range(20):
            leader = cluster.leader()
            if leader is not None:
                cluster.change(leader, wanted)
            cluster.elapse(1.0)
            leader = cluster.leader()
            if leader and cluster[leader].status().configuration == Configuration(tuple(nid(it) for it in wanted)):
                break
        assert leader in {nid(it) for it in wanted}
        request = cluster.propose(leader or "a")
        cluster.settle()
        assert request in cluster.acknowledged
