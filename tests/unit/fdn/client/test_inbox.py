import fdn
from fdn.client.inbox import ClientEvent, Inbox


def event(number: int, missed: int = 0) -> ClientEvent:
    return ClientEvent("a.b", number, "n1-id", missed)


def inbox() -> Inbox:
    made = Inbox("a.>", "", 7, None)
    made.on_confirmed(["n2", 5])
    return made


def test_in_order():
    box, woken = inbox(), []
    assert (box.confirmed, box.unaware) == (True, ("n2",))
    box.signal.add(lambda: woken.append(1))
    box.put(event(1))
    box.put(event(2))
    assert woken == [1]
    assert [box.take(), box.take()] == [event(1), event(2)]


def test_what_is_not_read_is_bounded_and_counted_with_the_oldest():
    box = inbox()
    box.put(event(0, missed=5))
    for number in range(1, 8192 + 3):
        box.put(event(number))
    assert len(box) == 8192
    assert box.take() == event(3, missed=5 + 3)
    assert box.take() == event(4)


def test_a_lost_connection_is_told_with_the_next_event():
    box = inbox()
    box.put(event(1))
    box.on_lost()
    assert not box.confirmed
    box.on_confirmed([])
    box.put(event(2, missed=4))
    box.put(event(3))
    assert [box.take(), box.take(), box.take()] == [event(1), event(2, missed=-1), event(3)]


def test_what_is_unknown_stays_unknown_when_more_is_dropped():
    box = inbox()
    box.on_lost()
    for number in range(8192 + 1):
        box.put(event(number))
    assert box.take() == event(1, missed=-1)


def test_a_connection_lost_before_the_subscription_was_made_loses_nothing():
    box = Inbox("a", "", 1, None)
    box.on_lost()
    box.put(event(1))
    assert box.take() == event(1)


def test_the_end():
    box = inbox()
    box.put(event(1))
    box.on_ended({"code": "overloaded", "message": "too slow"})
    box.end(fdn.Unreachable("later"))
    assert isinstance(box.error, fdn.Overloaded)
    assert len(box) == 1, "it can still be read"
    box.close()
    assert (box.closed, len(box)) == (True, 0)
    other = inbox()
    other.on_confirmed("nonsense")
    assert other.unaware == ()
