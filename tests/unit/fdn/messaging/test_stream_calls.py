"""The caller's side of streams against a member that says what it likes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import fdn
from fdn.messaging.streams import Stream
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from tests.unit.fdn.messaging.streaming import Streams, app, no_streams_left, read_out
from tests.unit.transports.harness import Dialled
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Identity, Role

WINDOW = (4, 1000)
ITEM, END, CANCEL, CREDIT = Kind.ITEM, Kind.END, Kind.CANCEL, Kind.CREDIT


class Server:
    """A member that serves streams by hand.

    Attributes:
        node: The one that calls it.
    """

    def __init__(self, mallory: Mallory, line: Dialled, node: fdn.Node) -> None:
        self.mallory = mallory
        self.line = line
        self.node = node

    @property
    def heard(self) -> list[Envelope]:
        return self.mallory.heard["data"].envelopes

    async def asked(self) -> Envelope:
        """The next CALL."""
        before = len(self.heard)
        await until(lambda: any(e.kind == Kind.CALL for e in self.heard[before:]))
        return next(e for e in self.heard[before:] if e.kind == Kind.CALL)

    async def opened(self, **keywords: Any) -> tuple[Stream[Any], int]:
        """A stream of the node to us, and its call's id."""
        stream = self.node.stream("any@mallory", **keywords)
        asked = asyncio.create_task(self.asked())
        await asyncio.sleep(0)
        await stream.__aenter__()
        return stream, (await asked).id

    def say(self, kind: Kind, call_id: int, value: Any = None, to: str = "") -> None:
        envelope = Envelope(kind, to, call_id, 0, None, value if isinstance(value, msgspec.Raw) else body(value))
        exempt = kind in (Kind.REPLY, Kind.ERROR, CREDIT, CANCEL)
        (self.line.connection.send_exempt if exempt else self.line.connection.send)(envelope)

    def of(self, kind: Kind, call_id: int) -> list[Envelope]:
        return [e for e in self.heard if e.kind == kind and e.id == call_id]


async def server(world: World, **settings: Any) -> Server:
    calls = {"stream_window_items": WINDOW[0], "stream_window_bytes": 1024} | settings.pop("calls", {})
    node = await world.start("n1", calls=calls, **settings)
    mallory = Mallory(world)
    mallory.listen()
    await mallory.dial(node, Channel.COORDINATION)
    line = await mallory.dial(node)
    await until(lambda: len(node.reachable()) == 2)
    return Server(mallory, line, node)


async def rest(stream: Stream[Any]) -> list[Any]:
    return [item async for item in stream]


# -- what the wire says


@virtual
async def test_a_call_tells_its_window_and_grants_by_halves_and_end_is_the_end():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        call = one.of(Kind.CALL, number)[0]
        assert call.meta is not None
        assert call.meta[MetaKey.WINDOW] == [4, 1024]
        assert MetaKey.REQUEST_STREAM not in call.meta
        assert call.deadline_ms > 300 * 86_400_000  # a year
        for item in range(4):
            one.say(ITEM, number, item)
        assert [await anext(stream) for _ in range(2)] == [0, 1]
        await until(lambda: one.of(CREDIT, number))
        assert [(e.to, msgspec.msgpack.decode(e.body)) for e in one.of(CREDIT, number)] == [("reply", [6, 1026])]
        one.say(END, number)
        assert await rest(stream) == [2, 3]
        assert await rest(stream) == []
        await asyncio.sleep(0.1)
        assert one.of(CANCEL, number) == []
        assert no_streams_left(one.node)


@virtual
async def test_an_error_at_the_end_comes_behind_the_items_and_an_error_at_once_does_not():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        one.say(ITEM, number, 1)
        one.say(END, number, {"code": "denied", "message": "no more"})
        await asyncio.sleep(0.1)
        assert await anext(stream) == 1
        for _ in range(2):
            with pytest.raises(fdn.Denied, match="no more"):
                await anext(stream)
        stream, number = await one.opened()
        one.say(ITEM, number, 1)
        one.say(Kind.ERROR, number, {"code": "cancelled", "message": "it is over"})
        await asyncio.sleep(0.1)
        with pytest.raises(fdn.Cancelled, match="it is over"):
            await anext(stream)
        assert no_streams_left(one.node)


