from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.configuration import Configuration
from consensus.raft.interface import ProgressState
from consensus.raft.messages import Snapshot
from consensus.raft.progress import Progress
from consensus.raft.settings import RaftSettings
from consensus.raft.snapshots import SnapshotTransfer

I = LogIndex  # noqa: E741
SETTINGS = RaftSettings(inflight_messages_max=3, inflight_bytes_max=100)


def replicating(match_index: int = 5) -> Progress:
    it = Progress(I(match_index + 1), 0.0)
    it.on_accepted(I(match_index))
    return it


def test_a_probe_sends_one_append_and_waits():
    it = Progress(I(6), 0.0)
    assert (it.state, it.is_paused) == (ProgressState.PROBE, False)
    it.on_sent(I(7), 10)
    assert (it.is_paused, it.next_index) == (True, 6)


def test_an_acceptance_makes_it_replicate():
    it = replicating()
    assert (it.state, it.match_index, it.next_index) == (ProgressState.REPLICATE, 5, 6)


def test_next_runs_ahead_until_the_window_is_full_of_messages():
    it = replicating()
    for last in (7, 8, 9):
        assert not it.is_full(SETTINGS)
        it.on_sent(I(last), 1)
    assert it.is_full(SETTINGS)
    assert it.next_index == 10
    assert it.on_accepted(I(8))
    assert it.inflight_messages == 1
    assert not it.is_full(SETTINGS)


def test_or_of_bytes_and_one_append_may_be_larger_than_the_window():
    it = replicating()
    it.on_sent(I(6), 1000)
    assert it.is_full(SETTINGS)
    it.on_accepted(I(6))
    assert not it.is_full(SETTINGS)


def test_an_old_acceptance_is_no_news():
    it = replicating()
    assert not it.on_accepted(I(4))
    assert it.match_index == 5


def test_stale_rejections_are_told_from_others():
    it = replicating()
    assert it.is_stale_rejection(I(5))
    assert not it.is_stale_rejection(I(6))
    it.become_probe()
    assert not it.is_stale_rejection(I(5))
    assert it.is_stale_rejection(I(6))


def test_a_rejection_leads_back_to_a_probe_at_what_is_known():
    it = replicating()
    it.on_sent(I(9), 1)
    it.on_rejected(I(2))
    assert (it.state, it.next_index, it.match_index, it.inflight_messages) == (ProgressState.PROBE, 6, 5, 0)


def test_a_follower_that_rejects_what_it_had_accepted_lost_it():
    it = replicating()
    it.become_probe()
    it.on_rejected(I(3))
    assert (it.match_index, it.next_index) == (2, 3)


def test_a_snapshot_empties_the_window():
    it = replicating()
    it.on_sent(I(9), 1)
    it.become_snapshot(SnapshotTransfer(Snapshot(I(20), Term(1), Configuration((NodeId("a"),))), 1.0))
    assert (it.state, it.inflight_messages) == (ProgressState.SNAPSHOT, 0)
    it.on_accepted(I(20))
    it.become_replicate()
    assert (it.transfer, it.next_index) == (None, 21)
