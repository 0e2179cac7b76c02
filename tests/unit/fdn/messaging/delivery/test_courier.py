"""Acknowledged delivery between whole nodes on the in-memory twin."""

import asyncio
import random
from typing import Any

import pytest

import fdn
from fdn.messaging.delivery.courier import CourierStats
from fdn.messaging.delivery.promise import Promise
from fdn.runtime.facts import DeliveryGivenUp
from fdn.settings import DeliverySettings
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from transports.channel import Channel
from transports.memory import MemoryConnection
from transports.transport import EventKind
from transports.wire.batch import decode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey


async def stats(node: fdn.Node) -> CourierStats:
    return (await node.stats()).delivery


async def payloads(subscription: fdn.Subscription[Any], count: int) -> list[Any]:
    async with asyncio.timeout(60):
        return [(await anext(subscription)).payload for _ in range(count)]


class Line:
    """What happens to frames with EVENTs, CASTs and ACKs: every so many is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lose_every = 0
        self.lose_acks = False
        self.duplicate = False
        self.seen = 0
        pass_on = MemoryConnection._pass_on

        def maybe(connection: MemoryConnection, frame: bytes, *attachments: Any) -> None:
            kinds = {envelope.kind for envelope in decode_batch(frame)[0]}
            lost = self.lose_acks and Kind.ACK in kinds
            if kinds & {Kind.EVENT, Kind.CAST, Kind.ACK}:
                self.seen += 1
                lost = lost or (self.lose_every > 0 and self.seen % self.lose_every == 0)
            if not lost:
                pass_on(connection, frame, *attachments)
                if self.duplicate and kinds & {Kind.EVENT, Kind.CAST}:
                    pass_on(connection, frame, *attachments)

        monkeypatch.setattr(MemoryConnection, "_pass_on", maybe)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


def jobs(group: str = "g") -> tuple[fdn.App, dict[str, list[Any]]]:
    """An app whose nodes take jobs in a group, and what each took: (payload, redelivered)."""
    app = fdn.App()
    taken: dict[str, list[Any]] = {}

    @app.subscribe("jobs.>", queue=group)
    async def on_job(number: int, context: fdn.Context) -> None:
        taken.setdefault(context.node, []).append((number, context.redelivered))

    @app.service("job")
    async def job(number: int, context: fdn.Context) -> None:
        taken.setdefault(context.node, []).append((number, context.redelivered))

    return app, taken


# -- at least once


@virtual
async def test_to_all_that_want_it_here_there_and_in_groups():
    async with World() as world:
        first, second, third = await world.cluster(3)
        here = await first.subscribe("a")
        there = [await second.subscribe("a"), await second.subscribe("*")]
        grouped = [await second.subscribe("a", queue="g"), await third.subscribe("a", queue="g")]
        assert await first.publish("a", 1, delivery="at_least_once", confirm=True) == 3
        assert await first.publish("no.body", 1, delivery="at_least_once", confirm=True) == 0
        assert [each.pending for each in (here, *there)] == [1, 1, 1]
        assert sum(each.pending for each in grouped) == 1
        event = await anext(there[0])
        assert (event.payload, event.origin, event.redelivered) == (1, first.id, False)
        sent = (await stats(first)).sender
        assert (sent.messages, sent.transmitted, sent.acked, sent.unacked) == (1, 2, 2, 0)


@virtual
async def test_what_is_lost_is_sent_again(line: Line):
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        line.lose_every = 3
        for number in range(50):
            assert await first.publish("a", number, delivery="at_least_once") == 1
            await asyncio.sleep(0.05)
        assert await first.flush(timeout=60) == 0
        assert sorted(await payloads(subscription, 50)) == list(range(50))
        assert subscription.pending == 0
        assert (await stats(first)).sender.retransmitted > 0


@virtual
async def test_without_it_that_is_lost(line: Line):
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        line.lose_every = 3
        for number in range(50):
            await first.publish("a", number)
            await asyncio.sleep(0.05)
        assert subscription.pending < 50


@virtual
async def test_a_lost_ack_costs_a_repetition_and_no_second_event(line: Line):
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        line.lose_acks = True
        first._data._governor.close()  # which would take the count of the link away
        await first.publish("a", 1, delivery="at_least_once")
        await until(lambda: first._courier.stats().sender.retransmitted >= 2)
        assert first._data.link(second.id, Channel.EVENTS).retransmitted >= 2
        line.lose_acks = False
        await first.flush(60)
        assert await payloads(subscription, 1) == [1]
        assert subscription.pending == 0
        assert (await stats(second)).receiver.duplicates >= 2


@virtual
async def test_a_cut_and_a_new_connection():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        link = first._data.link(second.id, Channel.EVENTS)
        assert link.connection is not None
        for number in range(1, 4):
            await first.publish("a", number, delivery="at_least_once")
        link.connection.close()  # what was under way may be lost
        link.hang_up("")
        for number in range(4, 7):
            await first.publish("a", number, delivery="at_least_once")
        assert await first.flush(60) == 0
        assert sorted(await payloads(subscription, 7)) == list(range(7))


@virtual
async def test_confirm_tells_who_did_not():
    async with World() as world:
        first, second, third = await world.cluster(3)
        for node in (second, third):
            await node.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        world.cut(first, third)
        facts = first.facts()
        with pytest.raises(fdn.DeadlineExceeded, match=f"before its deadline by {third.id}"), fdn.deadline(0.2):
            await first.publish("a", 1, confirm=True)
        waiting = asyncio.ensure_future(first.publish("a", 2, confirm=True))
        await asyncio.sleep(0.1)
        world.kill(third)
        with pytest.raises(
            fdn.Unreachable, match=rf"a was not acknowledged by 1 of 2: {third.id} \(n3 is dead"
        ) as lost:
            await waiting
        assert lost.value.facts["nodes"] == [third.id]
        fact = await next_fact(facts)
        assert (fact.node, fact.to, fact.count) == (third.id, "a", 1)
        assert await first.flush() == 2  # the one whose deadline passed, and this one


async def next_fact(facts: Any) -> DeliveryGivenUp:
    async with asyncio.timeout(60):
        async for fact in facts:
            if isinstance(fact, DeliveryGivenUp) and "deadline" not in fact.reason:
                return fact
    raise AssertionError("unreachable: facts do not end")


@virtual
async def test_flush_names_who_has_not_acknowledged():
    async with World() as world:
        first, second = await world.cluster(2)
        await second.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        world.cut(first, second)
        await first.publish("a", 1, delivery="at_least_once")
        with pytest.raises(fdn.DeadlineExceeded, match=second.id):
            await first.flush(0.5)
        world.heal()
        assert await first.flush(30) == 0


@virtual
async def test_a_full_buffer_refuses_or_waits():
    async with World(delivery=DeliverySettings(buffer_max=3)) as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        world.cut(first, second)
        for number in range(1, 4):
            await first.publish("a", number, delivery="at_least_once")
        with pytest.raises(fdn.Overloaded, match=r"3 messages of .* wait for their acknowledgement"):
            await first.publish("a", 9, delivery="at_least_once", when_full="refuse")
        with pytest.raises(fdn.DeadlineExceeded, match="none was acknowledged in time"), fdn.deadline(0.5):
            await first.publish("a", 9, delivery="at_least_once")
        waiting = asyncio.ensure_future(first.publish("a", 4, delivery="at_least_once"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        world.heal()
        assert await waiting == 1
        assert await first.flush(30) == 0
        assert sorted(await payloads(subscription, 5)) == list(range(5))
        assert (await stats(first)).sender.full == 3


@virtual
async def test_what_cannot_be_accepted_in_time_is_dropped_here_too():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        world.cut(first, second)  # so that the link cannot open
        with fdn.deadline(0.1):
            assert await first.publish("a", 1, delivery="at_least_once") == 1
        await asyncio.sleep(0.15)
        world.heal()
        await first.publish("a", 2, delivery="at_least_once", confirm=True)
        assert await payloads(subscription, 1) == [2]
        assert subscription.pending == 0
        assert (await stats(first)).sender.expired == 1


@virtual
async def test_a_full_subscription_keeps_everything_and_holds_its_publisher():
    async with World(delivery=DeliverySettings(buffer_max=50, retransmit_min_s=0.1)) as world:
        first, second = await world.cluster(2, data={"credit_messages": 64})
        subscription = await second.subscribe("a", queue_max=4)
        published = 0

        async def publish() -> None:
            nonlocal published
            for number in range(3000):
                await first.publish("a", number, delivery="at_least_once")
                published += 1

        publishing = asyncio.create_task(publish())
        await asyncio.sleep(3)
        assert published < 1500
        assert await payloads(subscription, 3000) == list(range(3000))
        await publishing
        assert await first.flush(30) == 0
        assert subscription.pending == 0


@virtual
async def test_a_member_that_is_back_before_anybody_noticed_gets_what_its_former_life_had_not_acknowledged():
    app, taken = jobs(group="")
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", app)
        await world.settle()
        await first.publish("jobs.a", 0, delivery="at_least_once", confirm=True, key="k")
        stream = first._courier._sender.stream_of((second.id, "events"))
        world.kill(second)
        for number in range(1, 6):
            assert await first.publish("jobs.a", number, delivery="at_least_once", key="k") == 1
        again = await world.start("n2")
        await world.settle()
        await first.publish("jobs.a", 6, delivery="at_least_once", confirm=True, key="k")
        assert await first.flush(30) == 0
        assert (again.id, first._courier._sender.stream_of((second.id, "events"))) == (second.id, stream)
        assert taken["n2"] == [(0, False), *((number, True) for number in range(1, 6)), (6, False)]


# -- queue groups and casts


@virtual
async def test_another_member_takes_over_when_one_dies():
    app, taken = jobs()
    async with World() as world:
        first = await world.start("n1")
        members = [await world.start(name, app) for name in ("n2", "n3")]
        await world.settle()
        for number in range(4):
            await first.publish("jobs.a", number, delivery="at_least_once", confirm=True)
        world.cut(first, members[0])
        for number in range(4, 20):
            await first.publish("jobs.a", number, delivery="at_least_once")
        await asyncio.sleep(0.2)
        world.kill(members[0])
        assert await first.flush(60) == 0
        everything = [number for took in taken.values() for number, _ in took]
        assert sorted(set(everything)) == list(range(20))
        moved = [number for number, redelivered in taken["n3"] if redelivered]
        assert len(moved) == (await stats(first)).sender.redelivered == 8


@virtual
async def test_nobody_is_left_to_take_over():
    app, taken = jobs()
    async with World() as world:
        first = await world.start("n1")
        member = await world.start("n2", app)
        await world.settle()
        await first.publish("jobs.a", 0, delivery="at_least_once", confirm=True)
        world.cut(first, member)
        await first.publish("jobs.a", 1, delivery="at_least_once")
        world.kill(member)
        assert await first.flush(60) == 1
        assert taken == {"n2": [(0, False)]}


@virtual
async def test_a_member_here_takes_over():
    app, taken = jobs()
    async with World() as world:
        first, second = await world.cluster(2, app)
        world.cut(first, second)
        for number in range(6):
            await first.publish("jobs.a", number, delivery="at_least_once")
            await first.cast("job", number + 100, delivery="at_least_once")
        world.kill(second)
        assert await first.flush(60) == 0
        await until(lambda: len(taken["n1"]) == 12)
        assert sorted(number for number, _ in taken["n1"]) == [*range(6), *range(100, 106)]


@virtual
async def test_a_member_that_does_not_want_it_any_more_passes_it_on():
    async with World() as world:
        first, second, third = await world.cluster(3)
        leaving = await second.subscribe("a", queue="g")
        staying = await third.subscribe("a", queue="g")
        second._events._here.discard(leaving)  # and nobody has been told
        for number in range(6):
            assert await first.publish("a", number, delivery="at_least_once", confirm=True) == 1
        events = [await anext(staying) for _ in range(6)]
        assert sorted(event.payload for event in events) == list(range(6))
        assert sum(event.redelivered for event in events) == 3
        assert (await stats(second)).receiver.refused == 3


@virtual
async def test_casts_go_to_another_node_when_theirs_dies():
    app, taken = jobs()
    async with World() as world:
        first = await world.start("n1")
        members = [await world.start(name, app) for name in ("n2", "n3")]
        await world.settle()
        for number in range(4):
            await first.cast("job", number, delivery="at_least_once", confirm=True)
        world.cut(first, members[0])
        for number in range(4, 12):
            await first.cast("job", number, delivery="effectively_once")
        world.kill(members[0])
        assert await first.flush(60) == 0
        await until(lambda: len({number for took in taken.values() for number, _ in took}) == 12)
        assert sum(redelivered for _, redelivered in taken["n3"]) == 4
        with pytest.raises(fdn.NotFound):
            await first.cast("nobody", 1, delivery="at_least_once")
        with pytest.raises(fdn.BadRequest, match="for a cast"):
            await first._courier.cast("job", 1, Promise(label="x"))


@virtual
async def test_a_full_mailbox_is_tried_again():
    app = fdn.App()
    go, handled = asyncio.Event(), list[int]()

    @app.service("slow", concurrency=1, mailbox_max=2)
    async def slow(number: int) -> None:
        await go.wait()
        handled.append(number)

    async with World() as world:
        first, second = await world.cluster(2, app)
        for target in (f"slow@{second.name}", f"slow@{first.name}"):
            casts = asyncio.gather(*[first.cast(target, n, delivery="at_least_once") for n in range(8)])
            await asyncio.sleep(1)
            assert handled == []
            go.set()
            await casts
            assert await first.flush(60) == 0
            await until(lambda: sorted(handled) == list(range(8)))
            handled.clear()
            go.clear()
        assert (await stats(second)).receiver.overflowed > 0
        refused = 0
        for number in range(8):
            try:
                await first.cast("slow@n1", number, delivery="at_least_once", when_full="refuse")
            except fdn.Overloaded:
                refused += 1
        assert refused == 6
        go.set()


# -- order, once, causes


@virtual
async def test_events_of_a_key_stay_in_order_and_with_one_member(line: Line):
    app, taken = jobs()
    async with World() as world:
        first = await world.start("n1")
        for name in ("n2", "n3"):
            await world.start(name, app)
        await world.settle()
        line.lose_every = 4
        for number in range(60):
            await first.publish("jobs.a", number, delivery="at_least_once", key=f"k{number % 5}")
            await asyncio.sleep(0.02)
        assert await first.flush(60) == 0
        for remainder in range(5):
            by_node = [[number for number, _ in took if number % 5 == remainder] for took in taken.values()]
            (numbers,) = [numbers for numbers in by_node if numbers]
            assert numbers == list(range(remainder, 60, 5))


@virtual
async def test_a_client_that_publishes_again_at_another_node_is_heard_once(line: Line):
    async with World() as world:
        first, second, third = await world.cluster(3)
        subscriptions = [await node.subscribe("a") for node in (first, third)]
        line.duplicate = True
        identity = {int(MetaKey.ORIGIN): "client-1", int(MetaKey.SEQUENCE): 9, int(MetaKey.DELIVERY): [0]}
        client = Mallory(world, "client", "client-1")
        for node in (first, second, first):
            dialled = await client.dial(node, Channel.EVENTS, role="client")
            dialled.connection.send(Envelope(Kind.EVENT, "a", 5, 0, identity, body("once")))
            await dialled.inbox.count(2)
            answer = dialled.inbox.envelopes[1]
            assert (answer.kind, answer.id) == (Kind.ACK, 5)
        await first.flush(30)
        assert [await payloads(each, 1) for each in subscriptions] == [["once"], ["once"]]
        assert [each.pending for each in subscriptions] == [0, 0]


@virtual
async def test_a_client_is_told_why_not():
    async with World() as world:
        (first,) = await world.cluster(1)
        dialled = await Mallory(world, "client", "client-1").dial(first, Channel.EVENTS, role="client")
        dialled.connection.send(Envelope(Kind.EVENT, "a..b", 5, 0, {int(MetaKey.DELIVERY): [0]}, body(1)))
        await dialled.inbox.count(2)
        answer = dialled.inbox.envelopes[1]
        assert (answer.kind, answer.id) == (Kind.ERROR, 5)


@virtual
async def test_an_answer_is_not_heard_before_what_it_answers():
    """n1 asks n2 and n3; n2 answers; the way from n1 to n3 is cut meanwhile."""
    async with World() as world:
        first, second, third = await world.cluster(3)
        asked = await second.subscribe("cart")
        heard = await third.subscribe("cart")
        await first.publish("cart", "hello", causal="cart", confirm=True)
        world.cut(first, third)
        await first.publish("cart", "question", causal="cart")
        assert await payloads(asked, 2) == ["hello", "question"]
        await second.publish("cart", "answer", causal="cart")
        await second.publish("cart", "by the way", delivery="at_least_once")
        await asyncio.sleep(1)
        assert await payloads(heard, 2) == ["hello", "by the way"]
        assert heard.pending == 0
        assert (await stats(third)).receiver.held == 1
        world.heal()
        assert await payloads(heard, 2) == ["question", "answer"]
        await first.flush(30)
        await second.flush(30)


@virtual
async def test_a_cause_that_does_not_come_is_not_waited_for_for_ever():
    async with World(delivery=DeliverySettings(held_max_s=2.0)) as world:
        first, second, third = await world.cluster(3)
        asked, heard = await second.subscribe("cart"), await third.subscribe("cart")
        await first.publish("cart", "hello", causal="cart", confirm=True)
        world.cut(first, third)
        await first.publish("cart", "question", causal="cart")
        await payloads(asked, 2)
        await second.publish("cart", "answer", causal="cart")
        assert await payloads(heard, 2) == ["hello", "answer"]
        assert (await stats(third)).receiver.overdue == 1


@pytest.mark.parametrize("seed", range(10))
def test_whole_nodes_on_a_line_that_spoils_everything(seed: int, monkeypatch: pytest.MonkeyPatch):
    """Loss, duplication, and connections that end, by chance: once each, in the order of their keys; casts as well."""
    rng = random.Random(seed)
    pass_on = MemoryConnection._pass_on

    def spoil(connection: MemoryConnection, frame: bytes, *attachments: Any) -> None:
        kinds = {envelope.kind for envelope in decode_batch(frame)[0]}
        if not kinds & {Kind.EVENT, Kind.CAST, Kind.ACK}:
            return pass_on(connection, frame, *attachments)
        for _ in range(2 if rng.random() < 0.1 else 1):
            if rng.random() > 0.1:
                pass_on(connection, frame, *attachments)
        if rng.random() < 0.05:
            connection.post(connection._finish, EventKind.CLOSED, "by chance")
        return None

    monkeypatch.setattr(MemoryConnection, "_pass_on", spoil)
    app, taken = jobs()

    @virtual
    async def run() -> None:
        async with World(seed=seed) as world:
            first, *others = [await world.start("n1"), await world.start("n2", app), await world.start("n3", app)]
            await world.settle()
            plain = [await node.subscribe("jobs.*") for node in others]
            for number in range(60):
                await first.publish("jobs.a", number, delivery="effectively_once", key=f"k{number % 4}")
                await first.cast("job", number + 1000, delivery="at_least_once", key=f"k{number % 4}")
                await asyncio.sleep(rng.random() / 50)
            assert await first.flush(timeout=60) == 0
            for subscription in plain:
                in_order(await payloads(subscription, 60), 4)
                assert subscription.pending == 0
            await until(lambda: sum(map(len, taken.values())) == 120)
            for least, most in ((0, 1000), (1000, 2000)):
                numbers = [number for took in taken.values() for number, _ in took if least <= number < most]
                in_order(numbers, 4)

    run()


def in_order(numbers: list[int], keys: int) -> None:
    assert len(set(numbers)) == len(numbers) == 60
    for remainder in range(keys):
        of_key = [number for number in numbers if number % keys == remainder]
        assert of_key == sorted(of_key)


# -- the end, and hostile peers


@virtual
async def test_a_node_that_stops_sees_its_messages_acknowledged_first(line: Line):
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        line.lose_acks = True
        await first.publish("a", 1, delivery="at_least_once")
        asyncio.get_running_loop().call_later(1, setattr, line, "lose_acks", False)
        await first.stop()
        assert await payloads(subscription, 2) == [0, 1]


@virtual
async def test_what_is_not_acknowledged_when_it_stops_is_given_up():
    async with World(drain_timeout_s=1.0) as world:
        first, second = await world.cluster(2)
        await second.subscribe("a")
        await first.publish("a", 0, delivery="at_least_once", confirm=True)
        world.cut(first, second)
        waiting = asyncio.ensure_future(first.publish("a", 1, confirm=True))
        facts = first.facts()
        await asyncio.sleep(0)
        await first.stop()
        with pytest.raises(fdn.Unreachable, match="this node stops"):
            await waiting
        assert (await next_fact(facts)).reason == "this node stops"


@virtual
async def test_hostile_frames_are_counted_and_dropped():
    async with World() as world:
        first, _second = await world.cluster(2)
        subscription = await first.subscribe("a")
        peer = await Mallory(world).dial(first, Channel.EVENTS)
        strange: list[Any] = [None, 7, [], [1], [0, 1, 0], [1, 0, 0], ["1", 1, 0], [2**63, 1, 1]]
        for tag in strange:
            peer.connection.send(Envelope(Kind.EVENT, "a", 3, 0, {int(MetaKey.DELIVERY): tag}, body(1)))
        for said in (None, 5, [1], ["x", [], []], [1, [[5, 1]], []], [2**64 - 1, [[0, 2**63]], [2**63]]):
            peer.connection.send_exempt(Envelope(Kind.ACK, "", 7, 0, None, body(said)))
        peer.connection.send(Envelope(Kind.EVENT, "a", 1, 0, {int(MetaKey.DELIVERY): [7, 1, 0]}, body("good")))
        assert await payloads(subscription, 1) == ["good"]
        assert (await stats(first)).malformed == len(strange) + 5
        assert subscription.pending == 0


@virtual
async def test_an_event_that_asks_for_no_ack_is_as_ever():
    async with World() as world:
        first, second = await world.cluster(2)
        subscription = await second.subscribe("a")
        assert await first.publish("a", 1, delivery="at_most_once") == 1
        assert await first.publish("a", 2, key="k") == 1
        assert await payloads(subscription, 2) == [1, 2]
        assert (await stats(first)).sender.messages == 0


@virtual
async def test_interceptors_are_around_it():
    seen: list[str] = []

    class Watch(fdn.Interceptor):
        async def on_send(self, outgoing: fdn.Outgoing, proceed: Any) -> Any:
            seen.append(outgoing.target)
            return await proceed(outgoing)

    app, taken = jobs()
    async with World() as world:
        first = await world.start("n1", interceptors=(Watch(),))
        await world.start("n2", app)
        await world.settle()
        assert await first.publish("jobs.a", 1, delivery="at_least_once", confirm=True) == 1
        await first.cast("job", 2, delivery="at_least_once", confirm=True)
        await first.cast("job", 3, delivery="at_most_once")
        assert await first.publish("jobs.a", 4, delivery="at_most_once") == 1
        await until(lambda: len(taken["n2"]) == 4)
        assert seen == ["jobs.a", "job", "job", "jobs.a"]
