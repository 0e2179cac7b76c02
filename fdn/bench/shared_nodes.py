"""Two fdn nodes on one host that pass shared memory, as `fdn bench shared` drives them.

The work: the sender fills memory with fresh bytes, the receiver reads every one of them and adds them up.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np

from fdn.app import App
from fdn.bench.figures import latency
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import exchange, orders_on_loop
from fdn.node import Node
from fdn.settings import Settings

__all__ = ("fill", "read", "receiver", "sender")

_TIMEOUT_S: Final = 60.0
_UNDER_WAY: Final = 4  # as many as bare pyzmq may have queued


def fill(buffer: Any, number: int) -> None:
    """Write every byte."""
    np.frombuffer(buffer, np.uint8)[:] = number % 251


def read(buffer: Any) -> int:
    """Read every byte; returns their sum, by eights. The size is a multiple of eight."""
    return int(np.frombuffer(buffer, np.uint64).sum(dtype=np.uint64))


def receiver(endpoint: str) -> None:
    """Serve at `endpoint` until there are no more orders."""
    app = App("bench")

    @app.service("bench.read")
    def read_all(data: memoryview) -> int:
        return read(data)

    @app.service("bench.size")
    def size_of(data: memoryview) -> int:
        return len(data)

    async def main() -> None:
        async with Node(app, settings=Settings(name="receiver", cluster=CLUSTER, bind=endpoint)) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def sender(endpoint: str, join: str) -> None:
    """Join the receiver, and pass memory as ordered."""

    async def main() -> None:
        async with Node(settings=Settings(name="sender", cluster=CLUSTER, bind=endpoint, join=(join,))) as node:
            work: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"pass": _pass, "handles": _handles}
            await orders_on_loop({}, lambda order: work[order.pop("order")](node, **order))

    run_loop(main)


async def _pass(node: Node, size: int, count: int, again: bool) -> dict[str, Any]:
    """Fresh bytes each time, filled in here and read there; some under way at once.

    Args:
        node: The sender.
        size: Bytes of each.
        count: How many.
        again: Whether memory is filled anew as soon as its call was answered, by when nobody over there looks at it any
            more; otherwise each is in fresh memory, which the system has to find and to clear.
    """
    passed_before = (await node.stats()).shared.passed
    under_way: deque[tuple[Any, asyncio.Task[int]]] = deque()
    received = 0

    async def oldest() -> Any:
        nonlocal received
        buffer, answered = under_way.popleft()
        await answered
        received += 1
        return buffer

    started = time.perf_counter()
    for number in range(count):
        buffer = await oldest() if len(under_way) == _UNDER_WAY else None
        if buffer is None or not again:
            buffer = node.shared_buffer(size)
        fill(buffer, number)
        call = node.call("bench.read", buffer, returns=int, timeout=_TIMEOUT_S)
        under_way.append((buffer, asyncio.create_task(call)))
        del buffer
        await asyncio.sleep(0)
    while under_way:
        await oldest()
    elapsed_s = time.perf_counter() - started
    passed = (await node.stats()).shared.passed - passed_before
    return {"sent": count, "received": received, "elapsed_s": elapsed_s, "as_handles": passed}


async def _handles(node: Node, size: int, count: int) -> dict[str, Any]:
    """Round trips that pass one filled piece of memory, which nobody looks at."""
    buffer = await asyncio.to_thread(node.shared_buffer, size)
    await asyncio.to_thread(fill, buffer, 1)
    durations_s = []
    for _ in range(count + 1):
        started = time.perf_counter()
        assert await node.call("bench.size", buffer, returns=int, timeout=_TIMEOUT_S) == size
        durations_s.append(time.perf_counter() - started)
    return latency(durations_s[1:])  # the first one maps it
