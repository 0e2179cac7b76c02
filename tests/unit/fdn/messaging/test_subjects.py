import pytest
from hypothesis import given
from hypothesis import strategies as st

import fdn
from fdn.messaging.subjects import Patterns, is_pattern, valid_pattern, valid_queue, valid_subject

TOKENS = st.sampled_from(["a", "b", "c", "fdn"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]) or "a",
    st.lists(st.one_of(TOKENS, st.just("*")), max_size=5),
    st.sampled_from([[], [">"]]),
)


def plainly_matches(pattern: str, subject: str) -> bool:
    """The rule, token by token."""
    wanted, given_ = pattern.split("."), subject.split(".")
    if given_[0] == "fdn" and wanted[0] in ("*", ">"):
        return False
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given_) > index
        if index >= len(given_) or token not in ("*", given_[index]):
            return False
    return len(wanted) == len(given_)


@given(st.lists(PATTERNS, max_size=12), SUBJECTS)
def test_the_trie_agrees_with_the_rule(patterns: list[str], subject: str):
    trie: Patterns[int] = Patterns()
    for index, pattern in enumerate(patterns):
        trie.add(pattern, index)
    wanted = [index for index, pattern in enumerate(patterns) if plainly_matches(pattern, subject)]
    assert sorted(trie.matching(subject)) == wanted


@given(st.lists(PATTERNS, max_size=12), st.data())
def test_what_is_taken_out_leaves_the_trie_as_if_it_had_never_been(patterns: list[str], data: st.DataObject):
    gone = data.draw(st.sets(st.sampled_from(range(len(patterns))))) if patterns else set()
    trie: Patterns[int] = Patterns()
    for index, pattern in enumerate(patterns):
        trie.add(pattern, index)
    for index in gone:
        trie.discard(patterns[index], index)
        trie.discard(patterns[index], index)
    subject = data.draw(SUBJECTS)
    wanted = [i for i, pattern in enumerate(patterns) if i not in gone and plainly_matches(pattern, subject)]
    assert sorted(trie.matching(subject)) == wanted
    for index, pattern in enumerate(patterns):
        trie.discard(pattern, index)
    assert trie._root.empty


@pytest.mark.parametrize(
    ("pattern", "subjects", "others"),
    [
        ("orders", ["orders"], ["orders.eu", "order", ""]),
        ("orders.*", ["orders.eu"], ["orders", "orders.eu.created"]),
        ("orders.*.created", ["orders.eu.created"], ["orders.created", "orders.eu.at.created"]),
        ("orders.>", ["orders.eu", "orders.eu.created"], ["orders"]),
        ("*", ["orders"], ["orders.eu"]),
        (">", ["orders", "orders.eu.created"], ["fdn.member", "fdn"]),
        ("*.member", ["x.member"], ["fdn.member"]),
        ("x.>", ["x.fdn"], []),
    ],
)
def test_wildcards(pattern: str, subjects: list[str], others: list[str]):
    trie: Patterns[str] = Patterns()
    trie.add(pattern, pattern)
    assert [subject for subject in (*subjects, *others) if trie.matching(subject)] == subjects


@pytest.mark.parametrize("subject", ["*", "a.*", ">", "a..b", "..", "a.>"])
def test_a_subject_from_a_peer_that_is_none_finds_each_value_once_at_most(subject: str):
    trie: Patterns[str] = Patterns()
    for pattern in (">", "*", "a.*", "a.>"):
        trie.add(pattern, pattern)
    found = trie.matching(subject)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("subject", ["a", "orders.eu.created", "ünï.çødé", "a-b_c:7/x", "x" * 256])
def test_subjects(subject: str):
    assert valid_subject(subject) == subject
    assert valid_pattern(subject) == subject


@pytest.mark.parametrize(
    "subject", ["", ".", "a.", ".a", "a..b", "a b", "a\n", "a.\x00", "\x85", "\ud800", ".*", ">", "a>", "x" * 257]
)
def test_what_is_no_subject(subject: str):
    with pytest.raises(fdn.BadRequest, match="is not a subject"):
        valid_subject(subject)


@pytest.mark.parametrize("pattern", ["*", ">", "*.*", "a.*.b", "a.>", "*.>"])
def test_patterns(pattern: str):
    assert valid_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", "a.>.b", ">.a", "a*", "a.b>", "**", "a..>", " a"])
def test_what_is_no_pattern(pattern: str):
    assert not is_pattern(pattern)
    with pytest.raises(fdn.ConfigError, match="is not a subject or pattern"):
        valid_pattern(pattern)


def test_fdn_is_the_systems():
    with pytest.raises(fdn.BadRequest, match="is the system's"):
        valid_subject("fdn.member.dead")
    with pytest.raises(fdn.ConfigError, match="is the system's"):
        valid_pattern("fdn.>")
    assert is_pattern("fdn.>")
    assert valid_subject("fdnx.y")


def test_queue_names():
    assert valid_queue("") == ""
    assert valid_queue("billing-2") == "billing-2"
    for name in ("a b", "x" * 101, "ü"):
        with pytest.raises(fdn.ConfigError, match="queue="):
            valid_queue(name)
