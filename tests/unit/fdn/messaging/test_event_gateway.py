"""Events of clients that are nothing but frames."""

import asyncio
from typing import Any

import msgspec
import pytest

import fdn
from fdn.settings import EventSettings
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from tests.unit.transports.harness import Dialled
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Identity, Role


class Client:
    """What a client in any language does on the events channel."""

    def __init__(self, world: World, name: str = "client-1") -> None:
        self._peer = Mallory(world, name, name)
        self.line: Dialled

    async def connect(self, node: fdn.Node) -> "Client":
        self.line = await self._peer.dial(node, Channel.EVENTS, role=Role.CLIENT, identity=Identity(self._peer.node))
        return self

    def publish(self, subject: str, payload: Any = None, deadline_ms: int = 0) -> None:
        self.line.connection.send(Envelope(Kind.EVENT, subject, 0, deadline_ms, None, body(payload)))

    async def subscribe(self, pattern: str, number: int = 1, wanted: Any = None) -> Any:
        self.line.connection.send_exempt(Envelope(Kind.SUBSCRIBE, pattern, number, 0, None, body(wanted)))
        await until(lambda: self._of(number, Kind.REPLY, Kind.ERROR))
        answer = self._of(number, Kind.REPLY, Kind.ERROR)[-1]
        value = msgspec.msgpack.decode(answer.body)
        if answer.kind == Kind.ERROR:
            raise fdn.errors.from_wire(value)
        return value

    def unsubscribe(self, number: int = 1) -> None:
        self.line.connection.send_exempt(Envelope(Kind.UNSUBSCRIBE, "", number))

    def events(self, number: int = 1) -> list[Any]:
        return [msgspec.msgpack.decode(event.body) for event in self._of(number, Kind.EVENT)]

    def missed(self, number: int = 1) -> int:
        return sum((event.meta or {}).get(MetaKey.MISSED, 0) for event in self._of(number, Kind.EVENT))

    def answers(self, number: int) -> list[int]:
        return [answer.kind for answer in self._of(number, Kind.REPLY, Kind.ERROR)]

    def _of(self, number: int, *kinds: Kind) -> list[Envelope]:
        return [each for each in self.line.inbox.envelopes if each.id == number and each.kind in kinds]


@virtual
async def test_what_a_client_publishes_is_for_the_whole_cluster():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a.*")
        client = await Client(world).connect(first)
        for number in range(100):
            client.publish("a.b", number)
        events = [await anext(subscription) for _ in range(100)]
        assert [event.payload for event in events] == list(range(100))
        assert events[0] == fdn.Event("a.b", 0, first.id)
        assert (await first.stats()).events.published == 100


@virtual
async def test_what_it_publishes_is_sent_though_it_has_gone():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        client = await Client(world).connect(first)
        client.publish("a", 1)
        client.line.connection.send_exempt(Envelope(Kind.BYE, body=body({"reason": "done"})))
        event = await anext(subscription)
        assert isinstance(event, fdn.Event)
        assert event.payload == 1


@virtual
async def test_a_bad_event_of_a_client_ends_nothing():
    async with World() as world:
        (node,) = await world.cluster(1)
        subscription = await node.subscribe("a")
        client = await Client(world).connect(node)
        for subject in ("fdn.members", "a..b", ""):
            client.publish(subject)
        client.publish("a", 1)
        assert (await anext(subscription)).payload == 1


@virtual
async def test_a_client_subscribes_to_the_whole_cluster():
    async with World() as world:
        first, second = await world.cluster(2)
        client = await Client(world).connect(first)
        assert await client.subscribe("a.>") == []
        assert await second.publish("a.b", "one") == 1
        await until(client.events)
        event = client.line.inbox.envelopes[-1]
        assert (event.kind, event.to, event.id, event.meta) == (Kind.EVENT, "a.b", 1, {MetaKey.ORIGIN: second.id})
        assert client.events() == ["one"]
        client.unsubscribe()
        await until(lambda: not second._events._wanted.route("a.b").nodes)
        assert (await first.stats()).events.subscriptions == 0


@virtual
async def test_a_clients_queue_group():
    async with World() as world:
        first, second = await world.cluster(2)
        clients = [
            await Client(world, f"c{number}").connect(node) for number, node in enumerate((first, second, second))
        ]
        for client in clients:
            assert await client.subscribe("jobs", wanted={"queue": "workers"}) == []
        for number in range(40):
            assert await first.publish("jobs", number) == 1
        await until(lambda: sum(len(client.events()) for client in clients) == 40)
        assert [len(client.events()) for client in clients] == [20, 10, 10]


@virtual
async def test_what_a_client_wants_ends_with_its_connection():
    async with World() as world:
        (node,) = await world.cluster(1)
        other = await Client(world, "c2").connect(node)
        await other.subscribe("a")
        client = await Client(world).connect(node)
        await client.subscribe("a")
        await client.subscribe("b", 2)
        client.line.connection.send_exempt(Envelope(Kind.BYE, body=body({"reason": "done"})))
        await until(lambda: node._events.stats().subscriptions == 1)
        await node.publish("a", 1)
        await until(other.events)


@virtual
async def test_what_cannot_be():
    async with World() as world:
        (node,) = await world.cluster(1, events=EventSettings(subscriptions_max=1))
        client = await Client(world).connect(node)
        for number, (pattern, wanted) in enumerate([("a..b", None), ("fdn.>", None), ("a", {"queue": "a b"})], 10):
            with pytest.raises(fdn.ConfigError):
                await client.subscribe(pattern, number, wanted)
        for number, unreadable in enumerate([7, {"queue": 7}, {"timeout_ms": "x"}], 20):
            with pytest.raises(fdn.BadRequest, match="SUBSCRIBE cannot be read"):
                await client.subscribe("a", number, unreadable)
        await client.subscribe("a", 1)
        with pytest.raises(fdn.Overloaded):
            await client.subscribe("b", 2)
        client.line.connection.send_exempt(Envelope(Kind.SUBSCRIBE, "b", 1))
        await until(lambda: client.answers(1) == [Kind.REPLY, Kind.ERROR])
        client.unsubscribe(99)


@virtual
async def test_a_client_that_does_not_read_misses_the_oldest_and_is_told():
    async with World() as world:
        (node,) = await world.cluster(1, events=EventSettings(queue_max=100))
        client = await Client(world).connect(node)
        await client.subscribe("a")
        listener = node._data._listeners[Channel.EVENTS]
        sends, listener.send = listener.send, lambda source, envelope: False  # type: ignore[method-assign]
        for number in range(1000):
            await node.publish("a", number)
        await asyncio.sleep(1)
        listener.send = sends  # type: ignore[method-assign]
        await until(lambda: client.events() and client.events()[-1] == 999)
        assert len(client.events()) + client.missed() == 1000
        assert len(client.events()) <= 102
        assert client.events() == sorted(client.events())


@virtual
async def test_a_client_that_takes_nothing_for_long_is_given_up():
    async with World() as world:
        (node,) = await world.cluster(1)
        client = await Client(world).connect(node)
        await client.subscribe("a")
        listener = node._data._listeners[Channel.EVENTS]
        listener.send = lambda source, envelope: False  # type: ignore[method-assign]
        await node.publish("a", 1)
        await until(lambda: node._events.stats().subscriptions == 0)
