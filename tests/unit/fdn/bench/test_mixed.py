import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from fdn.bench import erlang, mixed
from fdn.bench.mixed import Contestant, MixedPlan, measure_mixed
from fdn.bench.plan import ROUNDS

TAIL = {"count", "p50_us", "p99_us", "p999_us", "max_us"}


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """Contestants of plain values: round trips of 1 ms when idle, and each of them later by what its name says."""
    made: list[tuple[str, str, dict[str, Any]]] = []

    def contestant(name: str, late_s: float) -> contextlib.AbstractContextManager[Contestant]:
        def run(order: str, **arguments: Any) -> dict[str, Any]:
            made.append((name, order, arguments))
            durations_s = [0.001] * 9 + [0.001 if order == "idle" else 0.001 + late_s]
            result: dict[str, Any] = {"durations_s": durations_s, "unanswered": 0}
            return result | {"sent": 3, "received": 3, "bulk_mb_s": 100.0, "held_up": True}

        @contextlib.contextmanager
        def hold() -> Iterator[Contestant]:
            yield Contestant(run, None, ("reader_stopped",))

        return hold()

    monkeypatch.setattr(mixed, "_fdn", lambda: contestant("fdn", 0.0099))
    monkeypatch.setattr(mixed, "_b0", lambda: contestant("b0", 0.0101))
    monkeypatch.setattr(mixed, "_erlang", lambda: contestant("erlang", 0.0101))
    monkeypatch.setattr(erlang, "missing", lambda: "")
    return made


def test_an_incident_is_ten_milliseconds_later_than_idle(orders: list[Any]) -> None:
    result = measure_mixed(MixedPlan(peers=("b0", "erlang")))
    assert (result["incidents"], result["b0"]["incidents"], result["erlang"]["incidents"]) == (0, ROUNDS, ROUNDS)
    assert result["idle"] == {"count": 10 * ROUNDS} | dict.fromkeys(("p50_us", "p99_us", "p999_us", "max_us"), 1000.0)
    assert result["saturated"]["p99_us"] == 10_900.0
    assert result["bulk_mb_s"] == 100.0
    assert (result["sent"], result["received"], result["unanswered"]) == (3 * ROUNDS, 3 * ROUNDS, 0)
    assert result["scenarios"]["reader_stopped"]["incidents"] == 0
    assert result["b0"]["scenarios"]["reader_stopped"]["incidents"] == 1
    assert result["b0"]["scenarios"]["reader_stopped"]["held_up"]
    assert len(result["rounds"]) == ROUNDS
    assert result["skipped"] == {}


def test_all_take_turns_with_the_same_load(orders: list[Any]) -> None:
    measure_mixed(MixedPlan(duration_s=5.0, rate=7.0, size=9, senders=2, peers=("b0",), scenario_s=0))
    load = {"rate": 7.0, "seconds": 5.0 / ROUNDS}
    first = orders[4:8]  # behind the warming up
    assert sorted(first, key=str) == sorted(
        ((name, state, load | ({"senders": 2, "size": 9} if state == "saturated" else {}))
         for name in ("fdn", "b0") for state in ("idle", "saturated")),
        key=str,
    )  # fmt: skip
    assert len({tuple(name for name, _, _ in orders[start : start + 4]) for start in range(4, len(orders), 4)}) > 1
    assert len(orders) == 4 * (1 + ROUNDS)


def test_who_is_not_there_is_named(orders: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erlang, "missing", lambda: "not installed")
    result = measure_mixed(MixedPlan(peers=("erlang",)))
    assert result["skipped"] == {"erlang": "not installed"}
    assert "erlang" not in result
    assert "b0" not in result


def test_real_processes() -> None:
    peers = ("b0",) if erlang.missing() else ("b0", "erlang")
    said: list[str] = []
    plan = MixedPlan(
        duration_s=0.2, rate=250, size=1_000_000, senders=2, peers=peers, rounds=1, scenario_s=0.3, say=said.append
    )
    result = measure_mixed(plan)
    for part in (result, *(result[name] for name in peers)):
        assert set(part["idle"]) == set(part["saturated"]) == TAIL
        assert part["idle"]["count"] == part["saturated"]["count"] == 50
        assert 0 < part["idle"]["p50_us"] <= part["idle"]["p99_us"]
        assert part["bulk_mb_s"] > 0
        assert part["sent"] == part["received"] > 0
        assert part["incidents"] >= 0
    assert set(result["scenarios"]) == {"reader_stopped", "peer_stopped", "loop_blocked"}
    assert result["scenarios"]["reader_stopped"]["held_up"]
    # Blind, if the one connection had none.
    assert result["b0"]["scenarios"]["reader_stopped"]["incidents"] > 0
    assert result["b0"]["scenarios"]["loop_blocked"]["incidents"] > 0
    assert "peer stopped" in said
