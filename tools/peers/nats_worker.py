"""A client of NATS that publishes, or subscribes, as `tools.peers.events` orders: the twin of `fdn.bench.event_nodes`.

It runs by itself in the peers' environment, with nothing but nats-py: one JSON object a line each way. nats-py is used
as its own examples use it, with its defaults: an `async def` callback, or `async for` over the subscription.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ("main",)

_SUBJECT = "bench.events"
_STILL_S = 1.0
_LOOK_S = 0.0005
_nats: Any = importlib.import_module("nats") if __name__ == "__main__" else None


class _Readers:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._count = 0
        self._used_s = 0.0
        self._subscriptions: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def subscribe(self, form: str, count: int) -> dict[str, Any]:
        self._count = 0

        async def callback(message: Any) -> None:
            self._count += 1

        async def read(subscription: Any) -> None:
            async for _ in subscription.messages:
                self._count += 1

        for _ in range(count):
            if form == "callback":
                self._subscriptions.append(await self._client.subscribe(_SUBJECT, cb=callback))
            else:
                subscription = await self._client.subscribe(_SUBJECT)
                self._subscriptions.append(subscription)
                self._tasks.append(asyncio.create_task(read(subscription)))
        await self._client.flush()  # the server knows of them
        self._used_s = time.process_time()
        return {}

    async def tally(self, expected: int) -> dict[str, Any]:
        last, last_at = self._count, time.monotonic()
        while self._count < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if self._count != last:
                last, last_at = self._count, time.monotonic()
        ended_at = last_at if self._count < expected else time.monotonic()
        return {"received": self._count, "ended_at": ended_at, "used_s": time.process_time() - self._used_s}

    async def unsubscribe(self) -> dict[str, Any]:
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._subscriptions.clear()
        self._tasks.clear()
        return {}


class _Source:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def publish(self, size: int, count: int) -> dict[str, Any]:
        data, publish = bytes(size), self._client.publish
        used_s, started_at = time.process_time(), time.monotonic()
        for _ in range(count):
            await publish(_SUBJECT, data)
        await self._client.flush()
        return {"sent": count, "started_at": started_at, "used_s": time.process_time() - used_s}


async def _work(role: str, server: str) -> None:
    client = await _nats.connect(server)
    whose = _Source(client) if role == "publisher" else _Readers(client)
    answer: dict[str, Any] = {}
    while (order := await asyncio.to_thread(_exchange, answer)) is not None:
        carry_out: Callable[..., Awaitable[dict[str, Any]]] = getattr(whose, order.pop("order"))
        answer = await carry_out(**order)
    await client.close()


def _exchange(answer: dict[str, Any]) -> dict[str, Any] | None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def main() -> None:
    """Role and arguments are on the command line."""
    asyncio.run(_work(sys.argv[1], **json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
