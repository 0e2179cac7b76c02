import json
from typing import Any

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeClient, FakeCluster


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    done: list[Any] = []
    monkeypatch.setattr(FakeClient, "publish", lambda self, *event: done.append(event), raising=False)
    monkeypatch.setattr(FakeClient, "flush", lambda self: done.append("flushed"), raising=False)
    return done


def test_publishes_json(world: FakeCluster, published: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    world.add("n1", 7400)
    assert run(["pub", "orders.eu", '{"id": 7}', "--json"]) == 0
    assert published == [("orders.eu", {"id": 7}), "flushed"]
    assert json.loads(capsys.readouterr().out) == {"subject": "orders.eu", "published": 1}


def test_several_times_and_bytes(world: FakeCluster, published: list[Any]) -> None:
    world.add("n1", 7400)
    assert run(["pub", "a", "abc", "--bytes", "--count", "3"]) == 0
    assert published == [("a", b"abc")] * 3 + ["flushed"]


def test_without_a_body(world: FakeCluster, published: list[Any]) -> None:
    world.add("n1", 7400)
    assert run(["pub", "a"]) == 0
    assert published == [("a", None), "flushed"]


def test_what_is_no_json_or_no_count(world: FakeCluster, published: list[Any]) -> None:
    world.add("n1", 7400)
    assert run(["pub", "a", "{"]) == 2
    assert run(["pub", "a", "1", "--count", "0"]) == 2
    assert published == []
