"""What a node whose user code holds its loop, or the GIL, does to a cluster: measured on three processes.

A victim is made to block: in `time.sleep`, in a Python loop, in C code that keeps the GIL (sorting floats), in the
garbage collector. Meanwhile a driver calls a service that all nodes offer, pings the victim's coordination channel, and
counts who suspects whom.
"""

import asyncio
import contextlib
import dataclasses
import gc
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from fdn.app import App
from fdn.context import Context
from fdn.errors import Error, Unreachable
from fdn.local.cluster import ClusterPlan, LocalCluster
from fdn.messaging.retry import Retry
from fdn.node import Node

__all__ = ("SCENARIOS", "Outcome", "app", "measure")

app = App("stall")
_CALL_PAUSE_S = 0.01
_PING_PAUSE_S = 0.02
_CALL_TIMEOUT_S = 1.0
_BLOCK_TIMEOUT_S = 120.0
_QUIET_S = 1.0  # measured after the victim is back, so that late consequences count too

# name -> (method of the service below, argument)
SCENARIOS: dict[str, tuple[str, float]] = {
    "idle": ("sleep", 0.0),
    "sleep": ("sleep", 5.0),
    "python_loop": ("loop", 5.0),
    "c_sort": ("sort", 4_000_000),
    "gc_collect": ("collect", 3_000_000),
}


@app.service("stall")
class Stall:
    """Plain `def` methods: they run on the node's own loop, which is the point here."""

    def sleep(self, seconds: float) -> float:
        """Block without the GIL."""
        return _timed(lambda: time.sleep(seconds))

    def loop(self, seconds: float) -> float:
        """Block in Python code, which gives the GIL away every few milliseconds."""

        def spin() -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                math.sqrt(2.0)

        return _timed(spin)

    def sort(self, count: float) -> float:
        """Block in C code that never gives the GIL away; building the list is not counted."""
        chance = random.Random(1)
        floats = [chance.random() for _ in range(int(count))]
        return _timed(floats.sort)

    def collect(self, count: float) -> float:
        """Block in the garbage collector, over this many objects; making them is not counted."""
        gc.disable()
        try:
            objects: list[list[Any]] = [[] for _ in range(int(count))]
            return _timed(gc.collect)
        finally:
            objects.clear()
            gc.enable()

    def where(self, context: Context) -> str:
        """The node that answers."""
        return context.node


@dataclasses.dataclass
class Outcome:
    """What one scenario did.

    Attributes:
        blocked_s: How long the handler was stuck, as it measured itself; None if it was declared dead meanwhile.
        suspicions: Suspicions raised by any node meanwhile.
        deaths: Deaths declared by any node meanwhile.
        avoided_after_ms: From the call that blocks to the driver's view saying `stalled`; None if it never did.
        calls: Calls made meanwhile to a service that all nodes offer, one about every 10 ms.
        calls_failed: Those of them that raised.
        calls_to_victim: Those answered by the victim.
        call_p50_ms: Median duration of the calls.
        call_p99_ms: 99th percentile.
        call_max_ms: The longest.
        control_p50_ms: Median round trip to the victim's control plane.
        control_p99_ms: 99th percentile.
        control_max_ms: The longest.
    """

    blocked_s: float | None = 0.0
    suspicions: int = 0
    deaths: int = 0
    avoided_after_ms: float | None = None
    calls: int = 0
    calls_failed: int = 0
    calls_to_victim: int = 0
    call_p50_ms: float = 0.0
    call_p99_ms: float = 0.0
    call_max_ms: float = 0.0
    control_p50_ms: float = 0.0
    control_p99_ms: float = 0.0
    control_max_ms: float = 0.0


