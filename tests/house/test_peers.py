"""Other libraries beside fdn: the same work for all, in turns, and a table that says what was measured."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fdn.bench.events import EventPlan, Figure
from fdn.bench.plan import ROUNDS
from tools import bench
from tools.peers import environment, events, nats_worker, servers
from tools.progress import StepFailedError

ROOT = Path(__file__).parents[2]
FIGURE = Figure(10, 50, 1000.0, 1.0, 2.0)


# -- the measuring side


def test_every_library_takes_its_turn_with_as_much_as_fits_a_round() -> None:
    rounds: list[tuple[str, int, str, int]] = []

    def one_round(who: Any, n: int, form: str, amount: dict[str, Any]) -> Figure:
        rounds.append((who, n, form, amount["count"]))
        return Figure(1, 1, 5000.0 if who == "quick" else 100.0, 1.0, 1.0)

    plan = EventPlan(duration_s=10.0, subscribers=(1, 50), forms=("iterator",))
    contestants: Any = {"fdn": "quick", "other": "slow"}
    figures = events.measure(contestants, plan, one_round)
    assert {name: {key: len(of) for key, of in found.items()} for name, found in figures.items()} == {
        name: {(1, "iterator"): ROUNDS, (50, "iterator"): ROUNDS} for name in contestants
    }
    turn = [("quick", 1, "iterator", 10_000), ("slow", 1, "iterator", 200)]
    turn += [("quick", 50, "iterator", 200), ("slow", 50, "iterator", 4)]
    measured = rounds[-4 * ROUNDS :]
    assert measured[:4] == turn[1:] + turn[:1]
    assert all(sorted(measured[start : start + 4]) == sorted(turn) for start in range(0, 4 * ROUNDS, 4))


def test_a_round_has_one_event_at_least_and_not_too_many() -> None:
    assert events.calibrated(Figure(1, 1, 0.1, 1.0, 1.0), 50, 0.6) == 1
    assert events.calibrated(Figure(1, 1, 1e9, 1.0, 1.0), 1, 60.0) == 200_000


def test_the_table_says_what_was_measured_and_how() -> None:
    row = {"subscribers": 5, "form": "iterator", "lowest": 900, "highest": 1100, "lost": 0}
    result = {
        "size": 100,
        "rounds": 5,
        "subscribing_processes": 2,
        "versions": {"fdn": "1.0", "nats-py": "2.0"},
        "machine": {"cores": 2},
        "flags": {"nats-server": "--port -1"},
        "rows": [
            {"library": "fdn", "events_per_s": 4000, **row},
            {"library": "nats-py", "events_per_s": 1000, **row, "lost": 3},
        ],
    }
    title, head, line, lost, foot = events.table(result)
    assert "100 bytes" in title
    assert head.split() == ["subscribers", "read", "by", "fdn", "nats-py", "ratio"]
    assert line.split() == [
        "5",
        "iterator",
        *["4,000", "(900", "to", "1,100)", "1,000", "(900", "to", "1,100)", "4.00"],
    ]
    assert lost == "lost: fdn 0, nats-py 3"
    assert "fdn 1.0; nats-py 2.0; 2 cores" in foot


def test_what_there_is_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["pigeons"], ["events", "--subscribers", "0"], ["events", "--subscribers", "many"]):
        with pytest.raises(SystemExit) as usage:
            bench.bench(ROOT, arguments)
        assert usage.value.code == 2
    assert "is none of cast, call, stream, events" in capsys.readouterr().err


# -- their environment


class Installer:
    """Stands in for `venv`, pip and apt-get: what they were asked for, and whether they can."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.programs: set[str] = set()
        self.missing: set[str] = set()
        monkeypatch.setattr(environment, "run_quietly", self.run)
        monkeypatch.setattr(shutil, "which", lambda name: name if name in self.programs | {"apt-get"} else None)
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    def run(self, title: str, command: list[str], cwd: Path) -> tuple[bool, str]:
        self.commands.append(command)
        if any(wanted in argument for wanted in self.missing for argument in command):
            return False, "no network"
        if "venv" in command:
            (self.root / ".venv" / "peers" / "bin").mkdir(parents=True, exist_ok=True)
            (self.root / ".venv" / "peers" / "bin" / "python").touch()
        if command[:2] == ["apt-get", "install"]:
            self.programs |= {program for programs, name in environment.DEBIAN.values() for program in programs}
        return True, ""


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    return Installer(tmp_path, monkeypatch)


