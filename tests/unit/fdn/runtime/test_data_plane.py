import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from fdn.errors import Unreachable
from fdn.runtime.data_plane import DATA_CHANNELS, DataPlane, NoTicket, Origin, Ticket
from fdn.runtime.facts import Fact, HandshakeRefused, LinkDown, LinkUp
from fdn.runtime.link import LinkState
from fdn.runtime.view import Member, View
from fdn.settings import DataSettings, LinkSettings, Settings
from tests.unit.fdn.harness import body, hello, until, virtual
from tests.unit.fdn.runtime.harness import GARBAGE, LoggedTransport, Peer, greeter, identity, refused, said, spin
from tests.unit.transports.harness import Dialled
from transports.channel import Channel
from transports.memory import MemoryNetwork, MemoryTransport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Identity, Role, Welcome

F = TypeVar("F", bound=Fact)
DATA, EVENTS = DATA_CHANNELS
NEVER = 86400.0


class Rig:
    """The data plane of node `me`, with what it tells."""

    def __init__(self, network: MemoryNetwork, data: dict[str, Any] | None = None, **links: Any) -> None:
        self.network = network
        self.transport = LoggedTransport(network)
        self.facts: list[Fact] = []
        self.handled: list[tuple[Origin, Envelope, Ticket]] = []
        self.told: list[tuple[str, ...]] = []
        settings = Settings(data=DataSettings(**data or {}), links=LinkSettings(**links))
        self.plane = DataPlane(
            transport=self.transport,
            greeter=greeter(credit=(settings.data.credit_messages, settings.data.credit_bytes)),
            settings=settings,
            loop=asyncio.get_running_loop(),
            rng=random.Random(7),
            publish=self.facts.append,
        )
        self.plane.handlers[Kind.CALL] = self.plane.handlers[Kind.REPLY] = self._handle
        self.plane.on_peer_lost = lambda node, reason: self.told.append(("peer lost", node, reason))
        self.plane.on_caller_gone = lambda node: self.told.append(("caller gone", node))
        self.plane.on_client_session_closed = lambda session: self.told.append(("its session closed", session.peer))
        self.endpoints = {channel: self.plane.listen(channel, f"memory://me.{channel}") for channel in DATA_CHANNELS}
        self.plane.start()

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def show(self, *members: Member) -> None:
        """A new view, that holds these."""
        self.plane.on_view(View({member.node: member for member in members}, {}))

    async def enter(self, who: Identity, channel: Channel = DATA, **said: Any) -> Dialled:
        transport = MemoryTransport(self.network, asyncio.get_running_loop())
        dialled = await Dialled(transport, self.endpoints[channel], channel).connected()
        dialled.connection.send_exempt(hello(channel, identity=who, **said))
        await dialled.inbox.count(1)
        return dialled

    async def asked_by(self, who: Identity, **said: Any) -> Origin:
        """Somebody calls; returns how to answer."""
        dialled = await self.enter(who, **said)
        before = len(self.handled)
        dialled.connection.send(call(1))
        await until(lambda: len(self.handled) > before)
        return self.handled[-1][0]

    def _handle(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        if envelope.id == 666:
            raise ZeroDivisionError
        self.handled.append((origin, envelope, ticket))


def call(number: int) -> Envelope:
    return Envelope(Kind.CALL, "math.add", number, body=body(number))


def member(who: Identity, status: str = "alive", **fields: Any) -> Member:
    fields.setdefault("endpoints", who.endpoints)
    return Member(
        node=who.node, name=who.name, status=status, incarnation=who.incarnation, tags={}, reason="why", **fields
    )


# -- links


@virtual
async def test_a_link_to_a_member_is_made_once_and_opened_on_first_use():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    rig.show(member(peer.who))
    link = rig.plane.link(peer.node, DATA)
    assert rig.plane.link(peer.node, DATA) is link
    assert rig.plane.link(peer.node, EVENTS) is not link
    assert (link.kept, link.endpoint, rig.transport.dials) == (False, peer.endpoint, [])
    connection = await link.wait_open()
    connection.send(call(1))
    await until(lambda: peer.heard)
    assert [(fact.node, fact.channel) for fact in rig.of(LinkUp)] == [(peer.node, "data")]
    assert set(rig.plane.stats().links) == {f"{peer.node} data"}


@virtual
async def test_there_is_no_way_to_strangers_nor_where_none_is_told():
    rig = Rig(MemoryNetwork())
    rig.show(member(identity("deaf", EVENTS)))
    for node in ("stranger-id", "deaf-id"):
        with pytest.raises(Unreachable, match=f"no way to node {node} on the data channel: it is no member"):
            rig.plane.link(node, DATA)
    await rig.plane.close()
    with pytest.raises(Unreachable, match="this node is stopping"):
        rig.plane.link("deaf-id", EVENTS)


@pytest.mark.parametrize("channel", DATA_CHANNELS)
def test_calls_fail_when_an_open_link_is_lost(channel: Channel):
    @virtual
    async def scenario() -> None:
        network = MemoryNetwork()
        rig, peer = Rig(network), Peer(network, channel)
        rig.show(member(peer.who))
        await rig.plane.link(peer.node, channel).wait_open()
        peer.crash()
        await until(lambda: rig.of(LinkDown))
        (down,) = rig.of(LinkDown)
        assert (down.node, down.channel, down.reason) == (peer.node, channel.value, "closed: closed by the peer")
        lost = ("peer lost", peer.node, "the data link to it was lost (closed: closed by the peer)")
        assert rig.told == ([lost] if channel is DATA else [])

    scenario()


@virtual
async def test_nobody_listens_any_more_or_nobody_answers():
    network = MemoryNetwork()
    rig, mute = Rig(network, handshake_timeout_s=1.0), Peer(network, name="mute", answer=lambda hello: None)
    gone = identity("gone")
    rig.show(member(gone), member(mute.who))
    for node in (gone.node, mute.node):
        with pytest.raises(Unreachable):
            await rig.plane.link(node, DATA).wait_open()
    # That nobody answers is no proof that calls sent before have not been carried out.
    assert rig.told == [
        ("peer lost", gone.node, "the data link to it was lost (refused: nobody listens there)"),
    ]


@virtual
async def test_a_refusal_is_a_fact():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network, answer=lambda hello: refused("no"))
    rig.show(member(peer.who))
    with pytest.raises(Unreachable, match="refused: no"):
        await rig.plane.link(peer.node, DATA).wait_open()
    (fact,) = rig.of(HandshakeRefused)
    assert (fact.endpoint, fact.reason, fact.inbound) == (peer.endpoint, "no", False)
    await rig.enter(identity("n1"), cluster="west")
    assert [fact.inbound for fact in rig.of(HandshakeRefused)] == [False, True]


