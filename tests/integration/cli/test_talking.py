"""Commands against a cluster of processes: what a person types after `fdn up`."""

import json
from typing import Any

import pytest

from fdn.testing import NodeProcess, ProcessCluster, first_line


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    cluster.environment["FDN_CLUSTER"] = "test"
    started = cluster.start(3, app="tests.integration.apps:app")
    cluster.environment["FDN_JOIN"] = ",".join(node.endpoint for node in started)
    return started


def asked(cluster: ProcessCluster, *arguments: str, given: str = "") -> Any:
    """What a command answers, as a program reads it."""
    done = cluster.command(*arguments, "--json", given=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_members_and_info(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    rows = asked(cluster, "members")
    assert [(row["name"], row["status"], row["reachable"]) for row in rows] == [
        ("n1", "alive", True),
        ("n2", "alive", True),
        ("n3", "alive", True),
    ]
    table = cluster.command("members")
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["NAME", "n1", "n2", "n3"]
    info = asked(cluster, "info", "n2")
    assert (info["name"], info["pid"], info["cluster"], info["members"]) == ("n2", nodes[1].pid, "test", 3)


def test_calls_reach_every_node(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    rows = asked(cluster, "service", "ls", "math")
    assert [row["node"] for row in rows] == ["n1", "n2", "n3"]
    assert asked(cluster, "service", "call", "math.add", '{"a": 2, "b": 3}') == 5
    assert [asked(cluster, "request", f"who@{node.name}") for node in nodes] == ["n1", "n2", "n3"]
    assert asked(cluster, "request", "echo", "-", given='{"deep": [1, null]}') == {"deep": [1, None]}
    assert cluster.command("request", "echo", "--bytes", "raw").stdout == "raw"


@pytest.mark.usefixtures("nodes")
def test_errors_have_their_status(cluster: ProcessCluster) -> None:
    crashed = cluster.command("request", "math.divide", "[1, 0]")
    assert crashed.returncode == 1
    assert crashed.stderr.startswith("error: ZeroDivisionError: division by zero\nTraceback on n")
    assert "apps.py" in crashed.stderr
    assert cluster.command("request", "slow", "5", "--timeout", "200ms").returncode == 5
    assert cluster.command("request", "math.ad", "[1, 0]").returncode == 4
    assert cluster.command("request", "math.add", '["x"]').returncode == 2
    assert cluster.command("request", "math.add@n9", "[1, 2]").returncode == 4


def test_a_dead_or_frozen_target_is_passed_over(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    nodes[0].kill()
    nodes[1].pause()
    assert asked(cluster, "info")["name"] == "n3"
    nodes[2].kill()
    silent = cluster.command("members", "--timeout", "500ms")
    assert silent.returncode == 3
    assert all(node.endpoint in silent.stderr for node in nodes)
    nodes[1].resume()


def test_another_cluster_is_said(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    cluster.environment["FDN_CLUSTER"] = "other"
    done = cluster.command("members", "-j", nodes[0].endpoint)
    assert done.returncode == 2
    assert "test" in done.stderr
    assert "other" in done.stderr


def test_leave(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    unsure = cluster.command("leave", "n2")
    assert unsure.returncode == 2
    assert "--yes" in unsure.stderr
    assert asked(cluster, "leave", "n2", "--yes")["status"] == "left"
    assert nodes[1].wait() == 0
    assert asked(cluster, "leave", "--yes")["name"] == "n1"
    assert nodes[0].wait() == 0
    assert nodes[2].statuses() == {"n1": "left", "n2": "left", "n3": "alive"}
    assert cluster.command("leave", "n1", "--yes").returncode == 8
    assert asked(cluster, "leave", "--yes")["status"] == "left"
    assert nodes[2].wait() == 0


def test_join(cluster: ProcessCluster) -> None:
    cluster.environment["FDN_CLUSTER"] = "test"
    first = cluster.start(1)[0]
    cluster.nodes.clear()
    second = cluster.start(1, join="")[0]
    assert second.statuses() == {"n2": "alive"}
    joined = asked(cluster, "join", first.endpoint, "-j", second.endpoint)
    assert (joined["name"], joined["joined"]) == ("n2", [first.endpoint])
    cluster.nodes.append(first)
    cluster.settle()


def test_watching_sees_a_death(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    watching = cluster.spawn("members", "--watch", "--json")
    seen = [json.loads(first_line(watching))["name"]]
    assert watching.stdout is not None
    seen += [json.loads(watching.stdout.readline())["name"] for _ in range(2)]
    assert sorted(seen) == ["n1", "n2", "n3"]
    nodes[1].kill()
    # How many of the steps in between it sees depends on when it looks.
    row: dict[str, Any] = {}
    while row.get("status") != "dead":
        row = json.loads(watching.stdout.readline())
        assert row["name"] == "n2"
