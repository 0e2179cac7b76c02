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
