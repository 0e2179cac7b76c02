import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fdn.bench.plan import Plan
from fdn.bench.stall import Outcome
from fdn.cli.root import run

FIGURES = {"messages_per_s": 5, "calls_per_s": 7, "p50_us": 1.5, "p99_us": 2.5, "sent": 9, "lost": 0, "wire_bytes": 99}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    made: list[Plan] = []

    def measure(plan: Plan) -> dict[str, Any]:
        made.append(plan)
        result = {**FIGURES, "handler": plan.handlers[0], "transport": plan.transport, "size": plan.size}
        return result | {"async": FIGURES, "raw": {"messages_per_s": 3, "calls_per_s": 4}, "rounds": [{}]}

    monkeypatch.setattr("fdn.bench.cast.measure_cast", measure)
    monkeypatch.setattr("fdn.bench.call.measure_call", measure)
    return made


def _events(plan: Any) -> dict[str, Any]:
    rates = {str(n): 1000 for n in plan.subscribers}
    row = {"form": "iterator", "events_per_s": 1000, "lowest": 1, "highest": 2}
    row |= {"publisher_us": 1.5, "subscriber_us": 2.5, "lost": 0}
    return {"events_per_s": rates, "rows": [{"subscribers": n, **row} for n in plan.subscribers]}


@pytest.fixture
def event_plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def measure(plan: Any) -> dict[str, Any]:
        made.append(plan)
        return _events(plan)

    monkeypatch.setattr("fdn.bench.events.measure_events", measure)
    return made


def test_events(event_plans: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "events", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events_per_s"] == {"1": 1000, "5": 1000, "50": 1000}
    assert run(["bench", "events", "--subscribers", "2,7", "--form", "function", "--processes", "3"]) == 0
    out, err = capsys.readouterr()
    assert "1,000" in out
    assert "on 3 node(s)" in err
    plan = event_plans[-1]
    assert (plan.subscribers, plan.forms, plan.processes, plan.size) == ((2, 7), ("function",), 3, 100)
    for wrong in ("0", "1,", "many", "2000"):
        assert run(["bench", "events", "--subscribers", wrong]) == 2


def test_stream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    part = {"items_per_s": 1000, "lowest": 1, "highest": 2, "client_us": 1.5}
    result = part | dict.fromkeys(("callback", "function", "request"), part)
    ratios = {"iterator_to_callback": 1.01, "iterator_to_function": 0.9}
    monkeypatch.setattr("fdn.bench.stream.measure_stream", lambda plan: result | ratios)
    assert run(["bench", "stream"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["iterator", "callback", "function", "request"]
    assert "1.01 of a callback's" in err


def test_saved_and_compared(event_plans: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "saved.json")
    assert run(["bench", "events", "--save", saved]) == 0
    assert run(["bench", "events", "--baseline", saved]) == 0
    assert "events_per_s.50: 1,000 before, 1,000 now (1.00)" in capsys.readouterr().err
    assert run(["bench", "events", "--baseline", saved, "--floor", "1.5", "--json"]) == 10
    assert json.loads(capsys.readouterr().out)["baseline"][0]["ratio"] == 1.0
    assert run(["bench", "events", "--baseline", str(tmp_path / "none.json")]) == 2
    assert run(["bench", "events", "--save", str(tmp_path / "none" / "saved.json")]) == 2
    assert len(event_plans) == 3


def test_one_json_object(plans: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "cast", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["messages_per_s"] == 5
    assert err == ""
    assert (plans[0].size, plans[0].duration_s, plans[0].handlers) == (100, 3.0, ("def", "async"))


def test_a_table(plans: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--size", "1KiB", "--duration", "500ms", "--handler", "async", "--in-flight", "8", "--transport", "ipc"]
    assert run(["bench", "call", *options]) == 0
    assert "bare pyzmq" in capsys.readouterr().out
    plan = plans[0]
    assert (plan.size, plan.duration_s, plan.handlers, plan.in_flight, plan.transport) == (
        1024,
        0.5,
        ("async",),
        8,
        "ipc",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--join", "127.0.0.1:1"),
        ("--context", "up"),
        ("--size", "0"),
        ("--size", "2MiB"),
        ("--size", "many"),
        ("--duration", "10h"),
        ("--duration", "0s"),
        ("--count", "0"),
        ("--handler", "none"),
        ("--transport", "pigeon"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(arguments: tuple[str, ...], plans: list[Plan]) -> None:
    assert run(["bench", "cast", *arguments]) == 2
    assert plans == []


def test_stall_tells_what_each_scenario_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(folder: Any, names: Any, say: Any) -> dict[str, Any]:
        return {name: dataclasses.asdict(Outcome(blocked_s=None)) for name in names}

    monkeypatch.setattr("fdn.bench.stall.measure", measure)
    assert run(["bench", "stall", "--json", "--scenario", "idle"]) == 0
    assert json.loads(capsys.readouterr().out)["idle"]["suspicions"] == 0
    assert run(["bench", "stall"]) == 0
    assert "gc_collect" in capsys.readouterr().out
    assert run(["bench", "stall", "--scenario", "none"]) == 2
    assert "idle, sleep" in capsys.readouterr().err
    assert run(["bench", "stall", "--join", "127.0.0.1:1"]) == 2
