import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from fdn.runtime.bulk import BulkSettings, Piece, decode
from fdn.runtime.control_bulk import BULK, BULK_FEATURE, ControlBulk
from fdn.runtime.control_links import CONTROL_CHANNELS, ControlLinks
from fdn.runtime.facts import Fact
from fdn.runtime.greeting import Greeter
from fdn.runtime.sessions import Session
from fdn.settings import LinkSettings
from tests.unit.fdn.harness import until, virtual
from tests.unit.fdn.runtime.harness import spin
from tests.unit.transports.harness import Rig, scenario
from topologies.errors import RemoteProtocolError
from transports.channel import Channel
from transports.memory import MemoryNetwork, MemoryTransport
from transports.transport import ConnectionEvent, Transport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity, Refused

GOSSIP = Channel.GOSSIP
KIB = 1024


class Side:
    """Links and bulk of one node, without a control plane: as its `LinksOwner` it passes on what bulk must know.

    Attributes:
        heard: What came in, in order: the offsets of pieces, the `to` of anything else.
        messages: What came whole.
        on_answer: Called with each Ack or Refuse, after it was taken in.
    """

    def __init__(self, transport: Transport, name: str, fresh: str, settings: BulkSettings | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.heard: list[int | str] = []
        self.messages: list[tuple[str, str, bytes]] = []
        self.on_answer: Callable[[], None] = lambda: None
        self.on_piece: Callable[[Piece], bool] = lambda piece: True
        self.transport = transport
        greeter = Greeter("fdn", Identity(f"{name}-id", name, (1, 0)), "0123", features=(BULK_FEATURE,))
        self.links = ControlLinks(
            transport=transport,
            greeter=greeter,
            settings=LinkSettings(),
            loop=loop,
            rng=random.Random(name),
            publish=self.on_fact,
            owner=self,
        )
        self.bulk = ControlBulk(self.links, loop, 7, self.on_message, settings)
        endpoints = {channel.value: self.links.listen(channel, fresh) for channel in CONTROL_CHANNELS}
        self.identity = Identity(f"{name}-id", name, (1, 0), endpoints)
        greeter.now_known_as(self.identity)

    @property
    def node(self) -> str:
        return self.identity.node

    def connect(self, other: "Side") -> None:
        self.links.connect(other.node, other.identity.endpoints)

    def tell(self, other: "Side", what: str) -> None:
        self.links.send(other.node, GOSSIP, Envelope(Kind.CORE, what))

    def on_message(self, peer: str, protocol: str, body: bytearray) -> None:
        self.messages.append((peer, protocol, bytes(body)))

    def on_envelope(self, session: Session, envelope: Envelope) -> None:
        if envelope.to != BULK:
            self.heard.append(envelope.to)
            return
        message = decode(envelope.body)
        if isinstance(message, Piece):
            self.heard.append(message.offset)
            if self.on_piece(message):
                self.bulk.on_message(session.peer, envelope.body)
        else:
            self.bulk.on_message(session.peer, envelope.body)
            self.on_answer()

    def on_link_up(self, node: str, channel: Channel) -> None:
        if channel is GOSSIP:
            self.bulk.on_link_up(node)

    def on_met(self, identity: Identity, inbound: bool) -> None: ...

    def on_evidence(self, node: str, event: ConnectionEvent) -> None: ...

    def on_seed(self, endpoint: str, outcome: Identity | Refused | ConnectionEvent) -> None: ...

    def on_links_changed(self) -> None: ...

    def on_fact(self, fact: Fact) -> None: ...


async def sides(rig: Rig, settings: BulkSettings | None = None) -> tuple[Side, Side]:
    one = Side(rig.transport(), "one", rig.fresh, settings)
    two = Side(rig.transport(), "two", rig.fresh, settings)
    one.connect(two)
    two.connect(one)
    await until(lambda: one.links.is_open(two.node, GOSSIP) and two.links.is_open(one.node, GOSSIP))
    return one, two


@pytest.fixture(params=["zmq", "memory"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)


# -- over both transports


@scenario
async def test_a_message_of_megabytes_arrives_whole(rig: Rig):
    one, two = await sides(rig)
    body = random.Random(1).randbytes(3 * 1024 * KIB + 5)
    ended: list[str] = []
    one.bulk.send(two.node, "fdn.test", body, ended.append)
    await until(lambda: bool(ended))
    assert ended == [""]
    assert two.messages == [(one.node, "fdn.test", body)]
    assert len([offset for offset in two.heard if isinstance(offset, int)]) == 49
    assert (one.bulk.stats().sent.delivered, two.bulk.stats().received.delivered) == (1, 1)


@scenario
async def test_between_two_pieces_everything_goes_that_waits(rig: Rig):
    """Several messages are sent in each turn in which the next piece becomes due: all go before it."""
    one, two = await sides(rig)
    count = 0

    def chat() -> None:
        nonlocal count
        for _ in range(3):
            count += 1
            one.tell(two, f"m{count}")

    one.on_answer = chat
    one.bulk.send(two.node, "fdn.test", bytes(640 * KIB))
    await until(lambda: bool(two.messages) and "m30" in two.heard)
    wanted: list[int | str] = []
    for piece in range(10):
        wanted += [piece * 64 * KIB, *(f"m{3 * piece + n}" for n in (1, 2, 3))]
    assert two.heard == wanted


@scenario
async def test_a_short_transfer_does_not_wait_for_a_long_one(rig: Rig):
    one, two = await sides(rig)
    one.bulk.send(two.node, "long", bytes(4 * 1024 * KIB))
    one.bulk.send(two.node, "short", bytes(100 * KIB))
    await until(lambda: len(two.messages) == 2)
    assert [protocol for _, protocol, _ in two.messages] == ["short", "long"]


# -- on a virtual clock


def memory(network: MemoryNetwork, name: str, settings: BulkSettings | None = None) -> Side:
    return Side(MemoryTransport(network, asyncio.get_running_loop()), name, f"memory://{name}:0", settings)


async def pair(network: MemoryNetwork, settings: BulkSettings | None = None) -> tuple[Side, Side]:
    one, two = memory(network, "one", settings), memory(network, "two", settings)
    one.connect(two)
    two.connect(one)
    await until(lambda: one.links.is_open(two.node, GOSSIP) and two.links.is_open(one.node, GOSSIP))
    return one, two


@virtual
async def test_a_transfer_goes_on_at_the_piece_after_a_reconnect():
    network = MemoryNetwork()
    one, two = await pair(network)
    body = random.Random(2).randbytes(640 * KIB)

    def cut_in_the_middle(piece: Piece) -> bool:
        if piece.offset == 5 * 64 * KIB and not cuts:
            cuts.append(piece.offset)
            asyncio.get_running_loop().call_soon(network.cut, *gossip)
            return False
        return True

    cuts: list[int] = []
    gossip = one.identity.endpoints["gossip"], two.identity.endpoints["gossip"]
    two.on_piece = cut_in_the_middle
    one.bulk.send(two.node, "fdn.test", body)
    await until(lambda: not one.links.is_open(two.node, GOSSIP))  # silent for too long
    network.heal(*gossip)
    await until(lambda: bool(two.messages))
    assert two.messages[0][2] == body
    offsets = [offset for offset in two.heard if isinstance(offset, int)]
    assert offsets[:6] == [n * 64 * KIB for n in range(6)]
    assert set(offsets[6:]) == {n * 64 * KIB for n in range(5, 10)}, "it began anew"


@virtual
async def test_what_a_peer_never_acknowledges_is_given_up_and_told(caplog: pytest.LogCaptureFixture):
    one, two = await pair(MemoryNetwork(), BulkSettings(attempts_max=3))
    two.on_piece = lambda piece: False
    ended: list[str] = []
    one.bulk.send(two.node, "fdn.test", bytes(100 * KIB), ended.append)
    await until(lambda: bool(ended))
    assert ended == ["not acknowledged, 3 times"]
    assert "bulk of fdn.test to two-id failed: not acknowledged, 3 times" in caplog.text
    assert one.bulk.stats().sent.failed == 1


@virtual
async def test_a_peer_that_is_gone_ends_both_directions():
    one, two = await pair(MemoryNetwork())
    ended: list[str] = []
    two.on_piece = lambda piece: piece.offset < 128 * KIB
    one.bulk.send(two.node, "fdn.test", bytes(640 * KIB), ended.append)
    await spin(100)
    assert two.bulk.stats().received.held_bytes == 128 * KIB
    two.bulk.on_gone(one.node)
    one.bulk.on_gone(two.node)
    assert ended == ["the peer is gone"]
    assert two.bulk.stats().received.expired == 1


@virtual
async def test_without_a_link_it_waits_for_one():
    network = MemoryNetwork()
    one, two = memory(network, "one"), memory(network, "two")
    one.bulk.send(two.node, "fdn.test", bytes(100 * KIB))
    await spin()
    assert one.bulk.stats().sent.queued == 1
    one.connect(two)
    two.connect(one)
    await until(lambda: bool(two.messages))


@virtual
async def test_what_stops_coming_is_forgotten():
    one, two = await pair(MemoryNetwork())
    two.on_piece = lambda piece: piece.offset < 128 * KIB
    one.bulk.send(two.node, "fdn.test", bytes(640 * KIB))
    await spin(100)
    assert two.bulk.stats().received.held_bytes == 128 * KIB
    one.bulk.close()
    one.bulk.close()
    await until(lambda: two.bulk.stats().received.held == 0)
    assert two.bulk.stats().received.expired == 1
    one.bulk.send(two.node, "fdn.test", b"after the end")  # and nothing happens


@virtual
async def test_garbage_is_told_to_whoever_counts():
    one, _ = await pair(MemoryNetwork())
    with pytest.raises(RemoteProtocolError, match="no bulk message"):
        one.bulk.on_message("two-id", msgspec.Raw(b"\xc1"))


@virtual
async def test_what_a_peer_speaks_is_known_once_the_link_is_open():
    network = MemoryNetwork()
    one, two = memory(network, "one"), memory(network, "two")
    assert not one.links.speaks(two.node, BULK_FEATURE)
    one.connect(two)
    await until(lambda: one.links.is_open(two.node, GOSSIP))
    assert one.links.speaks(two.node, BULK_FEATURE)
    assert not one.links.speaks(two.node, "telepathy")
    one.links.disconnect(two.node)
    assert not one.links.speaks(two.node, BULK_FEATURE)
