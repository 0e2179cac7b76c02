"""The sending side, on whole nodes over the in-memory transport."""

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

import fdn
from fdn.context import current_scope
from tests.unit.fdn.harness import Mallory, Recorder, World, body, until, virtual
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind


class Add(msgspec.Struct):
    a: int
    b: int = 1


@dataclasses.dataclass
class Sum:
    total: int


class Math:
    def add(self, request: Add) -> Sum:
        return Sum(request.a + request.b)

    async def add_later(self, request: Add) -> Sum:
        await asyncio.sleep(0.1)
        return Sum(request.a + request.b)

    def parts(self, a: int, b: int = 2, *, c: int = 3) -> list[int]:
        return [a, b, c]

    def nothing(self) -> None: ...

    def echo(self, value: Any) -> Any:
        return value

    def who(self, context: fdn.Context) -> str:
        return context.node

    def about(self, context: fdn.Context, n: int) -> dict[str, Any]:
        return {
            "node": context.node,
            "caller": context.caller,
            "target": context.target,
            "trace": context.trace_id,
            "span": context.span_id,
            "left": context.remaining_s(),
            "n": n,
        }

    def fails(self) -> None:
        raise ZeroDivisionError("inline")

    async def fails_later(self) -> None:
        await asyncio.sleep(0.1)
        raise ZeroDivisionError("later")


def app(**services: Any) -> fdn.App:
    made = fdn.App()
    for name, target in services.items():
        made.service(name)(target)
    return made


# -- payloads


@virtual
async def test_typed_payloads_there_and_back():
    async with World() as world:
        await world.cluster(2, app(math=Math))
        node = world.nodes[1]
        for where in ("@n1", "@n2"):  # over the network, and to itself
            assert await node.call(f"math.add{where}", Add(2, 3), returns=Sum) == Sum(5)
            assert await node.call(f"math.add{where}", {"a": 2}) == {"total": 3}
            assert await node.call(f"math.add_later{where}", Add(2, 3), returns=Sum) == Sum(5)
            assert await node.call(f"math.parts{where}", {"a": 1, "c": 9}) == [1, 2, 9]
            assert await node.call(f"math.parts{where}", [7, 8]) == [7, 8, 3]
            assert await node.call(f"math.nothing{where}") is None
            for value in (None, b"raw", "text", [1, [2]], {"k": b"v"}, 1.5, 2**63, "", b"", [], {}):
                assert await node.call(f"math.echo{where}", value) == value


@virtual
async def test_what_does_not_fit_is_a_bad_request_on_either_side():
    async with World() as world:
        await world.cluster(2, app(math=Math))
        node = world.nodes[1]
        for where in ("@n1", "@n2"):
            with pytest.raises(fdn.BadRequest, match="Expected `int`, got `str`"):
                await node.call(f"math.add{where}", {"a": "two"})
            with pytest.raises(fdn.BadRequest, match="takes no payload"):
                await node.call(f"math.nothing{where}", 1)
            with pytest.raises(fdn.BadRequest, match="does not fit"):
                await node.call(f"math.add{where}", Add(1), returns=str)
            with pytest.raises(fdn.BadRequest, match="cannot be sent"):
                await node.call(f"math.echo{where}", object())
        with pytest.raises(fdn.BadRequest, match="name a type"):
            await node.call("math.nothing", returns=7)  # type: ignore[call-overload]
        with pytest.raises(fdn.BadRequest, match="cannot be sent"):
            await node.cast("math.echo", object())


