"""What every overlay promises, whatever its shape."""

import itertools
import random
from collections.abc import Callable

import pytest

from fdn.sim.graphs import components
from fdn.sim.overlay_network import OverlayNetwork, claim_of, is_server, pin
from topologies.client_server import ClientServer, ClientServerSettings
from topologies.full_mesh import FullMesh
from topologies.hyparview import HyParView, HyParViewSettings, Peer
from topologies.identity import NodeId
from topologies.overlay import LinkDown, LinkUp, Overlay, OverlayMessage, OverlayReceived, OverlaySend
from topologies.static import Static
from topologies.swim import MemberChanged, Status, Tick

REST_S = 30.0  # virtual: shuffles, retries, drains
Make = Callable[[Peer, random.Random], Overlay]


class Foreign(OverlayMessage, frozen=True):
    """Of an overlay that nobody here knows."""


def full_mesh(me: Peer, rng: random.Random) -> Overlay:
    return FullMesh()


def hyparview(me: Peer, rng: random.Random) -> Overlay:
    return HyParView(me, HyParViewSettings(), rng)


def static(me: Peer, rng: random.Random) -> Overlay:
    return Static(me.node, me.node, itertools.combinations((f"n{index}" for index in range(40)), 2))


def client_server(me: Peer, rng: random.Random) -> Overlay:
    return ClientServer(me.node, me.endpoints, is_server(me.node), ClientServerSettings(), rng)


@pytest.fixture(
    params=[full_mesh, static, hyparview, client_server], ids=["full-mesh", "static", "hyparview", "client-server"]
)
def make(request: pytest.FixtureRequest) -> Make:
    make: Make = request.param
    return make


def neighbours_max(make: Make, count: int) -> int:
    return 5 if make is hyparview else count - 1


@pytest.fixture(params=[1, 2, 3], ids="seed{}".format)
def network(request: pytest.FixtureRequest, make: Make) -> OverlayNetwork:
    return OverlayNetwork(request.param, make, latency=(0.001, 0.01))


def members(network: OverlayNetwork, count: int, pause_s: float) -> list[NodeId]:
    for index in range(count):
        network.start_member(f"n{index}")
        network.run(pause_s)
    network.run(REST_S)
    return list(network.hosts)


@pytest.mark.parametrize("pause_s", [0.1, 0.0], ids=["one-by-one", "at-once"])
@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_all_are_connected_after_joining_and_views_are_symmetric(
    network: OverlayNetwork, make: Make, count: int, pause_s
):
    members(network, count, pause_s)
    assert components(network.graph()) == [count]
    assert network.asymmetric() == []
    assert max(map(len, network.graph().values())) <= neighbours_max(make, count)


def test_links_are_held_to_neighbours_and_to_nobody_else(network: OverlayNetwork):
    members(network, 30, 0.0)
    for host in network.living():
        assert host.links.keys() == host.overlay.neighbours()
        assert all(link.open for link in host.links.values())


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_who_survives_is_connected_again(network: OverlayNetwork, make: Make, share: float):
    nodes = members(network, 40, 0.0)
    dead = network.rng.sample(nodes, int(share * 40))
    network.kill(dead, notice=True)
    network.run(1.0)
    network.bury(dead)
    network.run(REST_S)
    assert components(network.graph()) == [40 - len(dead)]
    assert network.asymmetric() == []
    for host in network.living():
        assert not host.overlay.neighbours().intersection(dead)
        assert len(host.overlay.neighbours()) <= neighbours_max(make, 40)


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_who_is_gone_is_no_neighbour_from_that_moment(network: OverlayNetwork, status: Status):
    nodes = members(network, 10, 0.0)
    network.kill([nodes[3]])
    network.bury([nodes[3]], status)
    assert all(nodes[3] not in host.overlay.neighbours() for host in network.living())
    assert all(nodes[3] not in host.links for host in network.living())


def test_who_comes_back_elsewhere_is_one_neighbour_not_two(network: OverlayNetwork):
    nodes = members(network, 10, 0.0)
    network.kill([nodes[3]], notice=True)
    network.run(1.0)
    network.bury([nodes[3]])
    network.start_member(nodes[3], generation=2)
    network.run(REST_S)
    assert components(network.graph()) == [10]
    assert network.asymmetric() == []


def test_a_restart_that_nobody_noticed_is_noticed_when_membership_tells(network: OverlayNetwork):
    nodes = members(network, 10, 0.0)
    network.kill([nodes[3]])
    others = network.living()
    host = network.start(nodes[3], [other.id for other in others], generation=2)
    for other in others:
        network.feed(other, MemberChanged(host.id, claim_of(host.id), claim_of(host.id, generation=2), network.now))
    network.run(REST_S)
    assert components(network.graph()) == [10]
    assert network.asymmetric() == []


def test_pinned_peers_have_direct_links_beside_those_that_the_overlay_chose(network: OverlayNetwork, make: Make):
    nodes = members(network, 30, 0.0)
    pinned = nodes[:8]
    pin(network, pinned)
    network.run(REST_S)
    for node in pinned:
        host = network.hosts[node]
        assert host.overlay.neighbours() >= set(pinned) - {node}
        assert all(host.links[peer].open for peer in pinned if peer != node)
    assert components(network.graph()) == [30]
    network.kill([pinned[0]], notice=True)
    network.bury([pinned[0]])
    network.run(REST_S)
    assert all(pinned[0] not in network.hosts[node].links for node in pinned[1:])
    network.start_member(pinned[0], generation=2)
    network.run(REST_S)
    assert all(pinned[0] in network.hosts[node].overlay.neighbours() for node in pinned[1:])


def test_news_of_strangers_and_messages_of_other_overlays_change_nothing(make: Make):
    overlay = make(Peer(NodeId("me")), random.Random(1))
    for input in (LinkUp(NodeId("x")), LinkDown(NodeId("x")), OverlayReceived(NodeId("x"), Foreign()), Tick()):
        assert list(overlay.handle(input, 0.0)) == []
    assert overlay.neighbours() == frozenset()
    assert overlay.next_deadline() is None


def test_what_is_due_is_done_by_one_tick(network: OverlayNetwork):
    members(network, 20, 0.0)
    for host in network.living():
        due = host.overlay.next_deadline()
        if due is not None:
            host.overlay.handle(Tick(), due)
            after = host.overlay.next_deadline()
            assert after is None or after > due


def test_a_seed_replays_a_run_exactly(make: Make):
    def run() -> list[tuple[float, str]]:
        network = OverlayNetwork(7, make, latency=(0.001, 0.01))
        trace: list[tuple[float, str]] = []
        network.on_neighbours = lambda host, before, after: trace.append((network.now, f"{host.id} {sorted(after)}"))
        members(network, 20, 0.0)
        return trace

    assert run() == run()


def test_effects_are_those_that_the_protocol_names(make: Make):
    overlay = make(Peer(NodeId("n0")), random.Random(1))
    joined = MemberChanged(NodeId("n4"), None, claim_of("n4"), 0.0)
    effects = [*overlay.handle(joined, 0.0), *overlay.handle(LinkUp(NodeId("n4")), 0.0)]
    assert effects
    assert all(effect.peer == "n4" for effect in effects)
    assert all(effect.endpoints == claim_of("n4").endpoints for effect in effects if isinstance(effect, OverlaySend))
