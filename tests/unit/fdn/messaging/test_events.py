"""Events between whole nodes on the in-memory twin."""

import asyncio
from typing import Any

import msgspec
import pytest

import fdn
from fdn.context import current_scope
from fdn.messaging.interceptors import Incoming, Interceptor, Outgoing
from fdn.settings import EventSettings
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind, MetaKey


class Order(msgspec.Struct):
    items: int


async def payloads(subscription: fdn.Subscription[Any], count: int) -> list[Any]:
    async with asyncio.timeout(30):
        events = [await anext(subscription) for _ in range(count)]
    return [event if isinstance(event, fdn.Gap) else event.payload for event in events]


async def sent(node: fdn.Node) -> int:
    return (await node.stats()).events.sent


# -- who gets what


@virtual
async def test_to_every_node_that_wants_it_and_nobody_else():
    async with World() as world:
        first, second, third, fourth = await world.cluster(4)
        wide = await second.subscribe("orders.>")
        narrow = await third.subscribe("orders.*.created")
        both = [await fourth.subscribe("other"), await first.subscribe("orders.eu.created")]
        assert await first.publish("orders.eu.created", {"id": 1}) == 3
        assert await first.publish("orders.eu.paid", {"id": 2}) == 1
        assert await first.publish("nobody.cares") == 0
        assert await payloads(wide, 2) == [{"id": 1}, {"id": 2}]
        assert await payloads(narrow, 1) == [{"id": 1}]
        assert await payloads(both[1], 1) == [{"id": 1}]
        assert await sent(first) == 3
        assert (await fourth.stats()).events.received == 0
        event_origin = await second.publish("orders.x.created"), await anext(narrow)
        assert event_origin == (2, fdn.Event("orders.x.created", None, second.id))


@virtual
async def test_one_envelope_a_node_whatever_is_subscribed_there():
    async with World() as world:
        first, second = await world.cluster(2)
        subscriptions = [await second.subscribe(pattern) for pattern in ("a.b", "a.*", ">")]
        assert await first.publish("a.b", 1) == 1
        assert [await payloads(each, 1) for each in subscriptions] == [[1], [1], [1]]
        assert await sent(first) == 1


@virtual
async def test_subscribed_when_subscribe_returns():
    async with World() as world:
        nodes = await world.cluster(4)
        for number in range(20):
            async with await nodes[number % 4].subscribe(f"s.{number}") as subscription:
                assert subscription.unaware == ()
                assert await nodes[(number + 1) % 4].publish(f"s.{number}", number) == 1
                assert await payloads(subscription, 1) == [number]
            await until(lambda: all(node._events._wanted.route(f"s.{number}").nodes == () for node in nodes))  # noqa: B023


@virtual
async def test_many_subscribe_at_once_in_one_announcement():
    async with World() as world:
        first, second = await world.cluster(2)
        pushed = (await first.stats()).control.records.pushed
        await asyncio.gather(*(first.subscribe(f"s.{number}") for number in range(100)))
        assert (await first.stats()).control.records.pushed == pushed + 1
        assert await second.publish("s.99") == 1


@virtual
async def test_an_app_subscribes():
    app = fdn.App()
    seen: list[Any] = []

    @app.subscribe("orders.*", queue="billing")
    async def on_order(order: Order, context: fdn.Context) -> None:
        seen.append((context.node, context.target, order))

    async with World() as world:
        first, _second = await world.cluster(2, app)
        third = await world.start("n3")
        await world.settle()
        for items in range(4):
            assert await third.publish("orders.eu", Order(items)) == 1
        await until(lambda: len(seen) == 4)
        assert sorted(order.items for _, _, order in seen) == [0, 1, 2, 3]
        assert sorted(node for node, _, _ in seen) == ["n1", "n1", "n2", "n2"]
        assert (await first.stats()).events.subscriptions == 1