def test_each_peer_is_installed_once(tmp_path: Path, installer: Installer) -> None:
    for _ in range(2):
        assert environment.ensure(tmp_path, "nats") == tmp_path / ".venv" / "peers" / "bin" / "python"
    assert len(installer.commands) == 2
    assert installer.commands[1][-2:] == [*environment.REQUIREMENTS["nats"]]
    environment.ensure(tmp_path, "nats", "zenoh")
    assert [command[-1] for command in installer.commands[2:]] == [*environment.REQUIREMENTS["zenoh"]]
    stamp = tmp_path / ".venv" / "peers" / "requirements"
    stamp.write_text(stamp.read_text().replace("3.", "4.", 1))  # another Python: all of it anew
    environment.ensure(tmp_path, "nats")
    assert "--clear" in installer.commands[3]
    installer.missing.add("redis")
    with pytest.raises(StepFailedError, match="no network"):
        environment.ensure(tmp_path, "redis")


def test_whoever_cannot_be_had_is_left_out_by_name(tmp_path: Path, installer: Installer) -> None:
    installer.missing |= {"eclipse-zenoh", "erlang-base"}
    python, reasons = environment.ensure_all(tmp_path, ("pyzmq", "erlang", "zenoh", "redis"))
    assert python == tmp_path / ".venv" / "peers" / "bin" / "python"
    assert reasons == {
        "erlang": "not installed: escript, epmd (Debian: erlang-base)",
        "zenoh": "installing eclipse-zenoh>=1,<2: failed. The command was",
    }
    assert ["apt-get", "update"] in installer.commands
    assert "redis-server" in installer.programs


def test_none_of_them_is_a_dependency_of_fdn() -> None:
    packages = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert not [name for name in environment.REQUIREMENTS if name in packages]


# -- their worker


class Subscription:
    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self.subscribed = True

    @property
    async def messages(self) -> Any:
        while True:
            yield await self.waiting.get()

    async def unsubscribe(self) -> None:
        self.subscribed = False


class Client:
    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self.published = 0

    async def subscribe(self, subject: str, cb: Any = None) -> Subscription:
        self.subscriptions.append(Subscription(cb))
        return self.subscriptions[-1]

    async def flush(self) -> None:
        pass

    async def publish(self, subject: str, data: bytes) -> None:
        self.published += 1
        for each in self.subscriptions:
            if each.callback is not None:
                await each.callback(data)
            else:
                each.waiting.put_nowait(data)


@pytest.mark.parametrize("form", events.FORMS)
def test_its_worker_counts_as_ours_does(form: str) -> None:
    async def work() -> None:
        client = Client()
        readers, source = nats_worker._Readers(client), nats_worker._Source(client)
        await readers.subscribe(form, 3)
        published = await source.publish(10, 20)
        assert (published["sent"], client.published) == (20, 20)
        assert (await readers.tally(60))["received"] == 60
        await readers.unsubscribe()
        assert not any(each.subscribed for each in client.subscriptions)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(work())


def test_its_worker_needs_nothing_of_fdn() -> None:
    program = f"import runpy, sys; sys.path[:] = [p for p in sys.path if p]; runpy.run_path({nats_worker.__file__!r})"
    loaded = f"{program}; print([name for name in sys.modules if name.partition('.')[0] in ('fdn', 'tools')])"
    done = subprocess.run([sys.executable, "-I", "-c", loaded], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho no port today\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(StepFailedError, match="no port today"), servers.nats(broken):
        pass


@pytest.mark.slow
def test_the_whole_run(tmp_path: Path) -> None:
    python = ROOT / ".venv" / "peers" / "bin" / "python"
    if not python.exists():
        pytest.skip("nats-py is not in .venv/peers; `python3 -m tools bench events` installs it")
    assert events.run(ROOT, tmp_path, (1, 3), 0.1) == 0
    result = json.loads((tmp_path / "events.json").read_text())
    assert {row["library"] for row in result["rows"]} == {"fdn", "nats-py"}
    assert all(row["events_per_s"] > 0 for row in result["rows"])
    assert (tmp_path / "events.txt").read_text().startswith("events of 100 bytes")
