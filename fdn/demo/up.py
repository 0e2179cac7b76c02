"""`fdn up`: start the nodes of this machine's cluster, show it, keep it, and end it in good order."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from fdn.demo.show import APP, Demonstration
from fdn.errors import Error
from fdn.local.cluster import ClusterPlan, LocalCluster, LocalNode, describe_end
from fdn.local.interrupt import Interrupt
from fdn.local.views import Eye, Rows, changes, is_whole, until_seen
from fdn.node import Node
from fdn.settings import Settings

__all__ = ("Order", "Voice", "up")

INTERRUPTED: Final = 130
TARGET_MISSED: Final = 10
_FORM_S: Final = 15.0
_LOOK_S: Final = 0.25  # between two looks at the members while the cluster stays up
_RESTART_PAUSE_S: Final = 0.5
_RESTART_PAUSE_MAX_S: Final = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Attributes:
        plan: The nodes.
        count: How many.
        demo: Whether to run the demonstration.
        stay: Whether to stay up afterwards, until a signal.
        restart: Whether a node that dies is started again.
        settings: For the demonstration's driver.
    """

    plan: ClusterPlan
    count: int
    demo: bool = False
    stay: bool = True
    restart: bool = False
    settings: Settings = dataclasses.field(default_factory=Settings)


@dataclasses.dataclass(frozen=True, slots=True)
class Voice:
    """Who is told what.

    Attributes:
        ready: Told once when the cluster has formed, with one row for each node and the seconds it took.
        fact: A line of the demonstration.
        note: A line for the person at the terminal.
        result: The demonstration's result, for programs.
    """

    ready: Callable[[Sequence[dict[str, Any]], float], None]
    fact: Callable[[str], None]
    note: Callable[[str], None]
    result: Callable[[dict[str, Any]], None]


async def up(order: Order, voice: Voice) -> int:
    """Do what was ordered, and end every process that was started. For the main thread.

    Returns:
        The exit status: 0, `TARGET_MISSED` when the demonstration broke a promise, `INTERRUPTED` when a signal came
        before all was done, or a second one did not let the nodes drain.

    Raises:
        Error: The cluster could not be started, or the demonstration not be carried through.
    """
    cluster = LocalCluster(_with_app(order))
    with Interrupt() as interrupt:
        status = INTERRUPTED
        try:
            work = asyncio.create_task(_work(order, cluster, voice))
            if await _finished(work, interrupt):
                status = work.result()
                if order.stay and not interrupt.first.is_set():
                    voice.note("Ctrl-C ends the cluster; once more ends it at once")
                    keep = asyncio.create_task(_keep(order, cluster, voice))
                    if await _finished(keep, interrupt):
                        status = keep.result()
        finally:
            if interrupt.first.is_set():
                voice.note("the nodes drain; Ctrl-C again ends them at once")
            in_order = await cluster.close(interrupt.second)
        return status if in_order else INTERRUPTED


async def _finished(task: "asyncio.Task[int]", interrupt: Interrupt) -> bool:
    """Wait for a task or for the first signal, whichever comes first. An interrupted task has been cancelled."""
    signalled = asyncio.create_task(interrupt.first.wait())
    try:
        await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        signalled.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Error):
                await task


async def _work(order: Order, cluster: LocalCluster, voice: Voice) -> int:
    started = time.monotonic()
    await cluster.start(order.count)
    ids = [node.id for node in cluster.nodes]
    endpoints = {node.name: node.endpoint for node in cluster.nodes}
    name = cluster.plan.cluster
    await until_seen(
        endpoints, name, lambda rows: is_whole(rows, ids), f"all {order.count} nodes in every view", _FORM_S
    )
    form_s = round(time.monotonic() - started, 3)
    voice.ready([node.describe() for node in cluster.nodes], form_s)
    return await _demonstrate(order, cluster, voice, form_s) if order.demo else 0


async def _demonstrate(order: Order, cluster: LocalCluster, voice: Voice, form_s: float) -> int:
    async with _driver(order, cluster) as driver:
        demonstration = Demonstration(cluster, driver, voice.fact, sys.stderr)
        demonstration.report.form_s = form_s
        report = await demonstration.run()
    for line in report.verdicts():
        voice.fact(line)
    voice.result(demonstration.as_object())
    voice.fact(
        "try next, in another terminal:"
        if order.stay
        else "without --exit the cluster stays up; try then, in another terminal:"
    )
    for line in demonstration.commands():
        voice.fact(f"  {line}")
    return 0 if report.all_held else TARGET_MISSED


@contextlib.asynccontextmanager
async def _driver(order: Order, cluster: LocalCluster) -> AsyncIterator[Node]:
    seeds = tuple(node.endpoint for node in cluster.nodes)
    settings = dataclasses.replace(
        order.settings, name="driver", bind="tcp://127.0.0.1:0", advertise="", data_dir="", join=seeds
    )
    async with Node(settings=settings) as driver:
        yield driver


async def _keep(order: Order, cluster: LocalCluster, voice: Voice) -> int:
    """Tell what becomes of the nodes until all have ended."""
    look = asyncio.create_task(_look(cluster, voice))
    tends = [asyncio.create_task(_tend(order, cluster, node, voice)) for node in cluster.nodes]
    try:
        await asyncio.gather(*tends)
        voice.note("every node has ended")
        return 1
    finally:
        for task in (look, *tends):
            task.cancel()
        await asyncio.gather(look, *tends, return_exceptions=True)


async def _tend(order: Order, cluster: LocalCluster, node: LocalNode, voice: Voice) -> None:
    """Return when a node has ended for good; one that left, or was told to end, is not started again."""
    pause = _RESTART_PAUSE_S
    while True:
        status = await node.ended()
        if status == 0:
            voice.note(f"{node.name} (pid {node.pid}) has left")
            return
        voice.note(f"{node.name} (pid {node.pid}) {describe_end(status)}; its log is {node.log}")
        if not order.restart:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _RESTART_PAUSE_MAX_S)
        try:
            await cluster.restart(node)
        except Error as error:
            voice.note(f"{node.name} could not be started again: {error}")
        else:
            voice.note(f"{node.name} runs again: pid {node.pid}, {node.endpoint}")


async def _look(cluster: LocalCluster, voice: Voice) -> None:
    """Follow the members as one node sees them, and tell what changes; ask the next one when that one falls silent."""
    loop = asyncio.get_running_loop()
    known: Rows = ()
    with concurrent.futures.ThreadPoolExecutor(1, "fdn-eye") as thread:
        while True:
            for node in [node for node in cluster.nodes if node.runs]:
                eye = Eye(node.endpoint, cluster.plan.cluster)
                try:
                    while node.runs:
                        rows = await loop.run_in_executor(thread, eye.look)
                        for line in changes(known, rows) if known else ():
                            voice.note(f"{node.name} sees: {line}")
                        known = rows
                        await asyncio.sleep(_LOOK_S)
                except Error:
                    pass  # silent; the others will say what they think of it
                finally:
                    thread.submit(eye.close)
            await asyncio.sleep(_LOOK_S)


def _with_app(order: Order) -> ClusterPlan:
    return dataclasses.replace(order.plan, apps=(*order.plan.apps, APP)) if order.demo else order.plan