@virtual
async def test_idle_links_are_closed_and_used_ones_stay():
    network = MemoryNetwork()
    rig = Rig(network, idle_close_s=10.0)
    idle, used = Peer(network, name="idle"), Peer(network, name="used")
    rig.show(member(idle.who), member(used.who))
    await rig.plane.link(idle.node, DATA).wait_open()
    connection = await rig.plane.link(used.node, DATA).wait_open()
    for number in range(10):
        connection.send(call(number))
        await asyncio.sleep(4)
    assert rig.plane.link(idle.node, DATA).state is LinkState.IDLE
    assert said(idle.heard[0], Bye) == Bye("idle")
    assert rig.plane.link(used.node, DATA).connection is connection
    await rig.plane.link(idle.node, DATA).wait_open()  # and back again
    assert rig.told == []


@virtual
async def test_a_link_that_waits_for_credit_is_not_idle():
    network = MemoryNetwork()
    rig, peer = Rig(network, idle_close_s=10.0), Peer(network)
    peer.answer = lambda hello: Envelope(
        Kind.WELCOME, body=body(Welcome(1, "fdn", peer.who, hello.epoch, credit=(1, 1000)))
    )
    rig.show(member(peer.who))
    connection = await rig.plane.link(peer.node, DATA).wait_open()
    for number in range(3):
        connection.send(call(number))
        await spin()
    await asyncio.sleep(60)
    assert rig.plane.link(peer.node, DATA).connection is connection


