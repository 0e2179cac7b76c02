import random

import pytest

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.configuration import Configuration
from consensus.raft.interface import (
    Answer,
    Apply,
    Cause,
    Changed,
    Durable,
    Outcome,
    Persist,
    Restore,
    Send,
    StoreChunk,
    TakeSnapshot,
)
from consensus.raft.messages import AppendEntriesReply, Entry, EntryKind, HeartbeatReply, Snapshot
from consensus.raft.settings import RaftSettings
from consensus.raft.state import State

I, T = LogIndex, Term  # noqa: E741
ME, PEER = NodeId("a"), NodeId("b")
FOUNDING = Snapshot(I(0), T(0), Configuration((ME, PEER)))


def entry(index: int, term: int = 1) -> Entry:
    return Entry(I(index), T(term), EntryKind.COMMAND, b"x")


def state(*entries: Entry, floor: tuple[int, int] = (0, 0), term: int = 1) -> State:
    durable = Durable(FOUNDING, entries, T(term), floor=(I(floor[0]), T(floor[1])))
    it = State(ME, durable, RaftSettings(), random.Random(1), 0.0)
    first, *rest = it.flush()
    assert isinstance(first, Changed)
    assert first.cause is Cause.STARTED
    assert all(isinstance(effect, Persist) for effect in rest)
    return it


def test_what_changed_in_one_input_is_one_write():
    it = state()
    it.set_term(T(2), PEER)
    it.append([entry(1), entry(2)])
    assert it.flush() == [Persist(1, T(2), PEER, (entry(1), entry(2)))]
    assert it.flush() == []


def test_a_message_waits_for_what_it_speaks_of():
    it = state()
    it.append([entry(1)])
    beat, accepted = HeartbeatReply(T(1), 1), AppendEntriesReply(T(1), I(1))
    it.send(PEER, accepted, log=True)
    it.send(PEER, beat)
    assert it.flush() == [Persist(1, T(1), None, (entry(1),)), Send(PEER, beat)]
    it.on_persisted(1)
    assert it.flush() == [Send(PEER, accepted)]


def test_entries_are_applied_when_they_are_committed_and_on_the_disk_and_then_reads_are_served():
    it = state()
    it.append([entry(1), entry(2)])
    it.requests[I(2)] = 7
    it.commit(I(2))
    it.answer_when_applied(I(1), 8)
    it.flush()
    assert it.reads_count == 1
    it.on_persisted(1)
    applied, read = it.flush()
    assert applied == Apply((entry(1), entry(2)), {I(2): 7})
    assert (read.request, read.outcome, read.index) == (8, Outcome.DONE, 1)  # type: ignore[union-attr]


def test_who_stops_leaves_nobody_waiting():
    it = state()
    it.append([entry(1)])
    it.requests[I(1)] = 7
    it.commit(I(1))
    it.answer_when_applied(I(1), 8)
    it.flush()
    it.abandon()
    answers = [(it.request, it.outcome) for it in it.flush() if isinstance(it, Answer)]
    assert answers == [(7, Outcome.UNKNOWN), (8, Outcome.REFUSED)]


def test_a_committed_entry_is_never_truncated():
    it = state(entry(1), entry(2))
    it.commit(I(2))
    with pytest.raises(AssertionError):
        it.truncate(I(2))


def test_a_restored_snapshot_leaves_nothing_of_the_log_and_of_what_is_on_its_way_to_the_disk():
    it = state(entry(1), entry(2))
    it.append([entry(3)])
    it.flush()
    snapshot = Snapshot(I(9), T(3), Configuration((ME,)), 3, bytes(32))
    it.store(snapshot, 0, b"abc")
    it.restore(snapshot)
    assert it.flush() == [StoreChunk(2, snapshot, 0, b"abc"), Restore(3, snapshot, T(1), None)]
    assert (it.commit_index, it.applied_index, it.log.last_index) == (9, 9, 9)
    it.on_persisted(2)
    assert it.durability.stable_index == 0
    it.on_persisted(3)
    assert it.durability.stable_index == 9


def test_a_snapshot_that_the_leaders_overtook_is_of_no_use():
    it = state(entry(1), entry(2))
    it.commit(I(2))
    it.flush()
    it.take_snapshot()
    assert [type(effect) for effect in it.flush()] == [TakeSnapshot]
    it.restore(Snapshot(I(9), T(3), Configuration((ME,)), 0, bytes(32)))
    assert it.on_snapshot_taken(I(2), 10, bytes(32)) is None
    assert it.log.snapshot.index == 9


def test_a_log_shorter_than_its_mark_raises_the_term_and_spends_the_vote():
    it = state(entry(1), floor=(5, 4))
    assert (it.is_impaired, it.may_campaign, it.term, it.voted_for) == (True, False, 4, ME)
    it.append([entry(index, 5) for index in range(2, 6)])
    it.flush()
    assert it.is_impaired
    it.on_persisted(2)
    assert not it.is_impaired


def test_a_mark_that_is_reached_means_nothing():
    it = state(entry(1), floor=(1, 1))
    assert (it.is_impaired, it.voted_for) == (False, None)
