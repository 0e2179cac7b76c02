"""The receiving side, on whole nodes over the in-memory transport."""

import asyncio
import contextvars
import logging
import threading
from typing import Any

import msgspec
import pytest

import fdn
from fdn.context import scope_var
from fdn.messaging.dispatch import scope_of
from tests.unit.fdn.harness import Mallory, Recorder, World, body, until, virtual
from tests.unit.fdn.messaging.streaming import Streams
from tests.unit.fdn.messaging.streaming import app as streaming_app
from transports.channel import Channel
from transports.transport import EventKind
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Identity

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


def app(concurrency: int | None = None, mailbox_max: int | None = None, **services: Any) -> fdn.App:
    made = fdn.App()
    for name, target in services.items():
        made.service(name, concurrency=concurrency, mailbox_max=mailbox_max)(target)
    return made


# -- bounds


@virtual
async def test_no_more_than_the_concurrency_run_at_once():
    running = most = 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1

    async with World() as world:
        _, second = await world.cluster(2, app(concurrency=3, job=job))
        await asyncio.gather(*(second.call("job@n1") for _ in range(20)))
        assert most == 3


@virtual
async def test_a_full_mailbox_refuses_calls_and_drops_casts(caplog: pytest.LogCaptureFixture):
    recorder = Recorder()
    async with World() as world:
        first, second = await world.cluster(2, app(concurrency=1, mailbox_max=2, r=recorder))
        calls = [asyncio.create_task(second.call("r.wait@n1", 2.0, timeout=30)) for _ in range(3)]
        await until(lambda: first._dispatcher.stats().queued == 2)
        with pytest.raises(fdn.Overloaded, match="'r' on node 'n1' has 2 calls waiting") as caught:
            await second.call("r.wait@n1", 2.0)
        assert caught.value.retryable
        assert caught.value.facts["mailbox_max"] == 2
        await second.cast("r.note@n1", "inline, so it waits for nobody")
        await second.cast("r.wait@n1", 2.0)
        await until(lambda: first._dispatcher.stats().overloaded == 2)
        assert await asyncio.gather(*calls) == ["done"] * 3
        assert first._dispatcher.stats().failed == 0
        assert len(first.members()) == 2


@virtual
async def test_failed_casts_are_logged_once_a_second_and_all_counted(caplog: pytest.LogCaptureFixture):
    async def fails(number: int) -> None:
        raise ZeroDivisionError(f"number {number}")

    def fails_inline(number: int) -> None:
        raise ZeroDivisionError(f"number {number}")

    async with World() as world:
        first, second = await world.cluster(2, app(fails=fails, inline=fails_inline))
        caplog.clear()
        for target in ("fails@n1", "inline@n1"):
            failed = first._dispatcher.stats().failed
            for number in range(100):
                await second.cast(target, number)
            await until(lambda failed=failed: first._dispatcher.stats().failed == failed + 100)  # type: ignore[misc]
        await asyncio.sleep(2)
        await second.cast("fails@n1", 1000)
        await second.cast("fails@n1", "no number")
        await until(lambda: first._dispatcher.stats().failed == 202)
        lines = [record.getMessage() for record in caplog.records if "cast(s) failed" in record.getMessage()]
        assert len(lines) == 2
        assert lines[0].startswith("1 cast(s) failed, the last to fails: Traceback")
        assert "ZeroDivisionError: number 0" in lines[0]
        assert lines[1].startswith("200 cast(s) failed")


@virtual
async def test_a_value_error_of_a_handler_is_not_taken_for_a_payload_that_does_not_fit(
    caplog: pytest.LogCaptureFixture,
):
    def picky(number: int) -> None:
        raise ValueError(f"{number} is unlucky")

    async with World() as world:
        first, second = await world.cluster(2, app(picky=picky))
        caplog.clear()
        await second.cast("picky@n1", 13)
        await until(lambda: first._dispatcher.stats().failed == 1)
        assert "Traceback" in caplog.text
        assert "ValueError: 13 is unlucky" in caplog.text
        await asyncio.sleep(2)
        caplog.clear()
        await second.cast("picky@n1", "no number")
        await until(lambda: first._dispatcher.stats().failed == 2)
        assert "payload does not fit" in caplog.text