@virtual
async def test_a_body_that_is_too_large_is_refused_before_it_is_sent_and_before_it_is_answered():
    settings = {"data": {"body_bytes_max": 2048}}
    async with World() as world:
        first, second = await world.cluster(2, app(math=Math, double=lambda data: data * 2), **settings)
        for where in ("@n1", "@n2"):
            assert len(await second.call(f"double{where}", b"x" * 1000)) == 2000
            with pytest.raises(fdn.BadRequest, match=r"exceeds data\.body_bytes_max=2048"):
                await second.call(f"double{where}", b"x" * 3000)
            with pytest.raises(fdn.BadRequest, match="a result of 4000 bytes"):
                await second.call(f"double{where}", b"x" * 2000)
            with pytest.raises(fdn.BadRequest, match=r"exceeds data\.body_bytes_max=2048"):
                await second.cast(f"double{where}", b"x" * 3000)
            assert await second.call(f"math.echo{where}", 1) == 1
        assert first._data.stats().handler_faults == 0


@virtual
async def test_the_context_tells_who_and_what():
    async with World() as world:
        _, second = await world.cluster(2, app(math=Math))
        about = await second.call("math.about@n1", 5, timeout=3.0)
        assert about["node"] == "n1"
        assert about["caller"] == second.id
        assert about["target"] == "math.about"
        assert 2.9 < about["left"] <= 3.0
        assert len(about["trace"]) == 32
        assert len(about["span"]) == 16
        assert about["n"] == 5


# -- whom it reaches


@virtual
async def test_calls_are_balanced_over_those_that_offer():
    async with World() as world:
        nodes = await world.cluster(3, app(math=Math))
        answers = [await nodes[0].call("math.who") for _ in range(9)]
        assert sorted(answers) == ["n1"] * 3 + ["n2"] * 3 + ["n3"] * 3


@virtual
async def test_nobody_offers_it():
    async with World() as world:
        _, second = await world.cluster(2, app(math=Math))
        with pytest.raises(fdn.NotFound) as caught:
            await second.call("math.ad")
        assert "did you mean 'math.add'?" in str(caught.value)
        with pytest.raises(fdn.NotFound):
            await second.cast("math.ad")
        # Asked by name, the node itself answers, and knows its methods as well.
        with pytest.raises(fdn.NotFound, match="node 'n1' does not serve") as caught:
            await second.call("math.ad@n1")
        assert "did you mean 'math.add'?" in str(caught.value)
        assert caught.value.node == world.nodes[0].id


@virtual
async def test_a_node_that_cannot_be_dialled_is_passed_over():
    async with World() as world:
        nodes = await world.cluster(3, app(math=Math))
        nodes[1]._data.unlisten()  # its data port is gone, its control plane is well
        answers = {await nodes[2].call("math.who") for _ in range(6)}
        assert answers == {"n1", "n3"}
        with pytest.raises(fdn.Unreachable, match="nobody listens there"):
            await nodes[2].call("math.who@n2")
        for _ in range(4):
            await nodes[2].cast("math.nothing")


@virtual
async def test_calls_in_flight_fail_when_the_node_dies_and_a_retry_goes_elsewhere():
    recorders = {}

    def service(name: str) -> Recorder:
        recorders[name] = Recorder()
        return recorders[name]

    async with World() as world:
        for name in ("n1", "n2", "n3"):
            node = await world.start(name, app(r=service(name)) if name != "n3" else fdn.App())
        await world.settle()
        plain = asyncio.create_task(node.call("r.wait@n2", 10.0, timeout=60))
        retried = [asyncio.create_task(node.call("r.wait", 10.0, timeout=60, retry=fdn.Retry(2))) for _ in range(4)]
        await until(lambda: len(recorders["n2"].log) == 3)
        world.crash(world.nodes[1])
        with pytest.raises(fdn.Unreachable, match="was lost while a call to it was under way") as caught:
            await plain
        assert caught.value.facts["maybe_carried_out"] is True
        assert await asyncio.gather(*retried) == ["done"] * 4
        assert recorders["n1"].log.count("begun") == 4
        assert (await node.stats()).calls.retried == 2


# -- deadlines


