import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import configuration
from consensus.raft.configuration import Configuration
from consensus.raft.log import ENTRY_OVERHEAD_BYTES, Log
from consensus.raft.messages import Entry, EntryKind, Snapshot

I, T = LogIndex, Term  # noqa: E741
FOUNDING = Configuration((NodeId("a"),))


def entries(terms: list[int], first: int = 1, size: int = 0) -> list[Entry]:
    return [Entry(I(first + i), T(term), EntryKind.COMMAND, bytes(size)) for i, term in enumerate(terms)]


def log_of(terms: list[int], size: int = 0) -> Log:
    return Log(Snapshot(I(0), T(0), FOUNDING), entries(terms, size=size))


def reconfigured(index: int, *voters: str) -> Entry:
    after = Configuration(tuple(NodeId(it) for it in voters))
    return Entry(I(index), T(2), EntryKind.CONFIGURATION, configuration.encode(after))


def test_an_empty_log_ends_where_its_snapshot_does():
    log = Log(Snapshot(I(7), T(3), FOUNDING))
    assert (log.last_index, log.last_term, log.term_at(I(7)), log.term_at(I(8)), log.term_at(I(6))) == (
        7,
        3,
        3,
        None,
        None,
    )


def test_entries_that_the_snapshot_replaces_are_left_out_at_the_start():
    log = Log(Snapshot(I(2), T(1), FOUNDING), entries([1, 1, 2]))
    assert log.entries(I(3), I(3)) == tuple(entries([2], 3))
    assert log.term_at(I(1)) is None


@pytest.mark.parametrize(
    ("last_index", "last_term", "expected"),
    [(3, 2, True), (2, 2, False), (4, 2, True), (1, 3, True), (9, 1, False)],
)
def test_up_to_date_goes_by_term_then_by_length(last_index, last_term, expected):  # section 3.6.1
    assert log_of([1, 1, 2]).is_up_to_date(I(last_index), T(last_term)) is expected


def test_a_batch_is_bounded_in_bytes_and_entries_and_never_empty():
    log = log_of([1] * 10, size=100)
    each = 100 + ENTRY_OVERHEAD_BYTES
    assert len(log.batch(I(1), I(10), each * 3, 99)) == 3
    assert len(log.batch(I(1), I(10), each * 3 - 1, 99)) == 2
    assert len(log.batch(I(1), I(10), 1, 99)) == 1
    assert len(log.batch(I(1), I(10), 10**9, 4)) == 4
    assert [it.index for it in log.batch(I(9), I(9), 10**9, 99)] == [9]
    assert log.batch(I(11), I(10), 10**9, 99) == ()


def test_bytes_are_counted_with_an_overhead():
    log = log_of([1] * 4, size=10)
    assert log.bytes_between(I(2), I(3)) == 2 * (10 + ENTRY_OVERHEAD_BYTES)
    assert log.bytes_between(I(3), I(2)) == 0


def test_truncation_takes_configurations_back():
    log = log_of([1])
    log.append([reconfigured(2, "a", "b"), *entries([2], 3), reconfigured(4, "b")])
    assert log.configuration.voters == ("b",)
    log.truncate(I(4))
    assert log.configuration == Configuration((NodeId("a"), NodeId("b")))
    assert (log.configuration_index, log.last_index) == (2, 3)
    log.truncate(I(2))
    assert log.configuration == FOUNDING


def test_compaction_keeps_what_trails_and_the_configuration_in_force():
    log = log_of([1], size=5)
    log.append([reconfigured(2, "a", "b"), *entries([2, 2, 3], 3)])
    before = log.bytes_between(I(4), I(5))
    log.compact(Snapshot(I(4), T(2), log.configuration_at(I(4))), 1)
    assert (log.base_index, log.base_term, log.last_index) == (3, 2, 5)
    assert log.term_at(I(4)) == 2
    assert log.configuration == Configuration((NodeId("a"), NodeId("b")))
    assert log.bytes_between(I(4), I(5)) == before
    log.append(entries([3], 6))
    assert log.last_index == 6


def test_compaction_never_goes_back():
    log = log_of([1] * 5)
    log.compact(Snapshot(I(4), T(1), FOUNDING), 0)
    log.compact(Snapshot(I(5), T(1), FOUNDING), 3)
    assert log.base_index == 4


def test_restoring_leaves_nothing_of_before():
    log = log_of([1, 1])
    log.restore(Snapshot(I(9), T(4), Configuration((NodeId("z"),))))
    assert (log.last_index, log.last_term, log.configuration.voters) == (9, 4, ("z",))
    assert log.entries(I(10), I(9)) == ()


terms = st.lists(st.integers(1, 5), max_size=12).map(sorted)


@given(terms, st.integers(0, 14), st.integers(0, 6))
def test_the_hint_is_the_greatest_place_with_no_higher_term(of: list[int], index: int, term: int):
    log = log_of(of)
    slow = max(i for i in range(min(index, len(of)) + 1) if (of[i - 1] if i else 0) <= term)
    assert log.hint(I(index), T(term)) == (slow, of[slow - 1] if slow else 0)


@given(terms, terms)
def test_hints_of_both_sides_find_where_two_logs_agree_in_as_many_rounds_as_there_are_terms(ours, theirs):
    leader, follower = log_of(ours), log_of(theirs)
    # Terms that both hold must agree on entries, as one leader wrote them: share the common beginning only.
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    if set(ours[shared:]) & set(theirs[shared:]) or (
        shared and {*ours[shared:]} & {*theirs[:shared]} and {*theirs[shared:]} & {*ours[:shared]}
    ):
        return
    at, rounds = leader.last_index, 0
    while follower.term_at(at) != leader.term_at(at):
        hint = follower.hint(at, T(leader.term_at(at) or 0))
        at, _ = leader.hint(*hint)
        rounds += 1
    assert at >= shared or at == shared
    assert rounds <= len(set(ours)) + len(set(theirs))
