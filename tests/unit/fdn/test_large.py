"""Large payloads between nodes of one process: every verb, in both directions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy
import pytest

import fdn
from tests.unit.fdn.harness import Mallory, World, virtual
from transports.parcel import Parcel
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity, Role

BIG = bytes(range(256)) * 1024
ARRAY = numpy.arange(50_000, dtype="f8").reshape(100, 500)


def store() -> tuple[fdn.App, list[Any]]:
    app = fdn.App()
    got: list[Any] = []

    @app.service("store")
    class Store:
        def put(self, data: bytes) -> None:
            got.append(data)

        async def put_named(self, name: str, data: memoryview) -> int:
            got.append(data)
            return len(data)

        def echo(self, value: Any) -> Any:
            return value

        async def double(self, values: numpy.ndarray) -> numpy.ndarray:
            return values * 2

        async def pieces(self, n: int) -> AsyncIterator[bytes]:
            for at in range(n):
                yield BIG[at:]

        async def total(self, pieces: AsyncIterator[bytes]) -> int:
            return sum([len(piece) async for piece in pieces])

    @app.service("make")
    class Make:
        def huge(self) -> bytes:
            return HUGE

        def too_large(self) -> bytes:
            return bytes(17 << 20)

        async def stream(self) -> AsyncIterator[bytes]:
            while True:
                yield HUGE

    return app, got


@virtual
async def test_every_verb_carries_large_payloads():
    async with World() as world:
        app, got = store()
        await world.start("n1", app)
        caller = await world.start("n2")
        await world.settle()
        for node in world.nodes:  # over the network, and to itself
            await node.cast("store.put", BIG)
            assert await node.call("store.echo", {"a": BIG, "b": [1, BIG]}) == {"a": BIG, "b": [1, BIG]}
            assert await node.call("store.put_named", {"name": "x", "data": bytearray(BIG)}) == len(BIG)
            assert type(got[-1]) is memoryview
            numpy.testing.assert_array_equal(await node.call("store.double", ARRAY, returns=numpy.ndarray), ARRAY * 2)
            assert type(await node.call("store.echo", BIG, returns=memoryview)) is memoryview
            assert [item async for item in node.stream("store.pieces", 9, returns=bytes)] == [
                BIG[at:] for at in range(9)
            ]
            assert await node.call("store.total", items=[BIG] * 9) == 9 * len(BIG)
        assert got[0] == got[2] == BIG
        assert caller.name == "n2"


@virtual
async def test_events_carry_them_to_iterators_and_to_handlers():
    async with World() as world:
        app, handled = fdn.App(), []

        @app.subscribe("big.*")
        async def on_big(payload: Any, context: fdn.Context) -> None:
            handled.append(payload)

        await world.start("n1", app)
        publisher = await world.start("n2")
        await world.settle()
        reader = await world.nodes[0].subscribe("big.>")
        own = await publisher.subscribe("big.>", payload=numpy.ndarray)
        await publisher.publish("big.array", ARRAY)
        numpy.testing.assert_array_equal((await anext(aiter(reader))).payload, ARRAY)
        numpy.testing.assert_array_equal((await anext(aiter(own))).payload, ARRAY)
        await publisher.publish("big.bytes", BIG)
        assert (await anext(aiter(reader))).payload == BIG
        numpy.testing.assert_array_equal(handled[0], ARRAY)


@virtual
async def test_a_client_without_the_feature_is_sent_everything_in_one_piece():
    async with World() as world:
        app, _ = store()
        node = await world.start("n1", app)
        client = Mallory(world)
        dialled = await client.dial(node, role=Role.CLIENT, identity=Identity("c-1"))
        for call_id, body in ((1, BIG), (2, Parcel.of_buffer(BIG))):
            dialled.connection.send_exempt(Envelope(Kind.CALL, "store.echo", call_id, 0, None, body))
            answers = await dialled.inbox.count(1 + call_id)
            assert answers[-1].kind == Kind.REPLY
            assert type(answers[-1].body) is not Parcel
            assert not dialled.inbox.entries[-1].attachments
            assert len(answers[-1].body) > len(BIG)


@virtual
async def test_what_a_peer_names_and_does_not_send_is_counted_and_dropped():
    async with World() as world:
        app, got = store()
        node = await world.start("n1", app)
        client = Mallory(world)
        dialled = await client.dial(node, role=Role.CLIENT, identity=Identity("c-1"))
        hostile = Parcel.of_buffer(b"abc")
        hostile.attachments = (b"abc",)
        for indexes in ([5], [0, 0], "x"):
            dialled.connection.send_exempt(Envelope(Kind.CAST, "store.put", 0, 0, {6: indexes}, hostile.body))
        dialled.connection.send_exempt(Envelope(Kind.CALL, "store.echo", 7, 0, {6: [5]}, hostile.body))
        answers = await dialled.inbox.count(2)
        assert answers[-1].kind == Kind.ERROR  # no frame followed, so the house never looked at the names
        assert got == []
        await asyncio.sleep(0)
        assert (await node.call("store.echo", 5)) == 5


@virtual
async def test_a_payload_beyond_the_bound_is_refused_where_it_is_sent():
    async with World() as world:
        app, _ = store()
        node = await world.start("n1", app, data={"body_bytes_max": 1 << 20})
        with pytest.raises(fdn.BadRequest, match="body_bytes_max"):
            await node.call("store.echo", [BIG] * 5)
        with pytest.raises(fdn.BadRequest, match="body_bytes_max"):
            await node.cast("store.put", ARRAY.repeat(10))
        with pytest.raises(fdn.BadRequest, match="body_bytes_max"):
            await node.publish("big.x", bytes(2 << 20))


HUGE = bytes(range(256)) * (5 * 4096)  # 5 MiB: in pieces


def nodes_of(*nodes: fdn.Node) -> list[Any]:
    return [node._data.stats().bulk for node in nodes]


@virtual
async def test_what_is_too_large_for_a_frame_goes_in_pieces_by_every_verb():
    async with World() as world:
        app, got = store()
        server = await world.start("n1", app)
        caller = await world.start("n2")
        await world.settle()
        await caller.cast("store.put", HUGE)
        assert await caller.call("store.echo", {"a": HUGE, "n": 1}) == {"a": HUGE, "n": 1}
        numbers = list(range(1_000_000))
        assert await caller.call("store.echo", numbers) == numbers  # large, and no part of it is
        assert await caller.call("store.total", items=[HUGE, b"x", HUGE]) == 2 * len(HUGE) + 1
        reader = await caller.subscribe("big.>")
        await server.publish("big.x", HUGE)
        assert (await anext(aiter(reader))).payload == HUGE
        assert got == [HUGE]
        for bulk in nodes_of(server, caller):
            assert (bulk.held_bytes, bulk.open, bulk.malformed) == (0, 0, 0)
        assert nodes_of(server)[0].whole == 5
        assert nodes_of(caller)[0].whole == 3


@virtual
async def test_a_slow_handler_holds_up_large_messages_and_no_small_ones():
    async with World() as world:
        app, entered, go_on = fdn.App(), [], asyncio.Event()

        @app.service("slow", concurrency=1)
        class Slow:
            async def take(self, data: memoryview) -> None:
                entered.append(len(data))
                await go_on.wait()

        @app.service("quick")
        class Quick:
            async def answer(self, n: int) -> int:
                return n

        server = await world.start("n1", app, data={"bulk_window_bytes": 16 << 20})
        caller = await world.start("n2")
        await world.settle()
        casting = [asyncio.ensure_future(_cast_all(caller, 12))]
        for n in range(5):
            await asyncio.sleep(0.01)
            assert await caller.call("quick.answer", n) == n
        [bulk] = nodes_of(server)
        assert bulk.held_bytes <= (16 << 20) + len(HUGE)
        assert not casting[0].done()
        go_on.set()
        await casting[0]
        await caller.call("slow.take", HUGE)
        assert len(entered) == 13
        assert nodes_of(server)[0].refused == 0


async def _cast_all(caller: fdn.Node, count: int) -> None:
    for _ in range(count):
        await caller.cast("slow.take", HUGE)


@virtual
async def test_who_is_refused_is_told_at_once():
    async with World() as world:
        app, _ = store()
        server = await world.start("n1", app, data={"assembly_bytes_max": 1 << 20, "body_bytes_max": 6 << 20})
        caller = await world.start("n2", data={"body_bytes_max": 6 << 20})
        await world.settle()
        await caller.call("store.echo", 1)
        held = server._data._bulk._pool
        assert held.reserve(10)  # somebody else's
        with pytest.raises(fdn.Overloaded, match="assembly_bytes_max"):
            await caller.call("store.echo", HUGE)
        with pytest.raises(fdn.Overloaded, match="assembly_bytes_max"):
            await caller.call("store.total", items=[HUGE])
        await caller.cast("store.put", HUGE)  # at most once: logged, and counted
        await asyncio.sleep(0.1)
        held.release(10)
        assert await caller.call("store.echo", HUGE) == HUGE
        assert nodes_of(server)[0].refused == 3
        held = caller._data._bulk._pool  # now the answer is what finds no room
        assert held.reserve(2 << 30)
        with pytest.raises(fdn.Overloaded, match="large messages"):
            await anext(aiter(caller.stream("make.stream")))
        with pytest.raises(fdn.Overloaded, match="large messages"):
            await caller.call("store.echo", [HUGE])


@virtual
async def test_leaving_a_call_stops_its_pieces_in_both_directions():
    async with World() as world:
        app, _ = store()
        server = await world.start("n1", app, data={"bulk_bytes_per_s": 1e6})
        caller = await world.start("n2", data={"bulk_bytes_per_s": 1e6})
        await world.settle()
        await caller.call("store.echo", 1)
        with pytest.raises(fdn.DeadlineExceeded):
            await caller.call("store.echo", HUGE, timeout=2.5)
        await asyncio.sleep(5)
        assert nodes_of(server)[0].given_up == 1
        assert caller._data.queued() == 0
        with pytest.raises(fdn.DeadlineExceeded):
            await caller.call("make.huge", timeout=2.5)
        await asyncio.sleep(5)
        assert nodes_of(caller)[0].given_up == 1
        assert server._data.queued() == 0
        assert nodes_of(server)[0].held_bytes == nodes_of(caller)[0].held_bytes == 0


@virtual
async def test_a_lost_link_drops_what_was_on_its_way_and_counts_it():
    async with World() as world:
        app, _ = store()
        server = await world.start("n1", app)
        caller = await world.start("n2", data={"bulk_bytes_per_s": 1e6})
        await world.settle()
        await caller.call("store.echo", 1)
        calling = asyncio.ensure_future(caller.call("store.echo", HUGE, timeout=60))
        await asyncio.sleep(2)
        assert nodes_of(server)[0].open == 1
        world.crash(caller)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await asyncio.sleep(60)
        assert nodes_of(server)[0].open == 0
        assert (nodes_of(server)[0].lost, nodes_of(server)[0].held_bytes) == (1, 0)


@virtual
async def test_a_small_message_may_overtake_a_large_one_unless_they_have_the_same_key():
    async with World() as world:
        app, order = fdn.App(), []

        @app.service("log")
        class Log:
            def add(self, entry: list[Any]) -> None:
                order.append(entry[0])

        await world.start("n1", app)
        caller = await world.start("n2")
        await world.settle()
        await caller.cast("log.add", [0])
        await caller.cast("log.add", [1, HUGE])
        await caller.cast("log.add", [2])
        for number in (3, 4, 5):
            await caller.cast("log.add", [number, HUGE] if number == 4 else [number], key="k")
        await asyncio.sleep(1)
        assert order.index(2) < order.index(1)
        assert [number for number in order if number in (3, 4, 5)] == [3, 4, 5]


@virtual
async def test_a_client_with_the_feature_is_sent_large_parts_beside_the_message():
    async with World() as world:
        app, _ = store()
        node = await world.start("n1", app)
        client = Mallory(world)
        dialled = await client.dial(node, role=Role.CLIENT, identity=Identity("c-1"), features=("attachments",))
        dialled.connection.agree(("attachments",))
        dialled.connection.send_exempt(Envelope(Kind.CALL, "store.echo", 1, 0, None, BIG))
        answers = await dialled.inbox.count(2)
        assert (answers[-1].kind, type(answers[-1].body)) == (Kind.REPLY, Parcel)
        assert [bytes(part) for part in answers[-1].body.attachments] == [BIG]
        dialled.connection.send_exempt(Envelope(Kind.CALL, "make.too_large", 2, 0, None, None))
        answers = await dialled.inbox.count(3)
        assert (answers[-1].kind, answers[-1].id) == (Kind.ERROR, 2)
        assert b"at once" in bytes(answers[-1].body)
