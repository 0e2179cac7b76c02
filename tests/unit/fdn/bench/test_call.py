from fdn.bench.call import measure_call
from fdn.bench.plan import ROUNDS, Plan


def test_every_figure_is_there() -> None:
    result = measure_call(Plan(size=10, count=200, duration_s=0.05, handlers=("async",), in_flight=8, transport="ipc"))
    for part in (result, result["raw"]):
        assert part["calls"] == 400
        assert part["calls_per_s"] > 0
        assert 0 < part["p50_us"] <= part["p99_us"]
    assert (result["transport"], result["handler"], result["in_flight"]) == ("ipc", "async", 8)
    assert "async" not in result
    assert [set(item) for item in result["rounds"]] == [{"async", "raw"}] * ROUNDS