# -- whose work it is


@virtual
async def test_the_work_of_a_node_that_died_is_cancelled():
    recorder = Recorder()
    async with World() as world:
        first, second = await world.cluster(2, app(concurrency=1, r=recorder))
        third = await world.start("n3")
        await world.settle()
        lost = [asyncio.ensure_future(second.call("r.wait@n1", 300.0, timeout=600)) for _ in range(2)]
        await until(lambda: first._dispatcher.stats().queued == 1)
        kept = asyncio.create_task(third.call("r.wait@n1", 3.0, timeout=60))
        await until(lambda: first._dispatcher.stats().queued == 2)
        world.crash(second)
        assert await kept == "done"
        assert recorder.log == ["begun", "cancelled", "begun", "ended"]
        assert first._dispatcher.stats().running == 0
        for call in lost:
            call.cancel()
        await asyncio.gather(*lost, return_exceptions=True)


@virtual
async def test_a_client_that_takes_a_nodes_name_cannot_end_its_calls():
    recorder = Recorder()
    async with World() as world:
        first, second = await world.cluster(2, app(r=recorder))
        call = asyncio.create_task(second.call("r.wait@n1", 3.0, timeout=60))
        await until(lambda: recorder.log)
        mallory = Mallory(world, node=second.id)
        line = await mallory.dial(first, role="client", identity=Identity(second.id))
        line.connection.send_exempt(Envelope(Kind.BYE, body=body({})))
        await until(lambda: first._data.stats().sessions.open == 1)
        assert await call == "done"
        assert len(second.reachable()) == 2


# -- handlers


@virtual
async def test_context_variables_do_not_leak_between_messages():
    seen: list[str] = []

    def inline(value: str) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(value)

    async def later(value: str) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(value)
        await asyncio.sleep(0)
        assert VARIABLE.get() == value

    async def deep(value: str, context: fdn.Context) -> None:
        await later(value)

    async with World() as world:
        first, second = await world.cluster(2, app(concurrency=1, inline=inline, later=later, deep=deep))
        for _ in range(2):
            for target in ("inline", "later"):
                await second.call(f"{target}@n1", "call")
                await second.call(f"{target}@n2", "call to itself")
                await second.cast(f"{target}@n1", "cast")
                await second.cast(f"{target}@n2", "cast to itself")
            await second.call("deep@n1", "call")
        await until(lambda: len(seen) == 18)
        assert set(seen) == {"clean"}
        assert VARIABLE.get() == "clean"
        assert scope_var.get() is None
        assert first._dispatcher.stats().failed == 0


@virtual
async def test_a_scope_does_not_leak_between_messages():
    scopes: list[Any] = []

    async def look(wait: bool) -> None:
        scopes.append(scope_var.get())
        if wait:
            await asyncio.sleep(0.01)

    async with World() as world:
        first, second = await world.cluster(2, app(concurrency=1, look=look))
        await second.call("look@n1", True, timeout=1.0)
        await second.cast("look@n1", False)
        await until(lambda: len(scopes) == 2)
        assert scopes[0].deadline_at > 0
        assert scopes[0].trace_id
        assert scopes[1] is None or not scopes[1].deadline_at
        assert first._dispatcher.stats().failed == 0


@virtual
async def test_a_handler_with_a_timeout_of_its_own():
    async def impatient() -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        except TimeoutError:
            return "gave up"
        return "?"

    async with World() as world:
        _, second = await world.cluster(2, app(impatient=impatient))
        assert await second.call("impatient@n1", timeout=10) == "gave up"


@virtual
async def test_a_result_that_cannot_be_sent_is_a_bad_request():
    class Odd:
        pass

    async def later() -> Any:
        return Odd()

    async with World() as world:
        _, second = await world.cluster(2, app(concurrency=1, inline=lambda: Odd(), later=later, ok=lambda: 1))
        for _ in range(2):
            for target in ("inline@n1", "later@n1", "inline@n2", "later@n2"):
                with pytest.raises(fdn.BadRequest, match="a Odd cannot be sent"):
                    await second.call(target)
        assert await second.call("ok@n1") == 1