@virtual
async def test_a_thousand_subscriptions():
    async with World() as world:
        first, second = await world.cluster(2)
        subscriptions = await asyncio.gather(*(second.subscribe(f"s.{number}") for number in range(1000)))
        for number in range(1000):
            assert await first.publish(f"s.{number}", number) == 1
        assert [(await payloads(each, 1))[0] for each in subscriptions] == list(range(1000))
        for each in subscriptions:
            await each.close()
        await until(lambda: first._events._wanted.route("s.7").nodes == ())
        assert second._events._here._patterns._root.empty


@virtual
async def test_order_of_one_publisher():
    async with World() as world:
        first, second, third = await world.cluster(3)
        subscriptions = [await node.subscribe("s.>", queue_max=10_000) for node in (first, second, third)]

        async def publish(node: fdn.Node, name: str) -> None:
            for number in range(1000):
                await node.publish(f"s.{name}", number)

        await asyncio.gather(publish(first, "a"), publish(first, "b"), publish(second, "c"))
        for subscription in subscriptions:
            events = [await anext(subscription) for _ in range(3000)]
            for name in "abc":
                assert [e.payload for e in events if e.subject == f"s.{name}"] == list(range(1000))


# -- queue groups


@virtual
async def test_one_member_of_a_group_over_the_whole_cluster():
    async with World() as world:
        nodes = await world.cluster(3)
        members = [await node.subscribe("jobs.>", queue="workers") for node in (*nodes, nodes[0])]
        watcher = await nodes[1].subscribe("jobs.>")
        for number in range(60):
            assert await nodes[0].publish(f"jobs.{number}", number) in (1, 2)
        await until(lambda: watcher.pending == 60 and sum(member.pending for member in members) == 60)
        assert [member.pending for member in members] == [10, 20, 20, 10]
        got = [number for member in members for number in await payloads(member, member.pending)]
        assert sorted(got) == list(range(60))


@virtual
async def test_two_groups_and_a_plain_one_on_the_same_node():
    async with World() as world:
        first, second = await world.cluster(2)
        subscriptions = [await second.subscribe("a", queue=queue) for queue in ("x", "y", "")]
        assert await first.publish("a", 1) == 1
        assert [await payloads(each, 1) for each in subscriptions] == [[1], [1], [1]]


@virtual
async def test_a_draining_member_is_not_picked():
    async with World() as world:
        first, second, third = await world.cluster(3)
        leaving = await second.subscribe("jobs", queue="workers")
        staying = await third.subscribe("jobs", queue="workers")
        await second.drain()
        await until(lambda: [m.state for m in first.members() if m.name == "n2"] == ["draining"])
        for number in range(10):
            await first.publish("jobs", number)
        assert await payloads(staying, 10) == list(range(10))
        assert leaving.pending == 0


@virtual
async def test_a_member_that_dies_is_replaced_by_another():
    async with World() as world:
        first, second, third = await world.cluster(3)
        await second.subscribe("jobs", queue="workers")
        staying = await third.subscribe("jobs", queue="workers")
        await first.publish("jobs", -1)
        await first.publish("jobs", -1)
        world.crash(second)
        await until(lambda: [m.status for m in first.members() if m.name == "n2"] == ["dead"])
        for number in range(10):
            assert await first.publish("jobs", number) == 1
        assert (await payloads(staying, 11))[1:] == list(range(10))


@virtual
async def test_a_node_that_cannot_be_reached_holds_nobody_up_twice():
    async with World() as world:
        first, second, third = await world.cluster(3)
        lost = await second.subscribe("a")
        other = await third.subscribe("a")
        events = next(each for each in second._data._listeners.values() if each.endpoint.endswith("events"))
        events.close()
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(100):
            assert await first.publish("a", number) == 1
        assert loop.time() - started < 1  # one failed attempt, and no pause between attempts
        assert await payloads(other, 100) == list(range(100))
        second._data.listen(Channel.EVENTS, events.endpoint)

        async def arrives() -> bool:
            return await first.publish("a", "again") == 2

        for _ in range(100):
            if await arrives():
                break
            await asyncio.sleep(0.1)
        assert await payloads(lost, 1) == ["again"]


