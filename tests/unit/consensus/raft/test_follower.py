"""What a follower takes, refuses and answers, and when the answer leaves."""

import itertools

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import Apply, Entry, EntryKind, Persist, RaftSettings, Received, Send
from consensus.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from tests.unit.consensus.raft.driver import Cluster, nid, seed_log

I, T = LogIndex, Term  # noqa: E741
A, B = nid("a"), nid("b")


def entry(index: int, term: int) -> Entry:
    return Entry(I(index), T(term), EntryKind.COMMAND, f"{index}/{term}".encode())


def append(prev: tuple[int, int], *terms: int, commit: int = 0, term: int = 9) -> AppendEntries:
    entries = tuple(entry(prev[0] + place, it) for place, it in enumerate(terms, 1))
    return AppendEntries(T(term), I(prev[0]), T(prev[1]), I(commit), entries)


def follower(*terms: int) -> Cluster:
    cluster = Cluster("abc")
    seed_log(cluster, "b", terms)
    return cluster


def terms(cluster: Cluster) -> list[int]:
    return [it.term for it in cluster["b"].entries()]


def replies(cluster: Cluster) -> list[AppendEntriesReply]:
    return [it.message for it in cluster.letters if isinstance(it.message, AppendEntriesReply)]


def give(cluster: Cluster, message: AppendEntries, *, sync: bool = True) -> AppendEntriesReply | None:
    cluster.letters.clear()
    cluster.give("b", Received(A, message))
    if sync:
        cluster.sync("b")
    return replies(cluster)[-1] if replies(cluster) else None


def test_an_append_that_follows_is_taken():
    cluster = follower(1, 1)
    assert give(cluster, append((2, 1), 9, 9)) == AppendEntriesReply(T(9), I(4))
    assert terms(cluster) == [1, 1, 9, 9]


def test_its_answer_leaves_when_the_entries_are_on_the_disk():
    cluster = follower()
    assert give(cluster, append((0, 0), 9), sync=False) is None
    assert give(cluster, append((1, 9), 9), sync=False) is None
    cluster.sync("b", 1)
    assert [it.match_index for it in replies(cluster)] == [1]
    cluster.sync("b", 1)
    assert [it.match_index for it in replies(cluster)] == [1, 2]


def test_a_repeated_append_is_answered_no_sooner():
    cluster = follower()
    give(cluster, append((0, 0), 9), sync=False)
    assert give(cluster, append((0, 0), 9), sync=False) is None


def test_an_append_within_the_log_never_truncates_it():
    cluster = follower(9, 9, 9)
    assert give(cluster, append((0, 0), 9)) == AppendEntriesReply(T(9), I(1))
    assert give(cluster, append((1, 9))) == AppendEntriesReply(T(9), I(1))
    assert terms(cluster) == [9, 9, 9]


def test_a_conflict_truncates_from_there():
    cluster = follower(1, 2, 2, 2)
    assert give(cluster, append((1, 1), 2, 4)) == AppendEntriesReply(T(9), I(3))
    assert terms(cluster) == [1, 2, 4]
    assert [it.term for it in cluster.nodes[B].disk.entries] == [1, 2, 4]


@pytest.mark.parametrize(
    ("log", "prev", "hint"),
    [
        ([1, 1], (5, 3), (2, 1)),  # too short: where it ends
        ([1, 2, 2, 2], (4, 3), (4, 2)),
        ([1, 4, 4, 4], (4, 3), (1, 1)),  # a whole term that the leader never had
        ([4, 4], (2, 3), (0, 0)),
    ],
)
def test_a_rejection_hints_at_where_to_look(log, prev, hint):
    cluster = follower(*log)
    assert give(cluster, append(prev)) == AppendEntriesReply(T(9), I(0), True, I(prev[0]), I(hint[0]), T(hint[1]))


def test_what_is_compacted_away_matches():
    cluster = Cluster("abc", settings=RaftSettings(snapshot_after_entries=3, trailing_entries=0))
    give(cluster, append((0, 0), 1, 1, 1, commit=3))
    cluster.serve("b")
    assert cluster["b"].status().first_index == 4
    assert give(cluster, append((1, 1), 1)) == AppendEntriesReply(T(9), I(3))
    assert give(cluster, append((1, 1), 1, 1, 9)) == AppendEntriesReply(T(9), I(4))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_appends_in_any_order_and_twice_leave_one_right_log(order: tuple[int, ...]):
    cluster = follower(1)
    messages = [append((1, 1), 9), append((2, 9), 9, 9), append((4, 9), 9)]
    for _ in range(3):  # the leader repeats what was rejected
        for place in order:
            give(cluster, messages[place])
    assert terms(cluster) == [1, 9, 9, 9, 9]


def test_the_commit_index_reaches_no_further_than_what_the_append_vouches_for():
    # The log is longer, with entries of which this leader said nothing.
    cluster = follower(1, 1, 2, 2)
    give(cluster, append((2, 1), commit=4))
    assert cluster["b"].status().commit_index == 2


def test_a_heartbeat_commits_what_we_hold():
    cluster = follower()
    give(cluster, append((0, 0), 9, 9))
    cluster.give("b", Received(A, Heartbeat(T(9), I(2), 1)))
    assert cluster["b"].status().commit_index == 2


def test_nothing_is_applied_before_it_is_on_our_disk():
    cluster = follower()
    effects = cluster.give("b", Received(A, append((0, 0), 9, 9, commit=2)))
    assert cluster["b"].status().commit_index == 2
    assert not any(isinstance(it, Apply) for it in effects)
    cluster.sync("b")
    assert cluster["b"].status().applied_index == 2


def test_a_pending_write_that_is_overwritten_vouches_for_nothing():
    cluster = follower(1)
    give(cluster, append((1, 1), 2, 2, term=2), sync=False)
    cluster.give("b", Received(nid("c"), append((1, 1), 3, term=3)))
    cluster.sync("b", 1)
    assert cluster["b"].status().stable_index == 1
    cluster.sync("b")
    assert cluster["b"].status().stable_index == 2
    assert [it.term for it in cluster.nodes[B].disk.entries] == [1, 3]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_crash_keeps_what_was_answered_for(kept: int):
    cluster = follower()
    give(cluster, append((0, 0), 9))
    give(cluster, append((1, 9), 9), sync=False)
    give(cluster, append((2, 9), 9), sync=False)
    cluster.crash("b", kept)
    cluster.restart("b")
    assert terms(cluster) == [9] * (1 + kept)


def test_one_input_makes_one_write():
    cluster = follower()
    effects = cluster.give("b", Received(A, append((0, 0), 9, 9)))
    (write,) = [it for it in effects if isinstance(it, Persist)]
    assert (write.term, write.voted_for, [it.index for it in write.entries]) == (9, None, [1, 2])
    assert not any(isinstance(it, Send) for it in effects)