@virtual
async def test_whatever_a_handler_raises_the_caller_is_answered():
    class Odd(BaseException):
        pass

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    class Half(fdn.Error):
        def __init__(self) -> None:
            pass  # never calls the base

    kinds: dict[str, BaseException] = {
        "odd": Odd("x"),
        "group": BaseExceptionGroup("several", [Odd("x"), ValueError("y")]),
        "silent": Silent(),
        "half": Half(),
        "cancelled": asyncio.CancelledError(),
        "generator": GeneratorExit(),
        "number": fdn.NotFound(7),  # type: ignore[arg-type]
        "stop": StopIteration(5),
    }

    def inline(kind: str) -> None:
        raise kinds[kind]

    async def later(kind: str) -> None:
        await asyncio.sleep(0)
        raise kinds[kind]

    async with World() as world:
        first, second = await world.cluster(2, app(concurrency=1, inline=inline, later=later, ok=lambda: 1))
        for kind in kinds:
            for target in ("inline@n1", "later@n1", "inline@n2", "later@n2"):
                with pytest.raises(fdn.Error) as caught:
                    await second.call(target, kind, timeout=2.0)
                assert not isinstance(caught.value, fdn.DeadlineExceeded), (kind, target)
        assert await second.call("ok@n1") == 1
        assert first._data.stats().handler_faults == 0


def test_blocking_handlers_on_threads():
    """On a real loop: threads know no other time."""
    seen: list[tuple[str, str]] = []
    made = fdn.App()
    gate = threading.Event()

    @made.service("files", threads=2)
    class Files:
        def read(self, name: str, context: fdn.Context) -> str:
            seen.append((threading.current_thread().name, VARIABLE.get()))
            VARIABLE.set(name)
            assert gate.wait(20)
            return f"{name} on {context.node}"

        def fails(self) -> None:
            raise ZeroDivisionError("on a thread")

        async def also_async(self) -> str:
            return threading.current_thread().name

    async def main() -> None:
        async with World() as world:
            _, second = await world.cluster(2, made)
            calls = [asyncio.create_task(second.call("files.read@n1", name)) for name in ("a", "b")]
            await until(lambda: len(seen) == 2)
            assert await second.call("files.also_async@n1") == threading.current_thread().name
            assert not any(call.done() for call in calls)  # and the loop turns all the while
            gate.set()
            assert await asyncio.gather(*calls) == ["a on n1", "b on n1"]
            with pytest.raises(fdn.RemoteError, match="on a thread"):
                await second.call("files.fails@n1")
            await second.call("files.read@n1", "c")
            assert all(thread.startswith("fdn-files") and value == "clean" for thread, value in seen)

    asyncio.run(main())


def test_a_thread_that_is_not_awaited_any_more_harms_nobody():
    gate = threading.Event()
    made = fdn.App()

    @made.service("block", threads=1)
    def block() -> None:
        assert gate.wait(20)

    async def main() -> None:
        async with World() as world:
            node = await world.start("n1", made)
            with pytest.raises(fdn.DeadlineExceeded):
                await node.call("block", timeout=0.05)
            gate.set()
            await node.call("block")

    asyncio.run(main())


# -- what comes from the network


async def member(world: World, node: fdn.Node) -> tuple[Mallory, Any]:
    """Somebody who is believed to be a member, and a line to `node` on which it may say anything."""
    mallory = Mallory(world)
    mallory.listen()
    await mallory.dial(node, Channel.COORDINATION)
    return mallory, await mallory.dial(node)


GARBAGE = [
    b"\xa1\xff",  # no UTF-8
    b"\x91" * 100 + b"\x01",  # deep
    msgspec.msgpack.encode({"a": {"b": [None] * 100}}),
    msgspec.msgpack.encode("text"),
    msgspec.msgpack.encode(-1),
    msgspec.msgpack.encode(2**64 - 1),
    b"\xc7\x01\x05\x00",  # an extension
    b"\x81\x90\x01",  # a map with an array for a key
]


