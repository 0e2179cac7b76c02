"""Keys, lanes and priorities between nodes on real sockets."""

import asyncio
import collections
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fdn
from fdn.settings import DataSettings, EventSettings, Settings
from transports.channel import Channel

KEYS = [f"order-{number}" for number in range(24)]
ROUNDS = 60
BULK = bytes(100_000)


class Log:
    """Keeps what comes, by key."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = collections.defaultdict(list)
        self.count = 0
        self.full = asyncio.Event()  # all that the senders of one test send has come
        self.last = asyncio.Event()  # -1 has come

    async def put(self, key: str, number: int, filler: bytes = b"") -> int:
        self.seen[key].append(number)
        self.count += 1
        if number < 0:
            self.last.set()
        if self.count == len(KEYS) * ROUNDS:
            self.full.set()
        return number

    async def count_to(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number


def settings(lanes: int, **fields: Any) -> Settings:
    return Settings(
        data=DataSettings(parallelism=lanes, credit_messages=256, credit_bytes=1 << 20),
        events=EventSettings(parallelism=lanes),
        **fields,
    )


def in_order(log: Log) -> bool:
    return {key: list(range(ROUNDS)) for key in KEYS} == dict(log.seen)


@pytest.mark.parametrize("verb", ["cast", "call", "publish"])
@pytest.mark.parametrize("lanes", [1, 4])
def test_messages_of_a_key_arrive_in_order(lanes: int, verb: str) -> None:
    async def main() -> None:
        log, app = Log(), fdn.App()
        app.service("log", concurrency=1)(log)
        async with (
            fdn.Node(app, settings=settings(lanes)) as server,
            fdn.Node(settings=settings(lanes, join=(server.endpoint,))) as sender,
        ):

            async def on_event(event: list[Any]) -> None:
                await log.put(*event)

            await server.subscribe("log", on_event)

            async def of_key(key: str) -> None:
                for number in range(ROUNDS):
                    what: list[Any] = [key, number, BULK if number % 20 == 0 else b""]
                    if verb == "publish":
                        assert await sender.publish("log", what, key=key) == 1
                    elif verb == "call":
                        assert await sender.call("log.put", what, key=key) == number
                    else:
                        await sender.cast("log.put", what, key=key)

            async with asyncio.timeout(30):
                await asyncio.gather(*map(of_key, KEYS))
                await log.full.wait()
            assert in_order(log)
            links = (await sender.stats()).data.links
            channel = "events" if verb == "publish" else "data"
            assert (
                sum(f"{server.id} {channel}" in link and stats.messages_sent > 0 for link, stats in links.items())
                == lanes
            )

    asyncio.run(main())


def test_keys_stay_in_order_while_the_number_of_lanes_changes() -> None:
    async def main() -> None:
        log, app = Log(), fdn.App()
        app.service("log", concurrency=1)(log)
        async with (
            fdn.Node(app, settings=settings(4)) as server,
            fdn.Node(settings=settings(4, join=(server.endpoint,))) as sender,
        ):
            await sender.cast("log.count_to", 0)  # it has streams, and so is dropped: the link is open now
            lanes = sender._data.lanes(server.id, Channel.DATA)

            async def of_key(key: str) -> None:
                for number in range(ROUNDS):
                    if number % 7 == 0:
                        lanes.limit(1 + (number // 7 + len(key)) % 4)
                    await sender.cast("log.put", [key, number, BULK if number % 20 == 0 else b""], key=key)

            async with asyncio.timeout(30):
                await asyncio.gather(*map(of_key, KEYS))
                await log.full.wait()
            assert in_order(log)

    asyncio.run(main())


def test_streams_and_calls_go_over_lanes_and_a_client_may_give_keys() -> None:
    async def main() -> None:
        log, app = Log(), fdn.App()
        app.service("log")(log)
        async with (
            fdn.Node(app, settings=settings(3)) as server,
            fdn.Node(settings=settings(3, join=(server.endpoint,))) as sender,
        ):
            for key in KEYS[:6]:
                got = [item async for item in sender.stream("log.count_to", 50, key=key, returns=int)]
                assert got == list(range(50))
                assert await sender.call("log.put", [key, 1], key=key, priority=2) == 1
                assert await sender.call("log.put", [key, 2]) == 2
            async with fdn.Client(sender.endpoint) as client:
                assert await client.call("log.put", ["client", 3], key="k", priority=-1) == 3
                await client.cast("log.put", ["client", -1], key="k")
                assert [item async for item in client.stream("log.count_to", 3, key=b"k")] == [0, 1, 2]
                with pytest.raises(fdn.BadRequest, match="priority"):
                    await client.publish("log", 1, priority=9)
                async with asyncio.timeout(10):
                    await log.last.wait()
                assert log.seen["client"] == [3, -1]

    asyncio.run(main())


def test_compressed_links_carry_the_same() -> None:
    async def main() -> None:
        log, app = Log(), fdn.App()
        app.service("log")(log)
        on = Settings(data=DataSettings(compression="on"), events=EventSettings(compression="on"))
        async with fdn.Node(app, settings=on) as server, fdn.Node(settings=on, join=(server.endpoint,)) as sender:
            text = "the same again " * 1000
            for number in range(20):
                assert await sender.call("log.put", [text, number]) == number
            assert log.seen == {text: list(range(20))}
            (stats,) = (await sender.stats()).data.links.values()
            assert stats.packed_bytes_in > 20 * len(text)
            assert stats.packed_bytes_out < stats.packed_bytes_in / 20

    asyncio.run(main())
