"""Streams as programs use them, on whole nodes over the in-memory transport."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fdn
from fdn.messaging.streams import Stream
from tests.unit.fdn.harness import World, until, virtual
from tests.unit.fdn.messaging.streaming import Streams, app, no_streams_left, read_out


async def two_nodes(world: World, **settings: Any) -> tuple[Streams, fdn.Node, fdn.Node]:
    """`n1` serves the streams, `n2` asks."""
    streams = Streams()
    first = await world.start("n1", app(streams), **settings)
    second = await world.start("n2", **settings)
    await world.settle()
    return streams, first, second


async def drained(stream: Stream[Any], pause_s: float = 0.0) -> list[Any]:
    items = []
    async for item in stream:
        items.append(item)
        if pause_s:
            await asyncio.sleep(pause_s)
    return items


# -- what comes


@virtual
async def test_all_items_come_in_order_from_afar_and_from_here():
    async with World() as world:
        _, first, second = await two_nodes(world, calls={"stream_window_items": 7})
        for node in (first, second):
            assert await drained(node.stream("s.count", 5000)) == list(range(5000))
            assert await drained(node.stream("s.nothing")) == []
            assert await drained(node.stream("s.one")) == [1]
            assert await drained(node.stream("s.inline", returns=int)) == [2]
            assert await drained(node.stream("s.count", 20, returns=int), pause_s=1.0) == list(range(20))
        assert no_streams_left(first, second)


@virtual
async def test_nothing_is_sent_before_it_is_read():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        stream = second.stream("s.count", 3)
        await asyncio.sleep(1)
        assert streams.made == first._dispatcher.stats().calls == 0
        async with stream:
            await until(lambda: streams.made == 3)
            assert await drained(stream) == [0, 1, 2]
        assert await drained(stream) == []


@virtual
async def test_errors_come_behind_the_items_before_them():
    async with World() as world:
        _, first, second = await two_nodes(world)
        for node in (first, second):
            for after in (0, 3):
                for target, error in (("s.fails", fdn.RemoteError), ("s.refuses", fdn.Denied)):
                    got, raised = await read_out(node.stream(target, after), pause_s=0.1)
                    assert got == list(range(after))
                    assert isinstance(raised, error)
                    assert raised.node == first.id
        with pytest.raises(fdn.NotFound):
            await drained(second.stream("s.none"))
        with pytest.raises(fdn.BadRequest, match="does not fit"):
            await drained(second.stream("s.count", "no number"))
        assert first._dispatcher.stats().failed == 4
        assert no_streams_left(first, second)


@virtual
async def test_what_cannot_be_sent_ends_the_stream_with_what_came_before():
    made = fdn.App()

    @made.service("odd")
    async def odd(kind: str) -> AsyncIterator[Any]:
        yield 1
        yield object() if kind == "object" else b"x" * 2000
        yield 3

    async with World() as world:
        first, second = await world.cluster(2, made, data={"body_bytes_max": 1024})
        for kind, why in (("object", "cannot be sent"), ("large", "2000 bytes exceeds")):
            got, error = await read_out(second.stream("odd@n1", kind))
            assert got == [1]
            assert isinstance(error, fdn.BadRequest)
            assert why in str(error)
        assert no_streams_left(first, second)


@virtual
async def test_an_item_that_is_not_of_the_type_ends_it():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        with pytest.raises(fdn.BadRequest, match="does not fit"):
            await drained(second.stream("s.forever", returns=str))
        await until(lambda: streams.log == ["closed"])
        assert no_streams_left(first, second)


@virtual
async def test_a_plain_call_of_a_stream_says_so_whether_it_has_items_or_not():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            for target, payload in (("s.forever", None), ("s.count", 1), ("s.nothing", None)):
                with pytest.raises(fdn.BadRequest, match="answers with a stream"):
                    await node.call(target, payload)
        await until(lambda: streams.log == ["closed", "closed"])
        await until(lambda: no_streams_left(first, second))


# -- windows


@virtual
async def test_a_producer_is_at_most_a_window_ahead():
    async with World() as world:
        streams, first, second = await two_nodes(world, calls={"stream_window_items": 10})
        for node in (first, second):
            streams.made = 0
            async with node.stream("s.forever") as stream:
                for read in range(100):
                    assert await anext(stream) == read
                    await asyncio.sleep(0.1)
                    assert read < streams.made <= read + 1 + 10 + 1  # what it was granted, and one that waits to go
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_large_items_are_bounded_by_bytes():
    async with World() as world:
        streams, _, second = await two_nodes(
            world, calls={"stream_window_items": 1000, "stream_window_bytes": 1024}, data={"body_bytes_max": 100_000}
        )
        async with second.stream("s.big", [50, 50_000], returns=bytes) as stream:
            for read in range(50):
                assert await anext(stream) == bytes([read]) * 50_000
                await asyncio.sleep(0.1)
                assert streams.made <= read + 3
            assert await drained(stream) == []


@virtual
async def test_streams_that_nobody_reads_hold_up_nobody_else():
    async with World() as world:
        streams, first, second = await two_nodes(
            world,
            calls={"stream_window_items": 2000, "stream_window_bytes": 1 << 20, "concurrency": 200},
            data={"credit_messages": 16, "credit_bytes": 1 << 16},
        )
        unread = [second.stream("s.forever", timeout=60) for _ in range(50)]
        for stream in unread:
            await stream.__aenter__()
        await until(lambda: streams.made >= 50 * 2000)
        assert await second.call("s.one") == 1
        assert await drained(second.stream("s.count", 5000)) == list(range(5000))
        assert await anext(unread[7]) == 0
        for stream in unread:
            await stream.aclose()
        await until(lambda: len(streams.log) == 50)
        await until(lambda: no_streams_left(first, second))


# -- leaving early


@virtual
async def test_leaving_the_block_closes_the_generator_and_its_cleanup_may_await():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            streams.log.clear()
            async with node.stream("s.tidy") as stream:
                async for _ in stream:
                    break
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            with pytest.raises(fdn.BadRequest, match="has been closed"):
                await stream.__aenter__()
            await stream.aclose()
            await until(lambda: streams.log == ["cleaning", "clean"])
            await until(lambda: no_streams_left(first, second))


@virtual
async def test_a_stream_that_is_garbage_is_closed():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            streams.log.clear()

            async def read_some(node: fdn.Node = node) -> None:
                async for number in node.stream("s.forever"):
                    if number > 2000:
                        return

            await read_some()
            gc.collect()
            await until(lambda: streams.log == ["closed"])
            await until(lambda: no_streams_left(first, second))


@virtual
@pytest.mark.parametrize("target", ["s.forever", "s.quiet", "s.guarded"])
async def test_the_cancelled_task_of_a_reader_closes_the_generator(target: str):
    async with World() as world:
        streams, first, second = await two_nodes(world)
        reads = asyncio.create_task(
            drained(second.stream(target, 50.0 if target == "s.quiet" else None, timeout=100), pause_s=0.01)
        )
        await asyncio.sleep(1)
        reads.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reads
        del reads
        gc.collect()
        await until(lambda: streams.log == ["closed"])
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_a_stream_closed_while_it_opens_or_before_sends_nothing_for_long():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        third = await world.start("n3", interceptors=(spy := Spy(),))
        await world.settle()
        unopened = second.stream("s.forever")
        await unopened.aclose()
        assert await drained(unopened) == []
        spy.mood = "dawdles"
        stream = third.stream("s.forever")
        reads = asyncio.create_task(drained(stream))
        await until(lambda: streams.made > 1000)
        assert not stream._call
        await stream.aclose()
        assert await reads == []
        await until(lambda: streams.log == ["closed"])
        await until(lambda: no_streams_left(first, second, third))


@virtual
async def test_two_tasks_cannot_read_one_stream():
    async with World() as world:
        _, first, second = await two_nodes(world)
        stream = second.stream("s.quiet", 5.0, timeout=10)
        one = asyncio.create_task(drained(stream))
        two = asyncio.create_task(drained(stream))  # while it opens
        await asyncio.sleep(1)
        with pytest.raises(fdn.BadRequest, match="two tasks read"):
            await two
        with pytest.raises(fdn.BadRequest, match="two tasks read"):
            await anext(stream)  # while it is read
        assert await one == ["first", "last"]
        assert no_streams_left(first, second)


# -- time


@virtual
async def test_silence_ends_a_stream_and_a_steady_one_may_take_for_ever():
    made = fdn.App()
    closed = []

    @made.service("beats")
    async def beats(pause_s: float) -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
                await asyncio.sleep(pause_s)
        finally:
            closed.append(pause_s)

    async with World() as world:
        first, second = await world.cluster(2, made)
        assert await drained(second.stream("beats@n1", 4.0)) == list(range(100))
        with pytest.raises(fdn.DeadlineExceeded, match=r"nothing came from beats on node n1-.* in 2 s") as raised:
            await drained(second.stream("beats@n1", 4.5, timeout=2))
        assert raised.value.facts["node"] == first.id
        await until(lambda: closed == [4.0, 4.5])
        assert no_streams_left(first, second)


@virtual
@pytest.mark.parametrize("pause_s", [0.0, 0.3])
async def test_a_deadline_bounds_the_whole_stream(pause_s: float):
    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            streams.log.clear()
            began = asyncio.get_running_loop().time()
            with pytest.raises(fdn.DeadlineExceeded), fdn.deadline(2):
                await drained(node.stream("s.forever" if pause_s else "s.guarded"), pause_s)
            assert asyncio.get_running_loop().time() - began < 3
            await until(lambda: streams.log == ["closed"])
            await until(lambda: no_streams_left(first, second))
        with fdn.deadline(1):
            await asyncio.sleep(2)
            assert isinstance((await read_out(second.stream("s.forever")))[1], fdn.DeadlineExceeded)
        await until(lambda: no_streams_left(first, second))


# -- a stream in a stream


@virtual
async def test_a_handler_that_passes_a_stream_on_keeps_headers_trace_and_window_and_closes_both():
    streams = Streams()
    made = fdn.App()
    nodes: list[fdn.Node] = []

    @made.service("pass")
    async def pass_on(target: str) -> AsyncIterator[Any]:
        async for item in nodes[1].stream(target):
            yield item

    async with World() as world:
        nodes.append(await world.start("n1", app(streams), calls={"stream_window_items": 10}))
        nodes.append(await world.start("n2", made, calls={"stream_window_items": 10}))
        nodes.append(await world.start("n3", calls={"stream_window_items": 10}))
        await world.settle()
        with fdn.headers({"tenant": "a"}):
            headers, trace = await drained(nodes[2].stream("pass", "s.headers"))
        assert headers == {"tenant": "a"}
        assert len(trace) == 32
        async with nodes[2].stream("pass", "s.forever") as stream:
            assert [await anext(stream) for _ in range(200)] == list(range(200))
            await asyncio.sleep(1)
            assert streams.made <= 200 + 3 * 12
        await until(lambda: streams.log == ["closed"])
        with pytest.raises(fdn.DeadlineExceeded), fdn.deadline(1):
            await drained(nodes[2].stream("pass", "s.guarded"))
        await until(lambda: streams.log == ["closed", "closed"])
        await until(lambda: no_streams_left(*nodes))


# -- request streams


@virtual
async def test_request_streams_of_all_makes():
    async def later() -> AsyncIterator[int]:
        for number in range(500):
            await asyncio.sleep(0.001)
            yield number

    def made() -> Iterator[int]:
        yield from range(500)

    async with World() as world:
        streams, first, second = await two_nodes(world, calls={"stream_window_items": 7})
        for node in (first, second):
            for items in (later(), made(), range(500), list(range(500))):
                assert await node.call("s.sum", items=items) == sum(range(500))
            assert await node.call("s.sum", items=()) == 0
            assert await node.call("s.first", items=range(10**9)) == 0
            assert await node.call("s.first", items=()) == -1
            assert await node.call("s.ignores", items=range(10**9)) == "done"
            assert await drained(node.stream("s.scaled", 3, items=range(500))) == list(range(0, 1500, 3))
            assert await node.call("s.sum", items=node.stream("s.count", 500)) == sum(range(500))
        assert set(streams.log) == {"begun"}
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_items_and_handlers_must_agree():
    async with World() as world:
        _, first, second = await two_nodes(world)
        for node in (first, second):
            with pytest.raises(fdn.BadRequest, match="takes a request stream"):
                await node.call("s.sum")
            for target in ("s.one", "s.inline", "s.nothing"):
                with pytest.raises(fdn.BadRequest, match="takes no request stream"):
                    await node.call(target, items=[1])
            with pytest.raises(fdn.BadRequest, match="answers with a stream"):
                await node.call("s.scaled", 2, items=[1])
            with pytest.raises(fdn.BadRequest, match="does not fit"):
                await node.call("s.sum", items=["a"])
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_items_that_fail_fail_the_call_and_cancel_the_handler():
    class Broken(Exception):
        pass

    async def fails(after: int) -> AsyncIterator[int]:
        for number in range(after):
            yield number
        raise Broken("here")

    async def cancelled() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            for after in (0, 5):
                with pytest.raises(Broken, match="here"):
                    await node.call("s.sum", items=fails(after))
                got, error = await read_out(node.stream("s.scaled", 1, items=fails(after)))
                assert got == list(range(len(got)))
                assert isinstance(error, Broken)
            with pytest.raises(fdn.Cancelled, match="was cancelled"):
                await node.call("s.sum", items=cancelled())
            with pytest.raises(fdn.BadRequest, match="cannot be sent"):
                await node.call("s.sum", items=[object()])
            with pytest.raises(TypeError, match="not iterable"):
                await node.call("s.sum", items=5)  # type: ignore[call-overload]
        await until(lambda: no_streams_left(first, second))
        assert set(streams.log) <= {"begun", "CancelledError"}


@virtual
async def test_a_generator_of_items_is_closed_and_its_cleanup_waited_for():
    log: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0.5)
            log.append("closed")

    def plain() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            log.append("closed")

    async with World() as world:
        streams, first, second = await two_nodes(world)
        for node in (first, second):
            for make in (numbers, plain):
                log.clear()
                items = make()
                assert await node.call("s.first", items=items) == 1
                assert log == ["closed"]
                log.clear()
                items = make()
                async with node.stream("s.scaled", 1, items=items) as stream:
                    assert await anext(stream) == 1
                assert log == ["closed"]
                log.clear()
                items = make()
                with pytest.raises(fdn.DeadlineExceeded):
                    await node.call("s.ignores", items=items, timeout=0.5)
                assert log == ["closed"]
            streams.log.clear()
            assert await node.call("s.first", items=node.stream("s.forever")) == 0
            await until(lambda: streams.log == ["closed"])
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_a_cleanup_that_fails_when_nobody_wants_the_items_is_logged(caplog: pytest.LogCaptureFixture):
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise ZeroDivisionError("in the cleanup")

    async with World() as world:
        _, first, second = await two_nodes(world)
        assert await second.call("s.first", items=numbers()) == 1
        assert "ZeroDivisionError('in the cleanup')" in caplog.text
        assert no_streams_left(first, second)


@virtual
async def test_a_handler_that_reads_slowly_holds_its_caller_back():
    made_items = 0

    def numbers() -> Iterator[int]:
        nonlocal made_items
        while True:
            made_items += 1
            yield made_items

    made = fdn.App()
    read: list[int] = []

    @made.service("slow")
    async def slow(items: AsyncIterator[int]) -> None:
        async for item in items:
            read.append(item)
            await asyncio.sleep(0.1)

    async with World() as world:
        first, second = await world.cluster(2, made, calls={"stream_window_items": 10})
        call = asyncio.create_task(second.call("slow@n1", items=numbers(), timeout=5))
        await until(lambda: len(read) == 40)
        assert made_items <= len(read) + 12
        with pytest.raises(fdn.DeadlineExceeded):
            await call
        assert read == list(range(1, len(read) + 1))
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_a_task_that_a_handler_left_behind_does_not_read_for_ever():
    left: list[asyncio.Task[Any]] = []
    made = fdn.App()

    @made.service("leaves")
    async def leaves(items: AsyncIterator[int]) -> str:
        async def read() -> None:
            async for _ in items:
                pass

        left.append(asyncio.create_task(read()))
        await asyncio.sleep(1)
        return "done"

    async def never() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with World() as world:
        _, second = await world.cluster(2, made)
        assert await second.call("leaves@n1", items=never()) == "done"
        with pytest.raises(fdn.Cancelled, match="leaves has been answered"):
            await left[0]


# -- interceptors


class Spy(fdn.Interceptor):
    """Attributes:
    seen: What passed.
    """

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.mood = ""

    async def on_send(self, outgoing: Any, proceed: Any) -> Any:
        self.seen.append((outgoing.target, outgoing.is_stream))
        if self.mood == "refuses":
            raise fdn.Denied("not from here")
        result = await proceed(outgoing)
        if self.mood == "twice":
            result = await proceed(outgoing)
        if self.mood == "dawdles":
            await asyncio.sleep(10)
        return result

    async def on_dispatch(self, incoming: Any, proceed: Any) -> Any:
        if self.mood == "refuses":
            raise fdn.Denied("not here")
        incoming.arguments = tuple(2 * value for value in incoming.arguments)
        result = await proceed(incoming)
        self.seen.append(("ended", incoming.target))
        return result


@virtual
async def test_interceptors_are_around_both_sides():
    streams, sends, serves = Streams(), Spy(), Spy()
    async with World() as world:
        first = await world.start("n1", app(streams), interceptors=(serves,))
        second = await world.start("n2", interceptors=(sends,))
        await world.settle()
        assert await drained(second.stream("s.count", 3)) == list(range(6))
        assert await second.call("s.sum", items=[1, 2]) == 3
        assert sends.seen == [("s.count", True), ("s.sum", True)]
        assert serves.seen == [("ended", "s.count"), ("ended", "s.sum")]
        serves.mood = "refuses"
        for target in ("s.count", "s.one"):
            with pytest.raises(fdn.Denied, match="not here"):
                await drained(second.stream(target, 1 if target == "s.count" else None))
        sends.mood = "refuses"
        with pytest.raises(fdn.Denied, match="not from here"):
            await drained(second.stream("s.count", 1))
        sends.mood, serves.mood = "twice", ""
        assert await drained(second.stream("s.count", 3)) == list(range(6))
        sends.mood = "dawdles"  # cancelled behind `proceed`: what was opened there must not stay open
        reads = asyncio.create_task(drained(second.stream("s.forever")))
        await until(lambda: streams.made > 1000)
        reads.cancel()
        await until(lambda: streams.log == ["begun", "closed"])
        await until(lambda: no_streams_left(first, second))


# -- the end of a node


@virtual
async def test_a_node_that_stops_ends_its_streams_on_both_sides():
    async with World() as world:
        streams, first, second = await two_nodes(world, drain_timeout_s=1.0)
        third = await world.start("n3", app(Streams()), drain_timeout_s=1.0)
        await world.settle()
        serving = asyncio.create_task(drained(second.stream("s.guarded@n1", timeout=60)))
        asking = asyncio.create_task(drained(first.stream("s.quiet@n3", 50.0, timeout=60)))
        sending = asyncio.create_task(first.call("s.sum@n3", items=third.stream("s.guarded@n3"), timeout=60))
        await asyncio.sleep(1)
        await first.stop()
        for task in (serving, asking, sending):
            with pytest.raises((fdn.Unreachable, fdn.Cancelled)):
                await task
        assert streams.log == ["closed"]
        with pytest.raises(fdn.Error):
            await drained(first.stream("s.count", 1))
        await until(lambda: no_streams_left(second, third))


@virtual
async def test_a_service_that_is_removed_ends_its_streams():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2")
        first.serve("s", streams)
        await world.settle()
        reads = asyncio.create_task(drained(second.stream("s.guarded", timeout=60)))
        sends = asyncio.create_task(second.call("s.sum", items=second.stream("s.guarded"), timeout=60))
        await until(lambda: first._dispatcher.stats().running == 3)
        await first.withdraw("s")
        for task in (reads, sends):
            with pytest.raises(fdn.Error):
                await task
        assert streams.log.count("closed") == 2
        await until(lambda: no_streams_left(first, second))


@virtual
@pytest.mark.parametrize("target", ["s.forever", "s.guarded"])
async def test_the_death_of_the_callers_node_closes_the_generator(target: str):
    async with World() as world:
        streams, first, second = await two_nodes(world)
        reads = asyncio.create_task(drained(second.stream(target, timeout=1000), pause_s=0.01))
        await asyncio.sleep(1)
        world.crash(second)
        await until(lambda: streams.log == ["closed"])
        await until(lambda: first._dispatcher.stats().running == 0)
        reads.cancel()
        await asyncio.gather(reads, return_exceptions=True)


@virtual
@pytest.mark.parametrize("target", ["s.forever", "s.guarded", "s.sum"])
async def test_the_death_of_the_producers_node_ends_the_stream_with_an_error(target: str):
    async with World() as world:
        _, first, second = await two_nodes(world)
        items = second.stream("s.guarded") if target == "s.sum" else None
        stream = second.stream(target, items=items, timeout=1000)
        reads = asyncio.create_task(drained(stream, pause_s=0.01))
        await asyncio.sleep(1)
        world.crash(first)
        with pytest.raises(fdn.Unreachable, match="was lost in the middle of a stream"):
            await asyncio.wait_for(reads, 30)
        await until(lambda: no_streams_left(second))


@virtual
async def test_a_partition_ends_streams_on_both_sides():
    async with World() as world:
        streams, first, second = await two_nodes(world)
        reads = asyncio.create_task(drained(second.stream("s.forever", timeout=10_000), pause_s=0.01))
        sends = asyncio.create_task(second.call("s.sum", items=first.stream("s.guarded"), timeout=10_000))
        await asyncio.sleep(1)
        world.cut("n1", "n2")
        for task in (reads, sends):
            with pytest.raises(fdn.Unreachable):
                await asyncio.wait_for(task, 60)
        await until(lambda: no_streams_left(first, second))
        assert "closed" in streams.log
