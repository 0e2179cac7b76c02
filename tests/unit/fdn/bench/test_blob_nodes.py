from pathlib import Path

import pytest

from fdn.bench.blob_nodes import _fill, _write
from fdn.bench.worker import Worker


def test_an_original_has_its_size(tmp_path: Path) -> None:
    _write(tmp_path / "original", 2_500_000)
    assert (tmp_path / "original").stat().st_size == 2_500_000
    buffer = memoryview(bytearray(1_500_000))
    _fill(buffer)
    assert any(buffer[-100:])


@pytest.mark.parametrize("shared", [True, False])
def test_it_is_made_once_and_fetched_often(shared: bool, tmp_path: Path) -> None:
    endpoint = "tcp://127.0.0.1:0"
    with (
        Worker("blob-holder", endpoint=endpoint, folder=str(tmp_path), shared=shared) as holder,
        Worker("blob-taker", endpoint=endpoint, join=holder.ready["endpoint"], shared=shared) as taker,
    ):
        assert taker.ask("make", 30.0, size=1_500_000) == {"size": 1_500_000}
        for _ in range(2):
            assert taker.ask("take", 30.0)["received"] == 1_500_000
