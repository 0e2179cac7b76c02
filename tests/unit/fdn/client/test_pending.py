from typing import Any

import pytest

import fdn
from fdn.client.codec import Kind, Received
from fdn.client.pending import WINDOW_ITEMS, Pending, ReplyStream


def received(kind: int, body: Any = None, size: int = 1) -> Received:
    return Received(kind, "", 1, 0, {}, body, size)


def pending() -> Pending:
    return Pending("math.add", "data", 1, 10.0)


def stream() -> ReplyStream:
    return ReplyStream("math.count", "data", 1, 10.0)


def items(of: ReplyStream) -> list[Any]:
    return [of.reply.take() for _ in range(len(of.reply))]


def test_an_answer():
    call, woken = pending(), []
    call.signal.add(lambda: woken.append(1))
    assert not call.on_answer(received(Kind.REPLY, 5))
    call.on_answer(received(Kind.REPLY, 6))
    call.fail(fdn.Error("late"))
    assert (call.over, call.result(), woken) == (True, 5, [1])


def test_an_error():
    call = pending()
    call.on_answer(received(Kind.ERROR, {"code": "not_found", "message": "no"}))
    with pytest.raises(fdn.NotFound, match="no"):
        call.result()


def test_a_stream_where_one_answer_was_wanted():
    call = pending()
    assert call.on_answer(received(Kind.ITEM, 1)), "the other side is told to stop"
    assert not call.on_answer(received(Kind.ITEM, 2))
    with pytest.raises(fdn.BadRequest, match="stream"):
        call.result()
    empty = pending()
    assert not empty.on_answer(received(Kind.END))
    with pytest.raises(fdn.BadRequest, match="stream"):
        empty.result()


def test_items_and_the_end():
    some = stream()
    for number in range(3):
        some.on_answer(received(Kind.ITEM, number))
    assert not some.over
    some.on_answer(received(Kind.END))
    some.on_answer(received(Kind.ITEM, "late"))
    assert (some.over, some.reply.error, items(some)) == (True, None, [0, 1, 2])


def test_one_answer_is_a_stream_of_one():
    some = stream()
    some.on_answer(received(Kind.REPLY, 5, size=0))
    assert (some.over, items(some)) == (True, [5])


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.END])
def test_a_stream_that_fails_gives_what_came_before(kind: int):
    some = stream()
    some.on_answer(received(Kind.ITEM, 1))
    some.on_answer(received(kind, {"code": "denied", "message": "no"}))
    assert items(some) == [1]
    assert isinstance(some.reply.error, fdn.Denied)


def test_more_than_the_window_is_a_fault():
    some = stream()
    for number in range(WINDOW_ITEMS):
        assert not some.on_answer(received(Kind.ITEM, number))
    assert some.on_answer(received(Kind.ITEM, "one more"))
    assert isinstance(some.reply.error, fdn.BadRequest)
    assert len(some.reply) == WINDOW_ITEMS


def test_a_request_stream_begins_when_the_callee_is_ready():
    call, woken = pending(), []
    assert not call.request.may_send
    call.signal.add(lambda: woken.append(1))
    call.on_request_credit([2, 100])
    assert call.request.may_send
    assert woken