@virtual
async def test_links_made_to_answer_strangers_are_not_kept_for_ever():
    network = MemoryNetwork()
    rig = Rig(network, idle_close_s=10.0)
    for number in range(3):
        origin = await rig.asked_by(identity(f"stranger{number}"))
        origin.answer(Envelope(Kind.REPLY, id=1))
    peer = Peer(network)
    (await rig.asked_by(peer.who)).answer(Envelope(Kind.REPLY, id=1))
    await asyncio.sleep(60)
    assert rig.plane._links == {}
    assert rig.plane._sent_before == {}


# -- views


@pytest.mark.parametrize("status", ["dead", "left"])
def test_a_member_that_is_gone(status: str):
    @virtual
    async def scenario() -> None:
        network = MemoryNetwork()
        rig, peer = Rig(network), Peer(network)
        rig.show(member(peer.who))
        link = rig.plane.link(peer.node, DATA)
        await link.wait_open()
        caller = await rig.enter(peer.who)
        rig.show(member(peer.who, status))
        assert link.state is LinkState.CLOSED
        if status == "left":  # its last answers may be on their way, too
            assert rig.told == [("caller gone", peer.node)]
            await asyncio.sleep(1.0)
        assert rig.told == [("caller gone", peer.node), ("peer lost", peer.node, f"peer is {status}: why")]
        if status == "dead":
            await caller.inbox.count(2)
            assert caller.inbox.envelopes[1].kind == Kind.BYE
        else:  # what it sent before it left may still be on its way, and its own goodbye behind that
            assert rig.plane.stats().sessions.open == 1
        rig.show(member(peer.who, status))
        assert len(rig.told) == 2  # once
        rig.show(member(peer.who))
        assert rig.plane.link(peer.node, DATA) is not link

    scenario()


@virtual
async def test_members_that_come_stay_or_are_suspected_are_no_news():
    rig, who = Rig(MemoryNetwork()), identity("n1")
    for status in ("alive", "suspect", "alive"):
        rig.show(member(who, status))
    assert rig.told == []


@virtual
async def test_members_that_were_dead_when_we_came():
    rig = Rig(MemoryNetwork())
    rig.show(member(identity("n1"), "dead"))
    assert rig.told == [("caller gone", "n1-id"), ("peer lost", "n1-id", "n1 is dead: why")]


@virtual
async def test_a_member_that_has_moved_or_is_forgotten():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    rig.show(member(peer.who))
    former = rig.plane.link(peer.node, DATA)
    rig.show(member(identity("peer", at="elsewhere", generation=2)))
    assert rig.told == [("caller gone", peer.node), ("peer lost", peer.node, "peer has moved")]
    assert former.state is LinkState.CLOSED
    assert rig.plane.link(peer.node, DATA).endpoint == "memory://elsewhere.data"
    rig.show()
    assert rig.told[2:] == [("caller gone", peer.node), ("peer lost", peer.node, "it is forgotten")]


# -- what comes in


@virtual
async def test_envelopes_go_to_whoever_registered_for_their_kind():
    rig = Rig(MemoryNetwork())
    dialled = await rig.enter(identity("n1"))
    dialled.connection.send(call(7))
    await until(lambda: rig.handled)
    ((origin, envelope, _),) = rig.handled
    assert (origin.peer, origin.is_client, envelope.id, said(envelope)) == ("n1-id", False, 7, 7)
    dialled.connection.send(Envelope(99))
    dialled.connection.send(Envelope(200))
    await until(lambda: rig.plane.stats().unknown_kinds == 2)