@virtual
async def test_a_member_that_cannot_be_reached_has_its_turn_taken_by_another():
    async with World() as world:
        first, second, third = await world.cluster(3)
        await second.subscribe("jobs", queue="workers")
        staying = await third.subscribe("jobs", queue="workers")
        plain = await third.subscribe("jobs")
        for listener in list(second._data._transport.listeners):  # type: ignore[attr-defined]
            listener.close()  # alive, and its events channel is gone
        for number in range(10):
            assert await first.publish("jobs", number) == 1
        assert await payloads(staying, 10) == list(range(10))
        assert await payloads(plain, 10) == list(range(10))
        assert (await first.stats()).events.unreachable == 1  # after that it is not picked while it cannot be reached


@virtual
async def test_a_member_that_has_not_finished_with_what_it_has_is_passed_over():
    async with World() as world:
        first, second, third = await world.cluster(3, data={"credit_messages": 16})
        slow = await second.subscribe("jobs", queue="workers", queue_max=1)
        quick = await third.subscribe("jobs", queue="workers", queue_max=100_000)
        for number in range(2000):
            await first.publish("jobs", number)
            await asyncio.sleep(0.001)
        await until(lambda: quick.pending + slow.pending == 2000)
        assert slow.pending < 50
        got = [number for each in (slow, quick) for number in await payloads(each, each.pending)]
        assert sorted(got) == list(range(2000))


@virtual
async def test_a_full_member_on_the_publishers_own_node_is_passed_over():
    async with World() as world:
        first, second = await world.cluster(2)
        here = await first.subscribe("jobs", queue="workers", policy="drop_oldest", queue_max=3)
        there = await second.subscribe("jobs", queue="workers")
        for number in range(100):
            assert await first.publish("jobs", number) == 1
        await until(lambda: here.pending + there.pending == 100)
        assert (here.pending, here.dropped) == (3, 0)


# -- coming and going


@virtual
async def test_interest_ends_with_its_subscription_and_with_its_node():
    async with World() as world:
        first, second, third = await world.cluster(3)
        subscription = await second.subscribe("a")
        await third.subscribe("a")
        assert await first.publish("a") == 2
        await subscription.close()
        await until(lambda: len(first._events._wanted.route("a").nodes) == 1)
        await third.stop()
        assert await first.publish("a") == 0
        world.nodes.remove(third)


@virtual
async def test_a_member_that_does_not_answer_is_named():
    async with World() as world:
        first, second, third = await world.cluster(3)
        world.cut(first, second)
        subscription = await first.subscribe("a", timeout=0.2)
        assert subscription.unaware == ("n2",)
        assert await third.publish("a", 1) == 1
        world.heal(first, second)
        await until(lambda: second._events._wanted.route("a").nodes == (first.id,), "n2 learns of it")


@virtual
async def test_who_does_not_wait_is_told_that_nobody_knows_yet():
    async with World() as world:
        first, second, _third = await world.cluster(3)
        subscription = await first.subscribe("a", timeout=0)
        assert subscription.unaware == ("n2", "n3")
        await until(lambda: second._events._wanted.route("a").nodes == (first.id,), "n2 learns of it")
        for timeout in (-1, float("nan"), float("inf")):
            with pytest.raises(fdn.ConfigError, match="timeout="):
                await first.subscribe("b", timeout=timeout)
        assert (await first.stats()).events.subscriptions == 1


@virtual
async def test_a_deadline_bounds_the_wait_for_members():
    async with World() as world:
        first, second = await world.cluster(2)
        world.cut(first, second)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with fdn.deadline(0.25):
            subscription = await first.subscribe("a")
        assert subscription.unaware == ("n2",)
        assert 0.2 < loop.time() - started < 0.5
        world.heal(first, second)