@virtual
async def test_garbage_for_handlers_of_every_kind_stops_no_worker():
    got: list[Any] = []

    async def typed(value: int) -> None:
        got.append(value)

    async def text(value: str) -> None:
        got.append(value)

    async def several(a: int, b: str) -> None:
        got.append((a, b))

    async def waits(value: dict[str, int], context: fdn.Context) -> None:
        await asyncio.sleep(0)
        got.append(value)

    def inline(value: str) -> None:
        got.append(value)

    services: dict[str, Any] = {"typed": typed, "text": text, "several": several, "waits": waits, "inline": inline}
    async with World() as world:
        first = await world.start("n1", app(concurrency=1, **services))
        mallory, line = await member(world, first)
        number = 0
        for name in services:
            for garbage in GARBAGE:
                for kind in (Kind.CALL, Kind.CAST):
                    number += 1
                    line.connection.send(Envelope(kind, name, number, 0, None, msgspec.Raw(garbage)))
                    odd = {1: b"no trace", 99: None}
                    line.connection.send(Envelope(kind, name, number, 1, odd, msgspec.Raw(garbage)))
        await asyncio.sleep(1)
        assert first._data.stats().handler_faults == 0
        answered = [e for e in mallory.heard["data"].envelopes if e.kind in (Kind.REPLY, Kind.ERROR)]
        assert len(answered) > number / 2 * 0.8
        for name, value in (("typed", 1), ("text", "t"), ("several", [1, "b"]), ("waits", {"a": 1}), ("inline", "i")):
            assert await first.call(name, value) is None
        assert first._dispatcher.stats().running == 0
        assert first._dispatcher._unfinished == 0


@virtual
async def test_calls_with_absurd_deadlines_and_repeated_ids():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1", app(r=recorder))
        mallory, line = await member(world, first)
        for number, deadline_ms in enumerate((0, 2**31, 2**63 - 1), start=7):
            for _ in range(2):
                line.connection.send(Envelope(Kind.CALL, "r.wait", number, deadline_ms, None, body(0.01)))
        await asyncio.sleep(1)
        assert recorder.log.count("begun") == recorder.log.count("ended") == 3  # whose id is in use, is refused
        refused = [e.id for e in mallory.heard["data"].envelopes if e.kind == Kind.ERROR]
        assert sorted(refused) == [7, 8, 9]
        assert first._dispatcher.stats().running == 0
        line.connection.send_exempt(Envelope(Kind.CANCEL, "", 7))
        line.connection.send_exempt(Envelope(Kind.CANCEL, "", 2**64 - 1))
        assert await first.call("r.wait", 0.01) == "done"
        assert first._data.stats().handler_faults == 0


@virtual
async def test_targets_that_are_none_are_answered_and_counted():
    async with World() as world:
        first = await world.start("n1", app(ok=lambda: 1))
        mallory, line = await member(world, first)
        targets = ["", "nothing", "fdn.node.leave", "ok.", "ok@n1", "x" * 1024, "\0", "ok\n"]
        for number, target in enumerate(targets, start=1):
            line.connection.send(Envelope(Kind.CALL, target, number))
            line.connection.send(Envelope(Kind.CAST, target, 0))
        await until(lambda: len([e for e in mallory.heard["data"].envelopes if e.kind == Kind.ERROR]) == len(targets))
        assert first._dispatcher.stats().not_found == 2 * len(targets)
        assert await first.call("ok") == 1


@virtual
async def test_a_dispatcher_answers_pings_without_any_service():
    async with World() as world:
        first = await world.start("n1")
        mallory, line = await member(world, first)
        line.connection.send(Envelope(Kind.CALL, "fdn.node.ping", 3))
        await until(lambda: [e.id for e in mallory.heard["data"].envelopes if e.kind == Kind.REPLY] == [3])


def test_a_scope_from_an_envelope():
    trace = (b"t" * 16, b"p" * 8, 1)
    scope = scope_of(Envelope(Kind.CALL, meta={MetaKey.TRACE: trace}), 5.0)
    assert (scope.trace_id, scope.deadline_at) == (b"t" * 16, 5.0)
    assert scope.span_id not in (b"p" * 8, b"")
    odd: list[dict[int, Any] | None] = [None, {}, {MetaKey.TRACE: 7}, {99: 1}]
    for meta in odd:
        assert scope_of(Envelope(Kind.CALL, meta=meta), 0.0).trace_id == b""


