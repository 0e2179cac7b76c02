import pytest

from fdn.bench.event_nodes import FORMS, Tally
from fdn.bench.worker import Worker
from tests.unit.fdn.harness import virtual


@pytest.mark.parametrize("form", FORMS)
def test_each_event_is_counted_in_each_subscription(form: str) -> None:
    with (
        Worker("event-publisher", endpoint="tcp://127.0.0.1:0") as publisher,
        Worker("event-subscriber", endpoint="tcp://127.0.0.1:0", join=publisher.ready["endpoint"]) as subscriber,
    ):
        for count in (1, 3):
            assert subscriber.ask("subscribe", 30.0, form=form, count=count) == {"unaware": 0}
            published = publisher.ask("publish", 30.0, size=10, seconds=30.0, count=500)
            assert published["sent"] == 500
            tally = subscriber.ask("tally", 30.0, expected=500 * count)
            assert tally["received"] == 500 * count
            assert tally["ended_at"] > published["started_at"]
            assert subscriber.ask("unsubscribe", 30.0) == {}


@virtual
async def test_what_does_not_come_is_not_waited_for_for_ever() -> None:
    tally = Tally()
    tally.count = 3
    assert (await tally.wait(3))["received"] == 3
