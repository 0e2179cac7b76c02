"""What users of Partisan reported of its overlays, and what we met ourselves: each once more, as a test.

The numbers are those of lasp-lang/partisan.
"""

import random
from collections import Counter

import pytest

from fdn.sim.graphs import components
from fdn.sim.overlay_network import Host, OverlayNetwork
from topologies.hyparview import HyParView, HyParViewSettings
from topologies.hyparview.messages import Disconnect
from topologies.identity import NodeId
from topologies.overlay import LinkDown, OverlayReceived
from topologies.swim import Status

LATENCY = (0.0005, 0.02)  # wide, so that what overtakes what differs


def hyparview(host: Host) -> HyParView:
    assert isinstance(host.overlay, HyParView)
    return host.overlay


@pytest.mark.parametrize("seed", range(8))
def test_many_that_join_at_the_same_instant_through_one_node_are_no_islands(seed: int):
    """Issue 75."""
    network = OverlayNetwork(seed, latency=LATENCY)
    network.start("n0")
    for index in range(1, 150):
        network.start(f"n{index}", ["n0"])
    network.run(5.0)
    assert components(network.graph()) == [150]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(60, 60), (90, 8), (40, 40, 40), (100, 1)], ids=str)
def test_islands_that_learn_of_one_another_become_one(seed: int, sizes: tuple[int, ...]):
    """Views are full on every side, and nobody misses a neighbour: only membership knows that there are others."""
    network = OverlayNetwork(seed, latency=LATENCY)
    islands = []
    for island, size in enumerate(sizes):
        names = [f"i{island}n{index}" for index in range(size)]
        network.start(names[0])
        for name in names[1:]:
            network.start(name, [names[0]])
            network.run(0.05)
        islands.append(names)
    network.run(5.0)
    assert components(network.graph()) == sorted(sizes, reverse=True)
    for one in islands:
        for other in islands:
            if one is not other:
                for name in one:
                    for about in other:
                        network.tell(network.hosts[NodeId(name)], about, before=Status.DEAD)
    network.run(8.0)
    assert components(network.graph()) == [sum(sizes)]
    network.run(30.0)
    assert network.asymmetric() == []


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_sent_to_a_neighbour_is_lost_while_it_is_demoted(seed: int):
    """Issue 255. Every neighbour is sent to all the time, while joins and trades demote neighbours all the time."""
    network = OverlayNetwork(seed, settings=HyParViewSettings(mix_interval_s=2.0), latency=LATENCY)
    network.start("n0")
    received: Counter[tuple[NodeId, NodeId]] = Counter()
    sent: Counter[tuple[NodeId, NodeId]] = Counter()

    def talk(host: Host) -> None:
        for peer in sorted(host.overlay.neighbours()):
            sent[host.id, peer] += 1
            network.send_app(host, peer, (b"news",))

    def listen(host: Host) -> None:
        def take(sender: NodeId, message: object) -> None:
            received[sender, host.id] += 1

        host.inbox = take

    listen(network.hosts[NodeId("n0")])
    for index in range(1, 60):
        listen(network.start(f"n{index}", ["n0"]))
        for _ in range(5):
            network.run(0.02)
            for host in network.living():
                talk(host)
    network.run(5.0)
    demoted = sum(hyparview(host).stats().demoted for host in network.living())
    assert demoted > 100
    assert network.app_lost == 0
    assert received == sent


def test_who_cannot_be_reached_is_no_neighbour():
    """Issue 48."""
    network = OverlayNetwork(1, latency=LATENCY)
    for index in range(30):
        network.start_member(f"n{index}")
    network.run(30.0)
    dead = network.rng.sample(sorted(network.hosts), 10)
    network.kill(dead, notice=True)
    network.run(1.0)  # links have failed; membership has said nothing yet
    for host in network.living():
        assert not host.overlay.neighbours().intersection(dead)


@pytest.mark.parametrize("status", [Status.LEFT, Status.DEAD])
def test_who_is_removed_is_not_dialled_any_more_and_hearsay_does_not_bring_it_back(status: Status):
    """Issues 116 and 191. One node is told late, and goes on mentioning those that are gone in its shuffles."""
    network = OverlayNetwork(1, latency=LATENCY)
    for index in range(30):
        network.start_member(f"n{index}")
    network.run(60.0)
    gone = [NodeId(f"n{index}") for index in range(10, 20)]
    network.kill(gone, notice=True)
    late = network.hosts[NodeId("n0")]
    for host in network.living():
        if host is not late:
            for node in gone:
                network.tell(host, node, status, before=Status.ALIVE)
    network.run(10.0)
    dials = {host.id: Counter(host.dials) for host in network.living()}
    network.run(300.0)
    for host in network.living():
        if host is not late:
            assert not set(gone).intersection(hyparview(host).passive_view())
            assert all(host.dials.get(node, 0) == dials[host.id][node] for node in gone)


