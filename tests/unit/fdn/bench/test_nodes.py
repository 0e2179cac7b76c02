import pytest

from fdn.bench.nodes import service_app
from fdn.bench.worker import Worker


def test_every_app_counts_for_itself() -> None:
    first, second = service_app(), service_app()
    assert [declared.name for declared in first.services] == [declared.name for declared in second.services]
    assert first.services[0].target is not second.services[0].target


@pytest.mark.parametrize("handler", ["def", "async"])
def test_each_message_is_counted_and_each_call_answered(handler: str) -> None:
    amount = {"size": 10, "seconds": 30.0, "count": 1000, "handler": handler}
    with (
        Worker("node-receiver", endpoint="tcp://127.0.0.1:0") as receiver,
        Worker("node-sender", endpoint="tcp://127.0.0.1:0", join=receiver.ready["endpoint"]) as sender,
    ):
        for _ in range(2):
            cast = sender.ask("cast", 30.0, **amount)
            assert (cast["sent"], cast["received"]) == (1000, 1000)
            assert cast["wire_bytes"] > 10 * 1000
        assert sender.ask("latency", 30.0, **amount)["calls"] == 1000
        assert sender.ask("calls", 30.0, in_flight=64, **amount)["calls"] == 1000
