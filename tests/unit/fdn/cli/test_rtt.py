import json

import pytest

from fdn.cli.root import run
from fdn.cli.rtt import summary
from tests.unit.fdn.cli.fakes import FakeCluster

ROWS = [
    {"node": "n2-id", "name": "n2", "channel": "data", "samples_us": [100.0, 200.0, 900.0], "error": ""},
    {"node": "n3-id", "name": "n3", "channel": "data", "samples_us": [], "error": "no answer"},
]


@pytest.fixture
def two(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    world.add("n2", 7410)
    world.answers["fdn.node.rtt"] = lambda me, payload: ROWS[:1]
    return world


def test_a_table(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rtt", "n2", "--count", "3", "--channel", "data"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["n2", "data", "3", "0.10", "ms", "0.20", "ms", "0.90", "ms", "0.90", "ms", "-"]
    wish = {"nodes": ["n2"], "channels": ["data"], "count": 3, "timeout_ms": 625}
    assert two.asked == [("n1", "fdn.node.rtt", wish)]


def test_a_silent_member_is_degraded(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    two.answers["fdn.node.rtt"] = lambda me, payload: ROWS
    assert run(["rtt", "--json"]) == 9
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["p50_us"], row["error"]) for row in rows] == [
        ("n2", 200.0, ""),
        ("n3", None, "no answer"),
    ]


def test_who_measures(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    two.answers["fdn.node.rtt"] = lambda me, payload: []
    assert run(["rtt", "--from", "n2"]) == 0
    assert two.asked[-1][0] == "n2"
    assert "n2 knows no other member" in capsys.readouterr().err


def test_the_figures_of_a_hundred() -> None:
    row = summary({"node": "", "name": "", "channel": "data", "samples_us": [*range(1, 101)], "error": ""})
    assert (row["min_us"], row["p50_us"], row["p99_us"], row["max_us"]) == (1, 50.5, 99, 100)
