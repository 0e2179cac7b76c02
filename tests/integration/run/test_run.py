"""`fdn run` as operating system processes: an app alone, several workers of it, and one that follows its source."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from fdn import sync
from fdn.testing import ProcessCluster, eventually, first_line

pytestmark = [pytest.mark.slow]

LOCAL = ("--json", "--bind", "tcp://127.0.0.1:0", "--cluster", "test", "--alone")
APP = """
import asyncio, os
import fdn
from .answer import ANSWER

app = fdn.App("shop")


@app.service("answer")
def answer() -> str:
    return ANSWER


@app.service("who")
def who(node: fdn.Node) -> str:
    return node.name


@app.service("slow")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@app.service("busy")
def busy() -> None:
    while True:
        pass
"""


@pytest.fixture
def shop(cluster: ProcessCluster) -> Path:
    """The folder of a package with an app."""
    folder = cluster.folder / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "app.py").write_text(APP)
    (folder / "answer.py").write_text('ANSWER = "one"\n')
    return folder


class Running:
    """One `fdn run`, ready."""

    def __init__(self, cluster: ProcessCluster, *arguments: str) -> None:
        self.errors = cluster.folder / "run.stderr"
        self.errors.touch()
        self.process = cluster.spawn("run", "shop.app:app", *LOCAL, *arguments, errors=self.errors)
        self.ready = self.next_line()

    def next_line(self) -> Mapping[str, Any]:
        line = first_line(self.process)
        assert line, f"ended with {self.process.poll()}: {self.said}"
        ready: Mapping[str, Any] = json.loads(line)
        return ready

    @property
    def said(self) -> str:
        return self.errors.read_text()

    @property
    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self.ready["workers"]]

    def client(self, worker: int = 0) -> sync.Client:
        return sync.Client(self.ready["workers"][worker]["endpoint"], cluster="test")


def gone(*pids: int) -> None:
    eventually(f"{pids} have ended", lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_an_app_from_a_scaffold(cluster: ProcessCluster) -> None:
    assert cluster.command("new", "app", "shop").returncode == 0
    cluster.folder /= "shop"
    process = cluster.spawn("run", "shop.app:app", "--json", "--bind", "tcp://127.0.0.1:0", "--alone")
    endpoint = json.loads(first_line(process))["endpoint"]
    for times in (1, 2):
        done = cluster.command("request", "greeter.greet", '"Ada"', "-j", endpoint, "--json")
        assert json.loads(done.stdout) == {"text": "Hello, Ada!", "count": times}, done.stderr
    process.terminate()
    assert process.wait(20) == 0


def test_workers_are_a_cluster_and_none_is_missed(cluster: ProcessCluster, shop: Path) -> None:
    run = Running(cluster, "--workers", "3", "--name", "shop")
    assert [worker["name"] for worker in run.ready["workers"]] == ["shop-1", "shop-2", "shop-3"]
    with run.client() as client:
        eventually(
            "all share the work", lambda: {client.call("who") for _ in range(9)} == {"shop-1", "shop-2", "shop-3"}
        )
        os.kill(run.pids[1], signal.SIGKILL)
        eventually("it is started again", lambda: "worker shop-2 runs again" in run.said)
        eventually("it works again", lambda: client.call("who@shop-2") == "shop-2")
        assert client.call("answer") == "one"
    assert "worker shop-2 was ended by SIGKILL; it is started again" in run.said
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0
    assert "the workers drain; Ctrl-C again ends them at once" in run.said
    gone(*run.pids)


def test_what_is_under_way_is_finished(cluster: ProcessCluster, shop: Path) -> None:
    run = Running(cluster, "--workers", "2", "--name", "shop")
    calling = cluster.spawn(
        *("request", "slow@shop-2", "1.0", "-j", run.ready["workers"][0]["endpoint"]),
        environment={"FDN_CLUSTER": "test"},
    )
    with run.client(1) as client:
        eventually("the call is under way", lambda: client.call("who@shop-2") == "shop-2")
    done = first_line(calling)
    run.process.terminate()
    assert (done, calling.wait(20)) == ('"done"\n', 0)
    assert run.process.wait(30) == 0


def test_the_second_signal_ends_them_at_once(cluster: ProcessCluster, shop: Path) -> None:
    run = Running(cluster, "--workers", "2", "--name", "shop")
    with run.client() as client:
        client.cast("busy@shop-2")
        eventually("its loop is stuck", lambda: psutil.Process(run.pids[1]).cpu_percent(0.05) > 20)
    run.process.terminate()
    eventually("the first is heard", lambda: "the workers drain" in run.said)
    run.process.terminate()
    assert run.process.wait(30) == 130
    gone(*run.pids)


def test_no_worker_outlives_its_parent(cluster: ProcessCluster, shop: Path) -> None:
    run = Running(cluster, "--workers", "2", "--name", "shop")
    run.process.kill()
    gone(*run.pids)


def test_it_follows_the_source(cluster: ProcessCluster, shop: Path) -> None:
    run = Running(cluster, "--reload", "--name", "shop")
    with run.client() as client:
        assert client.call("answer") == "one"
        (shop / "answer.py").write_text('ANSWER = "one"(\n')
        eventually("the mistake is shown", lambda: "answer.py changed and cannot be read" in run.said)
        assert "SyntaxError" in run.said
        assert client.call("answer") == "one", "the former goes on"
    first = run.pids
    (shop / "answer.py").write_text('ANSWER = "a third"\n')
    run.ready = run.next_line()
    assert run.pids != first
    gone(*first)
    with run.client() as client:
        assert client.call("answer") == "a third"
    (shop / "answer.py").write_text("import nothing_of_that_name\n")
    eventually("the traceback is shown", lambda: "ModuleNotFoundError" in run.said)
    eventually("it waits", lambda: "its traceback; waiting for the next change" in run.said)
    (shop / "answer.py").write_text('ANSWER = "the last"\n')
    run.ready = run.next_line()
    with run.client() as client:
        assert client.call("answer") == "the last"
    run.process.terminate()
    assert run.process.wait(30) == 0


def test_an_app_that_cannot_start_says_why(cluster: ProcessCluster, shop: Path) -> None:
    (shop / "answer.py").write_text("import nothing_of_that_name\n")
    for more in ((), ("--workers", "2")):
        done = cluster.command("run", "shop.app:app", *LOCAL, *more)
        assert done.returncode == 1
        assert "No module named 'nothing_of_that_name'" in done.stderr
        assert done.stdout == ""


def test_an_import_costs_what_it_did() -> None:
    """Cron, its time zones and the supervision of workers are for those who use them."""
    heavy = "{'cronsim', 'zoneinfo', 'fdn.local.workers'}"
    program = f"import fdn, sys; fdn.App; fdn.Node; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"
