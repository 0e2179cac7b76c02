"""`fdn node run` as an operating system process: how it starts, refuses to start, and ends."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from fdn.testing import NodeProcess, ProcessCluster, eventually, first_line

LOCAL = ("--bind", "tcp://127.0.0.1:0", "--cluster", "test")


def refused(cluster: ProcessCluster, *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit status and error of a node that cannot start."""
    done = cluster.command("node", "run", "--json", *arguments)
    assert done.stdout == ""
    error: dict[str, object] = json.loads(done.stderr.splitlines()[-1])["error"]
    return done.returncode, error


def test_it_says_when_it_is_ready(cluster: ProcessCluster) -> None:
    process = cluster.spawn("node", "run", "--name", "n1", "--alone", *LOCAL)
    line = first_line(process)
    assert line.startswith("node n1 is ready at tcp://127.0.0.1:")
    assert "cluster test, 0 other members" in line
    node = cluster.start(1, names=["n2"])[0]
    assert set(node.ready) == {"event", "node", "name", "endpoint", "endpoints", "pid"}
    assert (node.ready["event"], node.ready["pid"]) == ("ready", node.pid)
    assert set(node.ready["endpoints"]) == {"coordination", "gossip", "data", "events"}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_leaves(cluster: ProcessCluster, end: signal.Signals) -> None:
    first, second = cluster.start(2)
    second.send_signal(end)
    assert second.wait() == 0
    assert "drains and leaves; once more to end at once" in second.log
    eventually("n1 holds n2 left", lambda: first.statuses() == {"n1": "alive", "n2": "left"})


def test_it_finishes_what_it_has_begun(cluster: ProcessCluster) -> None:
    node = cluster.start(1, app="tests.integration.apps:app")[0]
    calling = cluster.spawn("request", "slow", "1.0", "-j", node.endpoint, environment={"FDN_CLUSTER": "test"})
    eventually("the call is under way", lambda: running_calls(node) == 1)
    assert node.stop() == 0
    assert (calling.wait(20), first_line(calling)) == (0, '"done"\n')


def running_calls(node: NodeProcess) -> int:
    """From the state in the log: the node tells nobody else how busy its handlers are."""
    node.send_signal(signal.SIGUSR1)
    counted = re.findall(r"counters of dispatch.*?running=(\d+)", node.log)
    return int(counted[-1]) if counted else 0


def test_the_second_signal_ends_at_once(cluster: ProcessCluster) -> None:
    node = cluster.start(1, app="tests.integration.apps:app")[0]
    with node.client() as client:
        client.cast("slow", 600.0)
        client.call("who")  # on the same link: the cast is there by now
        node.send_signal(signal.SIGINT)
        eventually("the first is heard", lambda: "drains" in node.log)
        node.send_signal(signal.SIGINT)
        assert node.wait() == 130


def test_state_and_configuration_on_demand(cluster: ProcessCluster) -> None:
    node = cluster.start(2)[0]
    node.send_signal(signal.SIGUSR1)
    eventually(
        "the state is in the log", lambda: all(f"state: member {name} alive" in node.log for name in ("n1", "n2"))
    )
    eventually("the counters too", lambda: "state: counters of dispatch" in node.log)
    Path(cluster.folder, "fdn.toml").write_text("[calls]\ntimeout_s = 1\n")
    node.send_signal(signal.SIGHUP)
    eventually("the change is reported", lambda: "from the next start on: calls.timeout_s" in node.log)
    assert node.runs


def test_a_taken_port_is_a_conflict(cluster: ProcessCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, error = refused(cluster, "--bind", f"tcp://127.0.0.1:{port}", "--alone")
    assert (status, error["code"]) == (8, "conflict")
    assert str(port) in str(error["message"])


def test_an_unreachable_seed(cluster: ProcessCluster) -> None:
    Path(cluster.folder, "fdn.toml").write_text('join_timeout_s = "500ms"\n')
    status, error = refused(cluster, *LOCAL, "--join", "127.0.0.1:1")
    assert (status, error["code"]) == (3, "unreachable")
    assert "tcp://127.0.0.1:1" in str(error["message"])


def test_another_cluster(cluster: ProcessCluster) -> None:
    node = cluster.start(1)[0]
    status, error = refused(cluster, "--cluster", "other", "--bind", "tcp://127.0.0.1:0", "--join", node.endpoint)
    assert (status, error["code"]) == (2, "config")
    assert "test" in str(error["message"])
    assert "other" in str(error["message"])


def test_a_name_that_is_taken(cluster: ProcessCluster) -> None:
    node = cluster.start(1)[0]
    status, error = refused(cluster, *LOCAL, "--name", "n1", "--join", node.endpoint)
    assert (status, error["code"]) == (8, "conflict")
    assert "n1" in str(error["message"])


def test_beyond_this_machine_only_in_words(cluster: ProcessCluster) -> None:
    status, error = refused(cluster, "--bind", "tcp://0.0.0.0:0", "--advertise", "127.0.0.1")
    assert (status, error["code"]) == (2, "config")
    assert "--insecure" in str(error["hint"])
    insecure = cluster.spawn(
        "node", "run", "--bind", "tcp://0.0.0.0:0", "--advertise", "127.0.0.1", "--insecure", "--alone"
    )
    assert "is ready at tcp://127.0.0.1:" in first_line(insecure)


def test_an_interrupt_during_the_start(cluster: ProcessCluster) -> None:
    errors = cluster.folder / "errors"
    Path(cluster.folder, "fdn.toml").write_text('[log]\nlevel = "debug"\n')
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        seed = f"127.0.0.1:{silent.getsockname()[1]}"
        process = cluster.spawn("node", "run", *LOCAL, "--join", seed, errors=errors)
        near, _ = silent.accept()  # it has begun to join
        with near:
            process.terminate()
            assert process.wait(20) == 130
    assert "the start is given up" in errors.read_text()