@virtual
async def test_a_member_drained_out_of_its_group_loses_nothing():
    async with World() as world:
        first, second, third = await world.cluster(3)
        leaving = await second.subscribe("jobs", queue="workers")
        staying = await third.subscribe("jobs", queue="workers")
        going_on = True
        published = 0

        async def publish() -> None:
            nonlocal published
            while going_on:
                assert await first.publish("jobs", published) == 1
                published += 1
                await asyncio.sleep(0.0001)

        task = asyncio.create_task(publish())
        await asyncio.sleep(0.1)
        await leaving.drain()
        await asyncio.sleep(0.1)
        going_on = False
        await task
        await until(lambda: leaving.pending + staying.pending == published)
        got = [event.payload async for event in leaving]
        assert 0 < len(got) < published / 2
        assert sorted([*got, *await payloads(staying, staying.pending)]) == list(range(published))
        stats = (await second.stats()).events
        assert (stats.unwanted, stats.subscriptions) == (0, 0)


@virtual
async def test_what_has_come_can_be_read_after_the_node_has_stopped():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        for number in range(5):
            await first.publish("a", number)
        await until(lambda: subscription.pending == 5)
        await second.stop()
        assert [event.payload async for event in subscription] == [0, 1, 2, 3, 4]
        await subscription.close()
        with pytest.raises(fdn.Error, match="this node is stopped"):
            await second.publish("a")
        with pytest.raises(fdn.Error, match="this node is stopped"):
            await second.subscribe("a")
        world.nodes.remove(second)


@virtual
async def test_draining_waits_for_handlers():
    async with World() as world:
        first, second = await world.cluster(2)
        seen: list[int] = []

        async def slow(number: int) -> None:
            await asyncio.sleep(1)
            seen.append(number)

        await second.subscribe("a", slow)
        for number in range(3):
            await first.publish("a", number)
        await until(lambda: second._events.stats().received == 3)
        assert await second.drain()
        assert seen == [0, 1, 2]


# -- a full queue


@virtual
async def test_wait_holds_the_publisher_and_loses_nothing():
    async with World() as world:
        first, second = await world.cluster(2, data={"credit_messages": 16})
        subscription = await second.subscribe("a", queue_max=4)
        published = 0

        async def publish() -> None:
            nonlocal published
            for number in range(20_000):
                await first.publish("a", number)
                published += 1

        task = asyncio.create_task(publish())
        await asyncio.sleep(2)
        assert published < 20_000
        assert subscription.pending <= 4 + 16 + 512  # its queue, the window, and a batch by which that may be passed
        got = await payloads(subscription, 20_000)
        await task
        assert got == list(range(20_000))
        assert subscription.dropped == 0


@virtual
async def test_a_publisher_that_waits_too_long_is_told_and_the_others_have_got_it():
    async with World() as world:
        first, second, third = await world.cluster(3, data={"credit_messages": 16}, calls={"timeout_s": 1.0})
        await second.subscribe("a", queue_max=1)
        other = await third.subscribe("a", queue_max=100_000)
        with pytest.raises(fdn.DeadlineExceeded, match="granted no credit before the deadline"):
            await _flood(first, 20_000)
        published = (await first.stats()).events.published
        assert await payloads(other, published) == list(range(published))
        assert other.pending == 0


@virtual
async def test_one_that_waits_is_nobody_elses_delay():
    async with World() as world:
        first, second, third, fourth = await world.cluster(
            4, data={"credit_messages": 16}, calls={"timeout_s": 10.0}, links={"idle_close_s": 1.0}
        )
        await second.subscribe("a", queue_max=1)
        await fourth.subscribe("a", queue_max=1)
        filling = asyncio.create_task(_flood(first, 20_000))
        await asyncio.sleep(2)
        other = await third.subscribe("a")  # there is no link to it yet
        late = asyncio.ensure_future(first.publish("a", "late"))
        event = await asyncio.wait_for(anext(other), 1)
        assert isinstance(event, fdn.Event)
        assert event.payload == "late"
        for task in (filling, late):
            with pytest.raises(fdn.DeadlineExceeded):
                await task


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
@virtual
async def test_a_policy_that_drops_holds_nobody_up(policy: str):
    async with World() as world:
        first, second = await world.cluster(2, data={"credit_messages": 16})
        subscription = await second.subscribe("a", policy=policy, queue_max=10)
        for number in range(5000):
            await first.publish("a", number)
        await until(lambda: second._events.stats().received == 5000)
        assert (subscription.pending, subscription.dropped) == (10, 4990)
        got = await payloads(subscription, 11)
        if policy == "drop_oldest":
            assert got == [fdn.Gap(4990), *range(4990, 5000)]
        else:
            assert got == [*range(10), fdn.Gap(4990)]
        assert (await second.stats()).events.dropped == 4990


