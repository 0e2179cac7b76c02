import pytest

from topologies.identity import NodeId
from topologies.plumtree.messages import SHARED
from topologies.plumtree.trees import Trees

A, B, C, R1, R2, R3 = (NodeId(name) for name in ("a", "b", "c", "r1", "r2", "r3"))


@pytest.fixture
def trees():
    trees = Trees(2)
    for peer in (A, B, C):
        trees.add(peer)
    return trees


def test_all_neighbours_are_eager_at_first(trees):
    assert trees.eager_push_peers(SHARED) == [A, B, C]
    assert trees.lazy_push_peers(SHARED) == []


def test_a_peer_is_eager_or_lazy_never_both(trees):
    trees.make_lazy(SHARED, B)
    assert trees.eager_push_peers(SHARED) == [A, C]
    assert trees.lazy_push_peers(SHARED) == [B]
    trees.make_eager(SHARED, B)
    assert trees.eager_push_peers(SHARED) == [A, B, C]


def test_the_tree_of_a_root_begins_as_the_shared_one_and_goes_its_own_way(trees):
    trees.make_lazy(SHARED, B)
    assert trees.lazy_push_peers(R1) == [B]
    trees.make_eager(R1, B)
    trees.make_lazy(R1, C)
    assert trees.lazy_push_peers(R1) == [C]
    assert trees.lazy_push_peers(SHARED) == [B]


def test_trees_are_bounded_and_the_least_used_begins_anew(trees):
    trees.make_lazy(R1, A)
    trees.make_lazy(R2, B)
    assert trees.lazy_push_peers(R1) == [A]
    trees.make_lazy(R3, C)
    assert trees.root_count == 2
    assert trees.lazy_push_peers(R1) == [A]
    assert trees.lazy_push_peers(R2) == []


def test_who_is_gone_is_forgotten_on_all_trees(trees):
    trees.make_lazy(SHARED, A)
    trees.make_lazy(R1, A)
    trees.remove(A)
    trees.add(A)
    assert trees.is_eager(SHARED, A)
    assert trees.is_eager(R1, A)


def test_one_that_is_no_neighbour_changes_nothing(trees):
    trees.make_lazy(R1, NodeId("x"))
    trees.make_eager(R2, NodeId("x"))
    trees.remove(NodeId("x"))
    assert trees.neighbor_count == 3
    assert trees.root_count == 0
    assert NodeId("x") not in trees
    assert not trees.is_eager(SHARED, NodeId("x"))
