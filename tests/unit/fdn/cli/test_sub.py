import json
from collections.abc import Iterator
from typing import Any

import pytest

from fdn.cli.root import run
from fdn.client.inbox import ClientEvent
from tests.unit.fdn.cli.fakes import FakeClient, FakeCluster

EVENTS = [
    ClientEvent("a.b", {"x": 1}, "n1-id", 0),
    ClientEvent("a.c", b"raw", "n2-id", 3, {"tenant": "blue", "a": "b"}),
    ClientEvent("a.d", None, "", 0),
]
asked: list[Any] = []


class FakeSubscription:
    unaware = ("n3",)

    def __iter__(self) -> Iterator[ClientEvent]:
        return iter(EVENTS)


@pytest.fixture(autouse=True)
def _events(world: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("n1", 7400)
    asked.clear()

    def subscribe(self: FakeClient, pattern: str, *, queue: str) -> FakeSubscription:
        asked.append((pattern, queue))
        return FakeSubscription()

    monkeypatch.setattr(FakeClient, "subscribe", subscribe, raising=False)


def test_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sub", "a.>", "--count", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ['a.b  {"x": 1}', "a.c  a:b tenant:blue  \"b'raw'\"", "a.d  null"]
    assert err.splitlines() == [
        "subscribed to a.> at n1",
        "these do not know of it yet: n3",
        "3 events were missed here",
    ]
    assert asked == [("a.>", "")]


@pytest.mark.parametrize("form", [["--json"], ["-o", "ndjson"]], ids=" ".join)
def test_json_is_one_object_a_line(form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sub", "a.>", "--count", "2", "--queue", "q", *form]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first = {"subject": "a.b", "payload": {"x": 1}, "origin": "n1-id", "missed": 0, "headers": {}, "redelivered": False}
    assert rows[0] == first
    assert (rows[1]["subject"], rows[1]["missed"]) == ("a.c", 3)
    assert asked == [("a.>", "q")]


def test_raw_is_the_payload_alone(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["sub", "a.>", "--count", "3", "--raw", "--json"]) == 0
    assert capfdbinary.readouterr().out == b'{"x":1}\nrawnull\n'


def test_headers_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sub", "a.>", "--count", "3", "--headers-only"]) == 0
    assert capsys.readouterr().out.splitlines() == ["a.b", "a.c  a:b tenant:blue", "a.d"]
    assert run(["sub", "a.>", "--count", "1", "--headers-only", "--json"]) == 0
    assert "payload" not in json.loads(capsys.readouterr().out)
    assert run(["sub", "a.>", "--headers-only", "--raw"]) == 2
