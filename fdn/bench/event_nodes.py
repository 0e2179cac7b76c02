"""One node that publishes and others that subscribe, each a process, as `fdn bench events` drives them.

A subscription is read in one of three forms: by `async for`, by an `async def` handler, or by a plain `def`. All do the
same work with an event, which is to count it.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import orders_on_loop, until
from fdn.messaging.subscriptions import Subscription
from fdn.node import Node
from fdn.settings import Settings

__all__ = ("FORMS", "Tally", "publisher", "subscriber")

FORMS: Final = ("iterator", "callback", "function")
_SUBJECT: Final = "bench.events"
_STILL_S: Final = 1.0  # without a further event for this long, the missing ones are lost
_LOOK_S: Final = 0.0005


class Tally:
    """How many events have come, and when the last of those that were expected did."""

    def __init__(self) -> None:
        self.count = 0
        self._used_s = time.process_time()

    async def wait(self, expected: int) -> dict[str, Any]:
        """Return when all have come, or no more come."""
        last, last_at = self.count, time.monotonic()
        while self.count < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if self.count != last:
                last, last_at = self.count, time.monotonic()
        return {
            "received": self.count,
            "ended_at": last_at if self.count < expected else time.monotonic(),
            "used_s": time.process_time() - self._used_s,
        }


class _Readers:
    """The subscriptions of one process, for one round."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tally = Tally()
        self._subscriptions: list[Subscription[Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def subscribe(self, form: str, count: int) -> dict[str, Any]:
        self._tally = tally = Tally()

        async def callback(data: bytes) -> None:
            tally.count += 1

        def function(data: bytes) -> None:
            tally.count += 1

        async def read(subscription: Subscription[Any]) -> None:
            async for _ in subscription:
                tally.count += 1

        handler: Callable[..., Any] | None = {"callback": callback, "function": function}.get(form)
        for _ in range(count):
            subscription = await self._node.subscribe(_SUBJECT, handler, payload=bytes)
            self._subscriptions.append(subscription)
            if handler is None:
                self._tasks.append(asyncio.create_task(read(subscription)))
        return {"unaware": sum(len(each.unaware) for each in self._subscriptions)}

    async def tally(self, expected: int) -> dict[str, Any]:
        return await self._tally.wait(expected)

    async def unsubscribe(self) -> dict[str, Any]:
        for subscription in self._subscriptions:
            await subscription.close()  # which ends its reader
        await asyncio.gather(*self._tasks)
        self._subscriptions.clear()
        self._tasks.clear()
        return {}


def subscriber(endpoint: str, join: str) -> None:
    """Join the publisher, and subscribe as ordered."""

    async def main() -> None:
        async with Node(settings=Settings(cluster=CLUSTER, bind=endpoint, join=(join,))) as node:
            readers = _Readers(node)
            await orders_on_loop({}, lambda order: getattr(readers, order.pop("order"))(**order))
            await readers.unsubscribe()

    run_loop(main)


def publisher(endpoint: str) -> None:
    """Publish as ordered, to whoever has subscribed."""

    async def main() -> None:
        async with Node(settings=Settings(name="publisher", cluster=CLUSTER, bind=endpoint)) as node:
            source = _Source(node)
            await orders_on_loop({"endpoint": node.endpoint}, lambda order: source.publish(**order))

    run_loop(main)


class _Source:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def publish(self, order: str, size: int, seconds: float, count: int | None) -> dict[str, Any]:
        data, publish, number = bytes(size), self._node.publish, -1
        used_s = time.process_time()
        started_at = time.monotonic()
        for number in until(count or sys.maxsize, seconds, 256):  # noqa: B007 - read after the loop
            await publish(_SUBJECT, data)
        return {"sent": number + 1, "started_at": started_at, "used_s": time.process_time() - used_s}
