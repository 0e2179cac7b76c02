"""One direction of a stream: windows, order, and who is woken."""

import asyncio
import collections
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdn.errors import BadRequest, Unreachable
from fdn.messaging.payloads import decode, wire, wire_size
from fdn.messaging.stream_flow import (
    REPLY_STREAM,
    REQUEST_STREAM,
    StreamReceiver,
    StreamSender,
    Window,
    read_window,
    two_readers,
)
from tests.unit.fdn.harness import body, virtual
from transports.wire.envelope import Envelope, Kind


class FakeOutlet:
    """Takes all, or nothing until it is told to."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.room = asyncio.Event()
        self.room.set()
        self.lost: Unreachable | None = None

    def try_send(self, envelope: Envelope) -> bool:
        if self.room.is_set() and self.lost is None:
            self.sent.append(envelope)
            return True
        return False

    async def wait_room(self) -> None:
        await self.room.wait()
        if self.lost is not None:
            raise self.lost


def sender(outlet: FakeOutlet, window: Window | None, stream: str = REPLY_STREAM) -> StreamSender:
    return StreamSender(stream, 7, outlet, window, asyncio.get_running_loop())


def receiver(window: Window, opened: bool = True) -> tuple[StreamReceiver, list[Window]]:
    grants: list[Window] = []
    return StreamReceiver(window, grants.append, asyncio.get_running_loop(), opened), grants


# -- windows on the wire


@pytest.mark.parametrize(
    ("value", "window"),
    [
        (body([3, 4]), (3, 4)),
        (body((2**63, 2**64 - 1)), (2**63, 2**64 - 1)),
        ([3, 4], (3, 4)),
        ((0, 0), (0, 0)),
        (body([3]), None),
        (body([3, "4"]), None),
        (body(None), None),
        (msgspec.Raw(b"\x93"), None),
        ([3, 4, 5], None),
        ({"items": 3}, None),
        (None, None),
        ("ab", None),
    ],
)
def test_windows_are_read_and_what_is_none_is_not(value: Any, window: Window | None):
    assert read_window(value) == window


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535])
def test_a_body_weighs_what_it_takes_on_the_wire(size: int):
    for value in (b"x" * size, None, body("x" * size)):
        assert wire_size(value) == len(wire(value))


# -- sending


@virtual
async def test_a_sender_keeps_to_its_items_and_goes_on_with_the_next_grant():
    outlet = FakeOutlet()
    one = sender(outlet, (2, 1000))
    assert [one.try_send(body(n)) for n in range(3)] == [True, True, False]
    waits = asyncio.create_task(one.send(body(2)))
    await asyncio.sleep(1)
    assert not waits.done()
    one.grant((2, 5000))  # more bytes, but no more items
    await asyncio.sleep(1)
    assert not waits.done()
    one.grant((3, 1))  # lower totals than those held are ignored
    await waits
    assert one.items == 3
    assert [(e.kind, e.to, e.id, msgspec.msgpack.decode(e.body)) for e in outlet.sent] == [
        (Kind.ITEM, "", 7, n) for n in range(3)
    ]


@virtual
async def test_a_sender_keeps_to_its_bytes_and_one_item_more():
    outlet = FakeOutlet()
    one = sender(outlet, (100, 10))
    assert one.try_send(b"x" * 7)  # with its header, 9 of 10
    assert one.try_send(b"x" * 1000)
    assert not one.try_send(None)
    one.grant((100, 1013))
    assert one.try_send(None)
    assert not one.try_send(None)


@virtual
async def test_without_a_window_only_the_outlet_limits():
    outlet = FakeOutlet()
    one = sender(outlet, None)
    for n in range(2000):
        await one.send(body(n))
    outlet.room.clear()
    waits = asyncio.create_task(one.send(body(2000)))
    await asyncio.sleep(1)
    assert not waits.done()
    outlet.room.set()
    await waits
    await one.end()
    assert [msgspec.msgpack.decode(e.body) for e in outlet.sent[:-1]] == list(range(2001))
    assert outlet.sent[-1].kind == Kind.END


@virtual
async def test_a_sender_that_never_waits_gives_the_loop_its_turn():
    one, turns = sender(FakeOutlet(), None), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    for n in range(10_000):
        await one.send(body(n))
    task.cancel()
    assert turns > 10


@virtual
async def test_what_goes_to_a_request_stream_says_so_and_end_needs_no_window():
    outlet = FakeOutlet()
    one = sender(outlet, (0, 0), REQUEST_STREAM)
    assert not one.try_send(body(1))
    await one.end(body({"code": "remote"}))
    assert [(e.kind, e.to, e.id) for e in outlet.sent] == [(Kind.END, "request", 7)]


@virtual
async def test_who_waits_for_a_window_hears_that_the_other_side_is_gone_and_so_does_who_comes_later():
    outlet = FakeOutlet()
    one = sender(outlet, (0, 0))
    waits = asyncio.create_task(one.send(body(1)))
    await asyncio.sleep(1)
    one.fail(Unreachable("gone"))
    one.fail(Unreachable("and later"))
    with pytest.raises(Unreachable, match="gone"):
        await waits
    one.grant((10, 10))
    with pytest.raises(Unreachable, match="gone"):
        await one.send(body(1))
    assert outlet.sent == []


@virtual
async def test_a_lost_outlet_fails_items_and_end():
    outlet = FakeOutlet()
    one = sender(outlet, None)
    outlet.lost = Unreachable("the link was lost")
    for sending in (one.send(body(1)), one.end()):
        with pytest.raises(Unreachable, match="the link was lost"):
            await sending


@virtual
async def test_a_sender_that_is_cancelled_while_it_waits_has_sent_nothing():
    outlet = FakeOutlet()
    one = sender(outlet, (0, 0))
    waits = asyncio.create_task(one.send(body(1)))
    await asyncio.sleep(1)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    one.grant((1, 1))
    await one.send(body(2))
    assert [msgspec.msgpack.decode(e.body) for e in outlet.sent] == [2]


# -- receiving


@virtual
async def test_a_receiver_takes_what_it_granted_and_one_item_more_in_bytes():
    one, _ = receiver((10, 5))
    assert one.put(body("abc"))  # 4
    assert one.put(body("x" * 100))
    assert not one.put(body(1))
    assert (one.items_came, one.bytes_came) == (2, 4 + 102)


@virtual
async def test_a_receiver_grants_by_halves():
    one, grants = receiver((4, 1000))
    for n in range(4):
        assert one.put(body(n))
    assert not one.put(body(4))
    assert one.take() == body(0)
    assert grants == []
    assert one.take() == body(1)
    assert grants == [(6, 1002)]
    assert one.take() == body(2)
    assert one.take() == body(3)
    assert grants == [(6, 1002), (8, 1004)]
    assert one.take() is None


@virtual
async def test_a_large_item_is_granted_for_as_soon_as_it_is_read():
    one, grants = receiver((100, 10))
    assert one.put(body("x" * 50))
    assert not one.put(body(1))
    one.take()
    assert grants == [(101, 62)]
    assert one.put(body(1))


@virtual
async def test_a_window_of_one_goes_on():
    one, grants = receiver((1, 1))
    for n in range(5):
        assert one.put(body(n))
        assert not one.put(body(n))
        assert one.take() == body(n)
    assert grants == [(n + 2, n + 2) for n in range(5)]


@virtual
async def test_a_stream_that_must_be_opened_takes_nothing_before():
    one, grants = receiver((4, 100), opened=False)
    assert not one.put(body(1))
    one.open()
    one.open()
    assert grants == [(4, 100)]
    assert one.put(body(1))
    ended, none = receiver((4, 100), opened=False)
    ended.end()
    ended.open()
    assert none == []


@virtual
async def test_what_ended_keeps_what_came_and_its_first_failure_and_grants_no_more():
    one, grants = receiver((2, 100))
    one.put(body(1))
    one.end(Unreachable("first"))
    one.end(Unreachable("second"))
    assert one.put(body(2))  # was on its way, and is dropped
    assert one.take() == body(1)
    assert one.take() is None
    assert "first" in str(one.failure)
    assert grants == []


@virtual
async def test_what_ends_at_once_drops_what_came():
    one, _ = receiver((2, 100))
    one.put(body(1))
    one.end(at_once=True)
    assert one.take() is None
    two, _ = receiver((2, 100))
    two.put(body(1))
    two.end()
    two.end(at_once=True)  # complete, but nobody wants it any more
    assert two.take() is None


@virtual
async def test_a_reader_is_woken_by_an_item_and_by_the_end_and_there_is_one():
    one, _ = receiver((2, 100))
    reads = asyncio.create_task(one.wait())
    await asyncio.sleep(1)
    with pytest.raises(BadRequest, match=str(two_readers())):
        await one.wait()
    one.put(body(1))
    await reads
    await one.wait()  # it is there
    one.take()
    reads = asyncio.create_task(one.wait())
    await asyncio.sleep(1)
    reads.cancel()
    await asyncio.sleep(1)
    reads = asyncio.create_task(one.wait())  # the place is free again
    await asyncio.sleep(1)
    one.end()
    await reads
    await one.wait()


@virtual
async def test_a_small_item_does_not_keep_its_batch_alive():
    batch = bytearray(body("x" * 100))
    one, _ = receiver((2, 100_000))
    one.put(msgspec.Raw(memoryview(batch)))
    batch.append(0)  # a buffer that somebody views cannot grow
    large = bytearray(body("x" * 20_000))
    one.put(msgspec.Raw(memoryview(large)))
    with pytest.raises(BufferError):
        large.append(0)


# -- both


class Wire:
    """A sender and a receiver, with all that is under way between them: nothing moves unless it is told to."""

    def __init__(self, window: Window, opened: bool) -> None:
        loop = asyncio.get_running_loop()
        self.window = window
        self.items: collections.deque[Envelope] = collections.deque()
        self.grants: collections.deque[Window] = collections.deque()
        self.receiver = StreamReceiver(window, self.grants.append, loop, opened)
        self.sender = StreamSender(REPLY_STREAM, 1, self, window if opened else (0, 0), loop)  # type: ignore[arg-type]
        self.sent: list[Any] = []
        self.read: list[Any] = []
        self.held = 0
        self.largest = 0
        if not opened:
            self.receiver.open()

    def try_send(self, envelope: Envelope) -> bool:
        self.items.append(envelope)
        return True

    def put(self, value: bytes) -> None:
        if self.sender.try_send(value):
            self.sent.append(value)
            self.largest = max(self.largest, wire_size(value))

    def arrive(self) -> None:
        if self.items:
            came = wire(self.items.popleft().body)
            assert self.receiver.put(came), "a sender that keeps to its window is never refused"
            self.held += len(came)

    def take(self) -> None:
        came = self.receiver.take()
        if came is not None:
            self.held -= len(came)
            self.read.append(decode(came))

    def granted(self) -> None:
        if self.grants:
            self.sender.grant(self.grants.popleft())

    def check(self) -> None:
        held = self.receiver.items_came - len(self.read)
        assert held <= self.window[0]
        assert self.held <= self.window[1] + self.largest
        assert len(self.sent) - len(self.read) <= self.window[0]
        assert self.read == self.sent[: len(self.read)]


@settings(max_examples=300, deadline=None)
@given(
    window=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    opened=st.booleans(),
    steps=st.lists(
        st.one_of(
            st.sampled_from(["arrive", "take", "granted"]),
            st.integers(0, 30).map(lambda size: b"x" * size),
        ),
        max_size=120,
    ),
)
def test_whatever_happens_in_whatever_order(window: Window, opened: bool, steps: list[str | bytes]):
    @virtual
    async def scenario() -> None:
        line = Wire(window, opened)
        for step in steps:
            line.put(step) if isinstance(step, bytes) else getattr(line, step)()
            line.check()
        # And it never gets stuck: whoever reads gets what was sent, and can be sent more.
        for number in range(20):
            before = len(line.sent)
            line.put(bytes([number]))
            while len(line.read) < len(line.sent) or line.grants:
                line.arrive()
                line.take()
                line.granted()
                line.check()
            if len(line.sent) == before:
                line.put(bytes([number]))
            assert len(line.sent) == before + 1
        line.arrive()
        line.take()
        assert line.read == line.sent

    scenario()