@virtual
async def test_nothing_is_handled_before_a_hello():
    network = MemoryNetwork()
    rig = Rig(network)
    transport = MemoryTransport(network, asyncio.get_running_loop())
    for channel in DATA_CHANNELS:
        stranger = await Dialled(transport, rig.endpoints[channel], channel).connected()
        stranger.connection.send(call(1))
        stranger.connection.send_exempt(Envelope(Kind.REPLY, id=1))
    await until(lambda: rig.plane.stats().sessions.unintroduced == 4)
    assert rig.handled == []


@virtual
async def test_a_fault_of_ours_costs_one_message(caplog: pytest.LogCaptureFixture):
    rig = Rig(MemoryNetwork())
    dialled = await rig.enter(identity("n1"))
    for number in (1, 666, 2):
        dialled.connection.send(call(number))
    await until(lambda: len(rig.handled) == 2)
    assert [envelope.id for _, envelope, _ in rig.handled] == [1, 2]
    assert rig.plane.stats().handler_faults == 1
    assert "handling an envelope of kind 5 failed" in caplog.text


@virtual
async def test_a_goodbye_ends_the_session():
    rig = Rig(MemoryNetwork())
    node, client = await rig.enter(identity("n1")), await rig.enter(Identity("client-1"), role=Role.CLIENT)
    for dialled in (node, client):
        dialled.connection.send_exempt(Envelope(Kind.BYE))
    await until(lambda: rig.plane.stats().sessions.open == 0)
    # A node's end shows in the view.
    assert rig.told == [("its session closed", "client-1")]
    assert rig.plane.stats().unknown_kinds == 0


@virtual
async def test_what_comes_back_on_our_own_link_is_dropped():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    rig.show(member(peer.who))
    await rig.plane.link(peer.node, DATA).wait_open()
    peer.say(Envelope(Kind.REPLY, id=1))
    await until(lambda: rig.plane.stats().unknown_kinds == 1)
    assert rig.handled == []


# -- credit


async def credits_of(rig: Rig, sent: int, take: Callable[[list[Ticket]], None]) -> list[Any]:
    """What a caller is granted after it has sent so many calls in one batch."""
    peer = Peer(rig.network)
    dialled = await rig.enter(peer.who, epoch=77)
    connection = dialled.connection
    connection.grant(*said(dialled.inbox.envelopes[0], Welcome).credit)
    connection.send(call(0))  # alone; the others leave together
    for number in range(1, sent):
        connection.send(call(number))
    await until(lambda: len(rig.handled) == sent)
    take([ticket for _, _, ticket in rig.handled])
    await asyncio.sleep(1)
    return [said(envelope) for envelope in peer.heard if envelope.kind == Kind.CREDIT]


@virtual
async def test_what_is_handled_at_once_is_granted_anew():
    rig = Rig(MemoryNetwork(), {"credit_messages": 16})
    ((epoch, messages, size),) = await credits_of(rig, 9, lambda tickets: None)
    assert (epoch, messages) == (77, 25)
    assert size > 8 * 1024 * 1024


@virtual
async def test_below_half_a_window_nothing_is_granted():
    rig = Rig(MemoryNetwork(), {"credit_messages": 16})
    assert await credits_of(rig, 7, lambda tickets: None) == []


@virtual
async def test_a_batch_is_granted_anew_when_the_last_of_it_is_taken_up():
    rig = Rig(MemoryNetwork(), {"credit_messages": 16})

    def hold(origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        ticket.held += 1
        rig.handled.append((origin, envelope, ticket))

    rig.plane.handlers[Kind.CALL] = hold
    grants: list[Any] = []

    def take(tickets: list[Ticket]) -> None:
        for ticket in tickets[:-1]:
            ticket.release()
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, lambda: grants.append(rig.plane.stats().links))  # before the last, nothing was answered
        loop.call_later(0.6, tickets[-1].release)

    ((_, messages, _),) = await credits_of(rig, 12, take)
    assert messages == 28
    assert grants == [{}]


