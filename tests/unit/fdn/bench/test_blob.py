from fdn.bench.blob import BlobPlan, measure_blob


def test_it_arrives_whole_each_time() -> None:
    said: list[str] = []
    result = measure_blob(BlobPlan(size=3_000_000, times=2, say=said.append))
    for way in ("frames", "shared"):
        assert result[way]["received"] == [3_000_000, 3_000_000]
        assert result[way]["mb_s"] > 0
        assert set(result[way]["extra_mib"]) == {"holder", "taker"}
    assert result["size"] == 3_000_000
    assert said[0] == "frames: making it"
