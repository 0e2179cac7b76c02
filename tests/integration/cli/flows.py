"""Services with streams and headers, for the commands."""

import asyncio
from collections.abc import AsyncIterator

import fdn

app = fdn.App("flows")
open_streams = 0


@app.service("flow")
class Flow:
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def endless(self) -> AsyncIterator[int]:
        """One item, and then none for a long time."""
        global open_streams
        open_streams += 1
        try:
            yield 0
            await asyncio.sleep(3600)
        finally:
            open_streams -= 1

    def open(self) -> int:
        return open_streams

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def doubled(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield 2 * item

    async def broken(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("in the middle")

    def tenant(self, context: fdn.Context) -> str:
        return context.headers.get("tenant", "")
