"""Pieces, and whole transfers between cores."""

import dataclasses

import blake3
import msgspec
import pytest

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import ChunkRead, ProgressState, RaftSettings, Received, Restore, SnapshotFailed, TakeSnapshot, Tick
from consensus.raft.configuration import Configuration
from consensus.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    InstallSnapshot,
    InstallSnapshotReply,
    Snapshot,
    SnapshotState,
)
from consensus.raft.snapshots import SnapshotReceiver, SnapshotTransfer
from tests.unit.consensus.raft.driver import Cluster, nid

I, T = LogIndex, Term  # noqa: E741
DATA = bytes(range(100))
WHOLE = Snapshot(I(9), T(2), Configuration((NodeId("a"),)), len(DATA), blake3.blake3(DATA).digest())
SETTINGS = RaftSettings(snapshot_after_entries=20, trailing_entries=2, snapshot_chunk_bytes=32)


def test_pieces_are_taken_in_order_and_once():
    it = SnapshotReceiver(WHOLE)
    assert not it.on_chunk(32, DATA[32:64])
    assert it.on_chunk(0, DATA[:32])
    assert not it.on_chunk(0, DATA[:32])
    assert not it.on_chunk(32, b"")
    assert it.on_chunk(32, DATA[32:])
    assert it.is_whole
    assert it.is_genuine


def test_damage_is_seen_in_the_digest():
    it = SnapshotReceiver(WHOLE)
    it.on_chunk(0, bytes(len(DATA)))
    assert it.is_whole
    assert not it.is_genuine


def test_a_transfer_waits_for_no_piece_at_first():
    assert SnapshotTransfer(WHOLE, 1.0).reading is None


def behind(count: int = 50) -> Cluster:
    """`c` missed so much that it needs a snapshot of several pieces."""
    cluster = Cluster("abc", settings=SETTINGS)
    cluster.elect("a")
    cluster.isolate("c")
    for _ in range(count):
        cluster.propose("a", b"0123456789")
        cluster.settle()
    cluster.heal()
    return cluster


def test_a_follower_behind_the_compacted_log_gets_a_snapshot_then_the_rest():
    cluster = behind()
    cluster.elapse(0.2)
    assert any(isinstance(it, Restore) for it in cluster.nodes[nid("c")].log)
    a, c = cluster["a"].status(), cluster["c"].status()
    assert c.applied_index == a.applied_index > a.snapshot_index
    assert cluster.nodes[nid("c")].machine.values == cluster.nodes[nid("a")].machine.values
    # Caught up without a new proposal it is replicated to again.
    assert a.peers[nid("c")].state is ProgressState.REPLICATE


def test_appends_pause_while_a_snapshot_is_on_its_way():
    cluster = behind()
    cluster.elapse(0.1, drop=lambda it: isinstance(it.message, InstallSnapshot))
    assert cluster["a"].status().peers[nid("c")].state is ProgressState.SNAPSHOT
    cluster.propose("a")
    assert not any(it.receiver == "c" and isinstance(it.message, AppendEntries) for it in cluster.letters)
    assert any(it.receiver == "b" and isinstance(it.message, AppendEntries) for it in cluster.letters)


def test_a_snapshot_costs_no_leadership_and_no_commit():
    cluster = behind()
    term = cluster["a"].status().term
    # No piece ever arrives; the other two go on for many timeouts.
    cluster.elapse(3.0, drop=lambda it: isinstance(it.message, InstallSnapshot) and bool(it.message.data))
    request = cluster.propose("a")
    cluster.settle(drop=lambda it: isinstance(it.message, InstallSnapshot))
    assert request in cluster.acknowledged
    assert cluster["a"].status().term == term


def test_a_broken_transfer_goes_on_where_it_was_under_the_next_leader_too():
    cluster = behind()
    seen: list[int] = []

    def second_piece(letter) -> bool:
        if isinstance(letter.message, InstallSnapshot) and letter.message.data:
            seen.append(letter.message.offset)
        return isinstance(letter.message, InstallSnapshot) and letter.message.offset >= 64

    cluster.elapse(0.2, drop=second_piece)
    assert seen[:3] == [0, 32, 64]
    # Both leaders took the snapshot at the same index of the same state, so its digest is the same.
    a, b = cluster["a"].status(), cluster["b"].status()
    assert a.snapshot_index == b.snapshot_index
    seen.clear()
    cluster.transfer("a", "b")
    cluster.settle(drop=second_piece)
    cluster.elapse(0.1, drop=second_piece)
    assert cluster.leader() == "b"
    cluster.elapse(2.0)
    assert 0 not in seen
    assert cluster["c"].status().applied_index == cluster["b"].status().applied_index


def test_a_damaged_snapshot_is_refused_and_tried_again_later_not_in_a_loop():
    cluster = behind()
    offers = refusals = 0

    def damage(letter) -> bool:
        nonlocal offers, refusals
        match letter.message:
            case InstallSnapshot(data=b""):
                offers += 1
            case InstallSnapshot(data=data):
                letter.message = msgspec.structs.replace(letter.message, data=bytes(len(data)))
            case InstallSnapshotReply(state=SnapshotState.REFUSED):
                refusals += 1
        return False

    cluster.elapse(1.5, drop=damage)
    assert refusals >= 1
    assert offers <= 4
    assert cluster["a"].status().role.value == "leader"
    cluster.elapse(2.0)
    assert cluster["c"].status().applied_index == cluster["a"].status().applied_index


