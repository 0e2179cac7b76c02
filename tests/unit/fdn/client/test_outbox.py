from fdn.client.codec import Kind, decode, encode
from fdn.client.outbox import Credit, Outbox, Outgoing

FREE = Credit((0, 0), 1)


def call(number: int, body: object = None, **settings: object) -> Outgoing:
    return Outgoing(Kind.CALL, "x", number, encode(body), **settings)  # type: ignore[arg-type]


def numbers(frame: bytes | None) -> list[int]:
    return [received.id for received in decode(frame or b"")]


def test_what_waits_goes_out_as_one_batch():
    outbox = Outbox()
    for number in range(3):
        outbox.put(call(number))
    assert numbers(outbox.next_batch(FREE, 0)) == [0, 1, 2]
    assert outbox.next_batch(FREE, 0) is None
    assert not outbox.ready(FREE)


def test_batches_are_bounded():
    outbox = Outbox()
    for number in range(600):
        outbox.put(call(number))
    outbox.put(call(600, bytes(70_000)))
    outbox.put(call(601, bytes(70_000)))
    counts = [len(numbers(outbox.next_batch(FREE, 0))) for _ in range(4)]
    assert counts == [512, 89, 1, 0]


def test_what_needs_no_credit_goes_ahead_in_a_batch_of_its_own():
    outbox, credit = Outbox(), Credit((1, 10_000), 5)
    outbox.put(call(1))
    outbox.put(Outgoing(Kind.CANCEL, "", 9))
    assert numbers(outbox.next_batch(credit, 0)) == [9]
    assert numbers(outbox.next_batch(credit, 0)) == [1]
    outbox.put(call(2))
    assert not outbox.ready(credit)
    assert outbox.next_batch(credit, 0) is None
    outbox.put(Outgoing(Kind.CANCEL, "", 2))
    assert numbers(outbox.next_batch(credit, 0)) == [2], "exempt"
    credit.on_credit([5, 3, 10_000])
    assert numbers(outbox.next_batch(credit, 0)) == [2]


def test_the_deadline_is_what_is_left_when_the_batch_is_written():
    outbox = Outbox()
    outbox.put(call(1, deadline_at=10.0))
    outbox.put(call(2, deadline_at=12.0005))
    outbox.put(call(3, deadline_at=12.00001))
    outbox.put(call(4))
    found = decode(outbox.next_batch(FREE, 12.0) or b"")
    assert [(received.id, received.deadline_ms) for received in found] == [(2, 1), (3, 1), (4, 0)]


def test_what_was_given_up_is_not_sent():
    outbox, sent = Outbox(), []
    given_up = call(1, on_sent=lambda: sent.append(1))
    outbox.put(given_up)
    outbox.put(call(2, on_sent=lambda: sent.append(2)))
    given_up.dropped = True
    assert numbers(outbox.next_batch(FREE, 0)) == [2]
    assert sent == [2]
    last = call(3)
    outbox.put(last)
    last.dropped = True
    assert outbox.next_batch(FREE, 0) is None


def test_full_and_room_again():
    outbox, woken = Outbox(), []
    for number in range(1024):
        assert not outbox.full
        outbox.put(call(number))
    assert outbox.full
    outbox.room.add(lambda: woken.append(1))
    outbox.next_batch(FREE, 0)
    assert woken
    assert not outbox.full
    outbox.clear()
    outbox.put(call(1, bytes(9_000_000)))
    assert outbox.full, "by bytes"
    outbox.next_batch(FREE, 0)
    assert not outbox.full


def test_whoever_waits_hears_that_all_is_sent_also_when_nothing_of_it_needed_credit():
    outbox, woken = Outbox(), []
    outbox.room.add(lambda: woken.append(1))
    outbox.put(Outgoing(Kind.CANCEL, "", 9))
    outbox.next_batch(FREE, 0)
    assert woken


def test_another_connection_gets_what_had_not_begun():
    outbox, woken = Outbox(), []
    outbox.room.add(lambda: woken.append(1))
    for kind in (Kind.CALL, Kind.ITEM, Kind.END, Kind.CAST, Kind.EVENT, Kind.REPLY, Kind.CANCEL, Kind.SUBSCRIBE):
        outbox.put(Outgoing(kind, "", kind))
    outbox.on_lost()
    assert numbers(outbox.next_batch(FREE, 0)) == [Kind.CALL, Kind.CAST, Kind.EVENT]
    assert woken


def test_what_would_begin_something_new_rests_and_what_goes_on_does_not():
    outbox = Outbox()
    outbox.put(call(1))
    outbox.rest()
    outbox.put(call(2))
    outbox.put(Outgoing(Kind.ITEM, "request", 1))
    assert numbers(outbox.next_batch(FREE, 0)) == [1, 1]
    assert not outbox.ready(FREE)
    assert len(outbox) == 1
    outbox.go_on()
    assert numbers(outbox.next_batch(FREE, 0)) == [2]


def test_another_connection_gets_what_rested():
    outbox = Outbox()
    outbox.rest()
    outbox.put(call(1))
    outbox.on_lost()
    outbox.put(call(2))
    assert numbers(outbox.next_batch(FREE, 0)) == [1, 2]


def test_credit():
    credit = Credit((2, 1000), epoch=5)
    credit.spend(1, 10)
    assert not credit.spent
    credit.spend(1, 10)
    assert credit.spent
    credit.on_credit([4, 100, 100_000])  # of another connection
    credit.on_credit("nonsense")
    assert credit.spent
    credit.on_credit([5, 4, 1000])
    assert not credit.spent
    credit.spend(1, 2000)
    assert credit.spent
    credit.on_credit([5, 1, 1])  # late
    credit.on_credit([5, 4, 5000])
    assert not credit.spent
    for _ in range(10):
        FREE.spend(100, 10**9)
    assert not FREE.spent
