import pytest

from fdn.demo.indexer import Indexed
from fdn.demo.ledger import Ledger
from fdn.demo.source import Entry, index_source


def entry(path: str, source: bytes = b"x = 1\n") -> Entry:
    return index_source(path, source)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for path, node, pid in (("a.py", "n1", 1), ("b.py", "n2", 2), ("c.py", "n2", 2)):
        ledger.record(Indexed(entry(path), node, pid))
    return ledger


def test_shares_by_node(ledger: Ledger):
    assert ledger.by_node() == {"n1": 1, "n2": 2}


def test_a_file_indexed_again_counts_once_and_for_its_new_node(ledger: Ledger):
    ledger.record(Indexed(entry("b.py"), "n1", 1))
    assert ledger.by_node() == {"n1": 2, "n2": 1}
    assert ledger.answers == 4
    assert ledger.counts_each_once(["a.py", "b.py", "c.py"])


def test_what_a_process_held(ledger: Ledger):
    assert ledger.held_by(2) == ["b.py", "c.py"]
    assert ledger.held_by(7) == []


def test_complete_means_exactly_these_files(ledger: Ledger):
    assert ledger.is_complete(["c.py", "a.py", "b.py"])
    assert not ledger.is_complete(["a.py", "b.py", "c.py", "d.py"])
    assert not ledger.is_complete(["a.py", "b.py"])


def test_a_wrong_digest_does_not_agree_with_the_reference(ledger: Ledger):
    reference = {path: entry(path) for path in ("a.py", "b.py", "c.py")}
    assert ledger.agrees_with(reference)
    assert not ledger.agrees_with(reference | {"b.py": entry("b.py", b"y = 1\n")})


def test_the_shares_must_add_up(ledger: Ledger):
    digest = entry("a.py").digest
    assert ledger.agrees_with_shares([{"a.py": digest}, {"b.py": digest, "c.py": digest}])
    assert ledger.agrees_with_shares([{"a.py": digest, "b.py": digest}, {"b.py": digest, "c.py": digest}])
    assert not ledger.agrees_with_shares([{"a.py": digest}, {"b.py": digest}])
    assert not ledger.agrees_with_shares([{"a.py": digest, "b.py": "0"}, {"b.py": digest, "c.py": digest}])