def test_ten_thousand_casts_are_dispatched_while_the_log_stays_quiet(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    got: list[int] = []

    async def sink(number: int) -> None:
        got.append(number)

    async def main() -> None:
        async with World() as world:
            _, second = await world.cluster(2, app(sink=sink))
            for number in range(10_000):
                await second.cast("sink@n1", number)
            await until(lambda: len(got) == 10_000, timeout_s=20)

    asyncio.run(main())
    assert got == list(range(10_000))
    assert not caplog.records


# -- streams, of a caller that says what it likes


def said_to(mallory: Mallory, number: int, *kinds: Kind) -> list[Envelope]:
    return [e for e in mallory.heard["data"].envelopes if e.id == number and e.kind in (kinds or tuple(Kind))]


def values(envelopes: list[Envelope]) -> list[Any]:
    return [msgspec.msgpack.decode(e.body) for e in envelopes]


def ask(line: Any, target: str, number: int, payload: Any = None, deadline_ms: int = 100_000, **meta: Any) -> None:
    packed: dict[int, Any] = {int(MetaKey[key.upper()]): value for key, value in meta.items()}
    line.connection.send(Envelope(Kind.CALL, target, number, deadline_ms, packed, body(payload)))


@virtual
async def test_a_streamed_reply_keeps_to_the_callers_window():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        mallory, line = await member(world, first)
        ask(line, "s.forever", 7, window=[3, 1000])
        ask(line, "s.big", 8, [100, 50], window=[1000, 104])
        ask(line, "s.count", 9, 700)  # no window: as fast as the connection takes it
        ask(line, "s.forever", 10, window=[0, 1000])
        await until(lambda: said_to(mallory, 9, Kind.END))
        await asyncio.sleep(0.1)
        assert values(said_to(mallory, 7, Kind.ITEM)) == [0, 1, 2]
        assert len(said_to(mallory, 8, Kind.ITEM)) == 2  # each 52 bytes
        assert values(said_to(mallory, 9, Kind.ITEM)) == list(range(700))
        assert said_to(mallory, 10) == []
        for granted in (None, "text", [5], (2, 1000), (4, 1000), (4, 0)):
            line.connection.send_exempt(Envelope(Kind.CREDIT, "reply", 7, 0, None, body(granted)))
        await until(lambda: len(said_to(mallory, 7, Kind.ITEM)) == 4)
        for number in (7, 8, 10):
            line.connection.send_exempt(Envelope(Kind.CANCEL, "", number))
            line.connection.send_exempt(Envelope(Kind.CANCEL, "", number))
        await until(lambda: first._dispatcher.stats().running == 0)
        assert streams.log == ["closed", "closed"]
        assert first._dispatcher.stats().cancelled == 3
        await asyncio.sleep(0.1)
        assert said_to(mallory, 7, Kind.END, Kind.ERROR) == []
        assert first._data.stats().handler_faults == 0


@virtual
async def test_a_request_stream_past_its_credit_is_refused_counted_and_cancelled():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams), calls={"stream_window_items": 4})
        mallory, line = await member(world, first)
        ask(line, "s.sum", 7, request_stream=True)
        await until(lambda: said_to(mallory, 7, Kind.CREDIT))
        assert values(said_to(mallory, 7, Kind.CREDIT))[0][0] == 4
        for number in range(100):
            line.connection.send(Envelope(Kind.ITEM, "request", 7, 0, None, body(number)))
        line.connection.send(Envelope(Kind.END, "request", 7))
        await until(lambda: said_to(mallory, 7, Kind.ERROR))
        await until(lambda: first._dispatcher.stats().running == 0)
        assert streams.log == ["begun", "CancelledError"]
        assert values(said_to(mallory, 7, Kind.ERROR))[0]["code"] == "bad_request"
        assert len(said_to(mallory, 7, Kind.ERROR, Kind.REPLY)) == 1
        assert first._dispatcher.stats().overruns == 1


