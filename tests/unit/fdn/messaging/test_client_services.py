"""What clients serve, with clients that are nothing but frames."""

import asyncio
from typing import Any

import msgspec
import pytest

import fdn
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from tests.unit.fdn.messaging.frames import StreamClient
from tests.unit.fdn.messaging.streaming import no_streams_left
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind, MetaKey


async def cluster(world: World, **settings: Any) -> tuple[fdn.Node, fdn.Node]:
    first = await world.start("n1", **settings)
    second = await world.start("n2", **settings)
    await world.settle()
    return first, second


async def serving(world: World, node: fdn.Node, name: str = "job", wanted: Any = None, who: str = "server-1") -> Any:
    client = await StreamClient(world, who).connect(node)
    answer = await client.serve(name, 1, wanted)
    assert answer.kind == Kind.REPLY, msgspec.msgpack.decode(answer.body)
    return client


async def begun(client: StreamClient, count: int = 1) -> list[Envelope]:
    await until(lambda: len(client.calls()) >= count)
    return client.calls()[:count]


async def known(node: fdn.Node, target: str, there: bool = True) -> None:
    def is_known() -> bool:
        offered = [offer.name for offers in node.offers().values() for offer in offers]
        return (target in offered) is there

    await until(is_known)


async def items_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


# -- calls and casts


@virtual
async def test_a_clients_service_is_called_by_all_with_headers_trace_deadline_and_origin():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first, "math.add", {"version": "2", "capabilities": ["x"]})
        await known(second, "math.add")
        assert second.offers()[first.id][0].version == "2"
        for turn, node in enumerate((first, second), start=1):
            with fdn.headers({"tenant": "a"}):
                call = asyncio.create_task(node.call("math.add", [1, 2], timeout=3))
                envelope = (await begun(client, turn))[-1]
            meta = envelope.meta or {}
            assert (envelope.kind, envelope.to, msgspec.msgpack.decode(envelope.body)) == (
                Kind.CALL,
                "math.add",
                [1, 2],
            )
            assert meta[MetaKey.HEADERS] == {"tenant": "a"}
            assert meta[MetaKey.ORIGIN] == node.id
            assert len(meta[MetaKey.TRACE][0]) == 16
            assert 0 < envelope.deadline_ms <= 3000
            client.say(Kind.REPLY, envelope.id, 3)
            assert await call == 3
        call = asyncio.create_task(second.call("math.add"))
        client.say(Kind.ERROR, (await begun(client, 3))[-1].id, {"code": "denied", "message": "no"})
        with pytest.raises(fdn.Denied, match="no"):
            await call
        asker = await StreamClient(world, "asker").connect(second)
        number = asker.ask("math.add", 5)
        envelope = (await begun(client, 4))[-1]
        client.say(Kind.REPLY, envelope.id, 6)
        await until(lambda: asker.of(number, Kind.REPLY))
        assert no_streams_left(first, second)


@virtual
async def test_casts_reach_a_client_with_their_headers_and_trace():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first)
        await known(second, "job")
        for node in (first, second):
            await node.cast("job", "plain")
            with fdn.headers({"tenant": "a"}), fdn.deadline(3):
                await node.cast("job", "dressed")
        casts = await begun(client, 4)
        assert {(e.kind, e.id) for e in casts} == {(Kind.CAST, 0)}
        by_payload: dict[str, list[Envelope]] = {}
        for cast in casts:
            by_payload.setdefault(msgspec.msgpack.decode(cast.body), []).append(cast)
        assert sorted(by_payload) == ["dressed", "plain"]
        for cast in by_payload["dressed"]:
            assert (cast.meta or {})[MetaKey.HEADERS] == {"tenant": "a"}
            assert 0 < cast.deadline_ms <= 3000
        for cast in by_payload["plain"]:
            assert (cast.meta or {})[MetaKey.ORIGIN] in (first.id, second.id)
            assert cast.deadline_ms == 0