@virtual
async def test_replies_need_no_credit():
    rig = Rig(MemoryNetwork(), {"credit_messages": 16})
    peer = Peer(rig.network)
    dialled = await rig.enter(peer.who)
    for number in range(100):
        dialled.connection.send_exempt(Envelope(Kind.REPLY, id=number))
    await until(lambda: len(rig.handled) == 100)
    assert all(isinstance(ticket, NoTicket) for _, _, ticket in rig.handled)
    ticket = rig.handled[0][2]
    ticket.release()
    await asyncio.sleep(1)
    assert peer.heard == []


@virtual
async def test_credit_opens_the_link_that_it_means():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    peer.answer = lambda hello: Envelope(
        Kind.WELCOME, body=body(Welcome(1, "fdn", peer.who, hello.epoch, credit=(1, 1 << 20)))
    )
    rig.show(member(peer.who))
    link = rig.plane.link(peer.node, DATA)
    connection = await link.wait_open()
    for number in range(4):
        connection.send(call(number))
        await spin()
    receiver, other = await rig.enter(peer.who), await rig.enter(identity("other"))
    client = await rig.enter(Identity(peer.node), role=Role.CLIENT)
    for said_by, epoch in ((receiver, link.epoch + 1), (other, link.epoch), (client, link.epoch)):
        said_by.connection.send_exempt(Envelope(Kind.CREDIT, body=body((epoch, 100, 1 << 30))))
    await asyncio.sleep(1)
    calls = lambda: [envelope.id for envelope in peer.heard if envelope.kind == Kind.CALL]  # noqa: E731
    assert calls() == [0]
    receiver.connection.send_exempt(Envelope(Kind.CREDIT, body=body((link.epoch, 3, 1 << 20))))
    await until(lambda: len(calls()) > 1)
    await asyncio.sleep(1)
    assert calls()[:3] == [0, 1, 2]
    assert rig.plane.stats().malformed == 0


@pytest.mark.parametrize("content", [None, [], [1, 2], [1, "2", 3], {"a": 1}, "x", [1.5, 2, 3]], ids=repr)
def test_credit_that_cannot_be_read(content: Any):
    @virtual
    async def scenario() -> None:
        rig = Rig(MemoryNetwork())
        dialled = await rig.enter(identity("n1"))
        dialled.connection.send_exempt(Envelope(Kind.CREDIT, body=body(content)))
        await until(lambda: rig.plane.stats().malformed == 1)
        assert rig.plane.stats().handler_faults == 0

    scenario()


def test_a_garbled_credit_past_the_transport():
    @virtual
    async def scenario() -> None:
        rig = Rig(MemoryNetwork())
        origin = await rig.asked_by(identity("n1"))
        rig.plane._on_credit(origin, Envelope(Kind.CREDIT, body=GARBAGE), NoTicket())
        assert rig.plane.stats().malformed == 1

    scenario()


# -- answers


@virtual
async def test_a_node_is_answered_on_our_own_link():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    origin = await rig.asked_by(peer.who)
    origin.answer(Envelope(Kind.REPLY, id=1))
    origin.answer(Envelope(Kind.REPLY, id=2))
    await until(lambda: len(peer.heard) == 2)
    origin.answer(Envelope(Kind.REPLY, id=3))
    await until(lambda: len(peer.heard) == 3)
    assert [envelope.id for envelope in peer.heard] == [1, 2, 3]
    assert len(rig.transport.dials) == 1


@virtual
async def test_a_client_is_answered_where_it_asked():
    rig = Rig(MemoryNetwork())
    client = await rig.enter(Identity("client-1"), role=Role.CLIENT)
    client.connection.send(call(1))
    await until(lambda: rig.handled)
    rig.handled[0][0].answer(Envelope(Kind.REPLY, id=1))
    await client.inbox.count(2)
    assert client.inbox.envelopes[1].kind == Kind.REPLY
    assert rig.transport.dials == []


@virtual
async def test_whoever_borrows_an_identity_is_not_sent_its_answers():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    thief = Peer(network, name="peer", at="thief")
    rig.show(member(peer.who))
    origin = await rig.asked_by(thief.who)
    origin.answer(Envelope(Kind.REPLY, id=1))
    await until(lambda: peer.heard)
    assert (thief.hellos, thief.heard) == ([], [])


