"""Elections and roles, after dissertation chapters 3, 6.2 and 9.6."""

import dataclasses
import itertools

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import (
    Cause,
    Changed,
    ConnectionLost,
    Durable,
    Entry,
    EntryKind,
    Outcome,
    Persist,
    Persisted,
    PersistFailed,
    RaftSettings,
    Received,
    Refusal,
    Role,
    Send,
    Snapshot,
    Tick,
)
from consensus.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from tests.unit.consensus.raft.driver import SETTINGS, Cluster, Letter, nid, seed_log

I, T = LogIndex, Term  # noqa: E741
A, B, C = nid("a"), nid("b"), nid("c")


def kinds(letters: list[Letter]) -> set[str]:
    return {type(it.message).__name__ for it in letters}


def messages(effects) -> list[object]:
    return [it.message for it in effects if isinstance(it, Send)]


def test_all_nodes_start_as_followers():
    cluster = Cluster("abc")
    assert [it.role for it in cluster.nodes.values()] == [Role.FOLLOWER] * 3
    cluster.give("a", ConnectionLost(B))
    assert cluster["a"].status().history[0].cause is Cause.STARTED


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_group_elects_one_leader_that_all_know(size: int):
    cluster = Cluster("abcdefg"[:size])
    cluster.elapse(1.0)
    assert len({it.raft.status().leader for it in cluster.nodes.values()} - {None}) == 1
    assert sum(it.role is Role.LEADER for it in cluster.nodes.values()) == 1


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_an_election_is_won_lost_or_open_as_the_votes_fall(size: int):
    others = "bcdefghij"[: size - 1]
    for granted in range(size):
        cluster = Cluster("a" + others)
        cluster.give("a", Received(nid("z"), HeartbeatReply(T(4), 0)))
        cluster.nodes[A].raft._timer.deadline = cluster.now
        cluster.give("a", Tick())
        for voter in others:
            cluster.give("a", Received(nid(voter), PreVoteReply(T(5), True)))
        cluster.sync("a")
        for place, voter in enumerate(others):
            cluster.give("a", Received(nid(voter), RequestVoteReply(T(5), place < granted)))
        majority = size // 2 + 1
        assert cluster["a"].status().role is (Role.LEADER if granted + 1 >= majority else Role.FOLLOWER)


def test_a_message_of_a_higher_term_makes_any_role_a_follower_in_that_term():
    for role in (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER):
        cluster = in_role(role)
        cluster.give("a", Received(B, AppendEntries(T(9), I(0), T(0), I(0))))
        status = cluster["a"].status()
        assert (status.role, status.term, status.leader) == (Role.FOLLOWER, 9, B)
        assert status.history[-1].cause is Cause.HIGHER_TERM


def in_role(role: Role) -> Cluster:
    cluster = Cluster("abc")
    if role is not Role.FOLLOWER:
        cluster.nodes[A].raft._timer.deadline = cluster.now
        cluster.give("a", Tick())
    if role in (Role.CANDIDATE, Role.LEADER):
        cluster.give("a", Received(B, PreVoteReply(T(1), True)))
        cluster.sync("a")
    if role is Role.LEADER:
        cluster.give("a", Received(B, RequestVoteReply(T(1), True)))
    assert cluster["a"].status().role is role
    cluster.letters.clear()
    return cluster


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_a_candidate_that_hears_the_leader_of_its_term_concedes(role: Role):
    cluster = in_role(role)
    term = cluster["a"].status().term
    cluster.give("a", Received(C, Heartbeat(term, I(0), 1)))
    assert (cluster["a"].status().role, cluster["a"].status().leader) == (Role.FOLLOWER, C)
    assert cluster["a"].status().history[-1].cause is Cause.LEADER_HEARD


