import json

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster


def test_it_is_the_short_form_of_service_call(world: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    world.add("n1", 7400)
    world.answers["who@n1"] = lambda me, payload: me["name"]
    assert run(["request", "who@n1"]) == 0
    assert json.loads(capsys.readouterr().out) == "n1"
