"""A leader and its followers' logs, after dissertation sections 3.5 and 10.2."""

import dataclasses

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import ConnectionLost, ProgressState, Received, Send, Snapshot, Tick
from consensus.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from tests.unit.consensus.raft.driver import SETTINGS, Cluster, Letter, nid, seed_log

I, T = LogIndex, Term  # noqa: E741
A, B, C = nid("a"), nid("b"), nid("c")


def appends(cluster: Cluster, to: str = "b") -> list[AppendEntries]:
    return [it.message for it in cluster.letters if it.receiver == to and isinstance(it.message, AppendEntries)]


def peer(cluster: Cluster, name: str = "b"):
    return cluster["a"].status().peers[nid(name)]


def led(**settings) -> Cluster:
    cluster = Cluster("abc", settings=dataclasses.replace(SETTINGS, **settings))
    cluster.elect("a")
    cluster.settle()
    return cluster


# Figure 3.6 (figure 7 of the paper): the leader of term 8 and six followers' logs; and an empty one.
FIGURE_7 = {
    "missing entries": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "missing many": [1, 1, 1, 4],
    "one too many": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "two of a later term": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "long gone": [1, 1, 1, 4, 4, 4, 4],
    "led terms 2 and 3": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    "empty": [],
}


@pytest.mark.parametrize("name", FIGURE_7)
def test_the_logs_of_figure_7_become_the_leaders(name: str):
    cluster = Cluster("abc")
    seed_log(cluster, "a", [1, 1, 1, 4, 4, 5, 5, 6, 6, 6], term=7)
    seed_log(cluster, "b", FIGURE_7[name])
    seed_log(cluster, "c", [1, 1, 1, 4, 4, 5, 5, 6, 6])
    rejections = 0

    def count(letter: Letter) -> bool:
        nonlocal rejections
        rejections += isinstance(letter.message, AppendEntriesReply) and letter.message.rejected
        return False

    cluster.nodes[A].raft._timer.deadline = cluster.now
    cluster.give("a", Tick())
    cluster.settle(drop=count)
    cluster.elapse(0.2, drop=count)
    assert cluster.leader() == "a"
    assert cluster["b"].entries() == cluster["a"].entries()
    assert cluster["b"].status().commit_index == 11
    # c costs one; b at most one for each term that the logs do not share.
    assert rejections <= 5


def test_a_new_leader_probes_with_one_append_until_it_is_answered():
    cluster = led()
    cluster.give("a", ConnectionLost(B))
    cluster.propose("a")
    cluster.propose("a")
    assert len(appends(cluster)) == 1
    cluster.settle()
    assert peer(cluster).state is ProgressState.REPLICATE
    assert cluster["b"].entries() == cluster["a"].entries()


def test_then_appends_follow_each_other_without_waiting():
    cluster = led()
    for _ in range(5):
        cluster.propose("a")
    assert [it.prev_index for it in appends(cluster)] == [1, 2, 3, 4, 5]
    assert peer(cluster).inflight_messages == 5


def test_they_leave_before_our_own_disk_has_the_entries_and_may_commit_without_it():  # section 10.2.1
    cluster = led()
    cluster.propose("a")
    for name in "bc":
        cluster.deliver(next(it for it in cluster.letters if it.receiver == name))
        cluster.sync(name)
    for letter in list(cluster.letters):
        cluster.deliver(letter)
    status = cluster["a"].status()
    assert (status.stable_index, status.commit_index, status.applied_index) == (1, 2, 1)
    cluster.sync("a")
    assert cluster["a"].status().applied_index == 2


def test_our_own_copy_counts_only_on_the_disk():
    cluster = led()
    cluster.propose("a")
    cluster.deliver(next(it for it in cluster.letters if it.receiver == "b"))
    cluster.sync("b")
    for letter in [it for it in cluster.letters if it.receiver == "a"]:
        cluster.deliver(letter)
    assert cluster["a"].status().commit_index == 1  # b and, in memory only, a
    cluster.sync("a")
    assert cluster["a"].status().commit_index == 2


def test_a_full_window_sends_nothing_until_it_is_answered():
    cluster = led(inflight_messages_max=3)
    for _ in range(10):
        cluster.propose("a")
    assert len(appends(cluster)) == 3
    cluster.settle()
    assert cluster["b"].status().applied_index == 11


def test_the_window_is_bounded_in_bytes_too():
    cluster = led(inflight_bytes_max=1000)
    for _ in range(10):
        cluster.propose("a", bytes(300))
    assert len(appends(cluster)) == 4
    cluster.settle()
    assert cluster["b"].status().applied_index == 11


