"""Services with streams for the nodes of these tests: `app="tests.integration.node.streams:app"`."""

import asyncio
from collections.abc import AsyncIterator

import fdn

app = fdn.App("streams")

_BLOCK = bytes(10_000)


@app.service("feed")
class Feed:
    """Produces, and says how far it is."""

    def __init__(self) -> None:
        self._made = 0
        self._open = 0

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def blocks(self) -> AsyncIterator[bytes]:
        """Without end, 10 000 bytes each."""
        self._open += 1
        try:
            while True:
                self._made += 1
                yield _BLOCK
        finally:
            self._open -= 1

    async def hold(self) -> AsyncIterator[int]:
        """One item, and then silence."""
        self._open += 1
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            self._open -= 1

    def made(self) -> int:
        return self._made

    def open(self) -> int:
        return self._open

    async def sum(self, items: AsyncIterator[int]) -> int:
        total = 0
        self._open += 1
        try:
            async for item in items:
                total += item
        finally:
            self._open -= 1
        return total


@app.service("reader")
class Reader:
    """Consumes the streams of another node."""

    def __init__(self, node: fdn.Node) -> None:
        self._node = node

    async def check(self, name: str, n: int) -> int:
        """Read `n` numbers from a node; how many came, each in its place."""
        came = 0
        async for number in self._node.stream(f"feed.count@{name}", n, returns=int):
            if number != came:
                return -1
            came += 1
        return came

    async def read(self, target: str, pause_s: float) -> None:
        """Read for ever, with a pause after each."""
        async with self._node.stream(target, timeout=3600) as stream:
            async for _ in stream:
                await asyncio.sleep(pause_s)

    async def pass_on(self, name: str) -> int:
        """A stream of one node as the request stream of our own service."""
        items = self._node.stream(f"feed.count@{name}", 10_000)
        return int(await self._node.call(f"feed.sum@{self._node.name}", items=items, timeout=60))
