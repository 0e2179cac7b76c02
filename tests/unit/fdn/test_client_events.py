from collections.abc import Iterator

import pytest

import fdn
from fdn.client_events import ClientEvent, ClientSubscription, Credit


class Wire:
    """What a client would read, one at a time."""

    def __init__(self, *events: ClientEvent) -> None:
        self.events: Iterator[ClientEvent] = iter(events)
        self.waited: list[float] = []
        self.closed: list[ClientSubscription] = []
        self.subscription = ClientSubscription("a.>", 7, self.read, self.closed.append)

    def read(self, timeout_s: float) -> bool:
        self.waited.append(timeout_s)
        event = next(self.events, None)
        if event is not None:
            self.subscription.put(event)
        return event is not None


def event(number: int, missed: int = 0) -> ClientEvent:
    return ClientEvent("a.b", number, "n1-id", missed)


def test_reads_when_nothing_is_there():
    wire = Wire(event(1), event(2))
    assert [wire.subscription.next(0.5) for _ in range(3)] == [event(1), event(2), None]
    assert wire.waited == [0.5] * 3


def test_iterates_over_what_comes_until_it_is_closed():
    wire = Wire(event(1), event(2), event(3))
    got = []
    with wire.subscription as subscription:
        for each in subscription:
            got.append(each.payload)
            if each.payload == 3:
                subscription.close()
    assert got == [1, 2, 3]
    assert wire.closed == [wire.subscription]
    assert wire.subscription.next(1) is None


def test_what_came_while_another_was_read_is_bounded():
    wire = Wire()
    wire.subscription.put(event(0, missed=5))
    for number in range(1, 8192 + 3):
        wire.subscription.put(event(number))
    first = wire.subscription.next(0)
    assert first == event(3, missed=5 + 3)
    assert wire.subscription.next(0) == event(4)


def test_what_came_is_read_before_the_error():
    wire = Wire()
    wire.subscription.put(event(1))
    wire.subscription.error = fdn.Overloaded("too slow")
    assert wire.subscription.next(0) == event(1)
    with pytest.raises(fdn.Overloaded):
        wire.subscription.next(0)
    with pytest.raises(fdn.Overloaded):
        next(wire.subscription)


def test_credit():
    credit = Credit((2, 1000), epoch=5)
    credit.spend(10)
    assert not credit.spent
    credit.spend(10)
    assert credit.spent
    credit.on_credit([4, 100, 100_000])  # of another connection
    assert credit.spent
    credit.on_credit([5, 4, 1000])
    assert not credit.spent
    credit.spend(2000)
    assert credit.spent
    credit.on_credit([5, 1, 1])  # late
    credit.on_credit([5, 4, 5000])
    assert not credit.spent


def test_no_limit():
    credit = Credit((0, 0), epoch=1)
    for _ in range(10):
        credit.spend(10**9)
    assert not credit.spent