@virtual
async def test_a_full_subscription_on_the_publishers_own_node():
    async with World() as world:
        (node,) = await world.cluster(1, calls={"timeout_s": 1.0})
        subscription = await node.subscribe("a", queue_max=2)
        assert [await node.publish("a", number) for number in range(2)] == [1, 1]
        with pytest.raises(fdn.DeadlineExceeded, match="took nothing in"):
            await node.publish("a", 2)
        publishing = asyncio.ensure_future(node.publish("a", 3))
        assert await payloads(subscription, 3) == [0, 1, 3]
        assert await publishing == 1


@virtual
async def test_a_closed_subscription_gives_its_credit_back():
    async with World() as world:
        first, second = await world.cluster(2, data={"credit_messages": 16})
        stuck = await second.subscribe("a", queue_max=1)
        publishing = asyncio.create_task(_flood(first, 20_000))
        await asyncio.sleep(2)
        assert not publishing.done()
        await stuck.close()
        await publishing


async def _flood(node: fdn.Node, count: int) -> None:
    for number in range(count):
        await node.publish("a", number)


# -- what travels along, and what is in between


@virtual
async def test_trace_and_deadline_reach_the_handler():
    async with World() as world:
        first, second = await world.cluster(2)
        seen: list[Any] = []

        async def on_event(number: int, context: fdn.Context) -> None:
            seen.append((context.caller, context.trace_id, context.remaining_s(), current_scope()))

        async def work() -> None:
            await first.publish("a", 1)

        await second.subscribe("a", on_event)
        first.serve("work", work)
        await until(lambda: any(offer.name == "work" for offers in first.offers().values() for offer in offers))
        with fdn.deadline(3):
            await first.call("work")
        await until(lambda: seen)
        caller, trace, left_s, scope = seen[0]
        assert caller == first.id
        assert len(trace) == 32
        assert 2 < left_s <= 3
        assert scope.trace_id.hex() == trace


@virtual
async def test_headers_reach_handlers_and_readers():
    async with World() as world:
        first, second = await world.cluster(2)
        seen: list[Any] = []

        async def on_event(number: int, context: fdn.Context) -> None:
            seen.append(dict(context.headers))
            await second.publish("b", number)

        await second.subscribe("a", on_event)
        both = [await node.subscribe("b") for node in (first, second)]
        with fdn.headers({"tenant": "t1"}):
            assert await first.publish("a", 1) == 1
        for subscription in both:
            event = await anext(subscription)
            assert isinstance(event, fdn.Event)
            assert dict(event.headers) == {"tenant": "t1"}
        assert seen == [{"tenant": "t1"}]


@virtual
async def test_interceptors():
    seen: list[Any] = []

    class Both(Interceptor):
        async def on_send(self, outgoing: Outgoing, proceed: Any) -> Any:
            if outgoing.target == "secret":
                raise fdn.Denied("no")
            seen.append((outgoing.is_event, outgoing.is_call, outgoing.target))
            outgoing.payload += 1
            return await proceed(outgoing)

        async def on_dispatch(self, incoming: Incoming, proceed: Any) -> Any:
            seen.append((incoming.is_event, incoming.is_call, incoming.target, incoming.arguments))
            return await proceed(incoming)

    async with World() as world:
        (node,) = await world.cluster(1, interceptors=(Both(),))
        got: list[int] = []

        def take(number: int) -> None:
            got.append(number)

        await node.subscribe("a", take)
        assert await node.publish("a", 1) == 1
        await until(lambda: got)
        assert got == [2]
        assert seen == [(True, False, "a"), (True, False, "a", (2,))]
        with pytest.raises(fdn.Denied):
            await node.publish("secret", 1)


