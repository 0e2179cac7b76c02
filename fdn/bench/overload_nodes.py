"""A node whose service costs processor time, and nodes that ask more of it than it can do, each a process."""

import asyncio
import collections
import functools
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fdn.app import App
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.open_loop import offer, poisson
from fdn.bench.worker import exchange, orders_on_loop, until
from fdn.node import Node
from fdn.settings import Settings

__all__ = ("client", "server", "spin")

_WORKERS: Final = 4  # of the `async def` handler
_STILL_S: Final = 1.0
_LOOK_S: Final = 0.002
_TALLY_TIMEOUT_S: Final = 60.0
_WAITING_CASTS_MAX: Final = 4096  # a client that has so many waiting to be taken turns further ones away itself


def spin(seconds: float) -> None:
    """Use the processor for so long."""
    ends_at = time.thread_time() + seconds
    while time.thread_time() < ends_at:
        pass


def server(endpoint: str, work_s: float) -> None:
    """Serve at `endpoint` until there are no more orders."""
    app = App("bench")
    done: collections.Counter[str] = collections.Counter()

    @app.service("bench.def")
    def work(number: int) -> int:
        spin(work_s)
        done["def"] += 1
        return number

    @app.service("bench.async", concurrency=_WORKERS)
    async def work_async(number: int) -> int:
        spin(work_s)
        done["async"] += 1
        return number

    @app.service("bench.done")
    async def tally(handler: str, expected: int) -> int:
        """Requests carried out since the start, when all have been, or no more are."""
        last, last_at = done[handler], time.monotonic()
        while done[handler] < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if done[handler] != last:
                last, last_at = done[handler], time.monotonic()
        return done[handler]

    async def main() -> None:
        async with Node(app, settings=Settings(name="server", cluster=CLUSTER, bind=endpoint)) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def client(endpoint: str, join: str, seed: int) -> None:
    """Join the server, and ask as ordered."""

    async def main() -> None:
        settings = Settings(name=f"client-{seed}", cluster=CLUSTER, bind=endpoint, join=(join,))
        async with Node(settings=settings) as node:
            work: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
                "capacity": _capacity,
                "calls": functools.partial(_calls, rng=random.Random(seed)),
                "casts": functools.partial(_casts, rng=random.Random(seed)),
                "done": _done,
            }
            await orders_on_loop({}, lambda order: work[order.pop("order")](node, **order))

    run_loop(main)


async def _capacity(node: Node, handler: str, seconds: float, in_flight: int) -> dict[str, Any]:
    """A closed loop: so many always under way."""
    numbers, answered = until(1 << 62, seconds, 1), 0

    async def keep_calling() -> None:
        nonlocal answered
        for number in numbers:
            await node.call(f"bench.{handler}", number, returns=int)
            answered += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(keep_calling())
    return {"answered": answered, "elapsed_s": time.perf_counter() - started}


async def _calls(
    node: Node, handler: str, rate: float, seconds: float, deadline_s: float, rng: random.Random
) -> dict[str, Any]:
    """What counts begins after a deadline's time: until then queues fill, and that is no steady state yet."""
    request = functools.partial(node.call, f"bench.{handler}", 1, returns=int, timeout=deadline_s)
    offered = await offer(request, poisson(rate, deadline_s + seconds, rng), window=(deadline_s, deadline_s + seconds))
    return {"outcomes": dict(offered.outcomes), "durations_s": offered.durations_s}


async def _casts(node: Node, handler: str, rate: float, seconds: float, rng: random.Random) -> dict[str, Any]:
    """Casts are promised to nobody until `await cast(...)` has returned; from then on to a link that stays."""
    request = functools.partial(node.cast, f"bench.{handler}", 1)
    offered = await offer(request, poisson(rate, seconds, rng), _WAITING_CASTS_MAX)
    return {"outcomes": dict(offered.outcomes)}


async def _done(node: Node, handler: str, expected: int) -> dict[str, Any]:
    wanted = {"handler": handler, "expected": expected}
    return {"done": await node.call("bench.done", wanted, returns=int, timeout=_TALLY_TIMEOUT_S)}
