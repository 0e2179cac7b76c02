import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture
def three(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400, rtt_us=None)
    world.add("n2", 7410, rtt_us=1250.4)
    world.add("n3", 7420, status="dead", reachable=False)
    return world


def test_watching_shows_each_change_once(
    three: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = iter(["nothing", "rtt", "suspect", "lost"])

    def step(seconds: float) -> None:
        match next(steps):
            case "rtt":
                three.members[1]["rtt_us"] = 999.0
            case "suspect":
                three.members[1]["status"] = "suspect"
            case "lost":
                three.members.clear()

    monkeypatch.setattr("fdn.cli.watching.time.sleep", step)
    assert run(["members", "--watch", "--json"]) == 3
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["name"], row["status"]) for row in rows] == [
        ("n1", "alive"),
        ("n2", "alive"),
        ("n3", "dead"),
        ("n2", "suspect"),
    ]
    assert "looking for another node" in err


def test_a_row_that_is_gone_is_told(
    three: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offers: list[dict[str, Any]] = [
        {"service": "math", "node": node, "state": "serving", "methods": []} for node in ("n1", "n2")
    ]
    three.answers["fdn.node.services"] = lambda me, payload: list(offers)
    steps: Iterator[Callable[[], object]] = iter([offers.pop, three.members.clear])
    monkeypatch.setattr("fdn.cli.watching.time.sleep", lambda seconds: next(steps)())
    assert run(["service", "ls", "--watch", "-o", "ndjson"]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["node"], row.get("gone", False)) for row in rows] == [("n1", False), ("n2", False), ("n2", True)]


def test_nobody_at_the_first_attempt(world: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["members", "--watch"]) == 3
    assert capsys.readouterr().out == ""


def test_an_empty_list_is_shown_once(
    three: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three.answers["fdn.node.services"] = lambda me, payload: []
    steps: Iterator[Callable[[], object]] = iter([lambda: None, three.members.clear])
    monkeypatch.setattr("fdn.cli.watching.time.sleep", lambda seconds: next(steps)())
    assert run(["service", "ls", "--watch"]) == 3
    assert capsys.readouterr().out.split() == ["SERVICE", "NODE", "STATE", "VERSION", "METHODS"]
