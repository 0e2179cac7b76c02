"""Transfers against holders that are nothing but functions."""

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from fdn.context import deadline
from fdn.errors import Conflict, Corrupt, DeadlineExceeded, Error, NotFound, Unreachable
from fdn.messaging.blobs.fetching import Fetcher, Transfer
from fdn.messaging.blobs.holdings import OutlineOf, Read, Stat
from fdn.messaging.blobs.outline import DIGEST_BYTES, PIECE_BYTES_MIN, Outline, OutlineHasher
from fdn.messaging.blobs.reference import Reference
from fdn.settings import BlobSettings
from tests.unit.fdn.harness import virtual

COUNT = 20
DATA = os.urandom(PIECE_BYTES_MIN * (COUNT - 1) + 7)


def outline_of(data: bytes) -> Outline:
    hasher = OutlineHasher(PIECE_BYTES_MIN)
    hasher.update(data)
    return hasher.finish()


OUTLINE = outline_of(DATA)


class Holder:
    """Answers rightly, but for what `before` does with a request: it may raise, or return another answer."""

    def __init__(self, before: Callable[[Any], Any] = lambda request: None) -> None:
        self.before = before
        self.asked: list[Any] = []

    def answer(self, request: Any) -> Any:
        self.asked.append(request)
        other = self.before(request)
        if other is not None:
            return other
        match request:
            case Stat():
                return {"size": OUTLINE.size, "piece": OUTLINE.piece_bytes, "outline": OUTLINE.digest}
            case OutlineOf(_, first, count):
                return OUTLINE.pieces[first * DIGEST_BYTES : (first + count) * DIGEST_BYTES]
            case Read(_, offset, length):
                return DATA[offset : offset + length]


class Net:
    """The holders by node id, and how many requests were under way at once."""

    def __init__(self, settings: BlobSettings | None = None, **holders: Holder) -> None:
        self.holders = holders
        self.under_way = self.most_under_way = 0
        self.paused: list[float] = []
        loop = asyncio.get_running_loop()
        self.fetcher = Fetcher(
            self.ask, lambda: list(holders), settings or BlobSettings(), loop, random.Random(1), self.pause
        )

    async def ask(self, node: str, name: str, request: Any, timeout_s: float, kind: Any) -> Any:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.01)
            if node not in self.holders:
                raise NotFound(f"no member is named {node!r}")
            answer = self.holders[node].answer(request)
            return memoryview(answer) if isinstance(answer, bytes) else answer
        finally:
            self.under_way -= 1

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        await asyncio.sleep(seconds)

    def transfer(self, *holders: str, outline: Outline = OUTLINE) -> Transfer:
        reference = Reference(outline.id, outline.size, outline.piece_bytes, outline.digest, holders)
        return Transfer(self.fetcher, reference)

    async def fetch(self, *holders: str, first: int = 0) -> bytes:
        transfer = self.transfer(*holders)
        outline = await transfer.outline()
        return b"".join([bytes(piece) async for piece in transfer.pieces(outline, first)])


def raising(*errors: Error) -> Callable[[Any], Any]:
    """Raise each of these once, and then be well."""
    left = list(errors)

    def before(request: Any) -> None:
        if left:
            raise left.pop(0)

    return before


def always(error: Error) -> Callable[[Any], Any]:
    def before(request: Any) -> None:
        raise error

    return before


@virtual
async def test_pieces_come_in_order_a_window_at_a_time():
    net = Net(BlobSettings(window_pieces=4), a=Holder())
    assert await net.fetch("a") == DATA
    assert net.most_under_way == 4
    assert len([r for r in net.holders["a"].asked if isinstance(r, Read)]) == COUNT
    assert net.fetcher.stats().pieces == COUNT
    assert net.fetcher.stats().bytes == len(DATA)


@virtual
async def test_it_begins_at_any_piece():
    net = Net(a=Holder())
    assert await net.fetch("a", first=7) == DATA[7 * PIECE_BYTES_MIN :]
    assert min(r.offset for r in net.holders["a"].asked if isinstance(r, Read)) == 7 * PIECE_BYTES_MIN


@virtual
async def test_a_link_that_is_lost_for_a_while_is_waited_for():
    gone = [Unreachable("cut")] * 30
    net = Net(a=Holder(raising(*gone)))
    assert await net.fetch("a") == DATA
    assert net.paused
    assert net.fetcher.stats().retried == 30