# -- what cannot be


@virtual
async def test_what_cannot_be_published():
    async with World() as world:
        first, second = await world.cluster(2, data={"body_bytes_max": 1024})
        await second.subscribe("a")
        for subject in ("", "a..b", "a.*", "fdn.members"):
            with pytest.raises(fdn.BadRequest):
                await first.publish(subject)
        with pytest.raises(fdn.BadRequest, match=r"exceeds data\.body_bytes_max=1024"):
            await first.publish("a", b"x" * 2000)
        with pytest.raises(fdn.BadRequest, match="a object cannot be sent"):
            await first.publish("a", object())


@virtual
async def test_what_cannot_be_subscribed_to():
    async with World() as world:
        (node,) = await world.cluster(1, events=EventSettings(subscriptions_max=2))
        for pattern, queue in (("a..b", ""), ("fdn.>", ""), ("a", "a b")):
            with pytest.raises(fdn.ConfigError):
                await node.subscribe(pattern, queue=queue)
        with pytest.raises(fdn.ConfigError, match="policy='no'"):
            await node.subscribe("a", policy="no")
        for options in ({"concurrency": 2}, {"ordered_by": "id"}):
            with pytest.raises(fdn.ConfigError, match="without a handler"):
                await node.subscribe("a", **options)
        await node.subscribe("a")
        await node.subscribe("b")
        with pytest.raises(fdn.Overloaded, match="has 2 subscriptions"):
            await node.subscribe("c")


@virtual
async def test_more_than_the_record_holds_is_refused_and_undone():
    async with World() as world:
        first, second = await world.cluster(2, events=EventSettings(subscriptions_max=10_000))
        kept = await first.subscribe("kept")
        results = await asyncio.gather(
            *(first.subscribe(f"{'x' * 240}.{number}") for number in range(300)), return_exceptions=True
        )
        assert all(isinstance(result, fdn.Overloaded) for result in results)
        assert (await first.stats()).events.subscriptions == 1
        assert await second.publish("kept", 1) == 1
        assert await payloads(kept, 1) == [1]
        await first.subscribe("more")
        assert await second.publish("more") == 1


@virtual
async def test_events_that_a_peer_should_not_have_sent():
    async with World() as world:
        (node,) = await world.cluster(1)
        subscription = await node.subscribe(">")
        mallory = await Mallory(world).dial(node, Channel.EVENTS)
        strange: list[tuple[str, dict[int, Any] | None]] = [
            ("fdn.members", None),
            ("", {MetaKey.GROUPS: ["nobody"]}),
            ("a", {MetaKey.GROUPS: 7}),
            ("a", {MetaKey.GROUPS: [7]}),
            ("a", {MetaKey.GROUPS: ["nobody", "nobody"]}),
            ("a", {MetaKey.TRACE: "no trace"}),
        ]
        for subject, meta in strange:
            mallory.connection.send(Envelope(Kind.EVENT, subject, 0, 0, meta, body(subject)))
        assert await payloads(subscription, 1) == ["a"]
        stats = (await node.stats()).events
        assert (stats.received, stats.unwanted, stats.malformed) == (6, 5, 2)
        mallory.connection.send_exempt(Envelope(Kind.SUBSCRIBE, ">", 1))
        mallory.connection.send_exempt(Envelope(Kind.UNSUBSCRIBE, "", 1))
        mallory.connection.send(Envelope(Kind.EVENT, "b", 0, 0, None, body("b")))
        assert await payloads(subscription, 1) == ["b"]
        assert (await node.stats()).events.subscriptions == 1


