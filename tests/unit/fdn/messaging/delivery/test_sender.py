"""The sending core, step by step. `test_promises` has it on a bad network."""

import random
from typing import Any

from fdn.messaging.delivery.backoff import Backoff
from fdn.messaging.delivery.frames import Ack, Tag
from fdn.messaging.delivery.sender import Consignment, GaveUp, Message, Reroute, Sender, Settled

A, B, C = ("a", "events"), ("b", "events"), ("c", "events")


class There:
    def __init__(self, **bounds: Any) -> None:
        usual: dict[str, Any] = {"copies_max": 8, "bytes_max": 10_000, "window_max": 4}
        rng = random.Random(1)
        self.sender = Sender(backoff=Backoff(1.0, 8.0, rng), rng=rng, **(usual | bounds))

    def put(self, *copies: Any, key: str = "", deadline_at: float = 0.0, body: bytes = b"") -> list[Consignment]:
        """Submit one message to ways, or to (way, group)."""
        message = Message(14, "s", {}, body, key=key, deadline_at=deadline_at)
        return self.sender.submit(message, [copy if isinstance(copy[0], tuple) else (copy, "") for copy in copies])

    def sent(self, way: Any, now: float = 0.0) -> list[tuple[int, int, int]]:
        """(number, floor, previous) of all that goes out now."""
        found = []
        self.sender.remind(way, now)
        while (each := self.sender.take(way, now)) is not None:
            found.append((each.consignment.number, each.tag.floor, each.tag.previous))
        return found

    def ack(self, way: Any, upto: int, ranges: Any = (), refused: Any = (), now: float = 0.0) -> list[Any]:
        return self.sender.on_ack(way, Ack(self.sender.stream_of(way), upto, ranges, refused), now)


def test_sent_once_and_again_until_it_is_acknowledged():
    there = There()
    there.put(A, B)
    there.put(A)
    assert there.sent(A) == [(1, 1, 0), (2, 1, 0)]
    assert there.sent(A) == []
    assert 0.5 <= (there.sender.next_deadline(A) or 0) <= 1.0
    assert sorted(there.sent(A, 1.0)) == [(1, 1, 0), (2, 1, 0)]
    assert len(there.ack(A, 1)) == 0  # its other copy is open
    (settled,) = there.ack(B, 1)
    assert isinstance(settled, Settled)
    assert there.sent(A, 20.0) == [(2, 2, 0)]
    assert [type(effect) for effect in there.ack(A, 2)] == [Settled]
    assert there.sender.next_deadline(A) is None
    assert there.sender.ways() == []
    stats = there.sender.stats()
    assert (stats.messages, stats.transmitted, stats.retransmitted, stats.acked) == (2, 2, 3, 3)


def test_where_acknowledgements_take_long_the_pause_is_longer():
    there = There()
    for number in range(1, 20):
        there.put(A)
        there.sent(A, 10.0 * number)
        there.ack(A, number, now=10.0 * number + 2.0)
    there.put(A)
    there.sent(A, 200.0)
    pause = (there.sender.next_deadline(A) or 0.0) - 200.0
    assert 2.0 < pause < 8.0
    there.sent(A, 300.0)
    assert there.sender.stats().retransmitted == 1
    there.ack(A, 20, now=300.001)  # of which sending, nobody knows
    there.put(A)
    there.sent(A, 400.0)
    assert (there.sender.next_deadline(A) or 0.0) - 400.0 > 2.0


def test_ranges_and_late_acks():
    there = There()
    for _ in range(4):
        there.put(A)
    there.sent(A)
    assert len(there.ack(A, 1, [(3, 4)])) == 3
    assert there.ack(A, 1, [(3, 4)]) == []
    assert there.ack(A, 10**18, [(1, 2**63)]) != []
    assert there.sender.unacked == 0
    assert there.sender.on_ack(A, Ack(12345, 9), 0.0) == []
    assert there.sender.on_ack(C, Ack(1, 9), 0.0) == []


def test_a_new_connection_gets_all_that_is_open_in_order():
    there = There()
    for _ in range(3):
        there.put(A)
    there.sent(A)
    there.ack(A, 0, [(2, 2)])
    there.sender.on_open(A)
    assert there.sent(A) == [(1, 1, 0), (3, 1, 0)]
    there.sender.on_open(B)


def test_no_more_than_the_window_is_under_way():
    there = There()
    for _ in range(6):
        there.put(A)
    assert [number for number, _, _ in there.sent(A)] == [1, 2, 3, 4]
    there.ack(A, 0, [(2, 4)])
    assert there.sent(A) == []
    there.ack(A, 1)
    assert there.sent(A) == [(5, 5, 0), (6, 5, 0)]


def test_full():
    there = There(copies_max=2)
    there.put(A)
    assert not there.sender.full
    there.put(A)
    assert there.sender.full
    there.ack(A, 1)
    assert not there.sender.full
    wide = There(bytes_max=100)
    wide.put(A, body=b"x" * 50)
    assert wide.sender.full
    wide.sender.met_full()
    assert wide.sender.stats().full == 1


