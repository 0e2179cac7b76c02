import io
import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture
def two(world: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    world.add("n1", 7400)
    world.add("n2", 7410)
    draining: list[dict[str, object]] = []
    world.answers["fdn.node.leave"] = lambda me, payload: draining.append(me)
    # The node is gone by the second look.
    monkeypatch.setattr("fdn.cli.leave.time.sleep", lambda seconds: [row.update(status="left") for row in draining])
    return world


def asked_to_leave(world: FakeCluster) -> list[str]:
    return [name for name, target, _ in world.asked if target == "fdn.node.leave"]


@pytest.mark.parametrize(("arguments", "name"), [((), "n1"), (("n2",), "n2"), (("n1",), "n1")])
def test_it_returns_when_the_node_has_left(
    two: FakeCluster, arguments: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["leave", *arguments, "--yes", "--json"]) == 0
    assert asked_to_leave(two) == [name]
    assert json.loads(capsys.readouterr().out) == {"node": f"{name}-0123456789abcdef", "name": name, "status": "left"}


def test_the_last_node_has_no_witness(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    two.members[1].update(status="dead", reachable=False)
    assert run(["leave", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "left"


def test_one_that_takes_long_still_drains(
    two: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fdn.cli.leave.time.sleep", lambda seconds: None)
    assert run(["leave", "n2", "--yes", "--json", "--timeout", "50ms"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "draining"
    assert "still drains" in err


def test_a_dry_run_asks_nobody_to_go(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["leave", "n2", "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == "n2"
    assert "would leave" in err
    assert asked_to_leave(two) == []


def test_who_cannot_be_asked_must_have_said_yes(
    two: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run(["leave"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert asked_to_leave(two) == []


def test_who_is_gone_cannot_leave(two: FakeCluster) -> None:
    two.members[1].update(status="dead", reachable=False)
    assert run(["leave", "n2", "--yes"]) == 8
    assert run(["leave", "n3", "--yes"]) == 4
