import dataclasses
import json
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
