from consensus.identity import LogIndex, Term
from consensus.raft import Entry, EntryKind, Snapshot
from consensus.storage.chain import LINK_BYTES, START, link, seal


def entry(index: int, term: int = 1, data: bytes = b"x", kind: EntryKind = EntryKind.COMMAND) -> Entry:
    return Entry(LogIndex(index), Term(term), kind, data)


def test_a_link_depends_on_everything_in_the_entry_and_before_it():
    links = {
        link(START, entry(1)),
        link(START, entry(2)),
        link(START, entry(1, term=2)),
        link(START, entry(1, data=b"y")),
        link(START, entry(1, kind=EntryKind.EMPTY)),
        link(link(START, entry(1)), entry(1)),
    }
    assert len(links) == 6
    assert {len(each) for each in links} == {LINK_BYTES}


def test_numbers_do_not_run_into_one_another():
    assert link(START, entry(1, 11)) != link(START, entry(11, 1))


def test_a_seal_depends_on_what_the_snapshot_is_of():
    one = Snapshot(LogIndex(5), Term(2), size=3, digest=bytes(32))
    assert len({seal(one), seal(Snapshot(LogIndex(6), Term(2), size=3, digest=bytes(32)))}) == 2
