"""`fdn up` as people start it: a process that starts processes, and of which nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from blake3 import blake3

import fdn
import fdn.sync
from fdn.local.views import Eye
from fdn.testing import ProcessCluster, eventually, first_line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Up:
    """Starts `fdn up`, and sees to it that its processes end with the test, whatever the test finds."""

    def __init__(self, cluster: ProcessCluster, home: Path) -> None:
        self.cluster = cluster
        cluster.environment["XDG_STATE_HOME"] = str(home / "state")
        self.errors = home / "up.stderr"
        self.contexts = Path(cluster.environment["XDG_CONFIG_HOME"]) / "fdn"
        self.seen: dict[int, psutil.Process] = {}

    def spawn(self, *arguments: str) -> "subprocess.Popen[str]":
        self.process = self.cluster.spawn("up", *arguments, errors=self.errors)
        return self.process

    def start(self, *arguments: str) -> dict[str, Any]:
        """Up and ready, on ports of its own."""
        self.spawn("3", "--json", "--base-port", "0", *arguments)
        line = first_line(self.process)
        assert line, self.told()
        ready: dict[str, Any] = json.loads(line)
        self.look()
        return ready

    def look(self) -> list[psutil.Process]:
        """The processes it has started, remembered."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        self.seen.update((child.pid, child) for child in children)
        return children

    def told(self) -> str:
        return self.errors.read_text() if self.errors.exists() else ""

    def wait_told(self, words: str) -> None:
        eventually(f"it says {words!r}", lambda: words in self.told(), 30)

    def assert_nothing_is_left(self) -> None:
        eventually("every process has ended", lambda: not [child for child in self.seen.values() if lives(child)])
        assert not (self.contexts / "contexts" / "up.toml").exists()
        assert not (self.contexts / "current").exists()

    def close(self) -> None:
        for child in self.seen.values():
            if lives(child):
                child.kill()


def lives(process: psutil.Process) -> bool:
    try:
        # An orphan that ended is a zombie until its new parent looks after it.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def up(cluster: ProcessCluster, tmp_path: Path) -> Iterator[Up]:
    started = Up(cluster, tmp_path)
    try:
        yield started
    finally:
        started.close()


def statuses(node: dict[str, Any], cluster: str = "fdn") -> dict[str, str]:
    eye = Eye(node["endpoint"], cluster)
    try:
        return {row["name"]: row["status"] for row in eye.look()}
    finally:
        eye.close()


def test_the_demonstration_keeps_its_promises(up: Up):
    process = up.spawn("3", "--demo", "--exit", "--json", "--base-port", "0")
    out, _ = process.communicate(timeout=110)
    assert process.returncode == 0, up.told()
    assert len(out.splitlines()) == 1
    made = json.loads(out)
    assert made["held"] is True
    assert made["promises"]
    assert all(made["promises"].values())
    # The digests once more, by hashing alone.
    root = Path(made["root"])
    files = {file["path"]: file for file in made["files"]}
    assert len(files) == len(made["files"]) == made["files_count"] > 1000
    assert {path: file["digest"] for path, file in files.items()} == {
        path: blake3((root / path).read_bytes()).hexdigest() for path in files
    }
    assert sum(made["by_node"].values()) == len(files)
    assert set(made["by_node"]) == {"n1", "n2", "n3"} == set(made["times"]["detect_ms_by_view"]) - {"driver"} | {"n2"}
    assert made["dealt_again"] > 0
    assert made["killed"]["pid"] != made["killed"]["pid_after"] == made["pids"]["n2"]
    up.assert_nothing_is_left()


def test_members_a_kill_and_an_orderly_end(up: Up):
    ready = up.start("--app", "tests.integration.apps:app")
    assert [node["name"] for node in ready["nodes"]] == ["n1", "n2", "n3"]
    members = json.loads(up.cluster.command("members", "--json").stdout)
    assert {member["name"]: member["status"] for member in members} == dict.fromkeys(("n1", "n2", "n3"), "alive")
    called = up.cluster.command("service", "call", "math.add", "[2, 3]")
    assert (called.returncode, called.stdout.strip()) == (0, "5"), called.stderr
    n1, n2, n3 = ready["nodes"]
    os.kill(n2["pid"], signal.SIGKILL)
    for node in (n1, n3):
        eventually("n2 is dead in every view", lambda node=node: statuses(node)["n2"] == "dead")  # type: ignore[misc]
    up.wait_told(f"n2 (pid {n2['pid']}) was ended by SIGKILL")
    up.wait_told("sees: n2 is dead")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert "the nodes drain" in up.told()
    up.assert_nothing_is_left()