async def measure(folder: Path, names: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Run scenarios one after another on a cluster of their own; returns name to `Outcome`, as plain values.

    Args:
        folder: For the nodes' data and logs.
        names: Of `SCENARIOS`.
        say: Told what begins.
    """
    cluster = LocalCluster(ClusterPlan(folder, cluster="fdn-stall", base_port=0, apps=("fdn.bench.stall:app",)))
    try:
        await cluster.start(2)
        async with Node(name="driver", cluster="fdn-stall", join=[node.endpoint for node in cluster.nodes]) as driver:
            results = {}
            for name in names:
                say(f"{name}: {SCENARIOS[name][0]}({SCENARIOS[name][1]:g})")
                results[name] = dataclasses.asdict(await _run(driver, *SCENARIOS[name]))
            return results
    finally:
        await cluster.close(asyncio.Event())


async def _run(driver: Node, method: str, argument: float) -> Outcome:
    outcome = Outcome()
    before = await _accusations(driver)
    call_s: list[float] = []
    ping_s: list[float] = []
    async with asyncio.TaskGroup() as group:
        side = [
            group.create_task(_call(driver, outcome, call_s)),
            group.create_task(_ping(driver, ping_s)),
            group.create_task(_watch(driver, outcome)),
        ]
        try:
            outcome.blocked_s = await driver.call(f"stall.{method}@n1", argument, timeout=_BLOCK_TIMEOUT_S)
        except Unreachable:  # it was declared dead while it was stuck, so its answer had nowhere to come to
            outcome.blocked_s = None
        await _until_alive(driver)
        await _pause(_QUIET_S)
        for task in side:
            task.cancel()
    after = await _accusations(driver)
    outcome.suspicions, outcome.deaths = after[0] - before[0], after[1] - before[1]
    outcome.call_p50_ms, outcome.call_p99_ms, outcome.call_max_ms = _spread_ms(call_s)
    outcome.control_p50_ms, outcome.control_p99_ms, outcome.control_max_ms = _spread_ms(ping_s)
    return outcome


async def _call(driver: Node, outcome: Outcome, taken_s: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        outcome.calls += 1
        try:
            node = await driver.call("stall.where", timeout=_CALL_TIMEOUT_S, retry=Retry(1))
            outcome.calls_to_victim += node == "n1"
        except Error:
            outcome.calls_failed += 1
        taken_s.append(loop.time() - started)
        await _pause(_CALL_PAUSE_S)


async def _ping(driver: Node, taken_s: list[float]) -> None:
    while True:
        started = asyncio.get_running_loop().time()
        with contextlib.suppress(Error):  # counted with the time it took to fail
            await driver.ping("n1", "coordination", timeout=60.0)
        taken_s.append(asyncio.get_running_loop().time() - started)
        await _pause(_PING_PAUSE_S)


async def _watch(driver: Node, outcome: Outcome) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while outcome.avoided_after_ms is None:
        if any(member.name == "n1" and member.state == "stalled" for member in driver.members()):
            outcome.avoided_after_ms = (loop.time() - started) * 1000
        await _pause(_PING_PAUSE_S / 4)


async def _until_alive(driver: Node) -> None:
    while not any(member.name == "n1" and member.reachable for member in driver.members()):
        await _pause(_PING_PAUSE_S)


async def _accusations(driver: Node) -> tuple[int, int]:
    """Suspicions and deaths counted so far by the driver and by every node."""
    suspicions = deaths = 0
    for member in driver.members():
        if member.status in ("alive", "suspect"):
            stats = await driver.ask(member.node, "fdn.node.stats")
            suspicions += stats["swim"]["suspicions"]
            deaths += stats["swim"]["deaths"]
    return suspicions, deaths


def _pause(seconds: float) -> Coroutine[Any, Any, None]:
    return asyncio.sleep(seconds)


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _spread_ms(taken_s: list[float]) -> tuple[float, float, float]:
    ordered = sorted(taken_s)
    if not ordered:
        return 0.0, 0.0, 0.0
    return tuple(
        round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 2) for share in (0.5, 0.99, 1.0)
    )  # type: ignore[return-value]
