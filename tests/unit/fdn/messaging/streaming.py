"""A service with streams that tells what became of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fdn

__all__ = ("Streams", "app", "no_streams_left", "read_out")


class Streams:
    """Attributes:
    log: What its generators and readers came to.
    made: Items yielded by `count` and `forever`.
    gate: `guarded` waits for it.
    """

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.made = 0
        self.gate = asyncio.Event()

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            self.made += 1
            yield number

    async def forever(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                self.made += 1
                yield number
                number += 1
        finally:
            self.log.append("closed")

    async def quiet(self, seconds: float) -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.sleep(seconds)
            yield "last"
        finally:
            self.log.append("closed")

    async def tidy(self) -> AsyncIterator[int]:
        """Its cleanup awaits."""
        try:
            while True:
                yield 1
        finally:
            self.log.append("cleaning")
            await asyncio.sleep(1)
            self.log.append("clean")

    async def guarded(self) -> AsyncIterator[int]:
        try:
            await self.gate.wait()
            yield 1
        finally:
            self.log.append("closed")

    async def nothing(self) -> AsyncIterator[int]:
        return
        yield 1

    async def fails(self, after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise ZeroDivisionError("over there")

    async def refuses(self, after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise fdn.Denied("no more for you")

    async def big(self, count: int, size: int) -> AsyncIterator[bytes]:
        for number in range(count):
            self.made += 1
            yield bytes([number]) * size

    async def one(self) -> int:
        return 1

    def inline(self) -> int:
        return 2

    async def sum(self, items: AsyncIterator[int]) -> int:
        self.log.append("begun")
        total = 0
        try:
            async for item in items:
                total += item
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise
        return total

    async def first(self, items: AsyncIterator[int]) -> int:
        async for item in items:
            return item
        return -1

    async def ignores(self, items: AsyncIterator[int]) -> str:
        await asyncio.sleep(1)
        return "done"

    async def scaled(self, by: int, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield by * item

    async def headers(self, context: fdn.Context) -> AsyncIterator[Any]:
        yield dict(context.headers)
        yield context.trace_id


def app(streams: Streams, **options: Any) -> fdn.App:
    made = fdn.App()
    made.service("s", **options)(streams)
    return made


def no_streams_left(*nodes: fdn.Node) -> bool:
    """Whether nothing of any stream is left on these nodes: no call, no job, no task that sends items."""
    tasks = [task.get_name() for task in asyncio.all_tasks()]
    return not any(name.startswith("fdn-items") for name in tasks) and all(
        node._streams.count == node._dispatcher.stats().running == node._gateway.count == 0 for node in nodes
    )


async def read_out(stream: AsyncIterator[Any], pause_s: float = 0.0) -> tuple[list[Any], Exception | None]:
    """All that comes of it, and the error that it ends with, or None."""
    items: list[Any] = []
    try:
        async for item in stream:
            items.append(item)  # what came before an error must not be lost with it
            await asyncio.sleep(pause_s)
    except Exception as error:
        return items, error
    return items, None
