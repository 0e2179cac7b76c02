import collections
from typing import Any

from fdn.bench import load
from fdn.bench.load import LoadPlan, measure_load


def test_everything_is_measured() -> None:
    said: list[str] = []
    plan = LoadPlan(nodes=2, duration_s=0.2, rounds=1, bulk_size=100_000, bulk_mb_s=10.0, say=said.append)
    result = measure_load(plan)
    assert 0 < result["capacity_per_s"] <= result["closed_loop_per_s"]
    for state in ("quiet", "bulk"):
        part = result[state]
        assert sum(part["outcomes"].values()) > 0
        assert set(part["outcomes"]) == {"answered"}
        assert 0 < part["p50_us"] <= part["p99_us"] <= part["max_us"]
        assert 0 < part["offered_per_s"] < result["closed_loop_per_s"]
    assert result["quiet"]["bulk_mb_s"] == 0
    assert result["bulk"]["bulk_mb_s"] > 0
    assert len(result["rounds"]) == 1
    assert said == ["capacity", "round 1 of 1"]


def test_capacity_is_the_highest_rate_that_is_kept_up_with() -> None:
    class Run(load._Run):
        def calls(self, state: str, rate: float, seconds: float) -> dict[str, Any]:
            return {"in_time": 100 if rate < 650 else 90, "outcomes": collections.Counter(answered=100)}

    run = Run(LoadPlan(), [])
    assert run.capacity(1000.0, 1.0) == 600
    assert run.capacity(400.0, 1.0) == 400
    assert run.capacity(9000.0, 1.0) == 3600