@virtual
async def test_another_holder_takes_over_where_the_first_stopped():
    served = []

    def dies(request: Any) -> None:
        served.append(request)
        if len(served) > 5:
            raise Unreachable("dead")

    net = Net(a=Holder(dies), b=Holder())
    assert await net.fetch("a", "b") == DATA
    reads = [request.offset for request in net.holders["b"].asked]
    assert 0 < len(reads) < COUNT
    assert 0 not in reads


@virtual
async def test_without_any_piece_it_gives_up_in_the_end_and_says_why():
    net = Net(BlobSettings(patience_s=5), a=Holder(always(Unreachable("no way to a"))))
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable, match="no way to a"):
        await net.fetch("a")
    assert 5 <= asyncio.get_running_loop().time() - started < 8


@virtual
async def test_a_deadline_of_the_caller_ends_it():
    late = DeadlineExceeded("the deadline had passed")
    net = Net(a=Holder(always(late)))
    with deadline(1.0), pytest.raises(DeadlineExceeded):
        await net.fetch("a")


@virtual
async def test_a_piece_that_does_not_match_is_found_when_it_comes_and_fetched_elsewhere():
    def lies(request: Any) -> bytes | None:
        return bytes(request.length) if isinstance(request, Read) and request.offset else None

    net = Net(a=Holder(lies), b=Holder())
    assert await net.fetch("a", "b") == DATA
    assert net.fetcher.stats().corrupt >= 1
    with pytest.raises(Corrupt, match="piece 1 from node a"):
        await Net(a=Holder(lies)).fetch("a")


@virtual
@pytest.mark.parametrize("answer", [None, "text", 17, b"short", {"a": 1}])
async def test_an_answer_of_another_shape_is_a_mismatch(answer):
    def lies(request: Any) -> Any:
        return answer if isinstance(request, Read) else None

    net = Net(a=Holder(lies if answer is not None else lambda request: []), b=Holder())
    assert await net.fetch("a", "b") == DATA


@virtual
async def test_an_outline_that_does_not_match_is_found_before_the_first_piece():
    def lies(request: Any) -> bytes | None:
        return bytes(request.count * DIGEST_BYTES) if isinstance(request, OutlineOf) else None

    net = Net(a=Holder(lies), b=Holder())
    assert await net.fetch("a", "b") == DATA
    with pytest.raises(Corrupt, match="the outline from node a"):
        await Net(a=Holder(lies)).fetch("a")
    empty = outline_of(b"")
    wrong = Outline(empty.id, 0, empty.piece_bytes, b"x")
    with pytest.raises(Corrupt, match="an empty outline"):
        await net.transfer("a", outline=wrong).outline()


@virtual
@pytest.mark.parametrize("error", [NotFound("released"), Conflict("has changed")])
async def test_a_holder_that_has_it_no_more_is_asked_once(error):
    net = Net(a=Holder(always(error)), b=Holder())
    assert await net.fetch("a", "b") == DATA
    assert len(net.holders["a"].asked) == 1


@virtual
async def test_when_all_named_holders_fail_the_members_are_asked():
    net = Net(a=Holder(always(NotFound("released"))), b=Holder(), c=Holder(always(NotFound("never had it"))))
    assert await net.fetch("a", "gone-0123") == DATA
    assert [type(request) for request in net.holders["c"].asked] == [Stat]
    with pytest.raises(NotFound, match="released"):
        await Net(a=Holder(always(NotFound("released")))).fetch("a")
    with pytest.raises(NotFound, match="no member holds"):
        await Net().fetch()


@virtual
async def test_all_requests_under_way_may_lose_the_last_holder_together():
    served = []

    def releases(request: Any) -> None:
        served.append(request)
        if len(served) > 3:
            raise NotFound("released")

    assert await Net(a=Holder(releases), b=Holder()).fetch("a") == DATA


@virtual
async def test_leaving_in_the_middle_cancels_what_was_asked():
    net = Net(BlobSettings(window_pieces=4), a=Holder())
    transfer = net.transfer("a")
    outline = await transfer.outline()
    pieces = transfer.pieces(outline)
    await anext(pieces)
    await pieces.aclose()
    assert net.under_way == 0
    assert len(net.holders["a"].asked) <= 6
