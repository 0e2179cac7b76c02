"""What commands show, and ask, where a person sits at a terminal."""

from pathlib import Path

import pytest

from fdn.testing import NodeProcess, ProcessCluster
from tests.integration.cli.terminal import FDN, Terminal, plain


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    started = cluster.start(2, app="tests.integration.apps:app")
    cluster.environment |= {"FDN_JOIN": started[0].endpoint, "FDN_CLUSTER": "test"}
    return started


def terminal(cluster: ProcessCluster, *arguments: str) -> Terminal:
    return Terminal([*FDN, *arguments], cluster.folder, cluster.environment)


def test_nothing_is_done_without_a_yes(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    with terminal(cluster, "leave", "n2") as asked:
        assert "Node n2" in asked.wait_for("[y/N]")
        asked.type("n\n")
        assert asked.wait() == 1
        assert "aborted; nothing was done" in asked.seen
    assert nodes[0].statuses() == {"n1": "alive", "n2": "alive"}
    with terminal(cluster, "leave", "n2") as asked:
        asked.wait_for("[y/N]")
        asked.interrupt()
        assert asked.wait() == 1
    with terminal(cluster, "leave", "n2") as asked:
        asked.wait_for("[y/N]")
        asked.type("y\n")
        assert asked.wait() == 0
    assert nodes[1].wait() == 0


def test_a_watched_table_is_drawn_anew(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    with terminal(cluster, "members", "--watch") as watched:
        watched.wait_for("n2")
        nodes[1].kill()
        watched.wait_for("\x1b[2J\x1b[H")  # the screen is cleared
        watched.wait_for("dead")
        watched.interrupt()
        assert watched.wait() == 130
        assert "Traceback" not in watched.seen


@pytest.mark.usefixtures("nodes")
def test_colours_only_where_they_are_wanted(cluster: ProcessCluster) -> None:
    shown = {}
    for name, arguments, variables in (
        ("plain", ["--no-color"], {}),
        ("NO_COLOR", [], {"NO_COLOR": "1"}),
        ("colours", [], {}),
    ):
        with Terminal([*FDN, "members", *arguments], cluster.folder, cluster.environment | variables) as table:
            assert table.wait() == 0
            shown[name] = table.seen
    assert "\x1b[" not in shown["plain"] + shown["NO_COLOR"]
    assert "\x1b[32malive" in shown["colours"]
    assert [line.split()[:3] for line in plain(shown["colours"]).splitlines()] == [
        ["NAME", "STATUS", "STATE"],
        ["n1", "alive", "serving"],
        ["n2", "alive", "serving"],
    ]


@pytest.mark.usefixtures("nodes")
def test_a_result_is_spread_over_lines_for_a_person(cluster: ProcessCluster) -> None:
    with terminal(cluster, "request", "echo", '{"a": [1, 2]}') as called:
        assert called.wait() == 0
        assert called.seen.splitlines()[:2] == ["{", '  "a": [']
    assert cluster.command("request", "echo", '{"a": [1, 2]}').stdout == '{"a":[1,2]}\n'


def test_up_tells_how_to_go_on_and_drains(cluster: ProcessCluster, tmp_path: Path) -> None:
    cluster.environment["XDG_STATE_HOME"] = str(tmp_path)
    with terminal(cluster, "up", "2", "--base-port", "0") as up:
        up.wait_for("such as: fdn members")
        assert cluster.command("members", "--json").returncode == 0
        up.interrupt()
        assert up.wait() == 0
        assert "Traceback" not in up.seen
