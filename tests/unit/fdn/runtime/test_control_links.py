import asyncio
import random
from typing import Any, TypeVar

import pytest

from fdn.runtime.control_links import CONTROL_CHANNELS, ControlLinks
from fdn.runtime.facts import Fact, HandshakeRefused, LinkDown, LinkUp, SettingsDiffer
from fdn.runtime.sessions import Session
from fdn.settings import LinkSettings
from tests.unit.fdn.harness import hello, until, virtual
from tests.unit.fdn.runtime.harness import LoggedTransport, Peer, greeter, identity, refused, spin, welcome
from tests.unit.transports.harness import Dialled
from transports.channel import Channel
from transports.errors import EndpointInUse
from transports.memory import MemoryNetwork, MemoryTransport
from transports.transport import ConnectionEvent, EventKind
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity, Refused, RefusedCode, Role

F = TypeVar("F", bound=Fact)
CORE = Envelope(Kind.CORE, "fdn.swim")
COORDINATION, GOSSIP = CONTROL_CHANNELS


class Rig:
    """The links of node `me`, with what they tell, as a `LinksOwner`."""

    def __init__(self, network: MemoryNetwork, **settings: Any) -> None:
        self.network = network
        self.transport = LoggedTransport(network)
        self.facts: list[Fact] = []
        self.met: list[tuple[str, bool]] = []
        self.evidence: list[tuple[str, EventKind]] = []
        self.seeds: list[tuple[str, Identity | Refused | ConnectionEvent]] = []
        self.heard: list[tuple[Session, Envelope]] = []
        self.up: list[tuple[str, Channel]] = []
        self.changes = 0
        self.links = ControlLinks(
            transport=self.transport,
            greeter=greeter(),
            settings=LinkSettings(**settings),
            loop=asyncio.get_running_loop(),
            rng=random.Random(7),
            publish=self.facts.append,
            owner=self,
        )
        self.endpoints = {
            channel: self.links.listen(channel, f"memory://me.{channel.value}") for channel in CONTROL_CHANNELS
        }

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def enter(self, who: Identity, channel: Channel = COORDINATION, **said: Any) -> Dialled:
        """Somebody dials us and says HELLO."""
        transport = MemoryTransport(self.network, asyncio.get_running_loop())
        dialled = await Dialled(transport, self.endpoints[channel], channel).connected()
        dialled.connection.send_exempt(hello(channel, identity=who, **said))
        await dialled.inbox.count(1)
        return dialled

    def on_met(self, identity: Identity, inbound: bool) -> None:
        self.met.append((identity.node, inbound))

    def on_evidence(self, node: str, event: ConnectionEvent) -> None:
        self.evidence.append((node, event.kind))

    def on_seed(self, endpoint: str, outcome: Identity | Refused | ConnectionEvent) -> None:
        self.seeds.append((endpoint, outcome))

    def on_envelope(self, session: Session, envelope: Envelope) -> None:
        self.heard.append((session, envelope))

    def on_link_up(self, node: str, channel: Channel) -> None:
        self.up.append((node, channel))

    def on_links_changed(self) -> None:
        self.changes += 1


class Both:
    """A peer on both channels."""

    def __init__(self, network: MemoryNetwork, name: str = "peer", **options: Any) -> None:
        self.coordination = Peer(network, COORDINATION, name=name, **options)
        self.gossip = Peer(network, GOSSIP, name=name, **options)
        self.node = self.gossip.node
        self.endpoints = self.gossip.who.endpoints

    def crash(self) -> None:
        self.coordination.crash()
        self.gossip.crash()


async def connected(rig: Rig, peer: Both) -> None:
    rig.links.connect(peer.node, peer.endpoints)
    await until(lambda: all(rig.links.is_open(peer.node, channel) for channel in CONTROL_CHANNELS))


# -- members


