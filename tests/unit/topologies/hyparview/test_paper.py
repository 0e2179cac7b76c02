"""The measurements of HyParView section 5, on virtual time, at a size that fits a test run.

Bars are those of a random graph of the same size and degree, with some room; the paper's are for 10,000 nodes.
"""

import random
import statistics
import sys
from collections import Counter

import pytest

from fdn.sim.graphs import clustering, components, path_length
from fdn.sim.overlay_network import OverlayNetwork
from topologies.hyparview import HyParView, HyParViewSettings
from topologies.identity import NodeId

COUNT = 300
CYCLES = 20


def grown(count: int, seed: int, cycles: int = CYCLES) -> OverlayNetwork:
    """Nodes that joined one by one through the first, and some cycles of shuffling (section 5.1)."""
    network = OverlayNetwork(seed, settings=HyParViewSettings(mix_interval_s=float("inf")))
    network.start("n0")
    for index in range(1, count):
        network.start(f"n{index}", ["n0"])
        network.settle()
    network.run(10.0 * cycles)
    network.settle()
    return network


@pytest.fixture(scope="module")
def overlay() -> OverlayNetwork:
    return grown(COUNT, seed=7)


def test_the_overlay_is_a_random_graph(overlay: OverlayNetwork):
    """Table 1: low clustering, short paths. Figure 5: nearly all nodes have in-degree 5."""
    graph = overlay.graph()
    assert components(graph) == [COUNT]
    assert overlay.asymmetric() == []
    assert clustering(graph) < 0.03
    assert 3.6 < path_length(graph, list(graph)) < 4.2
    degrees = Counter(map(len, graph.values()))
    assert max(degrees) == 5
    assert degrees[5] > 0.97 * COUNT


def test_a_flood_reaches_everybody_within_few_hops(overlay: OverlayNetwork):
    """Table 1: the highest hop is a little above the average path."""
    graph = overlay.graph()
    highest = []
    for origin in overlay.rng.sample(sorted(graph), 30):
        flood = overlay.flood(origin)
        overlay.settle()
        assert len(flood.hops) == COUNT
        highest.append(max(flood.hops.values()))
    assert statistics.mean(highest) < 7.0


def test_passive_views_are_full_and_hold_others_than_neighbours(overlay: OverlayNetwork):
    for host in overlay.living():
        assert isinstance(host.overlay, HyParView)
        passive = host.overlay.passive_view()
        assert len(passive) >= 25
        assert not host.overlay.neighbours().intersection(passive)
        assert host.id not in passive


@pytest.mark.parametrize(
    ("share", "bar"), [(0.1, 1.0), (0.3, 1.0), (0.5, 1.0), (0.7, 0.99), (0.8, 0.99), (0.9, 0.9)], ids=str
)
def test_broadcasts_reach_the_survivors_of_simultaneous_failures(share: float, bar: float):
    """Figures 2 and 3, reactive steps on, no shuffles: mean over messages after the links have failed."""
    network = grown(COUNT, seed=11, cycles=10)
    dead = network.rng.sample(sorted(network.hosts), int(share * COUNT))
    network.kill(dead, notice=True)
    network.settle()
    living = [host.id for host in network.living()]
    reached = []
    for _ in range(30):
        flood = network.flood(network.rng.choice(living))
        network.settle()
        reached.append(len(flood.hops) / len(living))
    assert statistics.mean(reached) >= bar


def test_failures_that_only_show_when_a_link_is_used_are_repaired_as_broadcasts_use_them():
    """No connection tells of its end here: each broadcast tests the links on its way, and the next one gets further."""
    network = grown(COUNT, seed=13, cycles=10)
    network.kill(network.rng.sample(sorted(network.hosts), COUNT // 2))
    living = [host.id for host in network.living()]
    reached = []
    for _ in range(150):
        flood = network.flood(network.rng.choice(living))
        network.settle()
        reached.append(len(flood.hops) / len(living))
    assert statistics.mean(reached[-20:]) > max(0.95, statistics.mean(reached[:5]))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6], ids=str)
def test_reliability_is_what_it_was_after_two_cycles(share: float):
    """Figure 4: healing time, with ten broadcasts a cycle. Again nobody is told of failures; links are used."""
    network = grown(COUNT, seed=17, cycles=10)
    network.kill(network.rng.sample(sorted(network.hosts), int(COUNT * share)))
    living = [host.id for host in network.living()]
    for _ in range(2):
        network.run(10.0)
        floods = [network.flood(network.rng.choice(living)) for _ in range(10)]
        network.settle()
    assert statistics.mean(len(flood.hops) for flood in floods) / len(living) > 0.99


def test_many_nodes_that_start_at_one_instant_are_one_overlay():
    network = OverlayNetwork(3, latency=(0.0005, 0.02))
    network.start("n0")
    for index in range(1, COUNT):
        network.start(f"n{index}", ["n0"])
    network.run(10.0)
    assert components(network.graph()) == [COUNT]
    worst = max(host.sent for host in network.living())
    assert worst < 20 * COUNT  # the first node is not drowned by the rest


def test_a_bare_overlay_takes_less_than_four_kilobytes_a_node(overlay: OverlayNetwork):
    """What a node holds for itself; peers, their endpoints and the source of chance are shared in a simulator."""
    sizes = [held_bytes(host.overlay) for host in random.Random(1).sample(overlay.living(), 20)]
    assert statistics.mean(sizes) < 4096


def held_bytes(core: object) -> int:
    shared = (random.Random, HyParViewSettings, str, int, float, bool, type(None))
    seen: set[int] = set()

    def size(thing: object) -> int:
        if id(thing) in seen or isinstance(thing, shared) or type(thing).__name__ == "Peer":
            return 0
        seen.add(id(thing))
        total = sys.getsizeof(thing)
        if isinstance(thing, dict):
            return total + sum(map(size, thing.keys())) + sum(map(size, thing.values()))
        if isinstance(thing, list | tuple | set | frozenset):
            return total + sum(map(size, thing))
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        return total + sum(size(getattr(thing, name)) for name in slots if name != "endpoints")

    return size(core) + sys.getsizeof(NodeId(""))