def test_requests_of_an_earlier_term_are_answered_with_ours_and_not_acted_on():
    cluster = Cluster("abc")
    seed_log(cluster, "a", [], term=5)
    for request, reply in (
        (AppendEntries(T(4), I(0), T(0), I(0)), HeartbeatReply(T(5), 0)),
        (Heartbeat(T(4), I(0), 7), HeartbeatReply(T(5), 0)),
        (RequestVote(T(4), I(9), T(4)), RequestVoteReply(T(5), False)),
        (PreVote(T(4), I(9), T(4)), PreVoteReply(T(5), False)),
    ):
        assert messages(cluster.give("a", Received(B, request))) == [reply]
    assert cluster["a"].status().leader is None


def test_one_vote_a_term_first_come_and_the_same_again():
    cluster = Cluster("abc")
    cluster.give("a", Received(B, RequestVote(T(1), I(0), T(0))))
    cluster.sync("a")
    assert cluster.letters[-1].message == RequestVoteReply(T(1), True)
    assert messages(cluster.give("a", Received(C, RequestVote(T(1), I(0), T(0))))) == [RequestVoteReply(T(1), False)]
    assert messages(cluster.give("a", Received(B, RequestVote(T(1), I(0), T(0))))) == [RequestVoteReply(T(1), True)]


def test_a_vote_leaves_when_it_is_on_the_disk_and_survives_a_crash():
    cluster = Cluster("abc")
    effects = cluster.give("a", Received(B, RequestVote(T(1), I(0), T(0))))
    assert [type(it) for it in effects] == [Changed, Changed, Persist]  # started, the higher term
    assert not cluster.letters
    cluster.crash("a")
    cluster.restart("a")  # the write was lost, and so was the vote, which nobody saw
    cluster.give("a", Received(C, RequestVote(T(1), I(0), T(0))))
    cluster.sync("a")
    cluster.crash("a")
    cluster.restart("a")
    assert messages(cluster.give("a", Received(B, RequestVote(T(1), I(0), T(0))))) == [RequestVoteReply(T(1), False)]


def test_a_candidate_asks_and_counts_itself_when_its_vote_is_on_the_disk():
    cluster = in_role(Role.PRE_CANDIDATE)
    cluster.give("a", Received(B, PreVoteReply(T(1), True)))
    assert cluster["a"].status().role is Role.CANDIDATE
    assert not cluster.letters
    cluster.give("a", Received(B, RequestVoteReply(T(1), True)))  # an answer to an earlier life's question
    assert cluster["a"].status().role is Role.CANDIDATE
    cluster.sync("a")
    assert kinds(cluster.letters) >= {"RequestVote"}
    assert cluster["a"].status().role is Role.LEADER


@pytest.mark.parametrize(
    ("log", "last_index", "last_term", "granted"),
    [([1, 2], 2, 1, False), ([1, 2], 1, 2, False), ([1, 2], 2, 2, True), ([1, 1, 1], 1, 2, True), ([1], 2, 1, True)],
)
def test_a_vote_goes_to_logs_at_least_as_far(log, last_index, last_term, granted):  # section 3.6.1
    cluster = Cluster("abc")
    seed_log(cluster, "a", log)
    cluster.give("a", Received(B, PreVote(T(4), I(last_index), T(last_term))))
    assert [it.message for it in cluster.letters] == [
        PreVoteReply(T(4) if granted else cluster["a"].status().term, granted)
    ]
    cluster.give("a", Received(B, RequestVote(T(4), I(last_index), T(last_term))))
    cluster.sync("a")
    assert cluster.letters[-1].message == RequestVoteReply(T(4), granted)


def test_a_pre_vote_with_an_old_log_fails_and_changes_nobodys_term():
    cluster = Cluster("abc")
    for name in "bc":
        seed_log(cluster, name, [1, 1])
    seed_log(cluster, "a", [1])
    for _ in range(5):
        cluster.nodes[A].raft._timer.deadline = cluster.now
        cluster.give("a", Tick())
        cluster.settle()
    assert cluster["a"].status().role is Role.PRE_CANDIDATE
    assert {it.raft.status().term for it in cluster.nodes.values()} == {1}


