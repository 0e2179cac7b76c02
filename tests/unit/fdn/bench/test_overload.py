from fdn.bench.overload import OverloadPlan, measure_overload

MEMORY = {"begin_mib", "end_mib", "peak_mib", "slope_kib_s"}


def test_everything_is_measured_and_nothing_that_was_promised_is_lost() -> None:
    said: list[str] = []
    plan = OverloadPlan(duration_s=0.6, work_s=2e-3, deadline_s=0.2, clients=2, handlers=("def",), say=said.append)
    result = measure_overload(plan)
    assert result["capacity_per_s"] <= 500  # a request costs two milliseconds
    assert 0 < result["capacity_per_s"] < result["offered_per_s"]
    assert result["goodput_to_capacity"] >= 0
    assert set(result["outcomes"]) <= {"answered", "expired", "refused", "failed"}
    casts = result["casts"]
    assert casts["offered"] >= casts["accepted"] > 0
    assert (casts["handled"], casts["lost"]) == (casts["accepted"], 0)
    for memory in (result["memory"], casts["memory"]):
        assert set(memory) == {"server", "client 1", "client 2"}
        assert all(set(each) == MEMORY for each in memory.values())
    assert len(result["rounds"]) == 3
    assert (result["handler"], result["factor"], result["work_us"]) == ("def", 2.0, 2000.0)
    assert said