@virtual
async def test_the_end_of_a_request_stream_may_be_an_error():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        mallory, line = await member(world, first)
        for number, error in enumerate(({"code": "denied", "message": "mine"}, "text", [1]), start=7):
            ask(line, "s.sum", number, request_stream=True)
            await until(lambda number=number: said_to(mallory, number, Kind.CREDIT))  # type: ignore[misc]
            line.connection.send(Envelope(Kind.ITEM, "request", number, 0, None, body(1)))
            line.connection.send(Envelope(Kind.END, "request", number, 0, None, body(error)))
            await until(lambda number=number: said_to(mallory, number, Kind.ERROR))  # type: ignore[misc]
        assert streams.log == ["begun", "Denied", "begun", "RemoteError", "begun", "RemoteError"]
        assert values(said_to(mallory, 7, Kind.ERROR))[0]["message"] == "mine"


@virtual
async def test_items_and_credit_for_what_takes_none_are_ignored():
    recorder = Recorder()
    async with World() as world:
        first = await world.start("n1", app(r=recorder))
        mallory, line = await member(world, first)
        ask(line, "r.wait", 7, 0.2)
        ask(line, "r.wait", 8, 0.2, request_stream=False)
        for number in (7, 8, 1000):
            for kind, to in ((Kind.ITEM, "request"), (Kind.END, "request"), (Kind.CREDIT, "reply")):
                line.connection.send(Envelope(kind, to, number, 0, None, body((5, 5))))
        await until(lambda: said_to(mallory, 7, Kind.REPLY) and said_to(mallory, 8, Kind.REPLY))
        ask(line, "r.wait", 9, 0.2, request_stream=True)
        await until(lambda: said_to(mallory, 9, Kind.ERROR))
        assert "takes no request stream" in values(said_to(mallory, 9, Kind.ERROR))[0]["message"]
        assert first._data.stats().handler_faults == 0


@virtual
async def test_a_cast_to_what_has_streams_is_a_failed_cast(caplog: pytest.LogCaptureFixture):
    streams = Streams()
    async with World() as world:
        first, second = await world.cluster(2, streaming_app(streams))
        for target in ("s.forever@n1", "s.sum@n1"):
            await second.cast(target)
        await until(lambda: first._dispatcher.stats().failed == 2)
        assert "it has streams, and so needs a call" in caplog.text
        assert streams.log == []


@virtual
@pytest.mark.parametrize("target", ["s.forever", "s.guarded", "s.sum", "s.quiet"])
async def test_when_the_way_back_is_lost_the_stream_ends_on_both_sides(target: str):
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        mallory, line = await member(world, first)
        sums = {"request_stream": True} if target == "s.sum" else {}
        ask(line, target, 7, 100.0 if target == "s.quiet" else None, window=[4, 1000], **sums)
        await until(lambda: first._dispatcher.stats().running == 1)
        link = first._data._links[mallory.node, Channel.DATA]
        await until(lambda: link.connection is not None)
        await asyncio.sleep(0.1)
        link._lost(EventKind.CLOSED, "torn")
        await until(lambda: first._dispatcher.stats().running == 0)
        assert streams.log[-1] in ("closed", "CancelledError")
        await until(lambda: said_to(mallory, 7, Kind.ERROR))  # on a new connection
        assert values(said_to(mallory, 7, Kind.ERROR))[0]["code"] == "unreachable"
        assert len(said_to(mallory, 7, Kind.ERROR, Kind.END)) == 1


@virtual
async def test_a_cleanup_that_awaits_is_not_cancelled_twice():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        _, line = await member(world, first)
        ask(line, "s.tidy", 7, window=[4, 1000])
        await until(lambda: first._dispatcher.stats().running == 1)
        await asyncio.sleep(0.1)
        for _ in range(3):
            line.connection.send_exempt(Envelope(Kind.CANCEL, "", 7))
            await asyncio.sleep(0.1)
        await until(lambda: streams.log == ["cleaning", "clean"])
        assert first._dispatcher.stats().cancelled == 1


@virtual
async def test_a_stream_of_one_who_lets_nobody_answer_is_refused():
    streams = Streams()
    async with World() as world:
        first = await world.start("n1", streaming_app(streams))
        line = await Mallory(world).dial(first)  # it says of no address where it listens
        ask(line, "s.forever", 7, window=[4, 1000])
        await until(lambda: first._data.stats().unanswerable == 1)
        assert first._dispatcher.stats().running == 0
        assert streams.made == 0
