"""The measurements of Plumtree section 4, on virtual time, over HyParView, at a size that fits a test run."""

import statistics

import pytest

from fdn.sim.broadcast_network import BroadcastNetwork
from fdn.sim.overlay_network import OverlayNetwork
from topologies.hyparview import HyParViewSettings
from topologies.identity import NodeId
from topologies.plumtree import Broadcast, MessageId, PlumtreeSettings

COUNT = 200
N1 = NodeId("n1")


def grown(seed: int, **changes: float) -> BroadcastNetwork:
    """The paper announces at once."""
    network = OverlayNetwork(seed, settings=HyParViewSettings(mix_interval_s=float("inf")))
    network.start("n0")
    for index in range(1, COUNT):
        network.start(f"n{index}", ["n0"])
        network.settle()
    network.run(100.0)
    settings = {"ihave_interval_s": 0.0} | changes
    return BroadcastNetwork(network, PlumtreeSettings(**settings))  # type: ignore[arg-type]


def cycle(broadcasts: BroadcastNetwork, sender: NodeId) -> MessageId:
    """One cycle of shuffles, one broadcast."""
    broadcasts.network.run(10.0)
    broadcasts.sent.clear()
    id = broadcasts.broadcast(sender)
    broadcasts.network.settle()
    return id


def redundancy(broadcasts: BroadcastNetwork) -> float:
    """RMR: payload messages per receiver, minus one."""
    return broadcasts.sent["Gossip"] / (COUNT - 1) - 1


def test_the_first_message_is_flooded_and_the_next_ones_go_by_a_tree():
    """Table 1 and figure 1: RMR of a flood with fan-out 4 is 3, that of the tree is 0."""
    broadcasts = grown(1)
    cycle(broadcasts, N1)
    assert redundancy(broadcasts) == pytest.approx(3.0, abs=0.1)
    cycle(broadcasts, N1)
    redundancies = []
    for _ in range(10):
        id = cycle(broadcasts, N1)
        assert broadcasts.reliability(id) == 1.0
        redundancies.append(redundancy(broadcasts))
        assert broadcasts.sent["IHave"] == pytest.approx(3 * COUNT, rel=0.05)  # what the flood would have sent
    assert statistics.mean(redundancies) <= 0.01
    assert broadcasts.twice == 0


def test_each_message_of_many_senders_reaches_everybody():
    broadcasts = grown(2)
    senders = sorted(broadcasts.network.hosts)
    for _ in range(20):
        id = cycle(broadcasts, broadcasts.network.rng.choice(senders))
        assert broadcasts.reliability(id) == 1.0
    assert redundancy(broadcasts) <= 0.01
    assert broadcasts.twice == 0


def test_trees_of_single_roots_are_shorter_for_many_senders_and_cost_nothing_more():
    """The paper's price of many senders: a long last hop, or 22.5 % more control messages."""
    last_hops, control = {}, {}
    for own_tree_after in (1_000_000, 0):
        broadcasts = grown(3, own_tree_after=own_tree_after)
        senders = sorted(broadcasts.network.hosts)[:8]
        hops, messages = [], []
        for index in range(40):
            id = cycle(broadcasts, senders[index % 8])
            if index >= 24:
                hops.append(max(broadcasts.hops[id].values()))
                messages.append(broadcasts.sent.total() - broadcasts.sent["Gossip"])
        last_hops[own_tree_after] = statistics.mean(hops)
        control[own_tree_after] = statistics.mean(messages)
    assert last_hops[0] < last_hops[1_000_000] - 1.0
    assert control[0] < 1.05 * control[1_000_000]


def test_everything_arrives_while_nodes_are_killed_in_every_cycle():
    """Figure 4: the tree mends itself; what was on its way on a broken branch is grafted."""
    broadcasts = grown(4)
    network = broadcasts.network
    for _ in range(15):
        living = [host.id for host in network.living()]
        network.kill(network.rng.sample([node for node in living if node != N1], 5), notice=True)
        id = broadcasts.broadcast(N1)
        network.run(10.0)
        assert broadcasts.reliability(id) == 1.0
    assert broadcasts.twice == 0
    assert broadcasts.missed == []


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_the_tree_is_whole_again_after_a_mass_failure(share: float):
    """Figure 6."""
    broadcasts = grown(5)
    network = broadcasts.network
    for _ in range(5):
        cycle(broadcasts, N1)
    network.kill(network.rng.sample([node for node in network.hosts if node != N1], int(share * COUNT)), notice=True)
    network.run(20.0)
    ids = [cycle(broadcasts, N1) for _ in range(5)]
    network.run(5.0)
    assert [broadcasts.reliability(id) for id in ids] == [1.0] * 5
    assert broadcasts.sent["Gossip"] / (len(network.living()) - 1) - 1 <= 0.02


def test_lost_messages_are_grafted_or_reported():
    broadcasts = grown(6)
    network = broadcasts.network
    cycle(broadcasts, N1)
    network.drop = lambda sender, peer, message: isinstance(message, tuple) and network.rng.random() < 0.05
    ids = []
    for _ in range(30):
        ids.append(cycle(broadcasts, N1))
        network.run(5.0)
    missed = {(node, effect.id) for node, effect in broadcasts.missed}
    absent = {(host.id, id) for host in network.living() for id in ids if host.id not in broadcasts.hops[id]}
    assert absent <= missed  # whoever lacks one knows it
    assert len(absent) < 0.001 * COUNT * len(ids)
    assert broadcasts.twice == 0


def test_a_batch_of_messages_is_announced_in_few():
    broadcasts = grown(7, ihave_interval_s=0.1)
    network = broadcasts.network
    cycle(broadcasts, N1)
    network.run(1.0)
    broadcasts.sent.clear()
    for _ in range(50):
        broadcasts.feed(network.hosts[N1], Broadcast(b""))
        network.run(0.001)
    network.run(1.0)
    assert broadcasts.sent["Gossip"] < 51 * COUNT
    assert broadcasts.sent["IHave"] < 3 * 4 * COUNT  # 50 one by one would be 150