def test_messages_of_a_key_name_the_one_before():
    there = There()
    there.put(A, key="x")
    there.put(A, key="y")
    there.put(A, key="x")
    assert there.sent(A) == [(1, 1, 0), (2, 1, 0), (3, 1, 1)]
    there.ack(A, 3)
    there.put(A, key="x")
    assert there.sent(A) == [(4, 4, 0)]  # nothing open is before it


def test_what_has_expired_is_given_up_and_nobody_waits_for_it():
    there = There()
    there.put(A)
    first, second = there.put(A, key="x"), there.put(A, key="x", deadline_at=5.0)
    there.put(A, key="x")
    assert there.sender.next_expiry() == 5.0
    assert there.sent(A, 6.0) == [(1, 1, 0), (2, 1, 0), (4, 1, 3)]
    effects = there.sender.on_time(6.0)
    assert [type(effect) for effect in effects] == [GaveUp, Settled]
    assert second[0].message.unconfirmed == [("a", "its deadline has passed")]
    assert first[0].message.unconfirmed == []
    assert there.sender.next_expiry() is None
    there.sender.on_open(A)
    assert there.sent(A, 7.0) == [(1, 1, 0), (2, 1, 0), (4, 1, 2)]
    assert there.sender.stats().expired == 1


def test_an_acknowledged_message_does_not_expire():
    there = There()
    there.put(A, deadline_at=5.0)
    there.sent(A)
    there.ack(A, 1)
    assert there.sender.next_expiry() is None
    assert there.sender.on_time(9.0) == []


def test_a_gone_node_is_given_up_and_its_groups_go_elsewhere():
    there = There()
    (plain,) = there.put(A)
    (grouped,) = there.put((A, "g"))
    there.sent(A)
    reroute, gave_up, settled = there.sender.on_gone("a", "it is dead")
    assert reroute == Reroute((grouped,), "it is dead")
    assert isinstance(gave_up, GaveUp)
    assert settled == Settled(plain.message)
    assert plain.message.unconfirmed == [("a", "it is dead")]
    assert grouped.tried == ["a"]
    there.sender.redirect(grouped, B)
    assert there.sent(B) == [(1, 1, 0)]
    assert grouped.sends == 2
    assert there.ack(B, 1) == [Settled(grouped.message)]
    assert there.sender.stats().redelivered == 1


def test_a_node_that_comes_back_has_a_new_stream():
    there = There()
    there.put(A)
    former = there.sender.stream_of(A)
    there.sender.on_gone("a", "it is dead")
    there.put(A)
    assert there.sender.stream_of(A) != former
    assert there.sender.on_ack(A, Ack(former, 9), 0.0) == []


def test_what_is_refused_takes_along_those_behind_it_with_its_key():
    there = There()
    first, second, third = (there.put((A, "g"), key="x")[0] for _ in range(3))
    (other,) = there.put((A, "g"), key="y")
    there.sent(A)
    assert there.sender.holder("g", "x") == A
    (reroute,) = there.ack(A, 1, refused=[1])
    assert reroute == Reroute((first, second, third), "nobody there wants it")
    for consignment in reroute.consignments:
        there.sender.redirect(consignment, there.sender.holder("g", "x") or B)
    assert there.sent(B) == [(1, 1, 0), (2, 1, 1), (3, 1, 2)]
    assert there.sender.holder("g", "x") == B
    assert there.sender.holder("g", "y") == A
    there.ack(B, 3)
    assert there.sender.holder("g", "x") is None
    assert other.way == A


def test_nobody_is_left():
    there = There()
    (grouped,) = there.put((A, "g"))
    (reroute,) = there.sender.on_gone("a", "it is dead")
    assert isinstance(reroute, Reroute)
    gave_up, settled = there.sender.give_up(grouped, reroute.reason)
    assert gave_up == GaveUp(grouped, "it is dead")
    assert settled == Settled(grouped.message)
    assert there.sender.unacked == 0


def test_accepted_here():
    there = There()
    (grouped,) = there.put((A, "g"))
    there.sender.on_gone("a", "it is dead")
    assert there.sender.accepted_here(grouped) == [Settled(grouped.message)]


def test_the_end():
    there = There()
    there.put(A, B)
    there.put((C, "g"))
    effects = there.sender.abandon("this node stops")
    assert [type(effect) for effect in effects].count(GaveUp) == 3
    assert there.sender.unacked == 0
    assert there.sender.unacked_by() == {}


def test_who_has_not_acknowledged():
    there = There()
    there.put(A, B)
    there.put(A, ("a", "data"))
    assert there.sender.unacked_by() == {"a": 3, "b": 1}
    assert there.sender.has_open(A)
    assert there.sender.has_due(B, 0.0)
    assert not there.sender.has_due(C, 0.0)
    stream = there.sender.stream_of(A)
    assert there.sender.is_open(A, stream, 1)
    assert not there.sender.is_open(A, stream + 1, 1)


def test_tags():
    there = There()
    there.put(A)
    taken = there.sender.take(A, 0.0)
    assert taken is not None
    assert taken.tag == Tag(there.sender.stream_of(A), 1, 0)
