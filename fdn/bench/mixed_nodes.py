"""Two fdn nodes, each a process: coordination round trips on a fixed schedule, while the data channel is loaded.

The round trips are made where Raft and the failure detector live: from the control plane's loop of one node to that of
the other. The load is made where users make it: by `await node.cast(...)` on the other loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fdn.app import App
from fdn.bench.metronome import Metronome
from fdn.bench.nodes import CLUSTER, run_loop
from fdn.bench.worker import exchange, orders_on_loop
from fdn.errors import Error
from fdn.node import Node
from fdn.settings import Settings
from transports.channel import Channel

__all__ = ("ANSWER_TIMEOUT_S", "receiver", "sender")

ANSWER_TIMEOUT_S: Final = 10.0  # what has not been answered then counts as late by that much
_STILL_S: Final = 2.0
_LOOK_S: Final = 0.002
_TALLY_TIMEOUT_S: Final = 60.0
_STUCK_BYTES: Final = 1024 * 1024


def receiver(endpoint: str, name: str, join: str = "") -> None:
    """Serve at `endpoint` until there are no more orders."""
    app = App("bench")
    received = {"bytes": 0, "count": 0}

    @app.service("bench.bulk")
    def bulk(data: memoryview) -> None:
        received["bytes"] += len(data)
        received["count"] += 1

    @app.service("bench.bulk-tally")
    async def bulk_tally(expected: int) -> tuple[int, int, float]:
        """Objects and bytes handled since the start, and when the last of those expected had come."""
        last, last_at = received["count"], time.monotonic()
        while received["count"] < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if received["count"] != last:
                last, last_at = received["count"], time.monotonic()
        return received["count"], received["bytes"], last_at if received["count"] < expected else time.monotonic()

    @app.service("bench.stuck", concurrency=1)
    class Stuck:
        """A consumer that stops reading: whoever comes first holds up all others."""

        def __init__(self) -> None:
            self._ends_at: float | None = None

        async def take(self, seconds: float, padding: bytes) -> None:
            if self._ends_at is None:
                self._ends_at = time.monotonic() + seconds
            await asyncio.sleep(max(0.0, self._ends_at - time.monotonic()))

    @app.service("bench.block")
    def block(seconds: float) -> None:
        """User code that holds its loop, and the GIL as much as Python code can."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            pass

    async def main() -> None:
        settings = Settings(name=name, cluster=CLUSTER, bind=endpoint, join=(join,) if join else ())
        async with Node(app, settings=settings) as node:
            await asyncio.to_thread(exchange, {"endpoint": node.endpoint})

    run_loop(main)


def sender(endpoint: str, join: str) -> None:
    """Join the receiver, and send as ordered."""

    async def main() -> None:
        async with Node(settings=Settings(name="sender", cluster=CLUSTER, bind=endpoint, join=(join,))) as node:
            source = _Source(node)
            await orders_on_loop({}, lambda order: source.run(**order))

    run_loop(main)


class _Source:
    """The side that measures."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loads: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "idle": self._idle,
            "saturated": self._saturated,
            "reader_stopped": self._reader_stopped,
            "peer_stopped": self._peer_stopped,
            "loop_blocked": self._loop_blocked,
        }

    async def run(
        self, order: str, rate: float, seconds: float, senders: int = 1, size: int = _STUCK_BYTES
    ) -> dict[str, Any]:
        """One round: round trips at this rate for so long, under the load that `order` names.

        Returns:
            `durations_s`, each from when it was due until its answer; `unanswered` of them; and what the load says.
        """
        peer = next(member.node for member in self._node.members() if member.name == "receiver")
        metronome = await asyncio.to_thread(Metronome, rate, seconds)
        try:
            probing = asyncio.create_task(self._node._host.run(_round_trips(self._node, peer, metronome)))
            said = await self._loads[order](metronome.begins_at + seconds, senders, size)
            return {**await probing, **said}
        finally:
            metronome.close()

    async def _idle(self, ends_at: float, senders: int, size: int) -> dict[str, Any]:
        return {}

    async def _saturated(self, ends_at: float, senders: int, size: int) -> dict[str, Any]:
        before, bytes_before, started_at = await self._tally(0)
        sent = await self._casts("bench.bulk@receiver", bytes(size), ends_at, senders)
        count, bytes_, ended_at = await self._tally(before + sent)
        return {
            "sent": sent,
            "received": count - before,
            "bulk_mb_s": (bytes_ - bytes_before) / (ended_at - started_at) / 1e6,
        }

    async def _reader_stopped(self, ends_at: float, senders: int, size: int) -> dict[str, Any]:
        message = {"seconds": ends_at - time.monotonic(), "padding": bytes(size)}
        return await self._held_up("bench.stuck.take@receiver", message, ends_at, senders)

    async def _peer_stopped(self, ends_at: float, senders: int, size: int) -> dict[str, Any]:
        return await self._held_up("bench.bulk@stopped", bytes(size), ends_at, senders)

    async def _loop_blocked(self, ends_at: float, senders: int, size: int) -> dict[str, Any]:
        await self._node.cast("bench.block@receiver", ends_at - time.monotonic())
        return {}

    async def _casts(self, target: str, payload: Any, ends_at: float, senders: int) -> int:
        """Cast from so many tasks, each as soon as its last one has been taken. Returns how many were."""
        sent = 0

        async def keep_sending() -> None:
            nonlocal sent
            while time.monotonic() < ends_at:
                try:
                    await self._node.cast(target, payload)
                    sent += 1
                except Error:  # the stopped peer is declared dead meanwhile, and its name is gone
                    await asyncio.sleep(_LOOK_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(senders):
                group.create_task(keep_sending())
        return sent

    async def _held_up(self, target: str, payload: Any, ends_at: float, senders: int) -> dict[str, Any]:
        """The same to a receiver that reads no more: a sender waits for as long as that does."""
        try:
            async with asyncio.timeout_at(ends_at + _LOOK_S):
                await self._casts(target, payload, ends_at, senders)
        except TimeoutError:
            return {"held_up": True}
        return {"held_up": False}

    async def _tally(self, expected: int) -> tuple[int, int, float]:
        count, bytes_, at = await self._node.call("bench.bulk-tally@receiver", expected, timeout=_TALLY_TIMEOUT_S)
        return count, bytes_, at


async def _round_trips(node: Node, peer: str, metronome: Metronome) -> dict[str, Any]:
    """Runs on the control plane's loop. One round trip for each tick, however many are under way."""
    loop = asyncio.get_running_loop()
    durations_s: list[float] = []
    unanswered = 0
    ended = asyncio.Event()
    under_way: set[asyncio.Task[None]] = set()

    async def one(due_at: float) -> None:
        nonlocal unanswered
        try:
            await node._control.ping(peer, Channel.COORDINATION, ANSWER_TIMEOUT_S)
        except Error:
            unanswered += 1
        durations_s.append(time.monotonic() - due_at)

    def on_ticks() -> None:
        ticks = metronome.read()
        if ticks is None:
            loop.remove_reader(metronome.fileno())
            ended.set()
            return
        for due_at in ticks:
            task = loop.create_task(one(due_at))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    loop.add_reader(metronome.fileno(), on_ticks)
    await ended.wait()
    await asyncio.gather(*under_way)
    return {"durations_s": durations_s, "unanswered": unanswered}