@virtual
async def test_whoever_gives_up_is_heard_by_the_client():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first)
        await known(second, "job")
        call = asyncio.create_task(second.call("job"))
        (envelope,) = await begun(client)
        call.cancel()
        await until(lambda: client.of(envelope.id, Kind.CANCEL))
        with pytest.raises(fdn.DeadlineExceeded):
            await second.call("job", timeout=0.5)
        envelope = (await begun(client, 2))[-1]
        await until(lambda: client.of(envelope.id, Kind.CANCEL))
        client.say(Kind.REPLY, envelope.id, "late")
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_only_the_client_that_was_asked_may_answer():
    async with World() as world:
        first, _ = await cluster(world)
        client = await serving(world, first)
        thief = await StreamClient(world, "server-1").connect(first)  # it says the same name
        call = asyncio.create_task(first.call("job"))
        (envelope,) = await begun(client)
        for kind in (Kind.REPLY, Kind.ITEM, Kind.END, Kind.ERROR):
            thief.say(kind, envelope.id, "forged")
        thief.say(Kind.UNSUBSCRIBE, 1)
        await asyncio.sleep(1)
        client.say(Kind.REPLY, envelope.id, "true")
        assert await call == "true"


# -- streams


@virtual
async def test_a_clients_stream_is_passed_on_within_both_windows():
    async with World() as world:
        first, second = await cluster(world, calls={"stream_window_items": 4})
        client = await serving(world, first)
        await known(second, "job")
        for turn, node in enumerate((first, second), start=1):
            stream = node.stream("job", timeout=60)
            reads = asyncio.create_task(items_of(stream))
            envelope = (await begun(client, turn))[-1]
            assert (envelope.meta or {})[MetaKey.WINDOW][0] == 4
            sent = 0
            while sent < 50:
                granted = max([4, *(items for items, _ in client.values(envelope.id, Kind.CREDIT))])
                for _ in range(granted - sent):
                    client.say(Kind.ITEM, envelope.id, sent)
                    sent += 1
                await asyncio.sleep(0.01)
            client.say(Kind.END, envelope.id)
            assert await reads == list(range(sent))
        stream = second.stream("job", timeout=60)
        await stream.__aenter__()
        envelope = (await begun(client, 3))[-1]
        for item in range(4):
            client.say(Kind.ITEM, envelope.id, item)
        assert await anext(stream) == 0
        await stream.aclose()
        await until(lambda: client.of(envelope.id, Kind.CANCEL))
        stream = second.stream("job", timeout=60)
        await stream.__aenter__()
        envelope = (await begun(client, 4))[-1]
        for item in range(40):  # more than it was granted
            client.say(Kind.ITEM, envelope.id, item)
        with pytest.raises(fdn.BadRequest, match="more than it was granted"):
            await items_of(stream)
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_a_request_stream_reaches_a_client():
    async with World() as world:
        first, second = await cluster(world, calls={"stream_window_items": 4})
        client = await serving(world, first)
        await known(second, "job")
        for turn, node in enumerate((first, second), start=1):
            call = asyncio.create_task(node.call("job", "with", items=range(20)))
            envelope = (await begun(client, turn))[-1]
            assert (envelope.meta or {})[MetaKey.REQUEST_STREAM] is True
            await asyncio.sleep(0.5)
            assert client.values(envelope.id) == []
            client.say(Kind.CREDIT, envelope.id, (3, 1000), to="request")
            await asyncio.sleep(0.5)
            assert client.values(envelope.id) == [0, 1, 2]
            client.say(Kind.CREDIT, envelope.id, (100, 1000), to="request")
            await until(lambda envelope=envelope: client.of(envelope.id, Kind.END))  # type: ignore[misc]
            assert client.values(envelope.id) == list(range(20))
            client.say(Kind.REPLY, envelope.id, "done")
            assert await call == "done"
        await until(lambda: no_streams_left(first, second))


# -- several


