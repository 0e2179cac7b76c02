"""Two fdn nodes in two processes that exchange large bodies, as `fdn bench large` drives them."""

import asyncio
import sys
import time
from typing import Any, Final

from fdn.app import App
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import exchange, orders_on_loop, until
from fdn.node import Node
from fdn.settings import DataSettings, Settings

__all__ = ("receiver", "sender")

_STILL_S: Final = 2.0
_LOOK_S: Final = 0.0005
_TIMEOUT_S: Final = 60.0
_BODY_BYTES_MAX: Final = 1024 * 1024 * 1024  # 16 MiB of data are a few bytes more on the wire, and by default refused


def receiver(endpoint: str, advertise: str = "", lanes: int = 1) -> None:
    """Serve at `endpoint` until there are no more orders; advertise another, and use so many lanes."""
    app = App("bench")
    received = {"count": 0, "bytes": 0}

    @app.service("bench.put")
    def put(data: memoryview) -> int:
        received["count"] += 1
        received["bytes"] += len(data)
        return len(data)

    @app.service("bench.arrived")
    async def arrived(expected: int) -> tuple[int, int, float]:
        """Messages and bytes handled since the start, and when the last of those expected had come."""
        last, last_at = received["count"], time.monotonic()
        while received["count"] < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if received["count"] != last:
                last, last_at = received["count"], time.monotonic()
        return received["count"], received["bytes"], last_at if received["count"] < expected else time.monotonic()

    async def main() -> None:
        async with Node(app, settings=_settings("receiver", endpoint, advertise, lanes)) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def sender(endpoint: str, join: str, advertise: str = "", lanes: int = 1) -> None:
    """Join the receiver, and send to it as ordered."""

    async def main() -> None:
        async with Node(settings=_settings("sender", endpoint, advertise, lanes, join)) as node:
            await orders_on_loop({}, lambda order: _send(node, **order))

    run_loop(main)


def _settings(name: str, endpoint: str, advertise: str, lanes: int, *join: str) -> Settings:
    data = DataSettings(body_bytes_max=_BODY_BYTES_MAX, parallelism=lanes)
    return Settings(name=name, cluster=CLUSTER, bind=endpoint, advertise=advertise, join=join, data=data)


async def _send(
    node: Node, order: str, size: int, seconds: float, count: int | None, in_flight: int = 4, keyed: bool = False
) -> dict[str, Any]:
    """One round: `cast`, each awaited singly; or `call`, so many under way, each answered with the length.

    With `keyed`, each of those that call has a partition key of its own, which spreads them over the lanes.
    """
    data, numbers = bytes(size), until(count or sys.maxsize, seconds, 1)
    before, bytes_before, started_at = await _arrived(node, 0)
    sent = 0

    async def keep_sending(key: str | None) -> None:
        nonlocal sent
        for _ in numbers:  # one source for all: together they send `count`
            if order == "cast":
                await node.cast("bench.put", data)
            else:
                await node.call("bench.put", data, returns=int, timeout=_TIMEOUT_S, key=key)
            sent += 1

    async with asyncio.TaskGroup() as group:
        for number in range(1 if order == "cast" else in_flight):
            group.create_task(keep_sending(f"sender-{number}" if keyed else None))
    number, bytes_, ended_at = await _arrived(node, before + sent)
    return {
        "sent": sent,
        "received": number - before,
        "bytes": bytes_ - bytes_before,
        "elapsed_s": ended_at - started_at,
    }


async def _arrived(node: Node, expected: int) -> tuple[int, int, float]:
    count, bytes_, at = await node.call("bench.arrived", expected, timeout=_TIMEOUT_S)
    return count, bytes_, at
