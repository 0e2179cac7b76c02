import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fdn.app import App
from fdn.errors import Conflict, Error, Unreachable
from fdn.running import INTERRUPTED, run_node


class FakeNode:
    """The life of a node, and what was done to it."""

    name = "n1"

    def __init__(self, start: Any = None) -> None:
        self.done: list[str] = []
        self._start = start
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        self.done.append("start")
        if self._start is not None:
            try:
                await self._start()
            except asyncio.CancelledError:
                self.done.append("cancelled")
                raise

    async def stop(self) -> None:
        if not self._stopped.is_set():
            self.done.append("stop")
        self._stopped.set()

    async def wait_stopped(self) -> None:
        await self._stopped.wait()

    async def stats(self) -> None:
        raise Unreachable("no counters here")

    def members(self) -> tuple[()]:
        return ()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def run(node: FakeNode, **hooks: Any) -> int:
    return run_node(node, **hooks)  # type: ignore[arg-type]  # all of a node that running it takes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(number: int) -> None:
    before = signal.getsignal(number)
    node, said = FakeNode(), list[str]()
    assert run(node, on_ready=lambda node: send(number), say=said.append) == 0
    assert node.done == ["start", "stop"]
    assert said == [f"{signal.Signals(number).name}: node n1 drains and leaves; once more to end at once"]
    assert signal.getsignal(number) is before


def test_a_node_that_was_told_to_leave_ends_the_process() -> None:
    node = FakeNode()
    assert run(node, on_ready=lambda _: asyncio.get_running_loop().create_task(node.stop())) == 0


def test_a_signal_during_the_start_gives_it_up() -> None:
    async def start() -> None:
        send(signal.SIGTERM)
        await asyncio.Event().wait()

    node, said = FakeNode(start), list[str]()
    assert run(node, say=said.append) == INTERRUPTED
    assert node.done == ["start", "cancelled"]
    assert said == ["SIGTERM: the start is given up"]


def test_a_start_that_fails_is_raised() -> None:
    async def start() -> None:
        raise Conflict("taken")

    with pytest.raises(Conflict):
        run(FakeNode(start))


def test_a_ready_line_that_nobody_reads_stops_the_node() -> None:
    def ready(node: object) -> None:
        raise BrokenPipeError

    node = FakeNode()
    with pytest.raises(BrokenPipeError):
        run(node, on_ready=ready)
    assert node.done == ["start", "stop"]


def test_why_a_node_stopped_by_itself_is_raised() -> None:
    class Broken(FakeNode):
        async def wait_stopped(self) -> None:
            raise Error("a lifespan ended by itself")

    node = Broken()
    with pytest.raises(Error, match="a lifespan ended by itself"):
        run(node)
    assert node.done == ["start", "stop"]


def test_hangup_and_usr1_go_on(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def ready(node: object) -> None:
        send(signal.SIGUSR1)
        send(signal.SIGHUP)

    def hangup() -> None:
        heard.append("hangup")
        asyncio.get_running_loop().call_soon(send, signal.SIGTERM)

    assert run(FakeNode(), on_ready=ready, on_hangup=hangup, say=lambda text: None) == 0
    assert heard == ["hangup"]
    assert "no state to dump: no counters here" in caplog.text


APP = """
import os, signal, sys, threading, fdn
app = fdn.App()

@app.service("one")
def one() -> int: return 1

import fdn.node
start = fdn.node.Node.start
async def started(self):
    await start(self)
    {then}
fdn.node.Node.start = started
app.run(name="n1", **{settings})
"""


def program(then: str, settings: str = "{}") -> "subprocess.CompletedProcess[str]":
    script = APP.format(then=then, settings=settings)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)


def test_a_second_signal_ends_at_once_even_a_loop_that_is_stuck() -> None:
    done = program("os.kill(os.getpid(), signal.SIGINT)\n    os.kill(os.getpid(), signal.SIGINT)\n    while True: pass")
    assert done.returncode == INTERRUPTED
    assert done.stderr.endswith("ended at once\n")


def test_an_app_runs_until_it_is_told_to_end() -> None:
    done = program("os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_runs_neither_on_a_loop_nor_in_a_thread() -> None:
    async def on_a_loop() -> None:
        with pytest.raises(Error, match=r"one runs here; use `async with fdn.Node\(app\)` on it"):
            App().run()

    asyncio.run(on_a_loop())
    with ThreadPoolExecutor(1) as pool, pytest.raises(Error, match=r"main thread can; use `fdn.sync.Node`"):
        pool.submit(App().run).result()


def test_an_app_that_cannot_start_says_why() -> None:
    done = program("pass", "{'bind': 'tcp://0.0.0.0:0'}")
    assert done.returncode == 2
    assert "error: bind" in done.stderr
    assert "hint: " in done.stderr
