import time

import pytest

from fdn.bench.overload_nodes import spin
from fdn.bench.worker import Worker


def test_work_uses_the_processor() -> None:
    used = time.thread_time()
    spin(0.02)
    assert time.thread_time() - used >= 0.02


@pytest.mark.parametrize("handler", ["def", "async"])
def test_every_request_is_accounted_for(handler: str) -> None:
    with (
        Worker("overload-server", endpoint="tcp://127.0.0.1:0", work_s=20e-6) as server,
        Worker("overload-client", endpoint="tcp://127.0.0.1:0", join=server.ready["endpoint"], seed=1) as client,
    ):
        closed = client.ask("capacity", 30.0, handler=handler, seconds=0.1, in_flight=8)
        assert closed["answered"] > 0
        assert closed["elapsed_s"] >= 0.1
        calls = client.ask("calls", 30.0, handler=handler, rate=200.0, seconds=0.2, deadline_s=2.0)
        assert sum(calls["outcomes"].values()) == pytest.approx(440, abs=120)
        assert len(calls["durations_s"]) <= calls["outcomes"]["answered"]
        done = client.ask("done", 30.0, handler=handler, expected=closed["answered"] + calls["outcomes"]["answered"])
        assert done["done"] == closed["answered"] + calls["outcomes"]["answered"]
        casts = client.ask("casts", 30.0, handler=handler, rate=500.0, seconds=0.2)
        assert set(casts["outcomes"]) == {"answered"}
        expected = done["done"] + casts["outcomes"]["answered"]
        assert client.ask("done", 30.0, handler=handler, expected=expected)["done"] == expected
