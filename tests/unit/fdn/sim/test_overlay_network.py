import pytest

from fdn.sim.graphs import components
from fdn.sim.overlay_network import OverlayNetwork, claim_of, is_server, peer_of, pin
from topologies.full_mesh import FullMesh
from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect
from topologies.swim import Status

A, B, C = (NodeId(name) for name in ("n0", "n1", "n2"))


def mesh(me, rng):
    return FullMesh()


@pytest.fixture
def network():
    network = OverlayNetwork(1, mesh, latency=(0.01, 0.01))
    for name in (A, B, C):
        network.start_member(name)
    network.run(1.0)
    return network


def test_members_are_linked_as_their_overlay_says(network):
    assert network.graph() == {A: (B, C), B: (A, C), C: (A, B)}
    assert all(link.open for host in network.living() for link in host.links.values())


def test_a_flood_reaches_everybody_once(network):
    flood = network.flood(A)
    network.settle()
    assert flood.hops == {A: 0, B: 1, C: 1}


def test_without_notice_a_death_shows_when_a_link_is_used(network):
    network.kill([B])
    network.run(1.0)
    assert network.hosts[A].links[B].open
    network.send_app(network.hosts[A], B, ("x",))
    network.run(0.1)
    assert not network.hosts[A].links[B].open


def test_with_notice_it_shows_at_once_and_is_redialled_in_vain(network):
    network.kill([B], notice=True)
    network.run(2.0)
    assert not network.hosts[A].links[B].open
    assert network.hosts[A].dials[B] > 2


def test_a_frozen_network_repairs_nothing(network):
    network.is_frozen = True
    network.kill([B], notice=True)
    network.run(1.0)
    assert network.hosts[A].links[B].open


def test_a_closed_link_loses_what_is_on_it(network):
    got = []
    network.hosts[B].inbox = lambda sender, message: got.append(message)
    host = network.hosts[A]
    network.send_app(host, B, (1,))
    network._carry_out(host, [Disconnect(B, "test")])
    network.run(1.0)
    assert (got, network.app_lost) == ([], 1)
    network._carry_out(host, [Connect(B, {})])
    network.send_app(host, B, (2,))  # waits for the link
    network.run(1.0)
    assert got == [(2,)]


def test_a_copy_has_a_future_of_its_own():
    network = OverlayNetwork(3)
    network.start("n0")
    for index in range(1, 30):
        network.start(f"n{index}", ["n0"])
        network.settle()
    one, other = network.copy(), network.copy()
    for copied in (one, other):
        copied.kill([A], notice=True)
        copied.run(30.0)
    assert one.graph() == other.graph()
    assert components(one.graph()) == [29]
    assert network.hosts[A].up
    assert network.world.now < one.world.now
    network.on_neighbours = lambda host, before, after: None
    with pytest.raises(ValueError, match="copy a network before"):
        network.copy()


def test_what_membership_says():
    claim = claim_of("n4", Status.DEAD, 2, "silent")
    assert (claim.status, claim.incarnation, claim.reason) == (Status.DEAD, (2, 0), "silent")
    assert claim.tags == {"server": ""}
    assert claim_of("n5").tags == {}
    assert [name for name in ("n0", "n3", "n8", "x", "me") if is_server(name)] == ["n0", "n8"]
    assert peer_of("n4", 2).endpoints == claim.endpoints


def test_pinning_names_all_to_all(network):
    pin(network, [A, B])
    assert network.hosts[A].overlay.neighbours() == {B, C}