@virtual
async def test_clients_of_one_name_take_turns_and_keep_to_their_concurrency():
    async with World() as world:
        first, second = await cluster(world)
        one = await serving(world, first, wanted={"concurrency": 1}, who="server-1")
        two = await serving(world, first, wanted={"concurrency": 2}, who="server-2")
        await known(second, "job")
        calls = [asyncio.create_task(second.call("job", number, timeout=60)) for number in range(30)]
        await asyncio.sleep(1)
        assert (len(one.calls()), len(two.calls())) == (1, 2)
        answered: set[int] = set()
        while len(answered) < 30:
            for client, most in ((one, 1), (two, 2)):
                waiting = [envelope for envelope in client.calls() if envelope.id not in answered]
                assert len(waiting) <= most
                for envelope in waiting:
                    client.say(Kind.REPLY, envelope.id, msgspec.msgpack.decode(envelope.body))
                    answered.add(envelope.id)
            await asyncio.sleep(0.01)
        assert await asyncio.gather(*calls) == list(range(30))
        assert len(one.calls()) >= 5


@virtual
async def test_a_waiting_call_that_is_given_up_costs_the_next_nothing():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first, wanted={"concurrency": 1})
        await known(second, "job")
        calls = [asyncio.create_task(second.call("job", number, timeout=60)) for number in range(3)]
        (running,) = await begun(client)
        await asyncio.sleep(0.1)
        calls[1].cancel()
        client.say(Kind.REPLY, running.id, "a")
        envelope = (await begun(client, 2))[-1]
        assert msgspec.msgpack.decode(envelope.body) == 2
        client.say(Kind.REPLY, envelope.id, "b")
        assert [await calls[0], await calls[2]] == ["a", "b"]
        await until(lambda: no_streams_left(first, second))


@virtual
async def test_room_that_was_for_a_call_given_up_in_that_moment_goes_to_the_next():
    async with World() as world:
        first, _ = await cluster(world)
        await serving(world, first, wanted={"concurrency": 1})
        services = first._client_services
        served = services._served["job"]
        (provider,) = served.providers
        provider.running = 1
        picks = [asyncio.create_task(services._pick(served, "job")) for _ in range(2)]
        await asyncio.sleep(0.1)
        provider.running = 0
        served.wake_one()
        picks[0].cancel()
        assert await picks[1] is provider
        assert picks[0].cancelled()


@virtual
async def test_one_of_two_that_goes_fails_only_its_own_calls():
    async with World() as world:
        first, second = await cluster(world)
        one = await serving(world, first, who="server-1")
        two = await serving(world, first, who="server-2")
        assert (await one.serve("other", 2)).kind == Kind.REPLY
        await known(second, "other")
        calls = [asyncio.create_task(second.call("job", timeout=60)) for _ in range(2)]
        (mine,), (theirs,) = await begun(one), await begun(two)
        one.say(Kind.UNSUBSCRIBE, 1)  # it serves the other name still
        await until(lambda: one.of(mine.id, Kind.CANCEL))
        two.say(Kind.REPLY, theirs.id, "done")
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Unreachable", "str"]
        lost = next(result for result in results if isinstance(result, fdn.Unreachable))
        assert lost.facts["maybe_carried_out"] is True
        call = asyncio.create_task(second.call("job"))
        two.say(Kind.REPLY, (await begun(two, 2))[-1].id, "again")
        assert await call == "again"


# -- the end


@virtual
@pytest.mark.parametrize("how", ["unsubscribes", "says goodbye", "dies"])
async def test_who_goes_is_withdrawn_and_its_calls_fail(how: str):
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first)
        await known(second, "job")
        call = asyncio.create_task(second.call("job", timeout=60))
        stream = second.stream("job", timeout=60)
        reads = asyncio.create_task(items_of(stream))
        await begun(client, 2)
        if how == "unsubscribes":
            client.say(Kind.UNSUBSCRIBE, 1)
        elif how == "says goodbye":
            client.say(Kind.BYE, 0, {})
        else:
            client.die()
        for task in (call, reads):
            with pytest.raises(fdn.Unreachable, match="serves job no longer"):
                await asyncio.wait_for(task, 5)
        await known(second, "job", there=False)
        with pytest.raises(fdn.NotFound):
            await second.call("job")
        await until(lambda: no_streams_left(first, second))
        # And the name is free again, at once.
        again = await serving(world, first)
        await known(second, "job")
        call = asyncio.create_task(second.call("job"))
        again.say(Kind.REPLY, (await begun(again))[0].id, "done")
        assert await call == "done"


