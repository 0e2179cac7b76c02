import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


def test_the_node_is_told_whom_to_join(world: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    world.add("n1", 7400)
    world.answers["fdn.node.join"] = lambda me, seeds: None
    assert run(["join", "10.0.0.1:7400", "tcp://[::1]:7400", "--json"]) == 0
    seeds = ["tcp://10.0.0.1:7400", "tcp://[::1]:7400"]
    assert ("n1", "fdn.node.join", seeds) in world.asked
    assert json.loads(capsys.readouterr().out) == {
        "node": "n1-0123456789abcdef",
        "name": "n1",
        "joined": seeds,
        "alive": ["n1"],
    }


@pytest.mark.parametrize("seeds", [(), ("nonsense",), ("0.0.0.0:7400",)])
def test_wrong_addresses_are_found_before_anybody_is_asked(world: FakeCluster, seeds: tuple[str, ...]) -> None:
    assert run(["join", *seeds]) == 2
    assert world.dialled == []
