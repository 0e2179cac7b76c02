from typing import Any

import pytest

from fdn.bench.worker import Worker

RATE, SECONDS = 200.0, 0.25


def test_round_trips_share_the_connection_with_everything_else() -> None:
    with (
        Worker("b0-receiver", endpoint="tcp://127.0.0.1:*") as receiver,
        Worker("b0-sender", **receiver.ready) as sender,
    ):

        def run(order: str, **arguments: int) -> dict[str, Any]:
            receiver.tell("serve")
            result = sender.ask(order, 60.0, rate=RATE, seconds=SECONDS, **arguments)
            counted = receiver.answer(60.0)
            assert counted["received"] == result["sent"]
            assert len(result["durations_s"]) == RATE * SECONDS
            assert result["unanswered"] == 0
            return result

        idle = run("idle")
        assert idle["sent"] == 0
        saturated = run("saturated", senders=2, size=1_000_000)
        assert saturated["received"] == saturated["sent"] > 0
        assert saturated["bulk_mb_s"] > 0
        for stop in ("reader_stopped", "loop_blocked"):
            # The baseline must feel it, or the measurement is blind: most wait for about half of the stop.
            durations_s = sorted(run(stop)["durations_s"])
            assert durations_s[len(durations_s) // 2] > SECONDS / 4


@pytest.mark.parametrize("order", ["idle", "saturated"])
def test_an_answer_that_is_late_for_its_round_is_nobodys(order: str) -> None:
    with (
        Worker("b0-receiver", endpoint="tcp://127.0.0.1:*") as receiver,
        Worker("b0-sender", **receiver.ready) as sender,
    ):
        for _ in range(2):
            receiver.tell("serve")
            result = sender.ask(order, 60.0, rate=RATE, seconds=SECONDS, size=1000)
            receiver.answer(60.0)
            assert len(result["durations_s"]) == RATE * SECONDS
