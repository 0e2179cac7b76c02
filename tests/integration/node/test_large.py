"""Large messages between nodes on real sockets."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy
import pytest

import fdn
from fdn.settings import DataSettings, Settings

HARD_TIMEOUT_S = 60.0
HUGE = bytes(range(256)) * (5 * 4096)  # 5 MiB
ARRAY = numpy.arange(1_000_000, dtype="f8").reshape(1000, 1000)


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), HARD_TIMEOUT_S))

    return run


def store(order: list[Any]) -> fdn.App:
    app = fdn.App()

    @app.service("store")
    class Store:
        def echo(self, value: Any) -> Any:
            return value

        def add(self, entry: list[Any]) -> None:
            order.append(entry[0])

        def size(self, data: memoryview) -> int:
            return len(data)

        async def pieces(self, n: int) -> AsyncIterator[Any]:
            for at in range(n):
                yield HUGE if at % 2 else at

    return app


def settings(**data: Any) -> Settings:
    return Settings(data=DataSettings(**data))


@on_loop
async def test_pieces_arrays_streams_and_order_over_tcp():
    order: list[Any] = []
    async with fdn.Node(store(order), name="n1") as server, fdn.Node(name="n2", join=[server.endpoint]) as node:
        assert await node.call("store.echo", {"a": HUGE, "n": 1}, timeout=30) == {"a": HUGE, "n": 1}
        numpy.testing.assert_array_equal(await node.call("store.echo", ARRAY, timeout=30), ARRAY)
        items = [item async for item in node.stream("store.pieces", 6)]
        assert items == [HUGE if at % 2 else at for at in range(6)]
        for number in range(6):
            await node.cast("store.add", [number, HUGE] if number % 3 == 0 else [number], key="k")
        while len(order) < 6:
            await node.call("store.echo", None)
        assert order == list(range(6))
        bulk = server._data.stats().bulk
        assert (bulk.held_bytes, bulk.open, bulk.refused, bulk.malformed) == (0, 0, 0, 0)
        assert bulk.whole >= 4


@on_loop
async def test_small_calls_pass_while_a_large_one_is_on_its_way():
    slow = settings(bulk_bytes_per_s=2e6)
    async with (
        fdn.Node(store([]), name="n1") as server,
        fdn.Node(settings=slow, name="n2", join=[server.endpoint]) as node,
    ):
        await node.call("store.echo", 1)
        large = asyncio.ensure_future(node.call("store.size", HUGE, timeout=30))
        for number in range(50):
            assert await node.call("store.echo", number) == number
        assert not large.done()  # 5 MiB at 2 MB a second
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        assert await node.call("store.echo", 1) == 1
        while not server._data.stats().bulk.given_up:
            await node.call("store.echo", 1)
        assert server._data.stats().bulk.held_bytes == 0


@on_loop
async def test_a_receiver_without_room_says_so():
    tight = settings(body_bytes_max=4 << 20)
    async with (
        fdn.Node(store([]), settings=tight, name="n1") as server,
        fdn.Node(name="n2", join=[server.endpoint]) as node,
    ):
        with pytest.raises(fdn.Overloaded, match="body_bytes_max"):
            await node.call("store.size", HUGE, timeout=30)
        assert await node.call("store.size", HUGE[: 3 << 20], timeout=30) == 3 << 20