@virtual
async def test_a_member_has_a_link_on_each_channel():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    assert sorted(rig.up) == [(peer.node, COORDINATION), (peer.node, GOSSIP)]
    assert rig.met == [(peer.node, False)] * 2
    assert {(fact.node, fact.channel, fact.endpoint) for fact in rig.of(LinkUp)} == {
        (peer.node, channel.value, peer.endpoints[channel.value]) for channel in CONTROL_CHANNELS
    }
    assert rig.changes == 2
    assert set(rig.links.link_stats()) == {"peer-id coordination", "peer-id gossip"}


@virtual
async def test_connecting_again_changes_nothing():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    rig.links.connect(peer.node, peer.endpoints)
    await spin()
    assert len(rig.transport.dials) == 2


@virtual
async def test_a_member_that_tells_no_endpoint_of_a_channel():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    rig.links.connect(peer.node, {"coordination": peer.endpoints["coordination"]})
    await until(lambda: rig.links.is_open(peer.node))
    assert not rig.links.is_open(peer.node, GOSSIP)
    assert len(rig.transport.dials) == 1


@virtual
async def test_a_member_that_has_moved():
    network = MemoryNetwork()
    rig, old = Rig(network), Both(network)
    await connected(rig, old)
    new = Both(network, at="elsewhere")
    rig.links.connect(new.node, new.endpoints)
    assert not rig.links.is_open(new.node)
    await until(lambda: rig.links.is_open(new.node) and rig.links.is_open(new.node, GOSSIP))
    assert set(new.endpoints.values()) >= {endpoint for _, endpoint in rig.transport.dials[2:]}
    assert {connection.endpoint for connection in rig.transport.connections} == {
        new.coordination.endpoint,
        new.gossip.endpoint,
    }


@virtual
async def test_wanting_a_member_anew_ends_the_pause():
    network = MemoryNetwork()
    rig, peer = Rig(network, redial_min_s=50.0, redial_max_s=60.0), Both(network)
    peer.crash()
    rig.links.connect(peer.node, peer.endpoints)
    await until(lambda: len(rig.evidence) == 2)
    peer.coordination.listen()
    peer.gossip.listen()
    rig.links.connect(peer.node, peer.endpoints)
    await spin()
    assert all(rig.links.is_open(peer.node, channel) for channel in CONTROL_CHANNELS)


@virtual
async def test_who_is_no_longer_wanted_may_answer_a_dial_and_is_not_kept():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    rig.links.disconnect(peer.node)
    rig.links.dial(peer.coordination.endpoint)
    await until(lambda: rig.links.is_open(peer.node))
    peer.crash()
    await until(lambda: rig.evidence)
    await asyncio.sleep(60)
    assert len(rig.transport.dials) == 3


@virtual
async def test_a_lost_link_is_evidence_and_comes_back():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    assert rig.links.send(peer.node, GOSSIP, CORE)
    await until(lambda: peer.gossip.heard)
    peer.gossip.crash()
    await until(lambda: (peer.node, EventKind.REFUSED) in rig.evidence)  # of the first redial
    assert rig.evidence[0] == (peer.node, EventKind.CLOSED)
    (down,) = rig.of(LinkDown)
    assert (down.node, down.channel, down.reason, down.dropped) == (
        peer.node,
        "gossip",
        "closed: closed by the peer",
        0,
    )
    assert rig.changes == 3
    peer.gossip.listen()
    await until(lambda: rig.links.is_open(peer.node, GOSSIP))
    assert rig.up[2:] == [(peer.node, GOSSIP)]


@virtual
async def test_disconnecting_is_final_and_ends_the_sessions():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    session = await rig.enter(peer.gossip.who)
    changes = rig.changes
    rig.links.disconnect(peer.node, "you are dead")
    assert not rig.links.is_open(peer.node)
    assert rig.changes == changes + 1
    await until(lambda: peer.gossip.heard and peer.coordination.heard)
    assert [envelope.kind for envelope in peer.gossip.heard] == [Kind.BYE]
    await session.inbox.count(2)
    assert session.inbox.envelopes[1].kind == Kind.BYE
    assert rig.links.session_stats().open == 0
    await asyncio.sleep(60)
    assert len(rig.transport.dials) == 2
    assert rig.evidence == []
    rig.links.disconnect("nobody")


