import random

from hypothesis import given
from hypothesis import strategies as st

from topologies.anti_entropy.tree import DEPTH, DIGEST_BYTES, MerkleTree, digest_of


def filled(pairs):
    tree = MerkleTree()
    for key, version in pairs:
        tree.put(key, version, digest_of(key))
    return tree


def keys(count):
    return [(b"key %d" % number, (1, number)) for number in range(count)]


def test_an_empty_tree_is_all_zeros():
    tree = MerkleTree()
    assert tree.digest("") == tree.digest("abcd") == bytes(DIGEST_BYTES)
    assert list(tree.summaries("")) == []
    assert len(tree) == 0


def test_equal_contents_have_equal_digests_whatever_the_order_and_history():
    pairs = keys(500)
    one = filled(pairs)
    random.Random(1).shuffle(pairs)
    other = filled([*pairs, (b"gone", (9, 9))])
    assert one.digest("") != other.digest("")
    other.remove(b"gone")
    other.remove(b"gone")
    assert one.digest("") == other.digest("")
    assert [it.key for it in one.summaries("")] == [it.key for it in other.summaries("")]


def test_a_change_changes_the_digests_on_its_path_and_no_others():
    tree = filled(keys(2000))
    before = {part: tree.digest(part) for part in ["", *tree.children("")]}
    tree.put(b"key 7", (2, 0), digest_of(b"key 7"))
    changed = [part for part in before if tree.digest(part) != before[part]]
    assert len(changed) == 2
    assert changed[0] == ""
    tree.put(b"key 7", (2, 0), digest_of(b"another value"))
    assert tree.digest(changed[1]) != before[changed[1]]


def test_counts_are_those_of_the_parts():
    tree = filled(keys(1000))
    assert tree.count("") == len(tree) == 1000
    assert sum(tree.count(child) for child in tree.children("")) == 1000
    part = next(child for child in tree.children("") if tree.count(child))
    assert len(list(tree.summaries(part))) == tree.count(part)


def test_what_names_a_part():
    tree = MerkleTree()
    assert all(map(tree.is_part, ("", "a", "0f", "beef")))
    assert not any(map(tree.is_part, ("x", "beef0", "A")))
    assert DEPTH == 4


@given(st.lists(st.tuples(st.binary(max_size=4), st.booleans(), st.integers(0, 5)), max_size=40))
def test_it_is_what_a_dictionary_would_be(steps):
    tree = MerkleTree()
    twin: dict[bytes, tuple[int, int]] = {}
    for key, is_put, version in steps:
        if is_put:
            tree.put(key, (version, 0), b"")
            twin[key] = (version, 0)
        else:
            tree.remove(key)
            twin.pop(key, None)
        tree.digest("")  # so that something is kept that must be given up
    assert {it.key: it.version for it in tree.summaries("")} == twin
    fresh = MerkleTree()
    for key, version in sorted(twin.items()):
        fresh.put(key, version, b"")
    assert tree.digest("") == fresh.digest("")
    assert len(tree) == len(twin)