@virtual
async def test_who_sends_without_credit_does_not_fill_the_memory():
    async with World() as world:
        (node,) = await world.cluster(1, data={"credit_messages": 64})
        subscription = await node.subscribe("a", queue_max=10)
        mallory = await Mallory(world).dial(node, Channel.EVENTS)
        mallory.connection.grant(10**9, 10**12)
        for number in range(10_000):
            mallory.connection.send(Envelope(Kind.EVENT, "a", 0, 0, None, body(number)))
        await until(lambda: node._events.stats().received == 10_000)
        assert subscription.pending <= 10 + 64 + 512
        assert subscription.pending + subscription.dropped == 10_000
        assert node._data.stats().overdrawn >= 9000


# -- nothing is left behind


@virtual
async def test_after_much_coming_and_going_nothing_is_left():
    async with World() as world:
        nodes = first, second, third = await world.cluster(3, data={"credit_messages": 256})

        async def slow(number: int) -> None:
            if number % 10 == 0:
                await asyncio.sleep(0.001)

        def quick(number: int) -> None: ...

        async def reader(subscription: fdn.Subscription[Any]) -> None:
            async for _ in subscription:
                pass

        async def come_and_go(node: fdn.Node, number: int) -> None:
            for turn in range(20):
                policy = ("wait", "drop_oldest", "drop_newest")[turn % 3]
                queue = ("", "q")[turn % 2]
                handler = (slow, None, quick)[number % 3]
                subscription = await node.subscribe("a.*", handler, queue=queue, policy=policy, queue_max=20)
                reading = asyncio.create_task(reader(subscription)) if handler is None else None
                await asyncio.sleep(0.005)
                await (subscription.drain() if turn % 4 == 0 else subscription.close())
                if reading is not None:
                    await reading

        async def publish(node: fdn.Node) -> None:
            for number in range(5000):
                await node.publish(f"a.{number % 7}", number)

        warm = await third.subscribe("a.*", policy="drop_oldest")
        for node in nodes:
            await publish(node)
        await warm.close()
        await asyncio.sleep(1)
        tasks = len(asyncio.all_tasks())
        await asyncio.gather(
            *(come_and_go(node, number) for number, node in enumerate((first, second, third, second, third))),
            *(publish(node) for node in (*nodes, first)),
        )
        await asyncio.sleep(5)
        assert len(asyncio.all_tasks()) == tasks
        for node in nodes:
            events = node._events
            assert (list(events._here), events.interests()) == ([], ())
            assert (events._tasks, events._announcements) == (set(), {})
            assert events._here._patterns._root.empty
            for session in node._data._sessions.open_sessions():
                grant = session.grant
                assert (grant.messages_received, grant.bytes_received) == (
                    grant.messages_consumed,
                    grant._bytes_consumed,
                ), "credit was not given back"


# -- keys and lanes


@virtual
async def test_a_key_chooses_the_member_of_a_queue_group():
    async with World() as world:
        first, *others = await world.cluster(4)
        shared = [await node.subscribe("orders", queue="q") for node in others]
        plain = await others[0].subscribe("orders")
        for key in ("a", "b", "c"):
            for number in range(6):
                assert await first.publish("orders", f"{key}{number}", key=key) in (1, 2)
        assert await payloads(plain, 18) == [f"{key}{number}" for key in "abc" for number in range(6)]
        seen = [await payloads(each, each.pending) for each in shared]
        for key in "abc":
            assert sorted(sum(one[0] == key for one in each) for each in seen) == [0, 0, 6]


@virtual
async def test_events_over_lanes_with_and_without_a_key():
    async with World() as world:
        first, second = await world.cluster(2, events=EventSettings(parallelism=3))
        subscription = await second.subscribe("a")
        for number in range(50):
            assert await first.publish("a", number, key="k") == 1
        assert await payloads(subscription, 50) == list(range(50))
        for number in range(50):
            assert await first.publish("a", number) == 1
        assert sorted(await payloads(subscription, 50)) == list(range(50))
        await until(lambda: len(first._data.stats().links) == 3)
        here = await first.subscribe("a")
        assert await first.publish("a", 7, priority=2, latest="x") == 2
        assert (await payloads(here, 1), await payloads(subscription, 1)) == ([7], [7])