@virtual
async def test_more_than_was_granted_ends_the_stream_with_an_error_and_what_came_before():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        for item in range(100):
            one.say(ITEM, number, item)
        one.say(END, number)
        await until(lambda: one.of(CANCEL, number))
        got, error = await read_out(stream)
        assert got == [0, 1, 2, 3]
        assert "sent more than it was granted" in str(error)
        stats = one.node._caller.stats()
        assert (stats.overruns, stats.streams) == (1, 0)
        assert len(one.of(CANCEL, number)) == 1
        # In bytes: one item more than the window passes, however large.
        stream, number = await one.opened()
        one.say(ITEM, number, "x" * 100_000)
        assert await anext(stream) == "x" * 100_000
        for _ in range(2):
            one.say(ITEM, number, "x" * 2000)
        await until(lambda: one.node._caller.stats().overruns == 2)


@virtual
async def test_answers_that_make_no_sense_end_the_stream_with_an_error():
    async with World() as world:
        one = await server(world)
        for kind, value in ((Kind.REPLY, 3), (END, "text"), (END, msgspec.Raw(b"\xa1\xff")), (END, [])):
            stream, number = await one.opened()
            one.say(ITEM, number, 1)
            await until(lambda stream=stream: stream._call.received.items_came)  # type: ignore[misc]
            one.say(kind, number, value)
            assert await anext(stream) == 1
            with pytest.raises(fdn.Error):
                await anext(stream)
        for kind in (Kind.REPLY, Kind.ERROR):
            stream, number = await one.opened()
            one.say(kind, number, msgspec.Raw(b"\xa1\xff"))
            with pytest.raises(fdn.Error):
                await anext(stream)
        assert one.node._data.stats().handler_faults == 0
        assert no_streams_left(one.node)


@virtual
async def test_a_stream_that_was_left_says_so_once_and_what_was_on_its_way_is_counted():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        one.say(ITEM, number, 1)
        assert await anext(stream) == 1
        await stream.aclose()
        await stream.aclose()
        await until(lambda: one.of(CANCEL, number))
        for kind in (ITEM, END, Kind.REPLY, Kind.ERROR):
            one.say(kind, number)
        one.say(CREDIT, number, WINDOW, "request")
        await until(lambda: one.node._caller.stats().stray_answers == 4)
        assert len(one.of(CANCEL, number)) == 1
        assert no_streams_left(one.node)


@virtual
async def test_only_who_was_asked_is_believed():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        other = Mallory(world, "other", "other-0000000000000000")
        posing = Mallory(world, "posing", one.mallory.node)
        lines = [
            await other.dial(one.node),
            await posing.dial(one.node, role=Role.CLIENT, identity=Identity(one.mallory.node)),
        ]
        for line in lines:
            for envelope in (
                Envelope(ITEM, "", number, 0, None, body("forged")),
                Envelope(END, "", number),
                Envelope(Kind.REPLY, "", number, 0, None, body("forged")),
                Envelope(Kind.ERROR, "", number, 0, None, body({})),
            ):
                line.connection.send(envelope)
        await until(lambda: one.node._caller.stats().stray_answers == 8)
        one.say(ITEM, number, "true")
        one.say(END, number)
        assert await rest(stream) == ["true"]


@virtual
async def test_one_answer_is_a_stream_of_one_and_a_stream_is_no_answer():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened()
        one.say(Kind.REPLY, number, "x" * 5000)  # more than the window
        assert await rest(stream) == ["x" * 5000]
        for kind in (ITEM, END):
            asked = asyncio.create_task(one.asked())
            call = asyncio.create_task(one.node.call("any@mallory"))
            number = (await asked).id
            one.say(kind, number)
            with pytest.raises(fdn.BadRequest, match="answers with a stream"):
                await call
            await until(lambda number=number: one.of(CANCEL, number))  # type: ignore[misc]


# -- request streams


async def numbers() -> AsyncIterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@virtual
async def test_items_wait_for_credit_and_keep_to_it():
    async with World() as world:
        one = await server(world)
        asked = asyncio.create_task(one.asked())
        call = asyncio.create_task(one.node.call("any@mallory", {"a": 1}, items=range(5)))
        envelope = await asked
        number = envelope.id
        assert (envelope.meta or {})[MetaKey.REQUEST_STREAM] is True
        assert msgspec.msgpack.decode(envelope.body) == {"a": 1}
        for granted in (None, "text", [1], [-5, -5], [0, 100]):
            one.say(CREDIT, number, granted, "request")
        posing = await Mallory(world, "other", "other-0000000000000000").dial(one.node)
        posing.connection.send_exempt(Envelope(CREDIT, "request", number, 0, None, body((100, 100))))
        one.say(CREDIT, number, (100, 100), "reply")  # of a stream that there is not
        await asyncio.sleep(0.1)
        assert one.of(ITEM, number) == []
        one.say(CREDIT, number, (2, 100), "request")
        await asyncio.sleep(0.1)
        assert [msgspec.msgpack.decode(e.body) for e in one.of(ITEM, number)] == [0, 1]
        one.say(CREDIT, number, (1, 1), "request")
        one.say(CREDIT, number, (6, 100), "request")
        await until(lambda: one.of(END, number))
        assert [msgspec.msgpack.decode(e.body) for e in one.of(ITEM, number)] == list(range(5))
        assert {e.to for e in one.heard if e.kind in (ITEM, END)} == {"request"}
        assert one.of(END, number)[0].body == body(None)
        one.say(Kind.REPLY, number, "done")
        assert await call == "done"
        assert no_streams_left(one.node)


