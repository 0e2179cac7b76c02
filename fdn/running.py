"""From a node to a process: run it until somebody says stop.

    first SIGINT or SIGTERM   drain: tell the cluster, finish what has begun, leave, exit 0
    the second                end at once, exit 130; what was under way is lost, and the peers find the node dead
    SIGUSR1                   write members and counters to the log
    SIGHUP                    as the caller says; ignored when it says nothing

A signal before the node has started gives up the start, and exits with 130.
"""

import asyncio
import dataclasses
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

from fdn.app import App
from fdn.errors import Error
from fdn.node import Node

__all__ = ("INTERRUPTED", "SWITCH_INTERVAL_S", "run", "run_node")

_log = logging.getLogger(__name__)
INTERRUPTED: Final = 130  # the exit status after an interrupt, as shells give it

# How long a thread may hold the GIL while another waits for it. With a busy user thread, the control plane's round trip
# at the 99th percentile is 14 ms at Python's 5 ms, and 5.6 ms at 1 ms. It is the process's to choose, so only processes
# that are ours set it (`fdn node run`, the bench); the library leaves it alone.
SWITCH_INTERVAL_S: Final = 0.001


def run_node(
    node: Node,
    *,
    on_ready: Callable[[Node], None] = lambda node: None,
    on_hangup: Callable[[], None] | None = None,
    say: Callable[[str], None] = _log.info,
) -> int:
    """Start a node and serve until it has stopped: by a signal, or by `fdn leave`. For the main thread.

    Args:
        node: A node that has not been started.
        on_ready: Called once, when it runs.
        on_hangup: Called on SIGHUP, on the event loop.
        say: Told in a sentence what a signal begins.

    Returns:
        The exit status: 0 after draining, `INTERRUPTED` when the start was given up.

    Raises:
        Error: The node could not start.
    """
    return asyncio.run(_Process(node, on_ready, on_hangup, say).run())


def run(*apps: App, **settings: Any) -> None:
    """Run a node with these apps until Ctrl-C or SIGTERM; see `App.run`."""
    _check_place()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        status = run_node(Node(*apps, **settings))
    except Error as error:
        lines = [f"error: {error.message}"] + ([f"hint: {error.hint}"] if error.hint else [])
        sys.stderr.write("\n".join(lines) + "\n")
        status = error.code
    if status:
        raise SystemExit(status)


def _check_place() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise Error("App.run() has a loop of its own, and one runs here", hint="use `async with fdn.Node(app)` on it")
    if threading.current_thread() is not threading.main_thread():
        raise Error("App.run() takes signals, which only the main thread can", hint="use `fdn.sync.Node` in a thread")


class _Process:
    """The life of one process around one node."""

    def __init__(
        self,
        node: Node,
        on_ready: Callable[[Node], None],
        on_hangup: Callable[[], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self._node = node
        self._on_ready = on_ready
        self._on_hangup = on_hangup
        self._say = say
        self._asked = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        self._loop = asyncio.get_running_loop()
        former = self._take_signals()
        self._starting = asyncio.create_task(self._node.start())
        try:
            await asyncio.wait([self._starting])
            if self._starting.cancelled():
                return INTERRUPTED
            self._starting.result()
            try:
                self._on_ready(self._node)
                await self._node.wait_stopped()
            finally:
                await self._node.stop()
        finally:
            for number, handler in former:
                signal.signal(number, handler)
        return 0

    def _take_signals(self) -> Sequence[tuple[int, Any]]:
        # Not `loop.add_signal_handler`: that runs on a turn of the loop, so a handler stuck in Python code would make
        # the process deaf to Ctrl-C. These run between any two bytecodes of the main thread.
        wanted: dict[int, Callable[[int, types.FrameType | None], None]] = {
            signal.SIGINT: self._on_stop,
            signal.SIGTERM: self._on_stop,
            signal.SIGUSR1: lambda number, frame: self._post(lambda: self._begin(self._dump())),
            signal.SIGHUP: lambda number, frame: self._post(self._on_hangup),
        }
        return [(number, signal.signal(number, handler)) for number, handler in wanted.items()]

    def _post(self, function: Callable[[], Any] | None) -> None:
        if function is not None:
            self._loop.call_soon_threadsafe(function)

    def _on_stop(self, number: int, frame: types.FrameType | None) -> None:
        if self._asked:
            # Nothing that could wait: user code may hold the loop, and any lock.
            os.write(2, b"ended at once\n")
            os._exit(INTERRUPTED)
        self._asked = True
        self._post(lambda: self._stop(signal.Signals(number).name))

    def _stop(self, signal_name: str) -> None:
        if not self._starting.done():
            self._say(f"{signal_name}: the start is given up")
            self._starting.cancel()
        else:
            self._say(f"{signal_name}: node {self._node.name} drains and leaves; once more to end at once")
            self._begin(self._node.stop())

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop itself keeps tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _dump(self) -> None:
        try:
            stats = dataclasses.asdict(await self._node.stats())
        except Error as error:
            _log.warning("no state to dump: %s", error)
            return
        for member in self._node.members():
            _log.info(
                "state: member %s %s",
                member.name,
                member.status,
                extra={
                    "node": member.node,
                    "state": member.state.value,
                    "reachable": member.reachable,
                    "incarnation": member.incarnation,
                    "rtt_us": member.rtt_us,
                },
            )
        for part, counters in stats.items():
            _log.info("state: counters of %s", part, extra=counters)
