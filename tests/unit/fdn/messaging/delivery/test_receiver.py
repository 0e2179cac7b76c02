"""The receiving core, step by step. `test_promises` has it on a bad network."""

from typing import Any

import pytest

from fdn.messaging.delivery.frames import Ack, Dependency, MessageId, Tag
from fdn.messaging.delivery.receiver import Arrival, Outcome, Receiver
from fdn.messaging.delivery.window import DedupWindow


class Here:
    """A receiver whose driver accepts everything, unless told otherwise."""

    def __init__(self, **bounds: Any) -> None:
        self.members = {"p", "q"}
        usual: dict[str, Any] = {"window_max": 8, "held_max": 4, "hold_max_s": 5.0, "streams_max": 4}
        self.receiver = Receiver("me", lambda node: node in self.members, dedup=DedupWindow(10, 10), **(usual | bounds))
        self.got: list[Any] = []
        self.outcome = Outcome.ACCEPTED

    def send(
        self,
        number: int,
        *,
        peer: str = "p",
        stream: int = 1,
        floor: int = 1,
        previous: int = 0,
        now: float = 0.0,
        identity: MessageId | None = None,
        past: tuple[Dependency, ...] = (),
    ) -> list[Any]:
        """What was handed over because of it."""
        tag = Tag(stream, floor, previous)
        return self.take(self.receiver.on_message(peer, tag, number, (peer, number), now, identity, past))

    def take(self, ready: list[Arrival]) -> list[Any]:
        before = len(self.got)
        queue = list(ready)
        while queue:
            arrival = queue.pop(0)
            if self.outcome is Outcome.ACCEPTED:
                self.got.append(arrival.item)
            queue += self.receiver.on_outcome(arrival, self.outcome, 0.0)
        return self.got[before:]

    def acks(self) -> list[tuple[str, Ack]]:
        return self.receiver.take_acks()


def test_once_and_acknowledged():
    here = Here()
    assert here.send(1) == [("p", 1)]
    assert here.send(3) == [("p", 3)]  # without a key nobody waits
    assert here.send(1) == here.send(3) == []
    assert here.acks() == [("p", Ack(1, 1, [(3, 3)], ()))]
    assert here.acks() == []
    assert here.send(2) == [("p", 2)]
    assert here.acks() == [("p", Ack(1, 3, [], ()))]
    assert here.receiver.stats().duplicates == 2


def test_a_duplicate_is_acknowledged_again():
    here = Here()
    here.send(1)
    here.acks()
    here.send(1)
    assert here.acks() == [("p", Ack(1, 1, [], ()))]


def test_a_stream_met_in_its_middle_begins_at_its_floor():
    here = Here()
    assert here.send(9, floor=7) == [("p", 9)]
    assert here.acks() == [("p", Ack(1, 6, [(9, 9)], ()))]
    assert here.send(6, floor=7) == []


def test_what_is_not_taken_comes_again_and_what_is_refused_does_not():
    here = Here()
    here.outcome = Outcome.FULL
    assert here.send(1) == []
    assert here.acks() == [("p", Ack(1, 0, [], ()))]
    here.outcome = Outcome.REFUSED
    assert here.send(1) == []
    assert here.acks() == [("p", Ack(1, 1, [], (1,)))]
    here.outcome = Outcome.ACCEPTED
    assert here.send(1) == []
    stats = here.receiver.stats()
    assert (stats.overflowed, stats.refused, stats.duplicates, stats.accepted) == (1, 1, 1, 0)


def test_messages_of_a_key_wait_for_the_one_before():
    here = Here()
    assert here.send(3, previous=2) == []
    assert here.send(2, previous=1) == []
    assert here.send(4) == [("p", 4)]
    assert here.receiver.stats().held == 2
    assert here.acks() == [("p", Ack(1, 0, [(4, 4)], ()))]  # what is held is not acknowledged
    assert here.send(1) == [("p", 1), ("p", 2), ("p", 3)]
    assert here.receiver.stats().held == 0
    assert here.acks() == [("p", Ack(1, 4, [], ()))]


def test_the_one_before_that_was_given_up_is_not_waited_for():
    here = Here()
    assert here.send(3, previous=2) == []
    assert here.send(5, floor=3) == [("p", 3), ("p", 5)]
    assert here.send(8, floor=3, previous=7) == []
    assert here.send(8, floor=3, previous=6) == []  # another one, which is waited for
    assert here.send(8, floor=3, previous=0) == [("p", 8)]


def test_the_one_before_that_was_not_taken_is_waited_for():
    here = Here()
    here.outcome = Outcome.FULL
    here.send(1)
    here.outcome = Outcome.ACCEPTED
    assert here.send(2, previous=1) == []
    assert here.send(1) == [("p", 1), ("p", 2)]