@virtual
async def test_a_timeout_cancels_the_work_over_there():
    recorder = Recorder()
    async with World() as world:
        first, second = await world.cluster(2, app(r=recorder))
        for where in ("@n1", "@n2"):
            recorder.log.clear()
            with pytest.raises(fdn.DeadlineExceeded) as caught:
                await second.call(f"r.wait{where}", 50.0, timeout=1.0)
            assert isinstance(caught.value, TimeoutError)
            await until(lambda: recorder.log == ["begun", "cancelled"])
        assert first._dispatcher.stats().running == 0
        assert (await second.stats()).calls.deadline_exceeded == 2
        assert (await second.stats()).calls.in_flight == 0


@virtual
async def test_a_deadline_shrinks_over_two_hops_and_cancels_the_last():
    recorder = Recorder()
    left: list[float] = []
    async with World() as world:
        hop: dict[str, fdn.Node] = {}

        class Relay:
            async def on(self, target: str) -> Any:
                scope = current_scope()
                assert scope is not None
                left.append(scope.deadline_at - asyncio.get_running_loop().time())
                await asyncio.sleep(1.0)
                return await hop["node"].call(target, 50.0)

            async def last(self, seconds: float, context: fdn.Context) -> Any:
                left.append(context.remaining_s())
                return await recorder.wait(seconds)

        hop["node"] = await world.start("n1", app(relay=Relay))
        await world.start("n2", app(relay=Relay))
        third = await world.start("n3")
        await world.settle()
        with fdn.deadline(3.0), pytest.raises(fdn.DeadlineExceeded):
            await third.call("relay.on@n1", "relay.last@n2", timeout=10.0)
        await until(lambda: recorder.log == ["begun", "cancelled"])
        assert left[0] == pytest.approx(3.0, abs=0.05)
        assert left[1] == pytest.approx(2.0, abs=0.05)


@virtual
async def test_a_deadline_that_has_passed_sends_nothing():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder))
        for where in ("@n1", "@n2"):
            with fdn.deadline(1.0):
                await asyncio.sleep(2.0)
                with pytest.raises(fdn.DeadlineExceeded):
                    await second.call(f"r.note{where}", "late")
        await asyncio.sleep(1)
        assert recorder.log == []


@virtual
async def test_timeouts_that_are_none():
    async with World() as world:
        node = await world.start("n1", app(math=Math))
        for timeout in (0, -1, float("nan"), float("inf"), 1e300):
            with pytest.raises(fdn.BadRequest, match="timeout="):
                await node.call("math.who", timeout=timeout)
        assert await node.call("math.who", timeout=86_400 * 300) == "n1"


@virtual
async def test_calls_have_a_default_timeout():
    recorder = Recorder()
    async with World() as world:
        await world.start("n1", app(r=recorder), calls={"timeout_s": 2.0})
        second = await world.start("n2", calls={"timeout_s": 2.0})
        began = asyncio.get_running_loop().time()
        with pytest.raises(fdn.DeadlineExceeded):
            await second.call("r.wait", 50.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0, abs=0.1)


@virtual
async def test_what_expires_on_its_way_is_dropped_before_it_is_dispatched():
    recorder = Recorder()
    made = fdn.App()
    made.service("r", concurrency=1)(recorder)
    async with World() as world:
        first, second = await world.cluster(2, made)
        slow = asyncio.create_task(second.call("r.wait@n1", 3.0))
        await until(lambda: recorder.log)
        with pytest.raises(fdn.DeadlineExceeded):
            await second.call("r.wait@n1", 3.0, timeout=1.0)
        assert await slow == "done"
        assert recorder.log == ["begun", "ended"]
        stats = first._dispatcher.stats()
        assert (stats.expired + stats.cancelled, stats.queued, stats.running) == (1, 0, 0)


# -- cancellation


@virtual
async def test_leaving_the_await_cancels_the_work_over_there():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder))
        for where in ("@n1", "@n2"):
            recorder.log.clear()
            call = asyncio.create_task(second.call(f"r.wait{where}", 50.0, timeout=60))
            await until(lambda: recorder.log)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: recorder.log == ["begun", "cancelled"])
        assert (await second.stats()).calls.cancelled == 2


