import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture
def three(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400, rtt_us=None)
    world.add("n2", 7410, rtt_us=1250.4)
    world.add("n3", 7420, status="dead", reachable=False, reason="no answer", incarnation=[2, 1])
    return world


@pytest.mark.usefixtures("three")
def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["members"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "STATUS", "STATE", "REACHABLE", "RTT", "INCARNATION", "ENDPOINT", "REASON"]
    assert lines[1] == ["n1", "alive", "serving", "yes", "-", "1.0", "tcp://127.0.0.1:7400", "-"]
    assert lines[2][4:6] == ["1.25", "ms"]
    assert lines[3][:4] == ["n3", "dead", "serving", "no"]
    assert lines[3][6:] == ["2.1", "tcp://127.0.0.1:7420", "no", "answer"]


@pytest.mark.usefixtures("three")
def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["members", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["n1", "n2", "n3"]
    assert rows[1]["rtt_us"] == 1250.4
    assert rows[2]["endpoints"] == {"coordination": "tcp://127.0.0.1:7420"}


@pytest.mark.usefixtures("three")
def test_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["members", "--status", "dead", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["n3"]
    assert run(["members", "n2", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["n2"]
    assert run(["members", "n4"]) == 4
    assert run(["members", "--status", "lost"]) == 2
