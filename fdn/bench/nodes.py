"""Two fdn nodes in two processes, as the bench commands drive them.

The receiver serves a `def` handler that takes bytes and an `async def` one that takes a Struct, once for casts and once
for calls. Each cast is an `await node.cast(...)` of its own, and is counted in the handler.
"""

import asyncio
import functools
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from fdn.app import App
from fdn.bench.figures import latency
from fdn.bench.worker import exchange, orders_on_loop, until
from fdn.node import Node
from fdn.running import SWITCH_INTERVAL_S
from fdn.settings import DataSettings, Settings

__all__ = ("CLUSTER", "Sample", "receiver", "run_loop", "sender", "service_app")

CLUSTER: Final = "fdn-bench"
_STILL_S: Final = 1.0  # without a further message for this long, the missing ones are lost
_LOOK_S: Final = 0.0005
_TALLY_TIMEOUT_S: Final = 60.0


class Sample(msgspec.Struct):
    """What the `async def` handlers take."""

    seq: int
    data: bytes


def service_app() -> App:
    """The services under test, with counters of their own."""
    app = App("bench")
    received = {"def": 0, "async": 0}

    @app.service("bench.take")
    def take(data: bytes) -> None:
        received["def"] += 1

    @app.service("bench.take-async")
    async def take_async(sample: Sample) -> None:
        received["async"] += 1

    @app.service("bench.echo")
    def echo(data: bytes) -> bytes:
        return data

    @app.service("bench.echo-async")
    async def echo_async(sample: Sample) -> Sample:
        return sample

    @app.service("bench.tally")
    async def tally(handler: str, expected: int) -> tuple[int, float]:
        """Messages handled since the start, when all have come or no more come; and seconds waited in vain."""
        loop = asyncio.get_running_loop()
        last, last_at = received[handler], loop.time()
        while received[handler] < expected and loop.time() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if received[handler] != last:
                last, last_at = received[handler], loop.time()
        missing = received[handler] < expected
        return received[handler], loop.time() - last_at if missing else 0.0

    return app


def receiver(endpoint: str, latency: str = "sleep") -> None:
    """Serve at `endpoint` until there are no more orders; `latency` is that of the settings."""

    async def run() -> None:
        settings = Settings(name="receiver", cluster=CLUSTER, bind=endpoint, data=DataSettings(latency=latency))
        async with Node(service_app(), settings=settings) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(run)


def sender(endpoint: str, join: str, latency: str = "sleep") -> None:
    """Join the receiver, and cast or call it as ordered."""

    async def run() -> None:
        data = DataSettings(latency=latency)
        settings = Settings(name="sender", cluster=CLUSTER, bind=endpoint, join=(join,), data=data)
        async with Node(settings=settings) as node:
            await orders_on_loop({}, lambda order: _WORK[order.pop("order")](node, **order))

    run_loop(run)


def run_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a worker's node as `fdn node run` runs one."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(main())


async def _cast(node: Node, handler: str, size: int, seconds: float, count: int | None) -> dict[str, Any]:
    data = bytes(size)
    cast, number = node.cast, -1
    before, _ = await node.call("bench.tally", {"handler": handler, "expected": 0})
    bytes_before = await _bytes_sent(node)
    started = time.perf_counter()
    if handler == "def":
        for number in until(count or sys.maxsize, seconds, 256):  # noqa: B007 - read after the loop
            await cast("bench.take", data)
    else:
        for number in until(count or sys.maxsize, seconds, 256):
            await cast("bench.take-async", Sample(number, data))
    sent = number + 1
    wanted = {"handler": handler, "expected": before + sent}
    total, idle_s = await node.call("bench.tally", wanted, timeout=_TALLY_TIMEOUT_S)
    elapsed_s = time.perf_counter() - started - idle_s
    return {
        "sent": sent,
        "received": total - before,
        "elapsed_s": elapsed_s,
        "wire_bytes": await _bytes_sent(node) - bytes_before,
    }


async def _one_at_a_time(node: Node, handler: str, size: int, seconds: float, count: int | None) -> dict[str, Any]:
    call, clock = _call_of(node, handler, size), time.perf_counter
    durations_s: list[float] = []
    for number in until(count or sys.maxsize, seconds, 16):
        started = clock()
        await call(number)
        durations_s.append(clock() - started)
    return latency(durations_s)


async def _many(
    node: Node, handler: str, size: int, seconds: float, count: int | None, in_flight: int
) -> dict[str, Any]:
    call, numbers = _call_of(node, handler, size), until(count or sys.maxsize, seconds, 64)
    done = 0

    async def one_of_many() -> None:
        nonlocal done
        for number in numbers:  # one source for all: together they make `count` calls
            await call(number)
            done += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_of_many())
    return {"calls": done, "elapsed_s": time.perf_counter() - started}


def _call_of(node: Node, handler: str, size: int) -> Callable[[int], Awaitable[Any]]:
    data = bytes(size)
    if handler == "def":
        typed = functools.partial(node.call, "bench.echo", data, returns=bytes)
        return lambda number: typed()
    return lambda number: node.call("bench.echo-async", Sample(number, data), returns=Sample)


_WORK: Final[Mapping[str, Callable[..., Awaitable[dict[str, Any]]]]] = {
    "cast": _cast,
    "latency": _one_at_a_time,
    "calls": _many,
}


async def _bytes_sent(node: Node) -> int:
    """Of the links of the data plane."""
    links = (await node.stats()).data.links
    return sum(stats.bytes_sent for stats in links.values())
