"""On stand-ins: small processes that say what a node says when it is ready, and behave as a file tells them to."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fdn.errors import Conflict, Error
from fdn.local import leash, workers
from fdn.local.watching import SourceWatch
from fdn.local.workers import INTERRUPTED, Order, Voice, WorkerPlan, Workers, supervise

STAND_IN = """
import json, os, pathlib, signal, sys
name, joins = sys.argv[1], sys.argv[2:]
mode = pathlib.Path(name + ".mode")
behave = mode.read_text() if mode.exists() else "serve"
signal.signal(signal.SIGTERM, signal.SIG_IGN if behave == "stubborn" else lambda *_: sys.exit(0))
sys.stderr.write("a line of the log\\n")
if behave == "fail":
    sys.stderr.write(json.dumps({"error": {"code": "conflict", "message": "the port is taken"}}) + "\\n")
    sys.exit(8)
if behave == "crash":
    raise RuntimeError("no such luck")
ready = {"event": "ready", "name": name, "pid": os.getpid(), "endpoint": "tcp://" + name, "joins": joins}
print(json.dumps(ready) + "\\nprinted by the app", flush=True)
if behave == "die":
    sys.exit(3)
sys.stdin.read()
"""


class Heard:
    """What the person at the terminal was told, and how long it takes until something is."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rows: list[Sequence[Mapping[str, Any]]] = []
        self._news = asyncio.Event()

    @property
    def voice(self) -> Voice:
        return Voice(self.ready, self.note)

    def ready(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows.append(rows)
        self._news.set()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def noted(self, text: str) -> None:
        await self.until(lambda: any(text in note for note in self.notes))


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def command(module: str, as_json: str, name: str, *joins: str) -> list[str]:
        assert (module, as_json) == ("fdn.cli", "--json")
        return [sys.executable, "-S", "-c", STAND_IN, name, *joins]

    monkeypatch.setattr(leash, "command", command)
    monkeypatch.setattr(workers, "_PAUSE_S", 0.01)
    monkeypatch.setattr(workers, "_PAUSE_MAX_S", 0.02)


def behave(name: str, how: str) -> None:
    Path(f"{name}.mode").write_text(how)


def order(*names: str, **more: Any) -> Order:
    return Order([WorkerPlan(name, (name,)) for name in names], **more)


def with_workers(wanted: Order, test: Callable[[Workers, Heard], Any]) -> Heard:
    async def run() -> Heard:
        heard = Heard()
        some = Workers(wanted, heard.note)
        try:
            async with asyncio.timeout(30):
                await test(some, heard)
        finally:
            hurry = asyncio.Event()
            hurry.set()
            await some.stop(hurry)
        assert not any(worker.runs for worker in some.workers)
        return heard

    return asyncio.run(run())


def test_they_join_one_another(capfd: pytest.CaptureFixture[str]):
    async def test(some: Workers, heard: Heard) -> None:
        await some.start()
        joins = {row["name"]: row["joins"] for row in some.rows()}
        assert joins["a"] == ["--join", "tcp://seed"], "the first is there before the others"
        assert joins["b"][:4] == ["--join", "tcp://seed", "--join", "tcp://a"]
        assert await some.stop(asyncio.Event())
        assert some.rows() == []

    with_workers(order("a", "b", "c", seeds=["tcp://seed"]), test)
    out, err = capfd.readouterr()
    assert out.count("printed by the app") == 3
    assert {"[a] a line of the log", "[b] a line of the log"} <= set(err.splitlines())


def test_one_alone_has_no_label(capfd: pytest.CaptureFixture[str]):
    async def test(some: Workers, heard: Heard) -> None:
        await some.start()
        assert some.rows()[0]["joins"] == ["--alone"]

    with_workers(order("a"), test)
    assert capfd.readouterr().err == "a line of the log\n"


def test_why_one_cannot_start():
    behave("b", "fail")
    behave("c", "crash")

    async def conflict(some: Workers, heard: Heard) -> None:
        with pytest.raises(Conflict, match="the port is taken"):
            await some.start()

    async def crash(some: Workers, heard: Heard) -> None:
        with pytest.raises(Error, match="worker c ended with status 1 before it was ready"):
            await some.start()

    with_workers(order("a", "b"), conflict)
    with_workers(order("a", "c"), crash)


def test_one_that_is_never_ready(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_START_S", 0.01)
    monkeypatch.setattr(leash, "command", lambda *_: [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"])

    async def test(some: Workers, heard: Heard) -> None:
        with pytest.raises(TimeoutError, match="was not ready within"):
            await some.start()
        assert await some.workers[0].ended() == -signal.SIGKILL

    with_workers(order("a"), test)


def test_one_that_dies_is_started_again():
    async def test(some: Workers, heard: Heard) -> None:
        await some.start()
        before = some.workers[1].ready["pid"]
        keep = asyncio.create_task(some.keep())
        some.workers[1].send(signal.SIGKILL)
        await heard.noted("worker b runs again")
        assert some.workers[1].ready["pid"] != before
        assert some.workers[0].runs
        keep.cancel()

    notes = with_workers(order("a", "b"), test).notes
    assert notes[0] == "worker b was ended by SIGKILL; it is started again in 0.01 s"


def test_one_that_leaves_is_let_go_and_one_that_dies_too_often_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_DEATHS_MAX", 2)

    async def test(some: Workers, heard: Heard) -> None:
        await some.start()
        behave("b", "fail")
        some.workers[0].send(signal.SIGTERM)
        some.workers[1].send(signal.SIGKILL)
        assert await some.keep() == 1

    notes = with_workers(order("a", "b"), test).notes
    assert "worker a has left" in notes
    assert "worker b: the port is taken" in notes
    assert notes[-2:] == [
        "worker b ended with status 8; 3 times is enough, and it is given up",
        "every worker has ended",
    ]


def test_one_that_does_not_end_is_killed():
    behave("a", "stubborn")

    async def test(some: Workers, heard: Heard) -> None:
        await some.start()
        assert not await some.stop(asyncio.Event())
        assert await some.workers[0].ended() == -signal.SIGKILL

    with_workers(order("a", end_s=0.2), test)


def test_a_change_replaces_them(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    app = source / "app.py"

    async def test(some: Workers, heard: Heard) -> None:
        watch = SourceWatch([source], poll_s=0.01)
        await some.start()
        first = some.workers[0].ready["pid"]
        reload = asyncio.create_task(some.reload(watch, heard.voice))
        app.write_text("x = 1\n")
        await heard.until(lambda: len(heard.rows) == 1)
        assert heard.rows[0][0]["pid"] != first

        second = some.workers[0].ready["pid"]
        app.write_text("x = (\n")
        await heard.noted("the workers stay as they are")
        assert some.workers[0].ready["pid"] == second, "what cannot be read ends nobody"

        behave("a", "fail")
        app.write_text("x = 22\n")
        await heard.noted("the port is taken; waiting for the next change")
        behave("a", "die")
        app.write_text("x = 333\n")
        await heard.noted("worker a ended with status 3; waiting for the next change")
        behave("a", "serve")
        app.write_text("x = 4444\n")
        await heard.until(lambda: len(heard.rows) == 3 and some.workers[0].runs)
        reload.cancel()

    notes = with_workers(order("a"), test).notes
    assert notes[0] == "app.py changed: the workers are replaced"
    assert any("SyntaxError" in note for note in notes)


def run_supervised(wanted: Order, then: Callable[[Heard], Any]) -> tuple[int, Heard]:
    async def run() -> tuple[int, Heard]:
        heard = Heard()
        other = asyncio.create_task(then(heard))
        async with asyncio.timeout(30):
            status = await supervise(wanted, heard.voice)
        await other
        return status, heard

    return asyncio.run(run())


def test_the_first_signal_drains():
    async def then(heard: Heard) -> None:
        await heard.until(lambda: heard.rows)
        os.kill(os.getpid(), signal.SIGINT)

    status, heard = run_supervised(order("a", "b"), then)
    assert status == 0
    assert heard.notes == ["the workers drain; Ctrl-C again ends them at once"]


def test_the_second_ends_them_at_once():
    behave("a", "stubborn")

    async def then(heard: Heard) -> None:
        await heard.until(lambda: heard.rows)
        os.kill(os.getpid(), signal.SIGTERM)
        await heard.noted("drain")
        os.kill(os.getpid(), signal.SIGTERM)

    assert run_supervised(order("a"), then)[0] == INTERRUPTED


def test_a_start_that_fails_is_raised_unless_a_change_may_help(tmp_path: Path):
    behave("a", "fail")

    async def nothing(heard: Heard) -> None: ...

    async def then(heard: Heard) -> None:
        await heard.noted("waiting for the next change")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Conflict):
        run_supervised(order("a"), nothing)
    assert run_supervised(order("a", watch=[tmp_path]), then)[0] == 0
