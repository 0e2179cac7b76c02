from typing import Any

from fdn.bench.large import KINDS, LargePlan, measure_large, rows


def test_nothing_is_lost_and_everything_is_reported() -> None:
    said: list[str] = []
    sizes = (65_536, 1_000_000)
    result = measure_large(LargePlan(sizes=sizes, count=6, rounds=2, in_flight=2, say=said.append))
    assert result["sent"] == result["received"] == len(sizes) * len(KINDS) * 6
    assert [(row["size"], row["kind"]) for row in result["rows"]] == [(size, kind) for size in sizes for kind in KINDS]
    for row in result["rows"]:
        assert row["sent"] == row["received"] == 6
        assert 0 < row["lowest"] <= row["mb_s"] <= row["highest"]
        assert ("to_raw" in row) == (row["kind"] != "raw")
    assert len(result["rounds"]) == len(result["rows"])
    assert (result["transport"], result["in_flight"]) == ("tcp", 2)
    assert len(said) == 3


def test_ratios_are_of_the_same_round() -> None:
    def rounds(*rates: float) -> list[dict[str, Any]]:
        return [{"mb_s": rate, "sent": 1, "received": 1} for rate in rates]

    cast, raw = rows({(1, "cast"): rounds(1.0, 20.0, 3.0), (1, "raw"): rounds(2.0, 20.0, 6.0)})
    assert (cast["to_raw"], cast["mb_s"]) == (0.5, 3.0)
    assert "to_raw" not in raw