def test_a_heartbeats_answer_asks_a_silent_follower_once_though_the_window_is_full():
    cluster = led(inflight_messages_max=3)
    for _ in range(10):
        cluster.propose("a")
    cluster.letters.clear()  # all lost
    for _ in range(2):
        cluster.give("a", Received(B, HeartbeatReply(T(1), 1)))
        assert [it.entries for it in appends(cluster)] == [()]
        cluster.letters.clear()
    cluster.elapse(0.06)
    assert cluster["b"].status().applied_index == 11


def test_entries_of_one_input_travel_together_up_to_the_bound():
    cluster = led(append_bytes_max=100)
    cluster.propose("a", bytes(14), count=7)
    assert [len(it.entries) for it in appends(cluster)] == [3, 3, 1]


def test_a_lost_append_is_made_good_within_a_heartbeat():
    cluster = led()
    cluster.propose("a")
    cluster.letters.clear()
    cluster.elapse(SETTINGS.heartbeat_interval_s + 0.001)
    assert cluster["b"].status().applied_index == cluster["a"].status().applied_index == 2


def test_a_lost_connection_drops_to_a_probe_and_a_heartbeats_answer_alone_restores_it():
    cluster = led()
    cluster.give("a", ConnectionLost(B))
    assert (peer(cluster).state, peer(cluster).next_index) == (ProgressState.PROBE, 2)
    cluster.letters.clear()
    cluster.elapse(SETTINGS.heartbeat_interval_s + 0.001)
    assert peer(cluster).state is ProgressState.REPLICATE


def test_a_follower_learns_of_a_commit_without_waiting_for_a_heartbeat():
    cluster = led()
    cluster.propose("a")
    cluster.settle()
    assert cluster["b"].status().applied_index == 2


def test_a_heartbeat_carries_no_commit_index_past_what_the_follower_holds():
    cluster = led()
    cluster.isolate("c")
    for _ in range(3):
        cluster.propose("a")
    cluster.settle()
    cluster.elapse(0.06, drop=lambda it: it.receiver == "c")
    sent = [it.message for it in cluster.nodes[A].log if isinstance(it, Send) and it.peer == C]
    assert [it.commit_index for it in sent if isinstance(it, Heartbeat)][-1] == 1
    assert cluster["a"].status().commit_index == 4


def test_stale_rejections_and_absurd_acceptances_change_nothing():
    cluster = led()
    before = peer(cluster)
    cluster.give("a", Received(B, AppendEntriesReply(T(1), I(0), True, I(1), I(0), T(0))))
    cluster.give("a", Received(B, AppendEntriesReply(T(1), I(999))))
    assert peer(cluster) == before


def test_a_forged_hint_never_leads_forward():
    cluster = led()
    cluster.give("a", ConnectionLost(B))
    cluster.letters.clear()
    cluster.give("a", Received(B, AppendEntriesReply(T(1), I(0), True, I(1), I(900), T(900))))
    assert peer(cluster).next_index <= 2


def test_answers_of_strangers_are_ignored_and_counted():
    cluster = led()
    before = cluster["a"].status().messages_ignored
    cluster.give("a", Received(nid("z"), AppendEntriesReply(T(1), I(1))))
    assert cluster["a"].status().messages_ignored == before + 1


def test_a_follower_far_behind_is_compacted_past_while_its_answers_are_lost():
    # It stays in REPLICATE with a full window; what it would be asked about is compacted away meanwhile.
    cluster = led(inflight_messages_max=2, snapshot_after_entries=20, trailing_entries=0)
    cluster.cut.add((B, A))
    for _ in range(40):
        cluster.propose("a")
        cluster.settle()
    cluster.crash("b")
    cluster.nodes[B].disk.entries.clear()
    cluster.nodes[B].disk.snapshot = Snapshot(I(0), T(0), cluster.founding)
    cluster.restart("b")
    cluster.nodes[B].seen = cluster["b"].status()
    cluster.heal()
    cluster.elapse(1.0)
    assert cluster["b"].status().applied_index == cluster["a"].status().applied_index


def test_a_snapshot_installed_after_a_further_compaction_is_followed_by_the_next():
    cluster = led(snapshot_after_entries=20, trailing_entries=0, snapshot_chunk_bytes=64)
    cluster.isolate("c")
    for _ in range(30):
        cluster.propose("a")
        cluster.settle()
    cluster.heal()
    cluster.elapse(0.06, drop=lambda it: it.sender == "c" and type(it.message).__name__ == "InstallSnapshotReply")
    assert peer(cluster, "c").state is ProgressState.SNAPSHOT
    for _ in range(60):
        cluster.propose("a")
        cluster.settle(drop=lambda it: it.sender == "c" or it.receiver == "c")
    cluster.elapse(4.0)
    assert cluster["c"].status().applied_index == cluster["a"].status().applied_index
