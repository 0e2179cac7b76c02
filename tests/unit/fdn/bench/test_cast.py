from fdn.bench.cast import measure_cast
from fdn.bench.plan import ROUNDS, Plan


def test_nothing_is_lost_and_everything_is_reported() -> None:
    said: list[str] = []
    result = measure_cast(Plan(size=10, count=1000, duration_s=0.05, say=said.append))
    for part in (result, result["async"], result["raw"]):
        assert (part["sent"], part["received"], part["lost"]) == (1000, 1000, 0)
        assert part["messages_per_s"] > 0
    assert result["wire_bytes"] > 1000 * 10
    assert (result["transport"], result["handler"], result["async"]["handler"]) == ("tcp", "def", "async")
    assert [set(item) for item in result["rounds"]] == [{"def", "async", "raw"}] * ROUNDS
    assert len(said) == 1 + ROUNDS
