import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


def test_the_node_that_answers(world: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    world.add("n1", 7400)
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["name", "n1"]
    assert "stats" not in out
    assert run(["info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["name"], info["stats"]) == ("n1", {"unsent": 0})


def test_another_member(world: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    world.add("n1", 7400)
    world.add("n2", 7410)
    assert run(["info", "n2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "n2"
    assert run(["info", "n3"]) == 4
