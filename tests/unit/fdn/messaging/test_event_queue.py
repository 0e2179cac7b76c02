import msgspec
import pytest

from fdn.messaging.event_queue import Delivery, EventQueue, Gap, Policy
from fdn.runtime.data_plane import NoTicket
from transports.wire.envelope import Envelope, Kind

NO_TICKET = NoTicket()


class Ticket:
    def __init__(self) -> None:
        self.held = 0
        self.released = 0

    def release(self) -> None:
        self.held -= 1
        self.released += 1


def event(number: int, size: int = 1) -> Delivery:
    body = msgspec.Raw(msgspec.msgpack.encode(b"x" * size))
    return Delivery(Envelope(Kind.EVENT, str(number), body=body), "n1")


def queue(policy: Policy, events_max: int = 3, bytes_max: int = 1000) -> EventQueue:
    return EventQueue(policy, events_max, bytes_max)


def taken(queue: EventQueue) -> list[object]:
    """Everything, in order: numbers, and gaps."""
    found: list[object] = []
    while (item := queue.take()) is not None:
        found.append(item if isinstance(item, Gap) else int(item.envelope.to))
    return found


@pytest.mark.parametrize("policy", Policy)
def test_in_order_and_bounded_by_nothing_while_there_is_room(policy: Policy):
    ours = queue(policy)
    for number in range(3):
        ours.put(event(number), NO_TICKET)
    assert (ours.count, ours.full, ours.dropped) == (3, True, 0)
    assert taken(ours) == [0, 1, 2]
    assert (ours.count, ours.full) == (0, False)
    assert ours.take() is None


def test_drop_oldest_tells_the_gap_before_what_is_left():
    ours = queue(Policy.DROP_OLDEST)
    for number in range(5):
        ours.put(event(number), NO_TICKET)
    assert ours.dropped == 2
    assert taken(ours) == [Gap(2), 2, 3, 4]


def test_drop_newest_tells_the_gap_behind_what_was_there():
    ours = queue(Policy.DROP_NEWEST)
    for number in range(5):
        ours.put(event(number), NO_TICKET)
    assert ours.take() == event(0)
    ours.put(event(5), NO_TICKET)
    ours.put(event(6), NO_TICKET)
    assert ours.dropped == 3
    assert taken(ours) == [1, 2, Gap(2), 5, Gap(1)]


def test_a_large_one_drops_as_many_oldest_as_it_takes():
    ours = queue(Policy.DROP_OLDEST, events_max=100, bytes_max=100)
    for number in range(30):
        ours.put(event(number), NO_TICKET)
    ours.put(event(30, size=150), NO_TICKET)
    ours.put(event(31), NO_TICKET)
    assert taken(ours) == [Gap(31), 31]
    assert ours.dropped == 31


@pytest.mark.parametrize("policy", Policy)
def test_bytes_are_bounded_too(policy: Policy):
    ours = queue(policy, events_max=100, bytes_max=100)
    ours.put(event(0, size=90), NO_TICKET)
    assert not ours.full
    ours.put(event(1, size=90), NO_TICKET)  # one more may pass
    assert ours.full
    taken(ours)
    assert not ours.full


def test_wait_keeps_the_credit_of_what_is_beyond_the_queue():
    ours, ticket = queue(Policy.WAIT), Ticket()
    for number in range(3):
        ours.put(event(number), ticket)
    assert ticket.held == 0
    for number in range(3, 6):
        ours.put(event(number), ticket)
    assert (ticket.held, ours.count, ours.full) == (3, 6, True)
    for left in (2, 1, 0):
        ours.take()
        assert ticket.held == left
        assert ours.full
    ours.take()
    assert not ours.full
    assert taken(ours) == [4, 5]
    assert (ours.dropped, ticket.released) == (0, 3)


def test_release_gives_the_credit_back_and_keeps_what_came():
    ours, ticket = queue(Policy.WAIT), Ticket()
    for number in range(5):
        ours.put(event(number), ticket)
    ours.release()
    assert ticket.held == 0
    assert taken(ours) == [0, 1, 2, 3, 4]


def test_clear_gives_the_credit_back_and_drops_what_came():
    ours, ticket = queue(Policy.WAIT), Ticket()
    room: list[int] = []
    ours.on_room = lambda: room.append(ours.count)
    for number in range(5):
        ours.put(event(number), ticket)
    ours.clear()
    assert (ticket.held, ours.count, ours.full, room) == (0, 0, False, [0])
    assert ours.take() is None


def test_tells_when_there_is_more_and_when_there_is_room():
    ours = queue(Policy.WAIT, events_max=2)
    told: list[str] = []
    ours.on_more = lambda: told.append("more")
    ours.on_room = lambda: told.append("room")
    ours.put(event(0), NO_TICKET)
    ours.put(event(1), NO_TICKET)
    ours.take()
    ours.take()
    assert told == ["more", "more", "room"]


def test_a_small_body_does_not_keep_its_batch_alive():
    frame = memoryview(msgspec.msgpack.encode([b"small", b"x" * 60_000]))
    small, large = msgspec.msgpack.decode(frame, type=list[msgspec.Raw])
    ours = queue(Policy.WAIT, bytes_max=1_000_000)
    for body in (small, large):
        ours.put(Delivery(Envelope(Kind.EVENT, "0", body=body), "n1"), NO_TICKET)
    bodies = [item.envelope.body for item in (ours.take(), ours.take()) if isinstance(item, Delivery)]
    assert [body is given for body, given in zip(bodies, (small, large), strict=True)] == [False, True]
    assert bodies == [small, large]


def test_drop_oldest_tells_one_gap_for_all_that_nobody_has_heard_of():
    ours = queue(Policy.DROP_OLDEST)
    for number in range(5):
        ours.put(event(number), NO_TICKET)
    assert ours.take() == Gap(2)
    assert isinstance(ours.take(), Delivery)
    for number in range(5, 8):
        ours.put(event(number), NO_TICKET)
    assert taken(ours) == [Gap(2), 5, 6, 7]
    assert (ours.dropped, ours.count, ours.size) == (4, 0, 0)


def test_what_came_without_credit_is_not_kept_beyond_the_queue():
    ours = queue(Policy.WAIT)
    ticket = Ticket()
    for number in range(10):
        ours.put(event(number), ticket if number == 4 else NO_TICKET)
    assert (ours.count, ours.dropped, ticket.held) == (4, 6, 1)
    assert taken(ours) == [0, 1, 2, 4]  # and no gap: with this policy a reader need not look for any
    assert (ticket.held, ours.full) == (0, False)
