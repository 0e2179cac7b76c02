"""Real sockets, pumped by hand, against a stand-in for a node."""

import random
import select
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from fdn.client.codec import encode
from fdn.client.core import Core
from fdn.client.pending import Pending
from fdn.client.wires import Wires
from tests.unit.fdn.client.fake_node import FakeNode


class Hand:
    """A driver that waits with `select`, and only where it is told to."""

    def __init__(self, *seeds: str, reconnect: bool = False) -> None:
        self.watched: set[int] = set()
        self.core = Core(
            seeds,
            cluster="fdn",
            node="c",
            name="",
            timeout_s=10.0,
            reconnect=reconnect,
            chance=random.Random(7).random,
            number=1,
        )
        self.wires = Wires(
            self.core,
            time.monotonic,
            watch=self.watched.add,
            unwatch=self.watched.discard,
            run=lambda effect: None,
            stop=lambda effect: None,
        )

    def pump_until(self, condition: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up_at
            if not self.wires.pump() and not condition() and not self.core.has_effects:
                select.select(self.watched, [], [], 1.0)

    def connect(self, channel: str = "data") -> None:
        self.pump_until(lambda: self.core.connection.want(channel, time.monotonic()).ready)

    def call(self, payload: object) -> Pending:
        pending = Pending("x", "data", self.core.new_number(), time.monotonic() + 10)
        self.core.call(pending, encode(payload))
        return pending


@pytest.fixture
def node() -> Iterator[FakeNode]:
    made = FakeNode()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def hand(node: FakeNode) -> Iterator[Hand]:
    made = Hand(node.endpoint)
    try:
        yield made
    finally:
        made.wires.close()


def test_calls_there_and_back(hand: Hand):
    hand.connect()
    calls = [hand.call(number) for number in range(2000)]
    hand.pump_until(lambda: all(call.over for call in calls))
    assert [call.result() for call in calls] == list(range(2000))


def test_a_push_sends_without_waiting_for_a_descriptor(hand: Hand, node: FakeNode):
    hand.connect()
    hand.call("now")
    hand.wires.push()
    node.wait(lambda: [each[5] for _, each in node.heard if each[0] == 5] == ["now"])


def test_what_came_before_the_end_is_read_before_the_end_is_believed(hand: Hand, node: FakeNode):
    hand.connect()
    call = hand.call("answer me")
    hand.wires.push()
    node.hears("data", 5)
    node.close(linger_ms=5000)
    hand.pump_until(lambda: call.over)
    assert call.result() == "answer me"
    hand.pump_until(lambda: hand.core.connection.phase.name == "IDLE")
    assert hand.watched == set()


def test_nobody_listens(node: FakeNode):
    endpoint = node.endpoint
    node.close()
    hand = Hand(endpoint)
    hand.core.connection.want("coordination", time.monotonic())
    hand.pump_until(lambda: hand.core.connection.failed_rounds)
    assert "refused" in str(hand.core.connection.failure())
    hand.wires.close()


def test_an_address_that_is_none_does_not_stop_the_round(node: FakeNode):
    hand = Hand("nonsense", "tcp://", node.endpoint)
    hand.connect("coordination")
    hand.wires.close()


def test_goodbye(hand: Hand, node: FakeNode):
    hand.connect()
    hand.core.close()
    hand.wires.push()
    node.hears("data", 4)
    node.hears("coordination", 4)
    assert hand.watched == set()
    context = hand.wires.release()
    assert context is not None
    context.term()
    assert hand.wires.release() is None


def test_closing_twice_and_dropping_without_closing(node: FakeNode):
    hand = Hand(node.endpoint)
    hand.connect()
    hand.wires.close()
    hand.wires.close()
    dropped = Hand(node.endpoint)
    dropped.connect()
    del dropped  # must neither hang nor warn


def test_a_flood_leaves_a_turn_to_others(hand: Hand, node: FakeNode):
    hand.connect()
    node.answer = lambda channel, envelope: [[6, "", 0, 0, None, None]] * 900 if envelope[0] == 5 else []
    heard: list[int] = []
    on_frame = hand.core.on_frame

    def counting(channel: str, frame: bytes, now: float, attachments: Sequence[bytes] = ()) -> None:
        heard.append(1)
        on_frame(channel, frame, now, attachments)

    hand.core.on_frame = counting  # type: ignore[method-assign]
    hand.call(None)
    hand.wires.push()
    node.hears("data", 5)
    most = 0
    give_up_at = time.monotonic() + 20
    while len(heard) < 900:
        assert time.monotonic() < give_up_at
        before = len(heard)
        if not hand.wires.pump():
            select.select(hand.watched, [], [], 1.0)
        most = max(most, len(heard) - before)
    assert most <= 256