# -- single dials


@virtual
async def test_a_seed_that_answers_is_taken_over():
    network = MemoryNetwork()
    rig, seed = Rig(network), Both(network)
    endpoint = seed.coordination.endpoint
    rig.links.dial(endpoint)
    rig.links.dial(endpoint)  # it is under way
    await until(lambda: rig.seeds)
    assert rig.seeds == [(endpoint, seed.coordination.who)]
    assert rig.met == [(seed.node, False)]
    assert rig.links.is_open(seed.node)
    await connected(rig, seed)
    assert len(rig.transport.dials) == 2  # nobody dials twice where a link is
    assert len(rig.of(LinkUp)) == 2
    seed.coordination.crash()
    await until(lambda: (seed.node, EventKind.REFUSED) in rig.evidence)  # it is kept now, and dials again
    assert len(rig.seeds) == 1


@virtual
async def test_a_seed_that_nobody_wants_is_let_go_when_it_is_lost():
    network = MemoryNetwork()
    rig, seed = Rig(network), Both(network)
    rig.links.dial(seed.coordination.endpoint)
    await until(lambda: rig.links.is_open(seed.node))
    seed.crash()
    await until(lambda: rig.evidence)
    await asyncio.sleep(60)
    assert rig.evidence == [(seed.node, EventKind.CLOSED)]
    assert len(rig.transport.dials) == 1


@virtual
async def test_nobody_is_behind_a_seed():
    rig = Rig(MemoryNetwork())
    for count in (1, 2):  # a single attempt, that may be repeated
        rig.links.dial("memory://nowhere")
        await until(lambda count=count: len(rig.seeds) == count)  # type: ignore[misc]
    assert (
        rig.seeds
        == [("memory://nowhere", ConnectionEvent(EventKind.REFUSED, "memory://nowhere", "nobody listens there"))] * 2
    )
    assert rig.evidence == []
    await asyncio.sleep(60)
    assert len(rig.transport.dials) == 2


@virtual
async def test_a_seed_that_refuses():
    network = MemoryNetwork()
    rig = Rig(network)
    seed = Both(network, answer=lambda hello: refused("no", RefusedCode.NAME_TAKEN, retry=True))
    rig.links.dial(seed.coordination.endpoint)
    await until(lambda: rig.seeds)
    assert rig.seeds == [(seed.coordination.endpoint, Refused(RefusedCode.NAME_TAKEN, "no", True))]
    (fact,) = rig.of(HandshakeRefused)
    assert (fact.endpoint, fact.code, fact.inbound) == (seed.coordination.endpoint, RefusedCode.NAME_TAKEN, False)
    await asyncio.sleep(60)
    assert len(rig.transport.dials) == 1


@virtual
async def test_a_seed_that_is_ourselves():
    rig = Rig(MemoryNetwork())
    rig.links.dial(rig.endpoints[COORDINATION])
    await until(lambda: rig.seeds)
    ((_, outcome),) = rig.seeds
    assert isinstance(outcome, Identity)
    assert outcome.node == "me-id"
    assert not rig.links.is_open("me-id")
    assert rig.of(LinkUp) == []
    assert (rig.up, [node for node, inbound in rig.met if not inbound]) == ([], [])
    await until(lambda: rig.links.session_stats().open == 0)  # it has said goodbye to itself


@virtual
async def test_a_seed_that_we_have_a_link_to_is_met_and_no_more():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    by_another_name = Peer(network, COORDINATION, name="peer", at="alias")
    ups, facts, changes = len(rig.up), len(rig.facts), rig.changes
    rig.links.dial(by_another_name.endpoint)
    await until(lambda: rig.seeds)
    await until(lambda: by_another_name.heard)
    assert by_another_name.heard[0].kind == Kind.BYE
    assert len(rig.met) == 3
    assert (len(rig.up), len(rig.facts), rig.changes) == (ups, facts, changes)  # no second link has come up
    assert rig.links.is_open(peer.node)