@virtual
async def test_a_cancellation_reaches_a_handler_whose_link_was_closed_as_idle():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder), links={"idle_close_s": 1.0})
        call = asyncio.create_task(second.call("r.wait@n1", 500.0, timeout=600))
        await until(lambda: recorder.log)
        await asyncio.sleep(5)
        assert not [name for name in second._data.stats().links if name.endswith("data")]
        call.cancel()
        await until(lambda: recorder.log == ["begun", "cancelled"])


@virtual
async def test_an_answer_finds_its_way_over_a_link_that_was_closed_as_idle():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder), links={"idle_close_s": 1.0})
        assert await second.call("r.wait@n1", 30.0, timeout=60) == "done"


# -- errors


@virtual
async def test_a_crash_comes_back_with_its_traceback():
    async with World() as world:
        first, second = await world.cluster(2, app(math=Math))
        for target, what in (("math.fails@n1", "inline"), ("math.fails_later@n1", "later")):
            with pytest.raises(fdn.RemoteError, match=what) as caught:
                await second.call(target)
            assert caught.value.remote_type == "ZeroDivisionError"
            assert f'raise ZeroDivisionError("{what}")' in caught.value.remote_traceback
            assert caught.value.node == first.id
            assert any(first.id in note for note in caught.value.__notes__)


@virtual
async def test_tracebacks_are_stitched_over_two_hops():
    async with World() as world:
        hop: dict[str, fdn.Node] = {}

        class Relay:
            async def on(self) -> Any:
                return await hop["node"].call("math.fails@n2")

        hop["node"] = first = await world.start("n1", app(relay=Relay))
        second = await world.start("n2", app(math=Math))
        third = await world.start("n3")
        await world.settle()
        with pytest.raises(fdn.RemoteError, match="inline") as caught:
            await third.call("relay.on")
        note = "\n".join(caught.value.__notes__)
        assert 'hop["node"].call("math.fails@n2")' in note
        assert 'raise ZeroDivisionError("inline")' in note
        assert second.id in note
        assert caught.value.node in (first.id, second.id)


@virtual
async def test_our_own_errors_keep_their_type_and_facts():
    made = fdn.App()

    @made.service("refuse")
    async def refuse(kind: str) -> None:
        raise getattr(fdn, kind)("not today", hint="tomorrow", until=5)

    async with World() as world:
        _, second = await world.cluster(2, made)
        for kind in ("NotFound", "Conflict", "Denied", "NoQuorum", "NotLeader", "Overloaded", "BadRequest"):
            with pytest.raises(getattr(fdn, kind), match="not today") as caught:
                await second.call("refuse@n1", kind)
            assert caught.value.hint == "tomorrow"
            assert caught.value.facts == {"until": 5}


@virtual
async def test_too_many_calls_at_once_are_refused_here():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder), calls={"in_flight_max": 3})
        calls = [asyncio.create_task(second.call("r.wait", 5.0, timeout=20)) for _ in range(3)]
        await until(lambda: len(recorder.log) == 3)
        with pytest.raises(fdn.Overloaded, match=r"calls\.in_flight_max"):
            await second.call("r.wait", 5.0)
        assert await asyncio.gather(*calls) == ["done"] * 3


@virtual
async def test_retries_by_setting_and_by_argument():
    tries: list[str] = []
    made = fdn.App()

    @made.service("flaky")
    def flaky(fails: int, context: fdn.Context) -> str:
        tries.append(context.node)
        if len(tries) <= fails:
            raise fdn.Overloaded("again")
        return context.node

    async with World() as world:
        await world.start("n1", made)
        await world.start("n2", made)
        third = await world.start("n3", calls={"retries": 1})
        await world.settle()
        await third.call("flaky", 1)
        assert len(set(tries)) == 2  # the second try goes elsewhere
        tries.clear()
        with pytest.raises(fdn.Overloaded):
            await third.call("flaky", 2)
        tries.clear()
        await third.call("flaky", 5, retry=5)
        assert len(tries) == 6
        tries.clear()
        with pytest.raises(fdn.Overloaded):
            await third.call("flaky", 99, retry=fdn.Retry(0))
        assert len(tries) == 1
        tries.clear()
        with pytest.raises((fdn.Overloaded, fdn.DeadlineExceeded)):
            await third.call("flaky", 99, retry=fdn.Retry(1000, pause_s=0.5, pause_max_s=0.5), timeout=2.0)
        assert 4 < len(tries) < 50


