"""Relaying itself: what is passed on, what is taken in, and what is dropped. Whole clusters are in test_relays.py."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fdn.errors import Unreachable
from fdn.runtime.relayed import BACK, DIAL, LOST, relay_envelope
from fdn.runtime.relaying import Relaying
from fdn.settings import RelaySettings
from tests.unit.fdn.harness import body, hello, virtual
from tests.unit.fdn.runtime.harness import spin
from tests.unit.transports.harness import Events, Inbox
from transports.channel import Channel
from transports.limits import Limits
from transports.transport import Batch, EventKind, Listener
from transports.wire.batch import decode_batch, encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Identity, Role

DATA = Channel.DATA


@dataclasses.dataclass
class From:
    """Whose session an envelope came in on."""

    peer: str
    is_client: bool = False
    channel: Channel = DATA


class FakeConnection:
    full = False

    def __init__(self, send: Callable[[Envelope], None]) -> None:
        self.send = send


class FakeLink:
    def __init__(self, send: Callable[[Envelope], None]) -> None:
        self.connection = FakeConnection(send)

    async def wait_open(self) -> FakeConnection:
        return self.connection


class Rig:
    """Relaying of node `b`, on a plane that has open links to a, c and d."""

    def __init__(self, node: str = "b", **settings: Any) -> None:
        self.members = {"a", "b", "c", "d", "e"} - {node}
        self.down: set[str] = set()
        self.sent: list[tuple[str, Envelope]] = []
        self.received: list[tuple[Listener, Batch]] = []
        self.reached: list[tuple[str, tuple[str, ...]]] = []
        self.undeliverable: list[tuple[str, tuple[str, ...]]] = []
        plane: Any = self
        self.relaying = Relaying(
            node=node,
            plane=plane,
            settings=RelaySettings(**settings),
            limits=Limits(),
            loop=asyncio.get_running_loop(),
            first_number=100,
            inbound_max=2,
            on_reached=lambda node, relays: self.reached.append((node, relays)),
            on_undeliverable=lambda node, relays: self.undeliverable.append((node, relays)),
        )

    def direct_link(self, node: str, channel: Channel) -> Any:
        if node in self.down:
            raise Unreachable(f"there is no direct way to node {node}")
        return FakeLink(lambda envelope: self.sent.append((node, envelope)))

    def is_member(self, node: str) -> bool:
        return node in self.members

    def on_relayed_batch(self, channel: Channel, listener: Listener, batch: Batch) -> None:
        self.received.append((listener, batch))

    def hear(self, peer: str, envelope: Envelope, **who: Any) -> None:
        """What a peer says, in the form in which it is received."""
        packed = msgspec.msgpack.encode(envelope)
        fields = msgspec.msgpack.decode(packed, type=tuple[int, str, int, int, dict[int, Any] | None, msgspec.Raw])
        self.relaying.on_relay(From(peer, **who), Envelope(*fields), None)


def dial(
    *envelopes: Envelope, origin: str = "a", dest: str = "c", over: tuple[str, ...] = ("b",), n: int = 1
) -> Envelope:
    return relay_envelope(DIAL, 7, origin, dest, over, n, encode_batch(envelopes or [Envelope(Kind.CAST, "t.x")]))


def greeting(node: str = "a", **said: Any) -> Envelope:
    return hello(DATA, identity=Identity(node, node, (1, 0), {}), **said)


# -- a relay


@virtual
async def test_what_came_along_its_path_is_passed_on_untouched():
    rig = Rig()
    rig.hear("a", dial())
    ((to, onward),) = rig.sent
    assert to == "c"
    assert (onward.kind, onward.to, onward.id) == (Kind.RELAY, DIAL, 7)
    assert onward.meta == {2: "7", 7: "a", 8: "c", 9: 0, 10: 1, 21: ["b"]}
    assert msgspec.msgpack.decode(onward.body) == encode_batch([Envelope(Kind.CAST, "t.x")])
    rig.hear("c", relay_envelope(BACK, 7, "c", "a", ("b",), 1, b"f"))
    assert rig.sent[1][0] == "a"
    assert rig.relaying.stats().relayed == 2


@virtual
async def test_it_goes_from_relay_to_relay():
    rig = Rig()
    rig.hear("d", dial(over=("d", "b")))
    assert rig.sent[0][0] == "c"
    rig.hear("a", dial(over=("b", "d")))
    assert rig.sent[1][0] == "d"


@pytest.mark.parametrize(
    ("peer", "envelope"),
    [
        ("d", dial()),  # not from the node before us on its path
        ("a", dial(over=("d", "b"))),  # the path leads over d first
        ("a", dial(dest="stranger")),
        ("a", dial(over=("b", "stranger"))),
        ("stranger", dial(origin="stranger")),
    ],
)
@virtual
async def test_nothing_is_relayed_that_is_not_between_members_along_its_path(peer: str, envelope: Envelope):
    rig = Rig()
    rig.hear(peer, envelope)
    assert rig.sent == []
    assert (rig.relaying.stats().unrelayed, rig.relaying.stats().relayed) == (1, 0)


def changed(key: MetaKey, value: object) -> Envelope:
    envelope = dial()
    envelope.meta = {**(envelope.meta or {}), int(key): value}
    return envelope


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(Kind.RELAY),
        dial(over=()),
        dial(over=("b", "b")),
        dial(over=("b", "a")),  # back to its origin
        dial(over=("b", "c")),
        dial(over=("d",)),  # not over us
        dial(over=("b", "d", "e", "f", "g", "h")),
        dial(dest="a"),
        changed(MetaKey.ORIGIN, 7),
        changed(MetaKey.PATH, "b"),
        changed(MetaKey.PATH, [7]),
        changed(MetaKey.TTL, None),
        changed(MetaKey.SEQUENCE, "1"),
        relay_envelope("shout", 7, "a", "c", ("b",), 1, b"f"),
    ],
)
@virtual
async def test_what_is_no_path_is_counted_and_dropped(envelope: Envelope):
    rig = Rig()
    rig.hear("a", envelope)
    assert (rig.sent, rig.relaying.stats().malformed) == ([], 1)


@virtual
async def test_a_client_may_not_have_anything_relayed():
    rig = Rig()
    rig.hear("a", dial(), is_client=True)
    assert (rig.sent, rig.relaying.stats().malformed) == ([], 1)


def reason_of(envelope: Envelope) -> str:
    assert (envelope.kind, envelope.to, envelope.id) == (Kind.RELAY, LOST, 7)
    return str(msgspec.msgpack.decode(envelope.body))


@virtual
async def test_what_cannot_be_passed_on_is_told_to_its_origin():
    rig = Rig()
    rig.down.add("c")
    rig.hear("a", dial())
    ((to, lost),) = rig.sent
    assert to == "a"
    assert reason_of(lost) == "relay b: there is no direct way to node c"
    rig.hear("d", dial(over=("d", "b")))
    to, lost = rig.sent[1]
    assert to == "d"  # back the way that it came
    assert (lost.meta or {})[MetaKey.PATH] == ("d",)
    rig.hear("c", relay_envelope(BACK, 7, "c", "a", ("b",), 1, b"f"))
    rig.down.add("a")
    rig.hear("c", relay_envelope(BACK, 7, "c", "a", ("b",), 1, b"f"))  # the way back: nobody is told
    assert len(rig.sent) == 3
    assert rig.relaying.stats().unrelayed == 3


@virtual
async def test_its_ttl_ends_it_and_a_node_may_decline():
    rig = Rig()
    rig.hear("a", changed(MetaKey.TTL, 0))
    assert reason_of(rig.sent[0][1]) == "relay b: it relays no more of this"
    declining = Rig(enabled=False)
    declining.hear("a", dial())
    assert reason_of(declining.sent[0][1]) == "relay b: it does not relay (relay.enabled)"


# -- the end of a path


@virtual
async def test_a_session_begins_with_the_hello_of_its_origin():
    rig = Rig("c")
    rig.hear("b", dial(greeting()))
    rig.hear("b", dial(Envelope(Kind.CAST, "t.x"), n=2))
    assert [batch.envelopes[0].kind for _, batch in rig.received] == [Kind.HELLO, Kind.CAST]
    assert rig.reached == [("a", ("b",))]
    assert rig.relaying.stats().inbound == 1
    (listener, batch), _ = rig.received
    assert listener.send(batch.source, Envelope(Kind.WELCOME))
    ((to, back),) = rig.sent
    assert to == "b"
    assert (back.to, back.id, back.meta) == (BACK, 7, {2: "7", 7: "c", 8: "a", 9: 1, 10: 1, 21: ("b",)})
    assert decode_batch(back.body)[0][0].kind == Kind.WELCOME
    assert not listener.send(b"nobody", Envelope(Kind.WELCOME))


@pytest.mark.parametrize("first", [greeting("d"), greeting(role=Role.CLIENT), Envelope(Kind.HELLO, body=body(7))])
@virtual
async def test_nobody_greets_in_anothers_name(first: Envelope):
    rig = Rig("c")
    rig.hear("b", dial(first))
    assert (rig.received, rig.relaying.stats().inbound, rig.relaying.stats().malformed) == ([], 0, 1)


@virtual
async def test_behind_a_frame_that_was_lost_nothing_is_taken():
    rig = Rig("c")
    rig.hear("b", dial(greeting()))
    rig.hear("b", dial(n=3))
    assert len(rig.received) == 1
    assert reason_of(rig.sent[0][1]) == "node c: a frame was lost on the way"
    rig.hear("b", dial(n=4))
    assert len(rig.received) == 1
    assert rig.relaying.stats().inbound == 0
    listener, batch = rig.received[0]
    assert not listener.send(batch.source, Envelope(Kind.BYE))


@virtual
async def test_the_connections_of_others_are_bounded_and_go_with_their_origin():
    rig = Rig("c")
    for origin in ("a", "d", "e"):
        rig.hear("b", dial(greeting(origin), origin=origin))
    assert rig.relaying.stats().inbound == 2
    rig.hear("b", dial(n=2))  # of the first, which is gone
    assert reason_of(rig.sent[0][1]).endswith("lost on the way")
    rig.relaying.on_gone("d")
    assert rig.relaying.stats().inbound == 1


@virtual
async def test_garbage_in_a_frame_is_dropped():
    rig = Rig("c")
    rig.hear("b", dial(greeting()))
    rig.hear("b", relay_envelope(DIAL, 7, "a", "c", ("b",), 2, None))
    rig.hear("b", relay_envelope(DIAL, 7, "a", "c", ("b",), 3, b"\x01\xc1"))
    rig.hear("b", dial(n=4))
    assert len(rig.received) == 2
    assert rig.relaying.stats().malformed == 1


# -- our own connections


class Dialled:
    def __init__(self, rig: Rig, relays: tuple[str, ...] = ("b",)) -> None:
        self.rig = rig
        self.inbox, self.events = Inbox(), Events()
        transport = rig.relaying.transport("c", relays)
        self.connection = transport.dial(DATA, "memory://c.data", self.inbox, self.events)
        self.number = self.connection.number


@virtual
async def test_our_connection_hears_the_listener_and_nobody_else():
    rig = Rig("a")
    dialled = Dialled(rig)
    await spin()
    frame = encode_batch([Envelope(Kind.WELCOME)])
    for peer, envelope in (
        ("d", relay_envelope(BACK, dialled.number, "c", "a", ("d",), 1, frame)),  # over another relay
        ("b", relay_envelope(BACK, dialled.number, "d", "a", ("b",), 1, frame)),  # of another node
        ("b", relay_envelope(BACK, 999, "c", "a", ("b",), 1, frame)),  # of no connection
        ("b", relay_envelope(BACK, dialled.number, "c", "a", ("b",), 1, None)),
        ("b", relay_envelope(LOST, dialled.number, "d", "a", ("b",), 0, msgspec.Raw(b"\xa1x"))),  # d is not on the path
        ("b", relay_envelope(LOST, dialled.number, "c", "a", ("b",), 0, None)),
    ):
        rig.hear(peer, envelope)
    await spin()
    assert dialled.inbox.entries == []
    assert dialled.events.kinds == [EventKind.CONNECTED]
    rig.hear("b", relay_envelope(BACK, dialled.number, "c", "a", ("b",), 1, frame))
    assert [envelope.kind for envelope in dialled.inbox.envelopes] == [Kind.WELCOME]


@virtual
async def test_our_connection_ends_when_a_relay_says_that_something_is_lost():
    rig = Rig("a")
    dialled = Dialled(rig, ("b", "d"))
    await spin()
    rig.hear("b", relay_envelope(LOST, dialled.number, "d", "a", ("b",), 0, msgspec.Raw(body("no way"))))
    await spin()
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]
    assert dialled.events.entries[-1].detail == "no way"
    assert rig.undeliverable == [("c", ("b", "d"))]
    assert (rig.relaying.stats().connections, rig.relaying.stats().lost) == (0, 1)


@pytest.mark.parametrize(
    "end", [lambda r: r.on_hop_lost("b", DATA), lambda r: r.on_gone("b"), lambda r: r.on_gone("c")]
)
@virtual
async def test_our_connection_ends_with_its_relay_and_its_target(end: Callable[[Relaying], None]):
    rig = Rig("a")
    dialled = Dialled(rig)
    await spin()
    rig.relaying.on_hop_lost("b", Channel.EVENTS)  # another channel
    rig.relaying.on_hop_lost("d", DATA)  # another relay
    assert rig.relaying.stats().connections == 1
    end(rig.relaying)
    await spin()
    assert dialled.events.kinds[-1] is EventKind.CLOSED
    assert rig.undeliverable == [("c", ("b",))]
    rig.relaying.close()
