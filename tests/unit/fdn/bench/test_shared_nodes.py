import numpy as np
import pytest

from fdn.bench.shared_nodes import fill, read
from fdn.bench.worker import Worker


def test_every_byte_is_written_and_read() -> None:
    buffer = bytearray(80)
    fill(buffer, 252)
    assert buffer == bytes([1] * 80)
    assert read(buffer) == 10 * int(np.frombuffer(bytes([1] * 8), np.uint64)[0])


@pytest.mark.parametrize("again", [True, False])
def test_what_is_passed_is_read(again: bool) -> None:
    with (
        Worker("shared-receiver", endpoint="tcp://127.0.0.1:0") as receiver,
        Worker("shared-sender", endpoint="tcp://127.0.0.1:0", join=receiver.ready["endpoint"]) as sender,
    ):
        result = sender.ask("pass", 60.0, size=131_072, count=12, again=again)
        assert (result["sent"], result["received"]) == (12, 12)
        assert 0 <= result["as_handles"] <= 12  # frames, where there is no shared memory
        handles = sender.ask("handles", 60.0, size=131_072, count=5)
        assert handles["calls"] == 5
