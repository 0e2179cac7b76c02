import random
from collections import Counter

import pytest

from fdn.sim.graphs import clustering, components, distances, path_length, random_regular
from topologies.identity import NodeId


def graph_of(*pairs):
    graph: dict[NodeId, list[NodeId]] = {}
    for one, other in pairs:
        graph.setdefault(NodeId(one), []).append(NodeId(other))
        graph.setdefault(NodeId(other), []).append(NodeId(one))
    return graph


TRIANGLE_WITH_TAIL = graph_of("ab", "bc", "ca", "cd")


def test_distances_are_hops():
    assert distances(TRIANGLE_WITH_TAIL, NodeId("a")) == {"a": 0, "b": 1, "c": 1, "d": 2}
    assert path_length(TRIANGLE_WITH_TAIL, [NodeId("a"), NodeId("d")]) == pytest.approx((4 + 5) / 6)


def test_components_are_sizes():
    assert components({**TRIANGLE_WITH_TAIL, **graph_of("xy")}) == [4, 2]


def test_clustering_is_the_mean_over_nodes():
    """a and b: 1; c: one link of three possible; d has one neighbour, which counts as 0."""
    assert clustering(TRIANGLE_WITH_TAIL) == pytest.approx((1 + 1 + 1 / 3 + 0) / 4)


def test_a_random_regular_graph_is_one():
    graph = random_regular(400, 5, random.Random(1))
    degrees = Counter(map(len, graph.values()))
    assert degrees[5] >= 398
    assert components(graph) == [400]
    assert all(node in graph[peer] for node, peers in graph.items() for peer in peers)
    assert all(node not in peers and len(set(peers)) == len(peers) for node, peers in graph.items())
    assert clustering(graph) < 0.02
    assert 3.9 < path_length(graph, list(graph)[:50]) < 4.3