@virtual
async def test_a_newer_life_knows_better_where_it_listens():
    network = MemoryNetwork()
    rig, reborn = Rig(network), Peer(network, at="elsewhere")
    rig.show(member(identity("peer")))
    origin = await rig.asked_by(identity("peer", at="elsewhere", generation=2))
    origin.answer(Envelope(Kind.REPLY, id=1))
    await until(lambda: reborn.heard)


@virtual
async def test_answers_that_find_no_way_are_counted():
    network = MemoryNetwork()
    rig, mute = Rig(network, pending_messages_max=2), Peer(network, name="mute", answer=lambda hello: None)
    unheard = await rig.asked_by(Identity("bare-id", "bare"))
    unheard.answer(Envelope(Kind.REPLY, id=1))
    assert rig.plane.stats().unanswerable == 1
    waiting = await rig.asked_by(mute.who)
    for number in range(5):
        waiting.answer(Envelope(Kind.REPLY, id=number))
    assert rig.plane.stats().unanswerable == 4
    late = await rig.asked_by(identity("late"))
    await rig.plane.close()
    late.answer(Envelope(Kind.REPLY, id=1))
    assert rig.plane.stats().unanswerable == 5


# -- life


@virtual
async def test_closing_says_goodbye_to_nodes_and_clients():
    network = MemoryNetwork()
    rig, peer = Rig(network), Peer(network)
    rig.show(member(peer.who))
    await rig.plane.link(peer.node, DATA).wait_open()
    client = await rig.enter(Identity("client-1"), role=Role.CLIENT)
    await rig.plane.close()
    await until(lambda: peer.heard)
    assert said(peer.heard[0], Bye) == Bye("stopping")
    await client.inbox.count(2)
    assert said(client.inbox.envelopes[1], Bye) == Bye("stopping")
    assert rig.transport._closed
    assert (rig.plane._links, rig.plane._sweep) == ({}, None)
    await rig.plane.close()
    rig.show()


@virtual
async def test_ports_can_be_given_free_again():
    rig = Rig(MemoryNetwork())
    assert set(rig.plane.stats().listeners) == {"data", "events"}
    rig.plane.unlisten()
    assert rig.plane.stats().listeners == {}
    for channel in DATA_CHANNELS:
        assert rig.plane.listen(channel, rig.endpoints[channel]) == rig.endpoints[channel]


# -- what was long on its way


@virtual
async def test_what_was_so_long_on_its_way_that_nobody_waits_any_more_is_dropped_and_counted():
    network = MemoryNetwork()
    rig = Rig(network)
    caller = await rig.enter(identity("caller"))
    clock = Envelope(Kind.SENT, "", 7_000_000)
    loop = asyncio.get_running_loop()

    def calls(sent_ago_s: float, *left_ms: int) -> None:
        """What left so long ago, each with so much time."""
        caller.connection.send(Envelope(Kind.SENT, "", clock.id + int(1000 * (loop.time() - begin - sent_ago_s))))
        for number, left in enumerate(left_ms, 1):
            caller.connection.send(Envelope(Kind.CALL, "math.add", number, left, None, body(number)))

    begin = loop.time()
    calls(0.0, 1000, 10)
    await until(lambda: len(rig.handled) == 2)
    assert [envelope.deadline_ms for _, envelope, _ in rig.handled] == [1000, 10]
    await asyncio.sleep(5.0)
    calls(0.5, 1000, 400, 501, 0)
    await until(lambda: len(rig.handled) == 4)
    (_, first, _), (_, last, _) = rig.handled[2:]
    assert (first.id, round(first.deadline_ms, -1)) == (1, 500), "the age is taken off"
    assert (last.id, last.deadline_ms) == (4, 0), "what has no deadline has time"
    assert rig.plane.stats().expired == 2
    await asyncio.sleep(1.0)
    calls(0.0, 100)
    await until(lambda: len(rig.handled) == 5)
    assert rig.handled[4][1].deadline_ms == 100, "the queue is gone"
    await rig.plane.close()
