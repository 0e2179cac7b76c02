from fdn.bench.plan import ROUNDS, Plan
from fdn.bench.stream import measure_stream


def test_every_item_is_counted_and_everything_reported() -> None:
    said: list[str] = []
    rounds = 3 * ROUNDS
    result = measure_stream(Plan(size=10, count=3000, duration_s=0.05, say=said.append))
    for part in (result, result["callback"], result["function"], result["request"]):
        assert part["items"] == 3000
        assert part["lowest"] <= part["items_per_s"] <= part["highest"]
        assert part["client_us"] > 0
    assert result["iterator_to_callback"] > 0
    assert result["iterator_to_function"] > 0
    assert (result["transport"], result["size"]) == ("tcp", 10)
    assert [set(each) for each in result["rounds"]] == [{"iterator", "callback", "function", "request"}] * rounds
    assert len(said) == 1 + rounds