# -- casts


@virtual
async def test_casts_of_one_task_arrive_in_order():
    got: list[int] = []
    async with World() as world:
        _, second = await world.cluster(2, app(sink=got.append))
        for number in range(3000):
            await second.cast("sink@n1", number)
        await until(lambda: len(got) == 3000)
        assert got == list(range(3000))


@virtual
async def test_casts_to_handlers_that_wait_begin_in_order():
    begun: list[int] = []
    made = fdn.App()

    @made.service("sink", concurrency=1)
    async def sink(number: int) -> None:
        begun.append(number)
        if number % 100 == 0:
            await asyncio.sleep(0.001)

    async with World() as world:
        _, second = await world.cluster(2, made)
        for number in range(2000):
            await second.cast("sink@n1", number)
        await until(lambda: len(begun) == 2000)
        assert begun == list(range(2000))


@virtual
async def test_a_cast_waits_for_credit_and_no_message_is_lost():
    got: list[int] = []
    gate = asyncio.Event()
    made = fdn.App()

    @made.service("sink", concurrency=1)
    async def sink(number: int) -> None:
        await gate.wait()
        got.append(number)

    async with World() as world:
        await world.start("n1", made, data={"credit_messages": 64})
        second = await world.start("n2")
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(20_000):
                await second.cast("sink", number)
                sent += 1

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(2)
        assert sent < 20_000  # held up by credit and by the bounds of the queue, not by memory
        assert not flooding.done()
        gate.set()
        await flooding
        await until(lambda: len(got) == 20_000)
        assert got == list(range(20_000))


@virtual
async def test_a_cast_that_finds_no_credit_in_time_was_not_sent():
    gate = asyncio.Event()
    got: list[str] = []
    made = fdn.App()

    @made.service("sink", concurrency=1)
    async def sink(value: str) -> None:
        await gate.wait()
        got.append(value)

    async with World() as world:
        await world.start("n1", made, data={"credit_messages": 16})
        second = await world.start("n2", calls={"timeout_s": 1.0})
        count = 0

        async def flood() -> None:
            nonlocal count
            while True:
                await second.cast("sink", "in")
                count += 1

        with pytest.raises(fdn.DeadlineExceeded, match="granted no credit"):
            await flood()
        gate.set()
        await until(lambda: len(got) == count)
        await second.cast("sink", "last")
        await until(lambda: len(got) == count + 1)
        assert got[-1] == "last"


@virtual
async def test_a_sender_that_never_waits_leaves_the_loop_its_turns():
    turns = 0
    async with World() as world:
        _, second = await world.cluster(2, app(math=Math))
        done = asyncio.Event()

        async def flood() -> None:
            for _ in range(5000):
                await second.cast("math.nothing@n2")
            done.set()

        flooding = asyncio.create_task(flood())
        while not done.is_set():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 5
        await flooding


# -- traces


@virtual
async def test_one_trace_over_two_hops_and_a_cast():
    seen: list[tuple[str, str, str]] = []
    async with World() as world:
        hop: dict[str, fdn.Node] = {}

        class Relay:
            async def on(self, context: fdn.Context) -> None:
                seen.append(("on", context.trace_id, context.span_id))
                await hop["node"].call("relay.last@n2")
                await hop["node"].cast("relay.told@n2")

            async def last(self, context: fdn.Context) -> None:
                seen.append(("last", context.trace_id, context.span_id))

            def told(self, context: fdn.Context) -> None:
                seen.append(("told", context.trace_id, context.span_id))

        hop["node"] = await world.start("n1", app(relay=Relay))
        await world.start("n2", app(relay=Relay))
        third = await world.start("n3")
        await world.settle()
        await third.call("relay.on@n1")
        await until(lambda: len(seen) == 3)
        assert [what for what, _, _ in seen] == ["on", "last", "told"]
        assert len({trace for _, trace, _ in seen}) == 1
        assert len({span for _, _, span in seen}) == 3
        await third.call("relay.on@n1")
        await until(lambda: len(seen) == 6)
        assert len({trace for _, trace, _ in seen}) == 2


