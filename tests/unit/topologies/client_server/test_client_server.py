import random
import statistics

import msgspec
import pytest

from fdn.sim.overlay_network import OverlayNetwork, claim_of, is_server
from topologies.client_server import ClientServer, ClientServerSettings
from topologies.client_server.messages import Attach, Attached, Detach, Detached, Refused
from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect, LinkDown, OverlayReceived, OverlaySend
from topologies.swim import MemberChanged, Status, Tick

S0, S4, C1, C2 = (NodeId(name) for name in ("n0", "n4", "n1", "n2"))
ONE_HOME = ClientServerSettings(homes=1)


def make(settings):
    return lambda me, rng: ClientServer(me.node, me.endpoints, is_server(me.node), settings, rng)


def network_of(count, settings=None, seed=5):
    network = OverlayNetwork(seed, make(settings or ClientServerSettings()), latency=(0.001, 0.01))
    for index in range(count):
        network.start_member(f"n{index}")
    network.run(40.0)
    return network


def stats(network, node):
    return network.hosts[NodeId(node)].overlay.stats()


def overlay_of(node, settings=ONE_HOME):
    claim = claim_of(node)
    return ClientServer(claim.subject, claim.endpoints, is_server(node), settings, random.Random(1))


def joins(overlay, node, now=0.0):
    return overlay.handle(MemberChanged(NodeId(node), None, claim_of(node), now), now)


def hears(overlay, sender, message, now=0.0):
    return overlay.handle(OverlayReceived(NodeId(sender), message), now)


def sent(effects):
    return [(effect.peer, effect.message) for effect in effects if isinstance(effect, OverlaySend)]


def test_clients_are_spread_over_the_servers():
    network = network_of(160)
    loads = [stats(network, f"n{index}").clients for index in range(0, 160, 4)]
    assert sum(loads) == 2 * 120
    assert max(loads) <= 4 * statistics.mean(loads)
    assert all(stats(network, f"n{index}").homes == 2 for index in range(160) if index % 4)
    assert all(stats(network, f"n{index}").links == 2 for index in range(160) if index % 4)


def test_clients_of_a_lost_server_go_to_others_and_nobody_else_moves():
    network = network_of(80)
    before = network.graph()
    lost = NodeId("n4")
    network.kill([lost], notice=True)
    network.run(20.0)
    network.bury([lost])
    after = network.graph()
    for node, peers in before.items():
        if node == lost or is_server(node):
            continue
        assert len(after[node]) == 2
        assert set(peers) - {lost} <= set(after[node])
    assert network.asymmetric() == []


def test_a_new_server_takes_its_share_and_nothing_is_lost_on_the_way():
    network = network_of(40)
    clients = [host for host in network.living() if not is_server(host.id)]
    counts = {host.id: 0 for host in clients}
    moved = sum(stats(network, host.id).moves for host in clients)
    network.start_member("n40")
    got = []
    for host in network.living():
        host.inbox = lambda sender, payload: got.append((sender, payload[0]))
    for _ in range(200):
        for host in clients:
            for peer in sorted(host.overlay.neighbours()):
                network.send_app(host, peer, (counts[host.id],))
                counts[host.id] += 1
        network.run(0.1)
    network.run(5.0)
    assert stats(network, "n40").clients > 0
    assert sum(stats(network, host.id).moves for host in clients) - moved == stats(network, "n40").clients
    assert network.app_lost == 0
    for host in clients:
        assert sorted(number for sender, number in got if sender == host.id) == list(range(counts[host.id]))


def test_a_full_server_sends_clients_on_and_is_asked_again():
    settings = ClientServerSettings(homes=1, clients_max=8)
    network = network_of(40, settings)  # 10 servers, 30 clients
    network.run(60.0)
    assert all(stats(network, f"n{index}").homes == 1 for index in range(40) if index % 4)
    assert all(stats(network, f"n{index}").clients <= 8 for index in range(0, 40, 4))
    assert sum(stats(network, f"n{index}").refused for index in range(0, 40, 4)) > 0


def test_without_a_server_clients_wait_for_one():
    overlay = overlay_of("n1")
    assert joins(overlay, "n2") == []
    assert overlay.neighbours() == frozenset()
    first, second = joins(overlay, "n4")
    assert first == Connect(S4, claim_of("n4").endpoints)
    assert isinstance(second, OverlaySend)
    assert isinstance(second.message, Attach)
    assert overlay.neighbours() == frozenset()  # until it is let in
    hears(overlay, "n4", Attached(second.message.place))
    assert overlay.neighbours() == {S4}


def attached(overlay, node="n4", now=0.0):
    effects = joins(overlay, node, now)
    place = effects[-1].message.place
    hears(overlay, node, Attached(place), now)
    return place