def test_campaigning_on_a_leader_is_nothing():
    cluster = Cluster("abc")
    cluster.elect("a")
    before = cluster["a"].status().term
    cluster.give("a", Received(B, TimeoutNow(before)))
    cluster.give("a", Received(A, TimeoutNow(before)))
    assert (cluster["a"].status().term, cluster["a"].status().role) == (before, Role.LEADER)


def test_dueling_candidates_the_loser_steps_down_and_the_isolated_one_unseats_nobody():
    cluster = Cluster("abc")
    cluster.isolate("c")
    cluster.elect("a")
    cluster.elapse(3.0)  # c asks in vain
    assert cluster["c"].status().role is Role.PRE_CANDIDATE
    cluster.heal()
    term = cluster["a"].status().term
    cluster.elapse(1.0)
    assert (cluster.leader(), cluster["a"].status().term, cluster["c"].status().leader) == ("a", term, "a")


def test_a_candidate_in_a_higher_term_is_brought_back_by_the_leader_stepping_down_for_it():
    # Without a leader that learns of the higher term it would refuse that leader's appends for ever.
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.nodes[C].disk.term = T(7)
    cluster.restart("c")
    cluster.elapse(1.0)
    assert cluster.leader() is not None
    assert len({it.raft.status().term for it in cluster.nodes.values()}) == 1
    assert cluster["a"].status().term > 7


def test_a_node_behind_in_terms_can_finish_an_election_when_the_leader_dies():
    cluster = Cluster("abc")
    cluster.isolate("c")
    cluster.elect("a")
    for before, after in itertools.pairwise("ababa"):
        cluster.transfer(before, after)
        cluster.settle()
    assert cluster["a"].status().term > cluster["c"].status().term
    cluster.heal()
    cluster.crash("a")
    cluster.elapse(2.0)
    assert cluster.leader() in ("b", "c")


def test_a_voter_that_hears_a_leader_refuses_others_and_its_term_stays():
    cluster = Cluster("abc")
    cluster.elect("a")
    before = cluster["b"].status().term
    assert messages(cluster.give("b", Received(C, PreVote(T(9), I(9), T(9))))) == [PreVoteReply(before, False)]
    assert messages(cluster.give("b", Received(C, RequestVote(T(9), I(9), T(9))))) == []
    assert messages(cluster.give("a", Received(C, PreVote(T(9), I(9), T(9))))) == [PreVoteReply(before, False)]
    assert messages(cluster.give("a", Received(C, RequestVote(T(9), I(9), T(9))))) == []
    assert {cluster[it].status().term for it in "ab"} == {before}


def test_but_grants_the_leader_itself_and_who_was_sent_by_it():
    for sender, request in (("a", RequestVote(T(9), I(9), T(9))), ("c", RequestVote(T(9), I(9), T(9), True))):
        cluster = Cluster("abc")
        cluster.elect("a")
        cluster.give("b", Received(nid(sender), request))
        cluster.sync("b")
        assert cluster.letters[-1].message == RequestVoteReply(T(9), True)


def test_after_a_timeout_without_it_anybody():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.now += SETTINGS.election_timeout_s
    assert messages(cluster.give("b", Received(C, PreVote(T(9), I(9), T(9))))) == [PreVoteReply(T(9), True)]


def test_two_that_lost_faith_elect_despite_the_third():
    cluster = Cluster("abcde")
    cluster.elect("a")
    cluster.crash("a")
    cluster.cut |= {(nid(x), nid("e")) for x in "bcd"} | {(nid("e"), nid(x)) for x in "bcd"}
    for name in "bc":
        cluster.give(name, ConnectionLost(A))
    # d heard the leader a moment ago and refuses; b and c are two of five.
    cluster.nodes[B].raft._timer.deadline = cluster.now
    cluster.give("b", Tick())
    cluster.settle()
    assert cluster["b"].status().role is Role.PRE_CANDIDATE
    cluster.give("d", ConnectionLost(A))
    cluster.elapse(0.2)
    assert cluster.leader() in ("b", "c", "d")