# -- hostile answers


@virtual
async def test_answers_from_others_or_to_nobody_are_counted_and_not_believed():
    recorder = Recorder()
    async with World() as world:
        _, second = await world.cluster(2, app(r=recorder))
        mallory = Mallory(world)
        line = await mallory.dial(second)
        call = asyncio.create_task(second.call("r.wait@n1", 2.0))
        await until(lambda: recorder.log)
        (call_id,) = second._caller._pending
        for kind in (Kind.REPLY, Kind.ERROR):
            line.connection.send_exempt(Envelope(kind, "", call_id, body=body("forged")))
            line.connection.send_exempt(Envelope(kind, "", call_id + 1, body=body("forged")))
        await until(lambda: second._caller.stats().stray_answers == 4)
        assert await call == "done"


@virtual
async def test_a_member_that_answers_garbage_harms_one_call():
    async with World() as world:
        first = await world.start("n1", app(math=Math))
        mallory = Mallory(world)
        mallory.listen()
        await mallory.dial(first, Channel.COORDINATION)
        line = await mallory.dial(first)
        await until(lambda: len(first.reachable()) == 2)
        for kind, garbage in (
            (Kind.REPLY, b"\xa1\xff"),
            (Kind.REPLY, b"\xc1"),
            (Kind.REPLY, b"\x91" * 2000),
            (Kind.ERROR, b"\xa1\xff"),
            (Kind.ERROR, b"\x91" * 2000),
            (Kind.ERROR, msgspec.msgpack.encode({"code": 7, "message": [], "traceback": {}, "details": 5})),
            (Kind.ERROR, b"\xc0"),
        ):
            call = asyncio.create_task(first.call("any@mallory", timeout=0.05))
            seen = len(mallory.heard["data"].entries)
            await until(lambda seen=seen: len(mallory.heard["data"].entries) > seen)  # type: ignore[misc]
            await until(lambda: first._caller._pending)
            (call_id,) = first._caller._pending
            line.connection.send_exempt(Envelope(kind, "", call_id, body=msgspec.Raw(garbage)))
            with pytest.raises(fdn.Error):
                await call
        assert first._data.stats().handler_faults == 0
        assert await first.call("math.who@n1") == "n1"


# -- keys, priorities, names, and patience


@virtual
async def test_a_key_chooses_the_node_and_stays_with_it():
    async with World() as world:
        *_, last = await world.cluster(4, app(math=Math))
        for key in ("a", b"b", "c"):
            first = await last.call("math.who", key=key)
            assert {await last.call("math.who", key=key) for _ in range(8)} == {first}
        assert len({await last.call("math.who", key=f"k{number}") for number in range(32)}) == 4
        gone = next(node for node in world.nodes if node.name == first)
        if gone is not last:
            world.crash(gone)
            await world.settle()
            assert await last.call("math.who", key="c") != first


@virtual
async def test_what_is_not_possible_is_refused_before_anything_is_sent():
    async with World() as world:
        (node,) = await world.cluster(1, app(math=Math))
        with pytest.raises(fdn.BadRequest, match="write key=str"):
            await node.cast("math.echo", 1, key=17)  # type: ignore[call-overload]
        with pytest.raises(fdn.BadRequest, match="from -4 to 4"):
            await node.call("math.echo", 1, priority=9)
        with pytest.raises(fdn.BadRequest, match="expected 'wait' or 'refuse'"):
            await node.publish("a", 1, when_full="drop")  # type: ignore[call-overload]
        with pytest.raises(fdn.BadRequest, match="latest"):
            await node.cast("math.echo", 1, latest="x" * 300)


