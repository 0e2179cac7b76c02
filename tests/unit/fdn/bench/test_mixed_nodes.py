import signal
from typing import Any

import pytest

from fdn.bench.worker import Worker

RATE, SECONDS = 100.0, 0.25


def test_round_trips_on_coordination_whatever_data_does() -> None:
    endpoint = "tcp://127.0.0.1:0"
    with (
        Worker("mixed-receiver", endpoint=endpoint, name="receiver") as receiver,
        Worker("mixed-receiver", endpoint=endpoint, name="stopped", join=receiver.ready["endpoint"]) as stopped,
        Worker("mixed-sender", endpoint=endpoint, join=receiver.ready["endpoint"]) as sender,
    ):

        def run(order: str, **arguments: int) -> dict[str, Any]:
            result = sender.ask(order, 60.0, rate=RATE, seconds=SECONDS, **arguments)
            durations_s = result.pop("durations_s")
            assert len(durations_s) == RATE * SECONDS
            assert min(durations_s) > 0
            assert result.pop("unanswered") == 0
            return result

        assert run("idle") == {}
        saturated = run("saturated", senders=2, size=100_000)
        assert saturated["sent"] == saturated["received"] > 0
        assert saturated["bulk_mb_s"] > 0
        assert run("loop_blocked") == {}
        # Senders were held up, or the consumer did not really stop.
        assert run("reader_stopped", senders=4) == {"held_up": True}
        stopped.signal(signal.SIGSTOP)
        try:
            assert set(run("peer_stopped", senders=4)) == {"held_up"}
        finally:
            stopped.signal(signal.SIGCONT)


def test_an_unknown_load_ends_the_worker(capfd: pytest.CaptureFixture[str]) -> None:
    with Worker("mixed-receiver", endpoint="tcp://127.0.0.1:0", name="receiver") as receiver:
        sender = Worker("mixed-sender", endpoint="tcp://127.0.0.1:0", join=receiver.ready["endpoint"])
        with pytest.raises(Exception, match="ended with status 1"):
            sender.ask("pigeons", 30.0, rate=RATE, seconds=SECONDS)
        sender.close()
    assert "KeyError: 'pigeons'" in capfd.readouterr().err
