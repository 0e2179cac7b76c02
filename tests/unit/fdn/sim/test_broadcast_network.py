import pytest

from fdn.sim.broadcast_network import BroadcastNetwork
from fdn.sim.overlay_network import OverlayNetwork
from topologies.full_mesh import FullMesh
from topologies.identity import NodeId
from topologies.plumtree import PlumtreeSettings

A = NodeId("n0")


@pytest.fixture
def broadcasts():
    network = OverlayNetwork(1, lambda me, rng: FullMesh())
    for index in range(4):
        network.start_member(f"n{index}")
    network.run(1.0)
    return BroadcastNetwork(network, PlumtreeSettings(ihave_interval_s=0.0))


def test_a_broadcast_is_delivered_once_and_counted(broadcasts):
    id = broadcasts.broadcast(A)
    broadcasts.network.settle()
    assert broadcasts.hops[id] == {"n0": 0, "n1": 1, "n2": 1, "n3": 1}
    assert broadcasts.reliability(id) == 1.0
    assert broadcasts.sent["Gossip"] == 3 + 3 * 2  # a flood: nobody has been pruned yet
    assert broadcasts.sent["Prune"] > 0
    assert (broadcasts.twice, broadcasts.missed) == (0, [])
    broadcasts.sent.clear()
    broadcasts.broadcast(A)
    broadcasts.network.settle()
    assert broadcasts.sent["Gossip"] == 3


def test_reliability_is_of_those_who_live(broadcasts):
    network = broadcasts.network
    network.cut = lambda one, other: "n3" in (one, other)
    id = broadcasts.broadcast(A)
    network.settle()
    assert broadcasts.reliability(id) == 0.75
    network.kill([NodeId("n3")])
    assert broadcasts.reliability(id) == 1.0


def test_who_joins_later_takes_part(broadcasts):
    host = broadcasts.network.start_member("n4")
    broadcasts.adopt(host)
    broadcasts.network.run(1.0)
    id = broadcasts.broadcast(NodeId("n4"))
    broadcasts.network.settle()
    assert broadcasts.reliability(id) == 1.0