@virtual
@pytest.mark.parametrize("setting", ["wait", "refuse"])
async def test_a_full_queue_makes_its_senders_wait_or_refuses(setting: str):
    async with World() as world:
        recorder = Recorder()
        server = await world.start("n1", app(slow=recorder), data={"credit_messages": 16})
        sender = await world.start("n2", data={"when_full": setting})
        await world.settle()
        await sender.call("slow.note", "open")
        connection = sender._data.link(server.id, Channel.DATA).connection
        assert connection is not None

        async def fill() -> None:
            for _ in range(20_000):
                await sender.cast("slow.wait", 1000.0)
            raise AssertionError("all of it went out")

        filling = asyncio.ensure_future(fill())
        await until(lambda: connection.full)
        if setting == "refuse":
            with pytest.raises(fdn.Overloaded, match=r"queue to node .* is full \(data\.when_full\)"):
                await filling
            with pytest.raises(fdn.Overloaded):
                await sender.call("slow.wait", 0.0)
            with pytest.raises(fdn.Overloaded, match="full on the data channel"):
                await sender.cast("slow.wait", 0.0, key="k")
        else:
            with pytest.raises(fdn.Overloaded):
                await sender.cast("slow.wait", 0.0, when_full="refuse")
            assert not filling.done()
            with pytest.raises(fdn.DeadlineExceeded, match="granted no credit"):
                await filling


@virtual
async def test_of_what_waits_the_urgent_go_first_and_the_newest_of_a_name_alone():
    async with World() as world:
        recorder = Recorder()
        server = await world.start("n1", app(log=recorder))
        sender = await world.start("n2")
        await world.settle()
        await sender.call("log.note", "begin")
        connection = sender._data.link(server.id, Channel.DATA).connection
        assert connection is not None
        window = connection._window  # type: ignore[attr-defined]
        window.limited, window.messages_granted = True, 0  # as if the credit were used up
        for number in range(3):
            await sender.cast("log.note", f"usual {number}")
            await sender.cast("log.note", f"speed {number}", latest="speed")
        await sender.cast("log.note", "low", priority=-1)
        await sender.cast("log.note", "urgent", priority=3)
        connection.grant(0, 0)
        await until(lambda: len(recorder.log) == 7)
        assert recorder.log == ["begin", "urgent", "speed 2", "usual 0", "usual 1", "usual 2", "low"]


@virtual
async def test_a_cancelled_call_is_cancelled_over_whichever_lane_it_went():
    async with World() as world:
        recorder = Recorder()
        await world.start("n1", app(slow=recorder), data={"parallelism": 4})
        sender = await world.start("n2", data={"parallelism": 4})
        await world.settle()
        for number in range(8):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await sender.call("slow.wait", 100.0, key=f"k{number}")
        await until(lambda: recorder.log == ["begun", "cancelled"] * 8)


class Spy(fdn.Interceptor):
    def __init__(self) -> None:
        self.keys: list[Any] = []

    async def on_send(self, outgoing: fdn.Outgoing, proceed: Any) -> Any:
        self.keys.append(None if outgoing.options is None else outgoing.options.key)
        return await proceed(outgoing)


@virtual
async def test_interceptors_see_what_was_said_and_pass_it_on():
    async with World() as world:
        recorder, spy = Recorder(), Spy()
        await world.start("n1", app(log=recorder))
        sender = await world.start("n2", interceptors=[spy])
        await world.settle()
        await sender.cast("log.note", 1, key="a")
        await sender.cast("log.note", 2)
        await sender.call("log.note", 3, key="b")
        await sender.publish("x", 4, key="c")
        assert [item async for item in sender.stream("log.note", 5, key="d")] == [None]
        assert spy.keys == ["a", None, "b", "c", "d"]
        assert recorder.log == [1, 2, 3, 5]