@virtual
async def test_a_dial_that_succeeds_replaces_a_link_that_does_not():
    network = MemoryNetwork()
    rig, peer = Rig(network, redial_min_s=50.0, redial_max_s=60.0), Both(network)
    peer.crash()
    rig.links.connect(peer.node, peer.endpoints)
    await until(lambda: len(rig.evidence) == 2)
    alias = Peer(network, COORDINATION, name="peer", at="alias")
    rig.links.dial(alias.endpoint)
    await until(lambda: rig.links.is_open(peer.node))
    alias.crash()
    await until(lambda: not rig.links.is_open(peer.node))
    alias.listen()
    await until(lambda: rig.links.is_open(peer.node), timeout_s=120)  # it is a kept one


# -- sending


@virtual
async def test_without_a_way_nothing_is_sent():
    rig = Rig(MemoryNetwork())
    assert not rig.links.send("nobody", GOSSIP, CORE)
    assert rig.links.unsent == 1
    assert rig.transport.dials == []


@virtual
async def test_a_way_is_made_where_one_is_known():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    assert rig.links.send(peer.node, GOSSIP, CORE, peer.gossip.endpoint)
    await until(lambda: peer.gossip.heard)
    assert [(envelope.kind, envelope.to) for envelope in peer.gossip.heard] == [(Kind.CORE, "fdn.swim")]
    peer.crash()
    await until(lambda: rig.evidence)
    await asyncio.sleep(60)
    assert len(rig.transport.dials) == 1  # nobody wants it kept
    assert rig.links.unsent == 0


@virtual
async def test_what_a_full_link_does_not_take_is_lost_and_counted():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)

    class Full:
        full = True

    rig.links._links[peer.node, GOSSIP].connection = Full()  # type: ignore[assignment]
    assert not rig.links.send(peer.node, GOSSIP, CORE)
    assert rig.links.unsent == 1
    assert rig.links.send(peer.node, COORDINATION, CORE)


@virtual
async def test_what_waits_for_a_link_is_bounded_and_counted():
    network = MemoryNetwork()
    rig, peer = Rig(network, pending_messages_max=2), Both(network, answer=lambda hello: None)
    rig.links.connect(peer.node, peer.endpoints)
    assert [rig.links.send(peer.node, GOSSIP, CORE) for _ in range(4)] == [True, True, False, False]
    assert rig.links.unsent == 2


@virtual
async def test_a_stranger_that_refuses_us_is_forgotten():
    network = MemoryNetwork()
    rig = Rig(network)
    for name in ("x1", "x2"):
        stranger = Both(network, name, answer=lambda hello: refused())
        rig.links.send(stranger.node, GOSSIP, CORE, stranger.gossip.endpoint)
    await until(lambda: len(rig.of(HandshakeRefused)) == 2)
    assert rig.links._links == {}


# -- aside


@virtual
async def test_a_node_is_told_aside_where_it_says_that_it_is():
    network = MemoryNetwork()
    rig, there = Rig(network), Both(network, at="there")
    assert rig.links.said_endpoint(there.node, GOSSIP) == ""
    await rig.enter(there.gossip.who)
    said = rig.links.said_endpoint(there.node, GOSSIP)
    assert said == there.gossip.endpoint
    rig.links.connect(there.node, identity("peer", at="elsewhere").endpoints)
    assert rig.links.send_aside(there.node, GOSSIP, CORE, said)
    await until(lambda: there.gossip.heard)
    assert rig.links.send_aside(there.node, GOSSIP, CORE, said)
    await until(lambda: len(there.gossip.heard) == 2)
    assert len(there.gossip.hellos) == 1
    # It is no link of the member: nothing came up, and its end is no evidence.
    assert not rig.links.is_open(there.node, GOSSIP)
    assert (rig.up, rig.of(LinkUp)) == ([], [])
    assert (there.node, False) in rig.met
    evidence = [entry for entry in rig.evidence if entry[1] is EventKind.CLOSED]
    there.crash()
    await until(lambda: rig.links._asides == {})
    assert [entry for entry in rig.evidence if entry[1] is EventKind.CLOSED] == evidence
    assert rig.of(LinkDown) == []


