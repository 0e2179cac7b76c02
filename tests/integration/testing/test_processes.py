"""The life of the nodes of a `ProcessCluster`, and that none outlives it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import fdn
from fdn.testing import ProcessCluster, eventually, first_line

APP = "tests.integration.apps:app"
LOUD = """
import fdn

app = fdn.App()


@app.service("shout")
def shout() -> None:
    print("A" * 200_000, flush=True)
"""


def test_a_node_stops_and_starts_again(cluster: ProcessCluster) -> None:
    one, two = cluster(2, app=APP)
    assert (cluster[1], cluster["n2"]) == (two, two)
    former, pid = two.id, two.pid
    assert two.stop() == 0
    assert not two.runs
    eventually("it has left", lambda: one.statuses()["n2"] == "left")
    two.start()
    cluster.settle()
    assert (two.id, two.pid != pid) == (former, True)
    two.restart()
    cluster.settle()
    with one.client() as client:
        assert client.call("pid@n2") == two.pid
    assert two.log.count('"event": "ready"') == 3
    assert "drains and leaves" in two.wait_log("drains")
    with pytest.raises(AssertionError, match="runs already"):
        two.start()


def test_what_an_app_prints_is_in_its_log_and_holds_up_nobody(cluster: ProcessCluster) -> None:
    (cluster.folder / "loud.py").write_text(LOUD)
    (node,) = cluster(1, app="loud:app")
    with node.client() as client:
        client.call("shout")
    assert "A" * 200_000 in node.log


def test_settings_from_a_file_and_from_flags(cluster: ProcessCluster) -> None:
    (cluster.folder / "fdn.toml").write_text('[log]\nformat = "json"\n')
    (node,) = cluster(1, "--preset", "wan")
    with node.client() as client:
        assert client.call("fdn.node.info", channel="coordination")["preset"] == "wan"
    assert json.loads(node.wait_log("runs at"))["level"] == "info"


PARENT = """
import os, signal, sys
from fdn.testing import ProcessCluster
cluster = ProcessCluster()
nodes = cluster(2)
nodes[1].pause()
print(*[node.pid for node in nodes], cluster.folder, flush=True)
sys.stdin.read()
"""


def test_no_node_outlives_a_parent_that_is_killed() -> None:
    root = Path(fdn.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        *pids, folder = first_line(parent).split()
        nodes = [psutil.Process(int(pid)) for pid in pids]
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    gone, left = psutil.wait_procs(nodes, 10)
    assert (len(gone), left) == (2, [])
    home = Path(folder).parent
    assert home.name.startswith("fdn-")
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    home.rmdir()