@virtual
async def test_a_name_given_up_and_taken_in_one_breath():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first)
        client.say(Kind.UNSUBSCRIBE, 1)
        assert (await client.serve("job", 2)).kind == Kind.REPLY
        await known(second, "job")
        call = asyncio.create_task(second.call("job"))
        client.say(Kind.REPLY, (await begun(client))[0].id, "done")
        assert await call == "done"


@virtual
async def test_calls_that_wait_for_the_last_client_are_not_found():
    async with World() as world:
        first, second = await cluster(world)
        client = await serving(world, first, wanted={"concurrency": 1})
        await known(second, "job")
        calls = [asyncio.create_task(second.call("job", timeout=60)) for _ in range(5)]
        await begun(client)
        client.say(Kind.BYE, 0, {})
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {fdn.Unreachable, fdn.NotFound}


@virtual
async def test_a_node_that_stops_with_clients_that_serve():
    async with World() as world:
        first, second = await cluster(world, drain_timeout_s=1.0)
        client = await serving(world, first)
        await known(second, "job")
        call = asyncio.create_task(second.call("job", timeout=60))
        await begun(client)
        await first.stop()
        with pytest.raises(fdn.Error):
            await call
        await until(lambda: any(e.kind == Kind.BYE for e in client.heard))
        await until(lambda: no_streams_left(second))


# -- what is refused


@virtual
async def test_what_cannot_be_served_is_refused_and_harms_nothing():
    made = fdn.App()
    made.service("taken")(lambda: "mine")
    async with World() as world:
        first = await world.start("n1", made, calls={"client_services_max": 2})
        client = await StreamClient(world).connect(first)
        for number, (name, wanted, code) in enumerate(
            (
                ("taken", None, "config"),
                ("fdn.node.leave", None, "config"),
                ("no name", None, "config"),
                ("", None, "config"),
                ("x" * 1000, None, "config"),
                ("a", {"concurrency": 0}, "bad_request"),
                ("a", {"concurrency": "many"}, "bad_request"),
                ("a", ["text"], "bad_request"),
                ("a", 5, "bad_request"),
            ),
            start=10,
        ):
            answer = await client.serve(name, number, wanted)
            said = msgspec.msgpack.decode(answer.body)
            assert (answer.kind, said["code"]) == (Kind.ERROR, code), (name, wanted, said)
        assert (await client.serve("a", 1)).kind == Kind.REPLY
        assert (await client.serve("b", 1)).kind == Kind.ERROR  # the id is in use
        assert (await client.serve("b", 2)).kind == Kind.REPLY
        refused = await client.serve("c", 3)
        assert msgspec.msgpack.decode(refused.body)["code"] == "overloaded"
        client.say(Kind.UNSUBSCRIBE, 77)
        assert await first.call("taken") == "mine"
        assert first._data.stats().handler_faults == 0


@virtual
async def test_a_node_does_not_subscribe():
    async with World() as world:
        first = await world.start("n1")
        mallory = Mallory(world)
        mallory.listen()
        await mallory.dial(first, Channel.COORDINATION)
        line = await mallory.dial(first)
        line.connection.send_exempt(Envelope(Kind.SUBSCRIBE, "job", 1, 0, None, body(None)))
        line.connection.send_exempt(Envelope(Kind.UNSUBSCRIBE, "", 1))
        await asyncio.sleep(0.2)
        with pytest.raises(fdn.NotFound):
            await first.call("job")
        assert first._data.stats().handler_faults == 0


# -- interceptors


class Doubling(fdn.Interceptor):
    async def on_dispatch(self, incoming: Any, proceed: Any) -> Any:
        incoming.arguments = (2 * msgspec.msgpack.decode(incoming.arguments[0]),)
        return await proceed(incoming)


@virtual
async def test_interceptors_are_around_what_clients_serve():
    async with World() as world:
        first = await world.start("n1", interceptors=(Doubling(),))
        client = await serving(world, first)
        call = asyncio.create_task(first.call("job", 21))
        (envelope,) = await begun(client)
        assert msgspec.msgpack.decode(envelope.body) == 42
        client.say(Kind.REPLY, envelope.id, "done")
        assert await call == "done"
        await first.cast("job", 4)
        assert msgspec.msgpack.decode((await begun(client, 2))[-1].body) == 8
