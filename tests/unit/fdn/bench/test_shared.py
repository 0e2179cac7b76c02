from fdn.bench.shared import KINDS, SharedPlan, measure_shared


def test_nothing_is_lost_and_everything_is_reported() -> None:
    said: list[str] = []
    plan = SharedPlan(
        sizes=(131_072,), handle_sizes=(131_072, 262_144), handle_calls=4, duration_s=0.02, rounds=2, say=said.append
    )
    result = measure_shared(plan)
    assert [(row["size"], row["kind"]) for row in result["rows"]] == [(131_072, kind) for kind in KINDS]
    for row in result["rows"]:
        assert row["sent"] == row["received"] > 0
        assert 0 < row["lowest"] <= row["mb_s"] <= row["highest"]
        assert ("to_raw" in row) == (row["kind"] != "raw")
    assert [(row["size"], row["calls"]) for row in result["handles"]] == [(131_072, 4), (262_144, 4)]
    assert all(0 < row["p50_us"] <= row["p99_us"] for row in result["handles"])
    assert len(said) == 3
