import json

import pytest

from fdn.cli.root import run
from fdn.errors import Unreachable
from tests.unit.fdn.cli.fakes import FakeCluster


@pytest.fixture
def three(world: FakeCluster) -> FakeCluster:
    for number in range(3):
        world.add(f"n{number + 1}", 7400 + 10 * number)
    world.add("n4", 7440, status="dead", reachable=False)
    return world


@pytest.mark.usefixtures("three")
def test_everybody_reaches_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reachability"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:5] for line in out.splitlines()[1:]] == [[f"n{n}", "yes", "3", "3", "-"] for n in (1, 2, 3)]
    assert err == ""


def test_one_way_broken_and_one_silent(three: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    def members(me: dict[str, object], payload: object) -> list[dict[str, object]]:
        blind = me["name"] == "n2"
        return [
            row | {"me": row["node"] == me["node"], "reachable": not (blind and row["name"] == "n1")}
            for row in three.members
        ]

    three.answers["fdn.node.members"] = members
    three.refusals["tcp://127.0.0.1:7420"] = Unreachable("nobody is there")
    assert run(["reachability", "--json"]) == 9
    out, err = capsys.readouterr()
    assert [(row["name"], row["answers"], row["missing"], row["error"]) for row in json.loads(out)] == [
        ("n1", True, [], ""),
        ("n2", True, ["n1"], ""),
        ("n3", False, [], "nobody is there"),
    ]
    assert "2 of 3" in err