@virtual
async def test_an_answer_before_the_end_of_the_items_stops_them():
    async with World() as world:
        one = await server(world)
        for kind in (Kind.REPLY, Kind.ERROR, END):
            items = numbers()
            stream, number = await one.opened(items=items)
            one.say(CREDIT, number, (3, 100), "request")
            await until(lambda number=number: len(one.of(ITEM, number)) == 3)  # type: ignore[misc]
            one.say(kind, number, {"code": "denied"} if kind == Kind.ERROR else None)
            if kind == Kind.ERROR:
                with pytest.raises(fdn.Denied):
                    await rest(stream)
            else:
                assert await rest(stream) == ([None] if kind == Kind.REPLY else [])
            one.say(CREDIT, number, (100, 1000), "request")
            await until(lambda: no_streams_left(one.node))
            await asyncio.sleep(0.1)
            assert len(one.of(ITEM, number)) == 3
            assert one.of(END, number) == one.of(CANCEL, number) == []
            with pytest.raises(StopAsyncIteration):
                await anext(items)


@virtual
async def test_items_that_fail_send_no_end_that_could_be_taken_for_a_whole():
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    async with World() as world:
        one = await server(world)
        stream, number = await one.opened(items=broken())
        one.say(CREDIT, number, (10, 100), "request")
        with pytest.raises(ZeroDivisionError):
            await anext(stream)
        await until(lambda: one.of(CANCEL, number))
        assert len(one.of(ITEM, number)) == 1
        assert one.of(END, number) == []
        assert no_streams_left(one.node)


@virtual
async def test_both_directions_at_once():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened(items=range(1000))
        for turn in range(500):
            one.say(CREDIT, number, (2 * turn + 2, 1 << 20), "request")
            one.say(ITEM, number, turn)
            assert await anext(stream) == turn
        await until(lambda: one.of(END, number))
        assert [msgspec.msgpack.decode(e.body) for e in one.of(ITEM, number)] == list(range(1000))
        one.say(END, number)
        assert await rest(stream) == []


# -- bounds, and losses


@virtual
async def test_too_many_open_streams_are_refused():
    async with World() as world:
        one = await server(world, calls={"in_flight_max": 2})
        streams = [(await one.opened())[0] for _ in range(2)]
        with pytest.raises(fdn.Overloaded, match=r"2 streams of this node are open \(calls.in_flight_max\)"):
            await one.opened()
        await streams[0].aclose()
        await one.opened()


@virtual
async def test_a_lost_link_ends_streams_behind_what_came_and_the_other_side_hears_cancel():
    async with World() as world:
        one = await server(world)
        stream, number = await one.opened(timeout=1000)
        one.say(ITEM, number, 1)
        await until(lambda: one.heard)
        first = one.node
        link = first._data._links[one.mallory.node, Channel.DATA]
        await until(lambda: stream._call is not None and stream._call.received.items_came)
        for connection in list(world.network.connections):
            if connection is link.connection:
                listener = connection._listener
                assert listener is not None
                listener.forget(connection._source)
                connection._finish(*_closed())
        assert await anext(stream) == 1
        with pytest.raises(fdn.Unreachable, match="was lost in the middle of a stream"):
            await anext(stream)
        await until(lambda: one.of(CANCEL, number))
        assert no_streams_left(first)


def _closed() -> tuple[Any, str]:
    from transports.transport import EventKind

    return EventKind.CLOSED, "torn"


@virtual
async def test_a_quiet_stream_outlives_the_closing_of_idle_links():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", app(streams), links={"idle_close_s": 1.0})
        second = await world.start("n2", links={"idle_close_s": 1.0})
        await world.settle()
        assert await rest(second.stream("s.quiet", 60.0, timeout=100)) == ["first", "last"]
        assert streams.log == ["closed"]
        assert first._data._links[second.id, Channel.DATA].opened_count == 1  # the one that carried it stayed
        await asyncio.sleep(5)
        assert all(link.connection is None for link in first._data._links.values())  # and then it is closed
