import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeClient, FakeCluster

published: list[tuple[str, Any, Mapping[str, str] | None]] = []
flushed: list[int] = []


@pytest.fixture(autouse=True)
def _events(world: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("n1", 7400)
    published.clear()
    flushed.clear()

    def publish(
        self: FakeClient,
        subject: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        delivery: str | None = None,
    ) -> None:
        published.append((subject if delivery is None else f"{subject} {delivery}", payload, headers))

    monkeypatch.setattr(FakeClient, "publish", publish, raising=False)
    monkeypatch.setattr(FakeClient, "flush", lambda self: flushed.append(len(published)), raising=False)


def test_one_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pub", "orders.eu", '{"id": 7}', "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"subject": "orders.eu", "published": 1}
    assert published == [("orders.eu", {"id": 7}, None)]
    assert flushed == [1]


def test_more_than_at_most_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pub", "orders.eu", "7", "--delivery", "effectively_once"]) == 0
    assert published == [("orders.eu effectively_once", 7, None)]
    assert run(["pub", "orders.eu", "7", "--delivery", "exactly_once"]) == 2


def test_several_and_bytes_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pub", "a.b", "raw", "--bytes", "--count", "3"]) == 0
    assert run(["pub", "a.b"]) == 0
    assert published == [("a.b", b"raw", None)] * 3 + [("a.b", None, None)]
    assert "published  3" in capsys.readouterr().out


def test_headers_travel_along() -> None:
    assert run(["pub", "a.b", "1", "-H", "tenant: blue", "-H", "at:12:30"]) == 0
    assert published == [("a.b", 1, {"tenant": "blue", "at": "12:30"})]
    assert run(["pub", "a.b", "1", "-H", "nonsense"]) == 2
    assert run(["pub", "a.b", "1", "-H", ":x"]) == 2


def test_one_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("items").write_text('{"id": 1}\n\n"two"\n')
    assert run(["pub", "a.b", "--items", "items", "--json"]) == 0
    assert published == [("a.b", {"id": 1}, None), ("a.b", "two", None)]
    assert json.loads(capsys.readouterr().out)["published"] == 2


def test_a_line_that_is_no_json_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("items").write_text("1\noops\n")
    assert run(["pub", "a.b", "--items", "items"]) == 2
    assert "line 2 of the items is not JSON" in capsys.readouterr().err
    assert run(["pub", "a.b", "--items", "no-such-file"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("not json",),
        ("--count", "0"),
        ("1", "--items", "-"),
        ("--items", "-", "--count", "2"),
        ("--items", "-", "--bytes"),
    ],
    ids=str,
)
def test_mistakes(arguments: tuple[str, ...]) -> None:
    assert run(["pub", "a.b", *arguments]) == 2
    assert published == []
