import pytest

from fdn.bench.worker import Worker


@pytest.mark.parametrize("kind", ["cast", "call"])
def test_every_byte_is_counted(kind: str) -> None:
    with (
        Worker("large-receiver", endpoint="tcp://127.0.0.1:0") as receiver,
        Worker("large-sender", endpoint="tcp://127.0.0.1:0", join=receiver.ready["endpoint"]) as sender,
    ):
        for size, count in ((100_000, 20), (3_000_000, 5)):
            result = sender.ask(kind, 60.0, size=size, seconds=30.0, count=count)
            assert (result["sent"], result["received"], result["bytes"]) == (count, count, count * size)
            assert result["elapsed_s"] > 0


def test_lanes_and_another_address() -> None:
    with (
        Worker("large-receiver", endpoint="tcp://127.0.0.1:0", lanes=2) as receiver,
        Worker(
            "large-sender",
            endpoint="tcp://127.0.0.1:0",
            advertise="127.0.0.1",
            lanes=2,
            join=receiver.ready["endpoint"],
        ) as sender,
    ):
        result = sender.ask("call", 60.0, size=1000, seconds=30.0, count=40, in_flight=8, keyed=True)
        assert (result["sent"], result["received"]) == (40, 40)
