from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.durability import Durability
from consensus.raft.interface import Send
from consensus.raft.messages import AppendEntriesReply, HeartbeatReply, RequestVote, RequestVoteReply

I, T = LogIndex, Term  # noqa: E741
A, B = NodeId("a"), NodeId("b")


def accepted(match_index: int, term: int = 2, peer: NodeId = A) -> Send:
    return Send(peer, AppendEntriesReply(T(term), I(match_index)))


def test_the_log_is_stable_as_far_as_finished_writes_reach():
    it = Durability(I(3))
    first, second = it.issue(I(5), vote=False), it.issue(I(8), vote=False)
    assert (it.stable_index, it.written_index) == (3, 8)
    it.on_persisted(first)
    assert it.stable_index == 5
    it.on_persisted(second)
    assert it.stable_index == 8


def test_a_token_speaks_for_all_before_it_and_an_unknown_one_for_nothing_more():
    it = Durability(I(0))
    it.issue(I(1), vote=False)
    it.issue(I(2), vote=False)
    it.on_persisted(99)
    assert it.stable_index == 2
    it.issue(I(3), vote=False)
    assert it.hold(accepted(3), log=True)


def test_a_finished_write_says_nothing_about_entries_that_were_replaced_meanwhile():
    it = Durability(I(4))
    old = it.issue(I(6), vote=False)
    it.on_truncate(I(5))
    new = it.issue(I(5), vote=False)
    it.on_persisted(old)
    assert it.stable_index == 4
    it.on_persisted(new)
    assert it.stable_index == 5


def test_nor_if_the_very_same_entries_came_back_behind_the_replacement():
    # (5, term 2) is written, replaced by (5, term 3), and written again: a crash after the first write's completion may
    # leave the second's entry on the disk.
    it = Durability(I(4))
    first = it.issue(I(5), vote=False)
    it.on_truncate(I(5))
    second = it.issue(I(5), vote=False)
    it.on_truncate(I(5))
    third = it.issue(I(5), vote=False)
    assert it.hold(accepted(5), log=True)
    assert it.on_persisted(first) == []
    assert it.on_persisted(second) == []
    assert it.stable_index == 4
    assert it.on_persisted(third) == [accepted(5)]
    assert it.stable_index == 5


def test_truncating_stable_entries_makes_them_unstable():
    it = Durability(I(9))
    it.on_truncate(I(6))
    assert (it.stable_index, it.written_index) == (5, 5)


def test_messages_wait_for_term_and_vote_or_for_the_log_or_for_nothing():
    it = Durability(I(0))
    beat, vote = Send(A, HeartbeatReply(T(1), 1)), Send(A, RequestVoteReply(T(1), True))
    assert not it.hold(beat, log=False)
    voted = it.issue(I(0), vote=True)
    assert not it.is_vote_stable
    assert it.hold(vote, log=False)
    logged = it.issue(I(1), vote=False)
    assert it.hold(accepted(1, 1), log=True)
    assert it.on_persisted(voted) == [vote]
    assert it.is_vote_stable
    assert not it.hold(beat, log=False)
    assert it.on_persisted(logged) == [accepted(1, 1)]


def test_a_disk_that_hangs_piles_up_one_acceptance_for_each_leader():
    it = Durability(I(0))
    token = it.issue(I(5), vote=False)
    for match_index in (3, 5, 4, 5):
        assert it.hold(accepted(match_index), log=True)
    assert it.hold(accepted(5, peer=B), log=True)
    assert it.on_persisted(token) == [accepted(5), accepted(5, peer=B)]


def test_requests_for_votes_are_dropped_with_the_candidacy():
    it = Durability(I(0))
    token = it.issue(I(0), vote=True)
    assert it.hold(Send(A, RequestVote(T(1), I(0), T(0))), log=True)
    assert it.hold(accepted(0), log=True)
    it.drop_candidacy()
    assert it.on_persisted(token) == [accepted(0)]