@virtual
async def test_what_is_aside_follows_the_node_and_ends_with_its_links():
    network = MemoryNetwork()
    rig, one, two = Rig(network), Both(network, at="one"), Both(network, at="two")
    rig.links.send_aside(one.node, GOSSIP, CORE, one.gossip.endpoint)
    await until(lambda: one.gossip.heard)
    rig.links.send_aside(one.node, GOSSIP, CORE, two.gossip.endpoint)
    await until(lambda: two.gossip.heard)
    assert len(rig.links._asides) == 1
    rig.links.disconnect(one.node)
    assert rig.links._asides == {}
    rig.links.send_aside(one.node, GOSSIP, CORE, one.gossip.endpoint)
    rig.links.connect(one.node, one.endpoints)
    assert rig.links._asides == {}
    rig.links.send_aside("x-id", GOSSIP, CORE, two.gossip.endpoint)  # another node answers there
    await until(lambda: rig.links._asides == {})
    refusing = Both(network, "strict", answer=lambda hello: refused())
    rig.links.send_aside(refusing.node, GOSSIP, CORE, refusing.gossip.endpoint)
    await until(lambda: rig.of(HandshakeRefused))
    assert rig.links._asides == {}


@virtual
async def test_asides_are_bounded():
    network = MemoryNetwork()
    rig = Rig(network, pending_messages_max=1)
    peers = [Peer(network, GOSSIP, name=f"n{number}", answer=lambda hello: None) for number in range(65)]
    assert [rig.links.send_aside(peer.node, GOSSIP, CORE, peer.endpoint) for peer in peers] == [True] * 64 + [False]
    assert rig.links.unsent == 1
    assert not rig.links.send_aside(peers[0].node, GOSSIP, CORE, peers[0].endpoint)  # it waits, and holds one
    assert rig.links.unsent == 2
    rig.links.close("leaving")
    assert rig.links._asides == {}


# -- sessions


@virtual
async def test_who_says_hello_is_met_and_heard():
    rig = Rig(MemoryNetwork())
    caller = await rig.enter(identity("n1"))
    assert rig.met == [("n1-id", True)]
    caller.connection.send_exempt(CORE)
    await until(lambda: rig.heard)
    ((session, envelope),) = rig.heard
    assert (session.peer, session.channel, envelope.kind) == ("n1-id", COORDINATION, Kind.CORE)
    caller.connection.send_exempt(Envelope(Kind.BYE))
    await until(lambda: rig.links.session_stats().open == 0)
    assert len(rig.heard) == 1


@virtual
async def test_nobody_is_heard_without_a_hello():
    network = MemoryNetwork()
    rig = Rig(network)
    transport = MemoryTransport(network, asyncio.get_running_loop())
    for channel in CONTROL_CHANNELS:
        stranger = await Dialled(transport, rig.endpoints[channel], channel).connected()
        stranger.connection.send_exempt(CORE)
        stranger.connection.send_exempt(Envelope(Kind.CALL, "fdn.ping", 1))
    await until(lambda: rig.links.session_stats().unintroduced == 4)
    assert (rig.heard, rig.met) == ([], [])