def test_bounds():
    here = Here()
    assert here.send(9) == []  # past the window
    for number in range(2, 6):
        assert here.send(number, previous=1) == []
    assert here.send(6, previous=1) == []  # past what is held
    assert here.receiver.stats().overflowed == 2
    assert [number for _, number in here.send(1)] == [1, 2, 3, 4, 5]
    assert here.send(6, previous=1) == [("p", 6)]


def test_the_stream_that_was_silent_for_longest_is_forgotten():
    here = Here(streams_max=2)
    here.send(1, stream=1)
    here.send(2, stream=2, previous=1)
    here.send(2, stream=1)
    assert here.send(1, stream=3) == [("p", 2), ("p", 1)]  # with it goes what held its messages back
    assert here.receiver.stats().streams == 2
    assert here.receiver.stats().held == 0


def test_by_origin_and_sequence_over_several_ways():
    here = Here()
    identity = MessageId("client", 7)
    assert here.send(1, identity=identity) == [("p", 1)]
    assert here.send(1, peer="q", identity=identity) == []
    assert here.acks() == [("p", Ack(1, 1, [], ())), ("q", Ack(1, 1, [], ()))]
    assert here.send(2, previous=1, peer="q", identity=MessageId("client", 8)) == [("q", 2)]
    assert here.receiver.stats().remembered == 2


def test_two_copies_on_two_ways_at_once():
    here = Here()
    here.members.add("r")
    for peer in ("p", "q"):
        assert here.send(1, peer=peer, identity=MessageId("client", 7), past=(Dependency("r", "me", 5, 1),)) == []
    assert here.take(here.receiver.on_gone("r")) == [("p", 1)]
    assert here.acks()[1] == ("q", Ack(1, 0, [], ()))  # had the first not been taken, this one would come again
    assert here.send(1, peer="q", identity=MessageId("client", 7)) == []
    assert here.acks() == [("q", Ack(1, 1, [], ()))]


def test_what_is_held_and_went_elsewhere_is_dropped():
    here = Here()
    assert here.send(2, previous=1) == []
    assert here.send(4, previous=3) == []
    assert here.send(5, floor=3) == [("p", 5)]
    assert here.receiver.stats().held == 1
    assert here.send(3, floor=3) == [("p", 3), ("p", 4)]


def test_what_comes_before_is_waited_for():
    here = Here()
    past = (Dependency("q", "me", 5, 1), Dependency("p", "me", 1, 1), Dependency("q", "other", 6, 1))
    assert here.send(1, past=past) == []  # its own copy is named, too
    assert here.send(1, peer="q", stream=5) == [("q", 1), ("p", 1)]


def test_nobody_waits_for_what_was_handed_over_or_cannot_come():
    here = Here()
    here.send(1, peer="q", stream=5)
    assert here.send(1, past=(Dependency("q", "me", 5, 1),)) == [("p", 1)]
    assert here.send(2, past=(Dependency("stranger", "me", 5, 1),)) == [("p", 2)]
    assert here.send(3, past=(Dependency("me", "p", 5, 1),)) == [("p", 3)]


def test_the_past_is_waited_for_no_longer_than_said():
    here = Here()
    assert here.send(1, past=(Dependency("q", "me", 5, 1),)) == []
    assert here.receiver.next_deadline() == 5.0
    assert here.take(here.receiver.on_time(4.9)) == []
    assert here.take(here.receiver.on_time(5.0)) == [("p", 1)]
    assert here.receiver.next_deadline() is None
    assert here.receiver.stats().overdue == 1
    assert here.send(1, peer="q", stream=5) == [("q", 1)]


def test_the_key_is_waited_for_also_when_the_past_is_not():
    here = Here()
    assert here.send(2, previous=1, past=(Dependency("q", "me", 5, 1),)) == []
    assert here.take(here.receiver.on_time(5.0)) == []
    assert here.send(1) == [("p", 1), ("p", 2)]


def test_a_dead_node_is_not_waited_for():
    here = Here()
    assert here.send(1, past=(Dependency("q", "me", 5, 1),)) == []
    assert here.send(3, previous=2, peer="q", stream=9) == []
    here.members = {"p"}
    assert here.take(here.receiver.on_gone("q")) == [("q", 3), ("p", 1)]  # what it sent is handed over
    assert here.receiver.stats().held == 0
    assert here.take(here.receiver.on_time(5.0)) == []


def test_old_deadlines_do_not_pile_up():
    here = Here()
    for number in range(1, 100):
        here.send(number, past=(Dependency("q", "me", 5, number),), floor=number)
        here.send(number, peer="q", stream=5)
    assert len(here.receiver._overdue_at) <= 9
    assert here.receiver.stats().accepted == 198


@pytest.mark.parametrize("previous", [1, 2, 7])
def test_who_waits_for_itself_or_what_comes_later_does_not_wait(previous: int):
    assert Here().send(1, previous=previous) == [("p", 1)]