def test_a_lost_connection_forgets_the_leader_keeps_the_term_and_elects_at_once():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.elapse(0.2)  # heartbeats bring the ranks
    term = cluster["b"].status().term
    cluster.crash("a")
    for name in "bc":
        cluster.give(name, ConnectionLost(A, "reset by peer"))
        status = cluster[name].status()
        assert (status.leader, status.term) == (None, term)
        assert (status.history[-1].cause, status.history[-1].detail) == (Cause.CONNECTION_LOST, "reset by peer")
    cluster.elapse(0.05)  # a fraction of the election timeout
    assert cluster.leader() in ("b", "c")
    causes = [it.cause for it in cluster[cluster.leader() or "b"].status().history]
    assert causes[-4:] == [Cause.CONNECTION_LOST, Cause.CONNECTION_LOST, Cause.PRE_VOTE_WON, Cause.ELECTED]


def test_a_false_alarm_costs_nothing():
    cluster = Cluster("abc")
    cluster.elect("a")
    term = cluster["a"].status().term
    cluster.give("b", ConnectionLost(A))
    cluster.elapse(2.0)
    assert (cluster.leader(), cluster["a"].status().term, cluster["b"].status().leader) == ("a", term, "a")


def test_a_split_vote_is_tried_again_without_waiting_for_the_dead():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("a")
    for name in "bc":
        cluster.give(name, ConnectionLost(A))
        cluster.nodes[nid(name)].raft._timer.deadline = cluster.now
    # Both ask at the same moment, and each has voted for itself when the other's request comes.
    for name in "bc":
        cluster.give(name, Tick())
    cluster.settle()
    assert cluster.leader() is None
    assert any(it.cause is Cause.ELECTION_LOST for name in "bc" for it in cluster[name].status().history)
    cluster.elapse(0.1)
    assert cluster.leader() in ("b", "c")


def test_ranks_decide_who_asks_first():
    own = {nid("c"): dataclasses.replace(SETTINGS, priority=5)}
    for seed in range(10):
        cluster = Cluster("abcde", seed, SETTINGS, own)
        cluster.elect("a")
        cluster.elapse(0.2)
        cluster.crash("a")
        cluster.elapse(1.0)
        assert cluster.leader() == "c"


def test_priority_never_elects_a_log_that_lacks_something():
    own = {nid("c"): dataclasses.replace(SETTINGS, priority=5)}
    cluster = Cluster("abc", own=own)
    cluster.elect("a")
    cluster.elapse(0.2)
    cluster.isolate("c")
    cluster.propose("a")
    cluster.settle()
    cluster.crash("a")
    cluster.heal()
    cluster.elapse(2.0)
    assert cluster.leader() == "b"


def test_a_leader_without_a_quorum_steps_down_and_says_who_is_missing():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("a")
    request = cluster.propose("a")
    cluster.elapse(SETTINGS.election_timeout_s + 0.01)
    last = cluster["a"].status().history[-1]
    assert (last.role, last.cause) == (Role.FOLLOWER, Cause.QUORUM_LOST)
    assert last.detail == "nothing heard from b, c"
    assert cluster.answer(request).outcome is Outcome.UNKNOWN


def test_with_one_it_does_not():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("c")
    cluster.elapse(3.0)
    assert cluster.leader() == "a"


def test_restarting_a_follower_causes_no_election():
    cluster = Cluster("abc")
    cluster.elect("a")
    term = cluster["a"].status().term
    cluster.crash("c")
    cluster.restart("c")
    cluster.elapse(3.0)
    assert (cluster.leader(), cluster["a"].status().term) == ("a", term)


