import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster

ACCUSED = {
    "age_ms": 61500,
    "status": "suspect",
    "incarnation": [1, 0],
    "by": "n3-id",
    "by_name": "n3",
    "reason": "no answer in 0.25 s, nor through 1 others",
    "from": "n3-id",
    "from_name": "n3",
    "confirms": False,
}
ROWS = [
    ACCUSED,
    ACCUSED | {"age_ms": 61000, "by": "n1-id", "by_name": "n1", "from": "n1-id", "from_name": "n1", "confirms": True},
    ACCUSED | {"age_ms": 59250, "status": "dead"},
]


@pytest.fixture
def three(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    world.add("n2", 7410, status="dead", reachable=False, reason="no answer; not refuted")
    world.add("n3", 7420)
    world.answers["fdn.node.why"] = lambda me, payload: ROWS
    return world


def test_a_table_of_the_evidence(three: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "n2"]) == 0
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1][:4] == ["61.5", "s", "suspect", "n3"]
    assert lines[2][:5] == ["61.0", "s", "suspect,", "confirmed", "n1"]
    assert lines[3][:4] == ["59.2", "s", "dead", "n3"]
    assert "n2 is dead to n1: no answer; not refuted" in said.err
    assert three.asked[-1] == ("n1", "fdn.node.why", "n2-0123456789abcdef")


def test_of_whom_it_is_the_evidence(three: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "n2", "--from", "n3", "--json"]) == 0
    assert three.asked[-1][0] == "n3"
    rows = json.loads(capsys.readouterr().out)
    assert [(row["status"], row["by_name"], row["confirms"]) for row in rows] == [
        ("suspect", "n3", False),
        ("suspect", "n1", True),
        ("dead", "n3", False),
    ]


def test_who_was_never_accused(three: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    three.answers["fdn.node.why"] = lambda me, payload: []
    assert run(["why", "n3"]) == 0
    assert "nothing was ever said against it to n1" in capsys.readouterr().err


@pytest.mark.usefixtures("three")
def test_nobody_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "n7"]) == 4
    assert 'no member is named "n7"' in capsys.readouterr().err