def test_nobody_is_dialled_for_ever_by_one_that_is_alone():
    network = OverlayNetwork(1, latency=LATENCY)
    alone = network.start("n0", ["n1"])  # n1 does not exist
    network.run(3600.0)
    assert alone.dials[NodeId("n1")] < 3600 / 20
    network.bury([NodeId("n1")])
    network.run(10.0)
    dials = alone.dials[NodeId("n1")]
    network.run(3600.0)
    assert alone.dials[NodeId("n1")] == dials
    assert alone.links == {}


@pytest.mark.parametrize("seed", range(6))
def test_views_are_symmetric_again_after_any_messages_were_lost(seed: int):
    """A lost Accept or Disconnect leaves a neighbour on one side only, until a shuffle finds it out."""
    network = OverlayNetwork(seed, latency=LATENCY)
    chance = random.Random(seed)
    network.drop = lambda sender, peer, message: chance.random() < 0.2
    network.start("n0")
    for index in range(1, 60):
        network.start(f"n{index}", ["n0"])
        network.run(0.05)
    network.run(60.0)
    network.drop = None
    network.run(120.0)
    assert network.asymmetric() == []
    assert components(network.graph()) == [60]


def test_a_link_that_broke_one_way_is_given_up_at_both_ends():
    network = OverlayNetwork(3, latency=LATENCY)
    for index in range(20):
        network.start_member(f"n{index}")
    network.run(30.0)
    one = network.hosts[NodeId("n0")]
    other = min(one.overlay.neighbours())
    network.cut = lambda sender, receiver: (sender, receiver) == (one.id, other)
    network.send_app(one, other, (b"into the void",))
    network.run(1.0)
    assert other not in one.overlay.neighbours()  # and it could not be told
    network.cut = None
    network.run(120.0)
    assert network.asymmetric() == []


@pytest.mark.parametrize("seed", range(4))
def test_churn_loss_and_cuts_leave_one_symmetric_overlay_behind(seed: int):
    network = OverlayNetwork(seed, latency=LATENCY)
    chance = random.Random(seed)
    for index in range(40):
        network.start_member(f"n{index}")
    generations: Counter[NodeId] = Counter()
    network.drop = lambda sender, peer, message: chance.random() < 0.02
    for _ in range(40):
        victim = NodeId(f"n{chance.randrange(40)}")
        network.kill([victim], notice=chance.random() < 0.5)
        network.run(chance.uniform(0.0, 3.0))
        network.bury([victim])
        network.run(chance.uniform(0.0, 3.0))
        generations[victim] += 1
        network.start_member(victim, generation=1 + generations[victim])
        side = {NodeId(f"n{index}") for index in chance.sample(range(40), 3)}
        network.cut = lambda one, other, side=side: (one in side) != (other in side)
        network.run(chance.uniform(0.0, 2.0))
        network.cut = None
        for host in network.living():
            view = hyparview(host)
            assert len(view.active_view()) <= 5
            assert len(view.passive_view()) <= 30
    network.drop = None
    network.run(180.0)
    assert components(network.graph()) == [40]
    assert network.asymmetric() == []
    surplus = links_to_others(network)  # some drain, or lead to one that is being asked
    network.run(6.0)
    assert not surplus & links_to_others(network)


def links_to_others(network: OverlayNetwork) -> set[tuple[NodeId, NodeId]]:
    return {(host.id, peer) for host in network.living() for peer in host.links.keys() - host.overlay.neighbours()}


def test_a_disconnect_of_an_earlier_life_of_a_link_arrives_late_and_ends_nothing():
    network = OverlayNetwork(5, latency=(0.001, 0.001))
    one, other = network.start_member("n0"), network.start_member("n1")
    network.run(1.0)
    late: list[Disconnect] = []

    def keep(sender: NodeId, peer: NodeId, message: object) -> bool:
        if isinstance(message, Disconnect):
            late.append(message)
        return isinstance(message, Disconnect)

    network.drop = keep
    network.feed(one, LinkDown(other.id, "closed"))
    network.feed(other, LinkDown(one.id, "closed"))
    network.run(5.0)
    network.drop = None
    assert one.overlay.neighbours() == {other.id}
    assert late
    for message in late:
        network.feed(one, OverlayReceived(other.id, message))
        network.feed(other, OverlayReceived(one.id, message))
    network.run(0.1)
    assert one.overlay.neighbours() == {other.id}
    assert other.overlay.neighbours() == {one.id}
    assert hyparview(one).stats().stale >= len(late)
