import pytest

from consensus.machine import Compacted, History, KeyChange


def change(revision: int, key: str = "a") -> KeyChange:
    return KeyChange(revision, key, None, None)


def test_changes_from_a_revision_on():
    history = History(100)
    for revision in (1, 4, 9):
        history.add([change(revision, "a"), change(revision, "ab")])
    assert [(it.revision, it.key) for it in history.since(2)] == [(4, "a"), (4, "ab"), (9, "a"), (9, "ab")]
    assert [it.revision for it in history.since(4, "ab")] == [4, 9]
    assert [it.key for it in history.since(9, "a", exact=True)] == ["a"]
    assert history.since(10) == []


def test_the_oldest_go_and_whoever_wants_them_is_told():
    history = History(3)
    history.add([change(1)])
    history.add([change(2), change(2), change(2)])
    assert history.oldest == 2
    with pytest.raises(Compacted, match="from 2 on") as told:
        history.since(1)
    assert told.value.oldest == 2
    history.add([change(5)])
    assert history.oldest == 3, "a revision goes as a whole"
    assert [it.revision for it in history.since(3)] == [5]


def test_one_revision_is_kept_however_large():
    history = History(2)
    history.add([change(1), change(1), change(1)])
    assert len(history.since(1)) == 3


def test_a_state_that_was_replaced_has_no_past():
    history = History(10)
    history.add([change(3)])
    history.reset(50)
    with pytest.raises(Compacted):
        history.since(50)
    assert history.since(51) == []


def test_a_history_of_nothing():
    with pytest.raises(ValueError, match="keeps nothing"):
        History(0)