def test_a_leader_that_was_stopped_for_a_while_steps_down_before_anything_else():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.now += 10
    cluster.give("a", Tick())
    assert cluster["a"].status().role is not Role.LEADER


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_node_whose_disk_failed_takes_part_in_nothing(role: Role):
    cluster = in_role(role)
    pending = cluster.propose("a") if role is Role.LEADER else None
    cluster.give("a", PersistFailed("input/output error"))
    status = cluster["a"].status()
    assert (status.role, status.history[-1].cause) == (Role.STOPPED, Cause.STORAGE_FAILED)
    assert cluster["a"].next_deadline() is None
    if pending is not None:
        assert cluster.answer(pending).outcome is Outcome.UNKNOWN
    for request in (cluster.propose("a"), cluster.read("a"), cluster.change("a", "ab"), cluster.transfer("a")):
        answer = cluster.answer(request)
        assert (answer.refusal, answer.detail) == (Refusal.STOPPED, "the disk failed: input/output error")
    assert cluster.give("a", Received(B, RequestVote(T(9), I(9), T(9)))) == []
    assert cluster.give("a", Persisted(99)) == []
    cluster.crash("a")
    cluster.restart("a")
    cluster.elapse(2.0)
    assert cluster.leader() is not None


def test_what_contradicts_the_committed_log_stops_us_rather_than_overwrites():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.propose("a")
    cluster.settle()
    forged = AppendEntries(T(8), I(0), T(0), I(0), (Entry(I(1), T(8), EntryKind.COMMAND, b"forged"),))
    cluster.give("b", Received(C, forged))
    assert cluster["b"].status().history[-1].cause is Cause.LOG_CONTRADICTED
    assert cluster["b"].entries() == cluster["a"].entries()


def test_a_stranger_without_a_configuration_waits_without_a_timer():
    cluster = Cluster("abc")
    cluster.add("d")
    assert cluster["d"].next_deadline() is None


def test_a_group_of_one_leads_at_once():
    cluster = Cluster("a")
    cluster.give("a", Tick())
    cluster.settle()
    assert cluster.leader() == "a"


def test_the_history_is_bounded_and_in_order():
    cluster = Cluster("abc", settings=dataclasses.replace(SETTINGS, history_count=4))
    for name in itertools.islice(itertools.cycle("abc"), 6):
        cluster.elect(name)
    history = cluster["a"].status().history
    assert len(history) == 4
    assert [it.term for it in history] == sorted(it.term for it in history)


def test_two_runs_with_the_same_seed_are_the_same():
    def run() -> list[object]:
        cluster = Cluster("abcde", seed=5)
        cluster.elapse(1.0)
        cluster.crash(cluster.leader() or "a")
        cluster.elapse(1.0)
        return [effect for node in cluster.nodes.values() for effect in node.log]

    assert run() == run()


# -- a disk that lost its newest entries


def impaired(cluster: Cluster, name: str, length: int) -> None:
    """Restart with only the first entries, and the mark of how long the log was."""
    node = cluster.nodes[nid(name)]
    node.is_up = False
    last = node.disk.entries[-1]
    node.floor = (last.index, node.disk.term)
    node.disk.entries = node.disk.entries[:length]
    node.disk.pending.clear()
    node.disk.term, node.disk.voted_for = T(0), None
    node.start()
    node.seen = node.raft.status()


def with_entries() -> Cluster:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("c")
    for _ in range(5):
        cluster.propose("a")
    cluster.settle()
    cluster.heal()
    return cluster


def test_a_node_that_lost_entries_neither_votes_nor_campaigns_so_nothing_acknowledged_is_lost():
    cluster = with_entries()
    cluster.crash("a")
    impaired(cluster, "b", 1)
    # b was all that a's commits rested on besides a; with c it must not elect anybody.
    cluster.elapse(5.0)
    assert cluster.leader() is None
    assert cluster["b"].status().elections == 0
    cluster.restart("a")
    cluster.elapse(2.0)
    assert cluster.leader() == "a"
    assert cluster["b"].entries() == cluster["a"].entries()


def test_it_votes_again_when_it_has_them_back():
    cluster = with_entries()
    impaired(cluster, "b", 1)
    cluster.give("a", ConnectionLost(B))
    cluster.elapse(0.5)
    assert cluster["b"].entries() == cluster["a"].entries()
    cluster.crash("a")
    cluster.elapse(2.0)
    assert cluster.leader() in ("b", "c")


