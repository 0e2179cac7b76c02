"""A node that serves and calls others of its kind, a process each, as `fdn bench load` drives them."""

import asyncio
import random
import time
from typing import Any, Final

from fdn.app import App
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.open_loop import offer, poisson
from fdn.bench.worker import orders_on_loop, until
from fdn.errors import NotFound, Unreachable
from fdn.node import Node
from fdn.settings import Settings

__all__ = ("member",)

_LOOK_S: Final = 0.01


def member(endpoint: str, name: str, seed: int, join: str = "") -> None:
    """Join, serve, and call as ordered."""
    app = App("bench")

    @app.service("bench.echo")
    def echo(data: bytes) -> bytes:
        return data

    @app.service("bench.bulk")
    def bulk(data: memoryview) -> None:
        """Counted by the sender: it is held up by what has not been taken here."""

    async def main() -> None:
        settings = Settings(name=name, cluster=CLUSTER, bind=endpoint, join=(join,) if join else ())
        async with Node(app, settings=settings) as node:
            calls = _Calls(node, random.Random(seed))
            await orders_on_loop({"endpoint": node.endpoint}, lambda order: getattr(calls, order.pop("order"))(**order))

    run_loop(main)


class _Calls:
    """Calls of one node to all the others, each to one by chance."""

    def __init__(self, node: Node, rng: random.Random) -> None:
        self._node = node
        self._rng = rng
        self._targets: list[str] = []

    async def ready(self, names: list[str]) -> dict[str, Any]:
        """Call each of the others, once it is known here."""
        self._targets = [f"bench.echo@{name}" for name in names if name != self._node.name]
        for target in self._targets:
            called = False
            while not called:
                try:
                    await self._node.call(target, b"", returns=bytes)
                    called = True
                except (NotFound, Unreachable):
                    await asyncio.sleep(_LOOK_S)
        return {}

    async def capacity(self, size: int, seconds: float, in_flight: int) -> dict[str, Any]:
        """A closed loop: so many always under way."""
        numbers, answered = until(1 << 62, seconds, 1), 0
        data = bytes(size)

        async def keep_calling() -> None:
            nonlocal answered
            for _ in numbers:
                await self._call(data)
                answered += 1

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(keep_calling())
        return {"answered": answered, "elapsed_s": time.perf_counter() - started}

    async def calls(
        self, size: int, rate: float, seconds: float, bulk_to: str = "", bulk_size: int = 0, bulk_mb_s: float = 0.0
    ) -> dict[str, Any]:
        """An open loop; and objects of `bulk_size` to one member at that rate, if there is a member."""
        data, bulk_sent, in_time = bytes(size), 0, 0
        ends_at = time.monotonic() + seconds

        async def request() -> None:
            nonlocal in_time
            await self._call(data)
            in_time += time.monotonic() <= ends_at

        async def send_bulk() -> None:
            nonlocal bulk_sent
            body, started = bytes(bulk_size), time.monotonic()
            while True:
                await self._node.cast(f"bench.bulk@{bulk_to}", body)
                bulk_sent += 1
                due_at = started + bulk_sent * bulk_size / (bulk_mb_s * 1e6)
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))

        bulk = asyncio.create_task(send_bulk()) if bulk_to else None
        offered = await offer(request, poisson(rate, seconds, self._rng))
        if bulk is not None:
            bulk.cancel()
            await asyncio.gather(bulk, return_exceptions=True)
        return {
            "outcomes": dict(offered.outcomes),
            "in_time": in_time,  # answered before the last one was due
            "durations_us": [round(duration_s * 1e6) for duration_s in offered.durations_s],
            "bulk_bytes": bulk_sent * bulk_size,
        }

    async def _call(self, data: bytes) -> None:
        await self._node.call(self._rng.choice(self._targets), data, returns=bytes)
