import pytest

from fdn.bench.stream_nodes import KINDS
from fdn.bench.worker import Worker


@pytest.mark.parametrize("kind", KINDS)
def test_each_item_arrives_however_it_is_read(kind: str) -> None:
    with (
        Worker("stream-server", endpoint="tcp://127.0.0.1:0") as server,
        Worker("stream-client", endpoint="tcp://127.0.0.1:0", join=server.ready["endpoint"]) as client,
    ):
        for count in (1, 5000):  # more than a window
            assert client.ask(kind, 30.0, size=10, seconds=30.0, count=count)["items"] == count
