"""Measures of graphs, as the papers on overlays take them, and the random graph to compare with."""

import random
from collections import deque
from collections.abc import Mapping, Sequence

from topologies.identity import NodeId

__all__ = ("Graph", "clustering", "components", "distances", "path_length", "random_regular")

Graph = Mapping[NodeId, Sequence[NodeId]]  # the neighbours of each; all neighbours are in it


def distances(graph: Graph, source: NodeId) -> dict[NodeId, int]:
    """Hops to everybody who can be reached, the source itself included."""
    found = {source: 0}
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for peer in graph[node]:
            if peer not in found:
                found[peer] = found[node] + 1
                queue.append(peer)
    return found


def components(graph: Graph) -> list[int]:
    """Sizes, largest first."""
    seen: set[NodeId] = set()
    sizes = []
    for node in graph:
        if node not in seen:
            found = distances(graph, node)
            seen.update(found)
            sizes.append(len(found))
    return sorted(sizes, reverse=True)


def clustering(graph: Graph) -> float:
    """The mean local clustering coefficient; a node with fewer than two neighbours counts as 0."""
    sets = {node: set(peers) for node, peers in graph.items()}
    total = 0.0
    for peers in sets.values():
        degree = len(peers)
        if degree >= 2:
            links = sum(len(sets[peer] & peers) for peer in peers)
            total += links / (degree * (degree - 1))
    return total / len(graph)


def path_length(graph: Graph, sources: Sequence[NodeId]) -> float:
    """The mean shortest path from these to all others."""
    total = count = 0
    for source in sources:
        found = distances(graph, source)
        total += sum(found.values())
        count += len(found) - 1
    return total / max(count, 1)


def random_regular(count: int, degree: int, rng: random.Random) -> Graph:
    """A random graph in which everybody has so many neighbours, or one less where the last could not be paired.

    The configuration model: ends of links are paired at random; pairs that would be loops or doubles exchange partners
    with random others.
    """
    ends = [node for node in range(count) for _ in range(degree)]
    rng.shuffle(ends)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    left = []
    for one, other in zip(ends[::2], ends[1::2], strict=False):
        if one == other or other in neighbours[one]:
            left.append((one, other))
        else:
            neighbours[one].add(other)
            neighbours[other].add(one)
    for one, other in left:
        for _ in range(100):
            third = rng.randrange(count)
            fourth = rng.choice(sorted(neighbours[third])) if neighbours[third] else third
            if (
                len({one, other, third, fourth}) == 4
                and third not in neighbours[one]
                and fourth not in neighbours[other]
            ):
                neighbours[third].remove(fourth)
                neighbours[fourth].remove(third)
                for left_end, right_end in ((one, third), (other, fourth)):
                    neighbours[left_end].add(right_end)
                    neighbours[right_end].add(left_end)
                break
    names = [NodeId(f"n{node}") for node in range(count)]
    return {names[node]: tuple(names[peer] for peer in sorted(peers)) for node, peers in enumerate(neighbours)}