def test_it_never_votes_in_a_term_in_which_it_may_have_voted():
    snapshot = Snapshot(I(0), T(0), Cluster("abc").founding)
    cluster = Cluster("abc")
    cluster.nodes[A].floor = (I(0), T(3))
    cluster.nodes[A].start()
    assert cluster["a"].status().term == 3
    assert Durable(snapshot).floor == (0, 0)
    cluster.give("a", Received(B, RequestVote(T(3), I(9), T(9))))
    cluster.sync("a")
    assert cluster.letters[-1].message == RequestVoteReply(T(3), False)


def test_it_trusts_no_commit_index_that_counts_on_what_it_lost():
    cluster = with_entries()
    impaired(cluster, "b", 1)
    cluster.give("b", Received(A, Heartbeat(cluster["a"].status().term, I(6), 99)))
    assert cluster["b"].status().commit_index == 0


# -- leases


LEASE = dataclasses.replace(SETTINGS, lease_s=0.2, clock_drift_max=0.1)


def test_a_promise_holds_though_the_connection_is_lost():
    cluster = Cluster("abc", settings=LEASE)
    cluster.now += 1
    cluster.elect("a")
    heard = cluster.now
    for name in "bc":
        cluster.give(name, ConnectionLost(A))
    assert messages(cluster.give("b", Received(C, PreVote(T(9), I(9), T(9)))))[0] == PreVoteReply(
        cluster["b"].status().term, False
    )
    cluster.isolate("a")
    cluster.elapse(0.19)
    assert all(it.term == cluster["a"].status().term for it in (cluster["b"].status(), cluster["c"].status()))
    cluster.elapse(0.2)
    assert cluster.leader() in ("b", "c")
    assert heard + 0.2 <= cluster["b"].status().history[-1].at


def test_a_restart_does_not_forget_a_promise():
    cluster = Cluster("abc", settings=LEASE)
    cluster.now += 1
    cluster.elect("a")
    cluster.crash("b")
    cluster.restart("b")
    assert isinstance(messages(cluster.give("b", Received(C, PreVote(T(9), I(9), T(9)))))[0], PreVoteReply)
    assert cluster["b"].status().leader is None
    cluster.give("b", Received(C, RequestVote(T(9), I(9), T(9))))
    assert cluster["b"].status().term == cluster["a"].status().term


@pytest.mark.parametrize("seed", range(8))
def test_clocks_that_drift_within_the_bound_never_make_a_lease_read_stale(seed: int):
    cluster = Cluster("abc", seed, LEASE)
    for name, node in cluster.nodes.items():
        node.drift = {"a": 0.955, "b": 1.045, "c": 1.0}[name]
        node.start()
    cluster.now += 1
    cluster.elect("a")
    cluster.isolate("a")
    reads = []
    for _ in range(60):
        cluster.elapse(0.01)
        leader = next((it for it in "bc" if cluster[it].status().role is Role.LEADER), None)
        if leader:
            cluster.propose(leader)
            cluster.settle()
        # The driver asserts that a read sees everything acknowledged before it came.
        reads.append(cluster.read("a", lease=True))
    assert cluster.acknowledged
    done = [it for it in reads if it in cluster.answers and cluster.answer(it).outcome is Outcome.DONE]
    assert done, "the lease served nothing: the test shows nothing"


def test_settings_without_leases_make_no_promises():
    cluster = Cluster("abc")
    cluster.elect("a")
    assert RaftSettings().lease_s == 0
    cluster.give("b", ConnectionLost(A))
    assert messages(cluster.give("b", Received(C, PreVote(T(9), I(9), T(9))))) == [PreVoteReply(T(9), True)]


def test_acceptances_speak_of_the_term_they_were_given_in():
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.propose("a")
    accepted = [it.message for it in cluster.nodes[B].log if isinstance(it, Send)]
    assert all(it.term == 1 for it in accepted if isinstance(it, AppendEntriesReply))