@virtual
async def test_nodes_are_answered_on_our_own_link_and_clients_on_theirs():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    node = await rig.enter(peer.coordination.who)
    client = await rig.enter(Identity("client-1"), role=Role.CLIENT)
    for caller in (node, client):
        caller.connection.send_exempt(Envelope(Kind.CALL, "fdn.ping", 3))
    await until(lambda: len(rig.heard) == 2)
    assert rig.met == [(peer.node, True)]  # a client is no member
    for session, _ in rig.heard:
        session.answer(Envelope(Kind.REPLY, id=3))
    await until(lambda: peer.coordination.heard)
    assert [(envelope.kind, envelope.id) for envelope in peer.coordination.heard] == [(Kind.REPLY, 3)]
    await client.inbox.count(2)
    assert client.inbox.envelopes[1].id == 3
    assert len(node.inbox.envelopes) == 1


@virtual
async def test_a_node_without_a_listener_cannot_be_answered():
    rig = Rig(MemoryNetwork())
    node = await rig.enter(Identity("n1-id", "n1"))
    node.connection.send_exempt(Envelope(Kind.CALL, "fdn.ping", 3))
    await until(lambda: rig.heard)
    rig.heard[0][0].answer(Envelope(Kind.REPLY, id=3))
    assert rig.links.unsent == 1


@virtual
async def test_who_shows_that_it_lives_is_dialled_at_once():
    network = MemoryNetwork()
    rig, peer = Rig(network, redial_min_s=50.0, redial_max_s=60.0), Both(network)
    peer.crash()
    rig.links.connect(peer.node, peer.endpoints)
    await until(lambda: len(rig.evidence) == 2)
    peer.coordination.listen()
    await rig.enter(peer.coordination.who)
    await spin()
    assert rig.links.is_open(peer.node)


@virtual
async def test_other_settings_are_reported_and_not_refused():
    network = MemoryNetwork()
    rig = Rig(network)
    others = Both(network, answer=lambda hello: welcome(hello, identity("peer"), fingerprint="9999"))
    await connected(rig, others)
    silent = Both(network, "silent")
    await connected(rig, silent)
    same = Both(network, "same", answer=lambda hello: welcome(hello, identity("same"), fingerprint="0123"))
    await connected(rig, same)
    assert {(fact.node, fact.theirs, fact.ours) for fact in rig.of(SettingsDiffer)} == {("peer-id", "9999", "0123")}


@virtual
async def test_a_hello_that_we_refuse_is_a_fact():
    rig = Rig(MemoryNetwork())
    caller = await rig.enter(identity("n1"), cluster="west")
    assert caller.inbox.envelopes[0].kind == Kind.REFUSED
    (fact,) = rig.of(HandshakeRefused)
    assert (fact.endpoint, fact.code, fact.inbound) == ("n1", RefusedCode.WRONG_CLUSTER, True)
    assert rig.met == []


@virtual
async def test_what_comes_back_on_our_own_links_is_dropped():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    peer.gossip.say(CORE)
    peer.coordination.say(Envelope(Kind.REPLY, id=1))
    await spin()
    assert rig.heard == []
    assert rig.links.is_open(peer.node)


# -- life


@virtual
async def test_ports_can_be_given_free_again():
    rig = Rig(MemoryNetwork())
    assert set(rig.links.listener_stats()) == {"coordination", "gossip"}
    with pytest.raises(EndpointInUse):
        rig.links.listen(COORDINATION, rig.endpoints[COORDINATION])
    rig.links.unlisten()
    assert rig.links.listener_stats() == {}
    rig.links.listen(COORDINATION, rig.endpoints[COORDINATION])


@virtual
async def test_closing_says_goodbye_everywhere():
    network = MemoryNetwork()
    rig, peer = Rig(network), Both(network)
    await connected(rig, peer)
    rig.links.dial("memory://nowhere")
    rig.links.close("leaving")
    await until(lambda: peer.gossip.heard and peer.coordination.heard)
    assert [envelope.kind for envelope in peer.coordination.heard] == [Kind.BYE]
    await asyncio.sleep(60)
    assert rig.seeds == []
    assert rig.links.link_stats() == {}
    rig.links.close("leaving")
