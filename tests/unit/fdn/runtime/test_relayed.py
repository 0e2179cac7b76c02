import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fdn.errors import BadRequest, Unreachable
from fdn.runtime.relayed import (
    BACK,
    DIAL,
    RelayConnection,
    RelayedListener,
    RelayTransport,
    frame_of,
    relay_envelope,
    whole_body,
)
from tests.unit.fdn.harness import virtual
from tests.unit.fdn.runtime.harness import spin
from tests.unit.transports.harness import Events, Inbox
from transports.channel import Channel
from transports.limits import Limits
from transports.parcel import Parcel
from transports.transport import EventKind
from transports.wire.batch import decode_batch, encode_batch
from transports.wire.envelope import Envelope, Kind


class FakeHop:
    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.has_room = True
        self.waiting: list[Callable[[], None]] = []
        self.refuse = ""

    def send(self, envelope: Envelope, origin: str, on_unsent: Callable[[str], None]) -> None:
        if self.refuse:
            on_unsent(self.refuse)
        else:
            self.sent.append(envelope)

    def when_room(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)


class FakeWays:
    """Relaying of node `a`, as far as its connections see it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.node = "a"
        self.loop = asyncio.get_running_loop()
        self.limits = limits or Limits()
        self.fake = FakeHop()
        self.open: list[RelayConnection] = []
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.failure: Unreachable | None = None

    def hop(self, node: str, channel: Channel) -> Any:
        assert (node, channel) == ("b", Channel.DATA)
        return self.fake

    def opened(self, connection: RelayConnection) -> int:
        self.open.append(connection)
        return 7

    def over(self, connection: RelayConnection) -> None:
        self.open.remove(connection)

    async def wait_open(self, node: str, channel: Channel) -> None:
        await self.reachable.wait()
        if self.failure is not None:
            raise self.failure


class Dialled:
    def __init__(self, ways: FakeWays, relays: tuple[str, ...] = ("b", "c")) -> None:
        self.ways = ways
        self.inbox, self.events = Inbox(), Events()
        transport = RelayTransport(ways, "d", relays)
        self.connection = transport.dial(Channel.DATA, "memory://d.data", self.inbox, self.events)

    def frames(self) -> list[list[int]]:
        return [[e.id for e in decode_batch(envelope.body)[0]] for envelope in self.ways.fake.sent]


def cast(number: int, body: bytes = b"") -> Envelope:
    return Envelope(Kind.CAST, "t.cast", number, 0, None, body)


@virtual
async def test_frames_leave_numbered_and_with_the_whole_path():
    dialled = Dialled(FakeWays())
    dialled.connection.send(cast(1))
    assert dialled.ways.fake.sent == []  # the relay is not known to be there
    await spin()
    assert dialled.events.kinds == [EventKind.CONNECTED]
    dialled.connection.send(cast(2))
    await spin()
    assert dialled.frames() == [[1], [2]]
    first, second = dialled.ways.fake.sent
    assert (first.kind, first.to, first.id) == (Kind.RELAY, DIAL, 7)
    assert first.meta == {2: "7", 7: "a", 8: "d", 9: 2, 10: 1, 21: ("b", "c")}
    assert second.meta is not None
    assert second.meta[10] == 2


@virtual
async def test_a_batch_of_many_is_one_frame():
    dialled = Dialled(FakeWays())
    for number in range(20):
        dialled.connection.send(cast(number))
    await spin()
    assert dialled.frames() == [list(range(20))]


@virtual
async def test_a_full_hop_holds_it_up_and_lets_it_go_on():
    ways = FakeWays()
    dialled = Dialled(ways)
    await spin()
    ways.fake.has_room = False
    dialled.connection.send(cast(1))
    dialled.connection.send(cast(2))
    await spin()
    assert dialled.frames() == [[1]]
    assert dialled.connection.stats().queued_messages == 1
    ways.fake.has_room = True
    for go_on in ways.fake.waiting:
        go_on()
    await spin()
    assert dialled.frames() == [[1], [2]]


@virtual
async def test_answers_of_the_listener_are_taken_in_order():
    dialled = Dialled(FakeWays())
    await spin()
    dialled.connection.on_back(1, encode_batch([cast(1)]))
    dialled.connection.on_back(2, encode_batch([cast(2)]))
    assert dialled.inbox.ids == [1, 2]
    dialled.connection.on_back(4, encode_batch([cast(4)]))
    await spin()
    assert dialled.inbox.ids == [1, 2]
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]
    assert dialled.events.entries[-1].detail == "a frame was lost on the way back"


@virtual
async def test_it_ends_when_something_is_lost_and_sends_nothing_more():
    ways = FakeWays()
    dialled = Dialled(ways)
    await spin()
    ways.fake.refuse = "the queue is full"
    dialled.connection.send(cast(1))
    ways.fake.refuse = ""
    dialled.connection.send(cast(2))
    await spin()
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]
    assert dialled.events.entries[-1].detail == "the queue is full"
    assert (ways.fake.sent, ways.open) == ([], [])
    dialled.connection.lost("again")
    await spin()
    assert len(dialled.events.entries) == 2


@virtual
async def test_a_relay_that_cannot_be_reached_is_told_as_such():
    ways = FakeWays()
    ways.failure = Unreachable("b is down")
    dialled = Dialled(ways)
    await spin()
    assert dialled.events.kinds == [EventKind.UNREACHABLE]
    assert dialled.events.entries[0].detail == "b is down"
    assert ways.open == []


@virtual
async def test_closed_it_is_quiet():
    ways = FakeWays()
    ways.reachable.clear()
    dialled = Dialled(ways)
    await spin()
    dialled.connection.close()
    dialled.connection.close()
    ways.reachable.set()
    await spin()
    assert (dialled.events.entries, ways.open, ways.fake.sent) == ([], [], [])


@virtual
async def test_what_is_queued_still_leaves_with_a_goodbye():
    ways = FakeWays()
    dialled = Dialled(ways)
    await spin()
    dialled.connection.send_exempt(Envelope(Kind.BYE, id=9))
    dialled.connection.close(0.25)
    await spin()
    assert dialled.frames() == [[9]]
    assert ways.open == []


@virtual
async def test_a_body_that_does_not_fit_is_refused_with_the_reason():
    ways = FakeWays(dataclasses.replace(Limits(), frame_bytes_max=512 * 1024))
    dialled = Dialled(ways)
    with pytest.raises(BadRequest, match="too large for the way over b, c"):
        dialled.connection.send(cast(1, bytes(400_000)))
    dialled.connection.send(cast(2, bytes(300_000)))
    await spin()
    assert dialled.frames() == [[2]]


@virtual
async def test_attachments_go_inline_whatever_the_peer_understands():
    dialled = Dialled(FakeWays())
    dialled.connection.agree(("attachments",))
    dialled.connection.send(cast(1, bytes(200_000)))
    await spin()
    ((received,), _) = decode_batch(dialled.ways.fake.sent[0].body)
    assert msgspec.msgpack.decode(received.body) == bytes(200_000)


@virtual
async def test_it_does_not_listen():
    transport = RelayTransport(FakeWays(), "d", ("b",))
    with pytest.raises(AssertionError, match="direct listeners"):
        transport.listen(Channel.DATA, "memory://x", Inbox())
    await transport.close()


def test_a_listener_sends_back_or_says_that_nobody_is_there():
    sent: list[tuple[bytes, bytes]] = []

    def send(source: bytes, frame: bytes) -> bool:
        if source == b"known":
            sent.append((source, frame))
        return source == b"known"

    listener = RelayedListener(Limits(), send)
    assert listener.send(b"known", cast(1))
    assert sent == [(b"known", encode_batch((cast(1),)))]
    assert not listener.gone
    assert not listener.send(b"unknown", cast(2))
    assert listener.gone
    assert listener.stats().refused_sends == 1
    listener.close()


def test_the_frame_is_found_inline_or_beside():
    packed = msgspec.msgpack.encode(b"frame")
    assert frame_of(Envelope(Kind.RELAY, body=msgspec.Raw(packed))) == b"frame"
    assert frame_of(Envelope(Kind.RELAY, body=Parcel.of_buffer(b"frame"))) == b"frame"
    assert whole_body(Envelope(Kind.RELAY, body=msgspec.Raw(packed))) == msgspec.Raw(packed)
    for wrong in (b"\xc0", b"\x01", b"\xc1", b""):
        with pytest.raises((ValueError, TypeError)):
            frame_of(Envelope(Kind.RELAY, body=msgspec.Raw(wrong)))


def test_an_envelope_says_how_far_it_may_go():
    envelope = relay_envelope(BACK, 7, "d", "a", ("c", "b"), 3, b"f")
    assert envelope == Envelope(Kind.RELAY, BACK, 7, 0, {2: "7", 7: "d", 8: "a", 9: 2, 10: 3, 21: ("c", "b")}, b"f")