def test_a_server_that_does_not_answer_is_left_for_another():
    overlay = overlay_of("n1")
    joins(overlay, "n0")
    asked = sent(joins(overlay, "n4"))
    assert asked == []  # one home is wanted, and one is asked
    ((other, message),) = sent(overlay.handle(Tick(), 5.0))
    assert (other, type(message)) == (S4, Attach)
    assert overlay.stats().failed == 1


def test_a_place_that_the_server_gave_up_is_asked_for_again_elsewhere():
    overlay = overlay_of("n1")
    place = attached(overlay)
    joins(overlay, "n0")
    effects = hears(overlay, "n4", Detached(place), 1.0)
    assert overlay.neighbours() == frozenset()
    assert effects[0] == Disconnect(S4, "it let us go")
    assert [peer for peer, _ in sent(effects)] == [S0]


def test_places_are_renewed():
    overlay = overlay_of("n1")
    place = attached(overlay)
    due = overlay.next_deadline()
    assert due is not None
    assert due <= 10.0
    assert sent(overlay.handle(Tick(), 10.0)) == [(S4, Attach(place, claim_of("n1").endpoints))]


def test_a_client_that_is_not_heard_of_is_let_go():
    overlay = overlay_of("n0")
    hears(overlay, "n1", Attach(7, claim_of("n1").endpoints))
    assert overlay.neighbours() == {C1}
    assert overlay.next_deadline() == 30.0
    assert overlay.handle(Tick(), 30.0) == [Disconnect(C1, "not heard of for too long")]
    assert overlay.neighbours() == frozenset()


def test_goodbye_is_confirmed_and_the_link_closed_later():
    overlay = overlay_of("n0")
    hears(overlay, "n1", Attach(7, claim_of("n1").endpoints))
    assert sent(hears(overlay, "n1", Detach(6))) == []  # of an earlier stay
    assert overlay.neighbours() == {C1}
    effects = hears(overlay, "n1", Detach(7))
    assert sent(effects) == [(C1, Detached(7))]
    assert overlay.neighbours() == frozenset()
    assert overlay.handle(Tick(), 2.0) == [Disconnect(C1, "drained for long enough")]
    assert overlay.stats().stale == 1


def test_who_comes_back_while_its_link_drains_keeps_it():
    overlay = overlay_of("n0")
    hears(overlay, "n1", Attach(7, claim_of("n1").endpoints))
    hears(overlay, "n1", Detach(7))
    assert sent(hears(overlay, "n1", Attach(8, claim_of("n1").endpoints))) == [(C1, Attached(8))]
    assert overlay.handle(Tick(), 2.0) == []


def test_an_answer_that_comes_too_late_leaves_nobody_with_half_a_neighbour():
    overlay = overlay_of("n1")
    ((_, asked),) = sent(joins(overlay, "n4"))
    assert isinstance(asked, Attach)
    overlay.handle(Tick(), 5.0)
    assert sent(hears(overlay, "n4", Attached(asked.place), 5.1))[0] == (S4, Detach(asked.place))
    assert S4 not in overlay.neighbours()


def test_a_link_that_is_lost_to_a_client_tells_the_client():
    overlay = overlay_of("n0")
    hears(overlay, "n1", Attach(7, claim_of("n1").endpoints))
    effects = overlay.handle(LinkDown(C1, "closed"), 1.0)
    assert sent(effects) == [(C1, Detached(7))]
    assert effects[-1] == Disconnect(C1, "closed")


def test_clients_refuse_clients():
    overlay = overlay_of("n1")
    endpoints = claim_of("n2").endpoints
    assert hears(overlay, "n2", Attach(3, endpoints)) == [OverlaySend(C2, Refused(3), endpoints)]


def test_a_member_whose_tag_changes_changes_its_part():
    overlay = overlay_of("n0")
    joins(overlay, "n4")
    assert overlay.neighbours() == {S4}
    before = claim_of("n4")
    after = msgspec.structs.replace(before, tags={}, incarnation=(1, 1))
    assert overlay.handle(MemberChanged(S4, before, after, 0.0), 0.0) == [Disconnect(S4, "it has another part now")]
    assert overlay.neighbours() == frozenset()


def test_absurd_endpoints_are_ignored():
    overlay = overlay_of("n0")
    assert hears(overlay, "n1", Attach(1, {str(number): "x" for number in range(17)})) == []
    assert overlay.stats().ignored == 1


@pytest.mark.parametrize("status", [Status.DEAD, Status.LEFT])
def test_who_is_gone_is_asked_again_when_it_comes_back(status):
    overlay = overlay_of("n1")
    attached(overlay)
    gone, back = claim_of("n4", status), claim_of("n4", generation=2)
    overlay.handle(MemberChanged(S4, claim_of("n4"), gone, 1.0), 1.0)
    assert overlay.neighbours() == frozenset()
    ((peer, message),) = sent(overlay.handle(MemberChanged(S4, gone, back, 2.0), 2.0))
    assert (peer, type(message)) == (S4, Attach)