def test_a_node_that_dies_is_started_again_where_that_was_asked_for(up: Up):
    ready = up.start("--restart")
    before = ready["nodes"][2]
    os.kill(before["pid"], signal.SIGKILL)
    up.wait_told("n3 runs again: pid ")
    n1 = ready["nodes"][0]
    eventually("n3 is back", lambda: statuses(n1)["n3"] == "alive")
    eye = Eye(n1["endpoint"], "fdn")
    back = next(row for row in eye.look() if row["name"] == "n3")
    eye.close()
    assert back["node"] == before["node"]
    up.look()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    up.assert_nothing_is_left()


def test_ctrl_c_while_it_starts(up: Up):
    up.spawn("3", "--base-port", "0")
    eventually("its first node has been started", up.look)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 130
    up.assert_nothing_is_left()


@pytest.mark.parametrize("words", ["work: ", "is killed (SIGKILL", "single process that indexes"])
def test_ctrl_c_in_the_middle_of_the_demonstration(words: str, up: Up):
    up.spawn("3", "--demo", "--exit", "--json", "--base-port", "0")
    up.wait_told(words)
    up.look()
    up.process.send_signal(signal.SIGINT)
    out, _ = up.process.communicate(timeout=30)
    assert (up.process.returncode, out) == (130, ""), up.told()
    assert "Traceback" not in up.told()
    up.assert_nothing_is_left()


def test_a_second_ctrl_c_does_not_wait(up: Up):
    ready = up.start("--app", "tests.integration.apps:app")
    with fdn.sync.Client(ready["nodes"][0]["endpoint"]) as client:
        for node in ready["nodes"]:
            client.cast(f"slow@{node['name']}", 60.0)
        # Calls go the same way as the casts before them: these have begun when it answers.
        for node in ready["nodes"]:
            assert client.call(f"who@{node['name']}") == node["name"]
        up.process.send_signal(signal.SIGINT)
        up.wait_told("the nodes drain")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(30) == 130
    up.assert_nothing_is_left()


def test_a_parent_that_is_killed_leaves_no_orphans(up: Up):
    ready = up.start()
    os.kill(ready["nodes"][1]["pid"], signal.SIGSTOP)  # it could not end by itself
    up.process.kill()
    up.process.wait(10)
    eventually("every process has ended", lambda: not [child for child in up.seen.values() if lives(child)])
    # The context stays, and nobody is led astray by it.
    found = up.cluster.command("--context", "up", "members")
    assert found.returncode == 3
    assert "has ended" in found.stderr


def test_a_taken_port_is_named_and_nothing_is_left(up: Up):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if port > 65500:
            pytest.skip("the system gave a port too high for a group of four")
        up.spawn("2", "--json", "--base-port", str(port))
        out, _ = up.process.communicate(timeout=30)
    assert (up.process.returncode, out) == (8, ""), up.told()
    error = json.loads(up.told().splitlines()[-1])["error"]
    assert f"127.0.0.1:{port} is taken" in error["message"]
    assert "--base-port" in error["hint"]
    up.assert_nothing_is_left()


def test_an_app_that_is_not_there_is_named(up: Up):
    up.spawn("2", "--json", "--base-port", "0", "--app", "nowhere:app")
    out, _ = up.process.communicate(timeout=30)
    assert (up.process.returncode, out) == (2, ""), up.told()
    assert 'there is no module "nowhere"' in json.loads(up.told())["error"]["message"]


def test_a_second_cluster_of_that_name_is_refused(up: Up):
    up.start()
    second = up.cluster.command("up", "2", "--base-port", "0")
    assert second.returncode == 8
    assert f"belongs to process {up.process.pid}" in second.stderr
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