def test_a_snapshot_that_is_gone_is_replaced_by_the_newest():
    cluster = behind()
    cluster.elapse(0.06, drop=lambda it: isinstance(it.message, InstallSnapshotReply))
    snapshot = cluster["a"]._leadership._replication.followers[nid("c")].transfer.snapshot  # type: ignore[union-attr]
    reply = InstallSnapshotReply(cluster["a"].status().term, snapshot.index, 0)
    cluster.give("a", Received(nid("c"), reply))
    cluster.nodes[nid("a")].reads.clear()
    cluster.give("a", ChunkRead(nid("c"), snapshot.index, 0, None))
    assert cluster["a"].status().peers[nid("c")].state is ProgressState.PROBE
    cluster.elapse(2.0)
    assert cluster["c"].status().applied_index == cluster["a"].status().applied_index


def test_the_same_or_an_older_snapshot_is_ignored_but_moves_the_commit_index_if_the_log_matches():
    cluster = Cluster("abc")
    cluster.elect("a")
    for _ in range(5):
        cluster.propose("a")

    # c gets the entries and never hears that they are committed.
    def keep_quiet(letter) -> bool:
        if letter.receiver == "c" and isinstance(letter.message, AppendEntries):
            letter.message = msgspec.structs.replace(letter.message, commit_index=I(1))
        return isinstance(letter.message, Heartbeat) and letter.receiver == "c"

    cluster.settle(drop=keep_quiet)
    assert cluster["c"].status().commit_index == 1
    snapshot = Snapshot(I(4), T(1), cluster.founding, 10, bytes(32))
    effects = cluster.give("c", Received(nid("a"), InstallSnapshot(T(1), snapshot)))
    assert cluster["c"].status().commit_index == 4
    assert [it.message for it in effects if hasattr(it, "message")] == [AppendEntriesReply(T(1), I(4))]
    cluster.give("c", Received(nid("a"), InstallSnapshot(T(1), msgspec.structs.replace(snapshot, index=I(2)))))
    assert cluster["c"].status().commit_index == 4
    assert cluster["c"].status().snapshot_index == 0


def test_a_snapshot_in_which_we_are_no_member_is_refused():
    cluster = Cluster("abc")
    cluster.elect("a")
    snapshot = Snapshot(I(40), T(1), Configuration((nid("a"), nid("b"))), 0, blake3.blake3(b"").digest())
    cluster.give("c", Received(nid("a"), InstallSnapshot(T(1), snapshot)))
    assert cluster.letters[-1].message == InstallSnapshotReply(T(1), I(40), 0, SnapshotState.REFUSED)
    assert cluster["c"].status().last_index == 1


def test_a_newcomer_gets_a_snapshot_that_knows_it():
    cluster = behind()
    cluster.elapse(1.0)
    cluster.add("d")
    request = cluster.change("a", "abcd")
    cluster.elapse(2.0)
    assert cluster.answer(request).outcome.value == "done"
    assert cluster.nodes[nid("d")].machine.values == cluster.nodes[nid("a")].machine.values


def test_a_snapshot_is_asked_for_after_so_many_bytes():
    cluster = Cluster(
        "a", settings=dataclasses.replace(SETTINGS, snapshot_after_bytes=500, snapshot_after_entries=10**6)
    )
    cluster.elapse(0.1)
    cluster.propose("a", bytes(600))
    cluster.settle()
    assert cluster["a"].status().snapshot_index == 2


def test_a_failed_snapshot_is_not_tried_again_at_once():
    cluster = Cluster("a", settings=SETTINGS)
    cluster.elapse(0.1)
    node = cluster.nodes[nid("a")]
    cluster.propose("a", count=25)
    cluster.sync("a")
    (asked,) = [it for it in node.reads if isinstance(it, TakeSnapshot)]
    node.reads.clear()
    cluster.give("a", SnapshotFailed(asked.index))
    cluster.propose("a", count=10)
    cluster.settle()
    assert cluster["a"].status().snapshot_index == 0
    cluster.propose("a", count=10)
    cluster.settle()
    assert cluster["a"].status().snapshot_index > 0


@pytest.mark.parametrize("kept", [0, 1])
def test_a_crash_while_installing_leaves_the_old_log_or_the_snapshot(kept: int):
    cluster = behind()
    node = cluster.nodes[nid("c")]
    # Deliver until the last piece is in; then crash with the installation on its way.
    for _ in range(2000):
        if any(isinstance(it, Restore) for it in node.disk.pending):
            break
        if cluster.letters:
            cluster.deliver(cluster.letters[0])
        for name in "abc":
            if not any(isinstance(it, Restore) for it in cluster.nodes[nid(name)].disk.pending):
                cluster.sync(name)
            cluster.serve(name)
        if not cluster.letters:
            cluster.now += 0.05
            for name in "ab":
                cluster.give(name, Tick())
    assert any(isinstance(it, Restore) for it in node.disk.pending)
    cluster.crash("c", len(node.disk.pending) if kept else 0)
    cluster.restart("c")
    assert (cluster["c"].status().snapshot_index > 0) is bool(kept)
    cluster.elapse(3.0)
    assert cluster["c"].status().applied_index == cluster["a"].status().applied_index
