import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import fdn
from fdn.runtime.facts import Fact, LinkCongested, LinkRelieved, PeerOverdrew
from fdn.runtime.governor import PROBE, FlowStats
from fdn.runtime.send_options import SendOptions
from tests.unit.fdn.harness import Mallory, World, body, until, virtual
from tests.unit.fdn.runtime.harness import said
from tests.unit.fdn.runtime.test_lanes import Side
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind


class Work:
    """A service with twenty workers that take their time."""

    def __init__(self) -> None:
        self.done = 0

    async def work(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.done += 1


def app(work: Work) -> fdn.App:
    made = fdn.App()
    made.service("work", concurrency=20)(work)
    return made


async def load(node: fdn.Node, seconds: float, each: float, key: Callable[[int], str | None] = lambda _: None) -> int:
    """Casts, as fast as they are taken; returns how many."""
    loop = asyncio.get_running_loop()
    ends_at, count = loop.time() + seconds, 0
    while loop.time() < ends_at:
        await node.cast("work.work", each, key=key(count))
        count += 1
        if count % 20 == 0:
            await asyncio.sleep(0.001)
    return count


async def facts_of(node: fdn.Node, facts: list[Fact]) -> None:
    async for fact in node.facts():
        facts.append(fact)  # noqa: PERF401  # they are looked at meanwhile


def flow(node: fdn.Node) -> FlowStats:
    (made,) = node._data.stats().flows.values()
    return made


# -- on whole nodes


@virtual
async def test_a_link_that_carries_little_is_neither_probed_nor_limited():
    async with World() as world:
        await world.start("n1", app(Work()))
        sender = await world.start("n2")
        await world.settle()
        for _ in range(100):
            await sender.call("work.work", 0.0)
            await asyncio.sleep(0.1)
        assert flow(sender).explain[0] == "window: 8192 of 8192 messages: idle: all of the credit"
        assert (flow(sender).share, flow(sender).rtt_us, flow(sender).congested) == (1.0, 0, False)
        link = sender._data.link(world.nodes[0].id, Channel.DATA)
        assert link.connection is not None
        assert link.connection.stats().messages_sent == 101  # HELLO, and no probe


@virtual
async def test_no_more_is_under_way_than_the_receiver_works_off_in_a_moment():
    async with World() as world:
        work = Work()
        await world.start("n1", app(work))
        sender = await world.start("n2")
        await world.settle()
        facts: list[Fact] = []
        following = asyncio.ensure_future(facts_of(sender, facts))
        sent = await load(sender, 20, 0.01)  # 2000 a second are taken up
        now = flow(sender)
        assert now.window_messages < 1000
        assert now.congested
        assert "of the receiver's work" in facts[-1].reason  # type: ignore[attr-defined]
        assert work.done > 0.95 * 20 * 2000  # none of its capacity is lost for it
        await until(lambda: work.done == sent)
        await until(lambda: flow(sender).share == 1.0)
        assert [type(fact) for fact in facts if isinstance(fact, LinkCongested | LinkRelieved)] == [
            LinkCongested,
            LinkRelieved,
        ]
        following.cancel()


@virtual
@pytest.mark.parametrize("adapt", ["on", "off"])
async def test_off_measures_only(adapt: str):
    async with World() as world:
        await world.start("n1", app(Work()))
        sender = await world.start("n2", data={"adapt": adapt})
        await world.settle()
        await load(sender, 10, 0.01)
        (connection,) = sender._data.stats().links.values()
        under_way = 8192 - connection.credit_messages
        assert flow(sender).share < 0.2
        assert (under_way > 8000) is (adapt == "off") or connection.credit_messages < 0


@virtual
async def test_keys_move_when_a_probe_says_that_all_of_them_was_received():
    async with World() as world:
        work = Work()
        server = await world.start("n1", app(work), data={"parallelism": 4})
        sender = await world.start("n2", data={"parallelism": 4})
        await world.settle()
        await load(sender, 1, 0.0001, lambda number: f"k{number % 100}")
        lanes = sender._data.lanes(server.id, Channel.DATA)
        assert lanes.active == 4
        assert lanes.table.stray() == 0
        lanes.limit(2)
        assert lanes.table.stray() > 20
        await load(sender, 2, 0.0001, lambda number: f"k{number % 100}")
        assert lanes.table.stray() < 8  # those that were never quiet


@virtual
async def test_somebody_who_sends_without_credit_is_named_once_a_second():
    async with World() as world:
        server = await world.start("n1", app(Work()), data={"credit_messages": 16})
        facts: list[Fact] = []
        following = asyncio.ensure_future(facts_of(server, facts))
        mallory = Mallory(world)
        mallory.listen()
        dialled = await mallory.dial(server)
        for _ in range(100):
            dialled.connection.send(Envelope(Kind.CAST, "work.work", body=body(1000.0)))
            await asyncio.sleep(0.03)
        await asyncio.sleep(2)
        told = [fact for fact in facts if isinstance(fact, PeerOverdrew)]
        assert {(fact.node, fact.channel) for fact in told} == {(mallory.node, "data")}
        assert sum(fact.messages for fact in told) == server._data.stats().overdrawn > 50
        assert len(told) <= 5
        following.cancel()


# -- probes, one by one


class Probed(Side):
    """One side, with a peer whose answers a test gives."""

    async def probes(self, count: int) -> list[tuple[int, int, int]]:
        await until(lambda: len(self._probes()) >= count)
        return [said(envelope) for envelope in self._probes()]

    async def answer(self, *answer: Any) -> None:
        dialled = await self.rig.enter(self.peer.who)
        dialled.connection.send_exempt(Envelope(Kind.CORE, PROBE, body=body(answer)))

    @property
    def stats(self) -> FlowStats:
        return self.rig.plane.stats().flows[f"{self.peer.node} data"]

    async def begin(self) -> None:
        await self.send(0)
        await asyncio.sleep(1)  # it is looked at once
        for number in range(100):
            await self.send(number)

    def _probes(self) -> list[Envelope]:
        return [envelope for envelope in self.peer.heard if envelope.kind == Kind.CORE]


@virtual
async def test_a_probe_is_sent_once_until_it_is_answered_or_given_up():
    side = Probed(parallelism=1)
    side.credit = (1000, 10_000_000)
    await side.begin()
    ((epoch, number, steps),) = await side.probes(1)
    assert (epoch, number, steps) == (side.lanes.links[0].epoch, 1, 2)
    for _ in range(20):
        await asyncio.sleep(0.1)
        for each in range(40):
            await side.send(each)
        if side.stats.share < 1:
            break
    assert len(await side.probes(1)) == 1
    assert "round trip" in side.stats.explain[0]  # that there is no answer counts, too
    await side.answer(epoch, number, 2, 100, 50)
    await until(lambda: side.stats.rtt_us > 0)


@virtual
async def test_answers_that_answer_nothing_are_ignored_and_garbage_is_counted():
    side = Probed(parallelism=1)
    side.credit = (1000, 10_000_000)
    await side.begin()
    ((epoch, number, _),) = await side.probes(1)
    for wrong in ((7, number), (epoch, 99), (epoch, 0)):
        await side.answer(*wrong, 2, 100, 50)
    await asyncio.sleep(0.01)
    assert side.stats.rtt_us == 0
    assert side.rig.plane.stats().malformed == 0
    dialled = await side.rig.enter(side.peer.who)
    bodies = (body(1), body((epoch,)), body((epoch, "x", 2, 3, 4)), body((epoch, 2, 3, 4, 5, 6)))
    for unreadable in bodies:
        dialled.connection.send_exempt(Envelope(Kind.CORE, PROBE, body=unreadable))
    dialled.connection.send_exempt(Envelope(Kind.CORE, "fdn.swim", body=body(1)))
    await until(lambda: side.rig.plane.stats().malformed == len(bodies))
    assert side.rig.plane.stats().unknown_kinds == 1


@virtual
async def test_a_smaller_share_is_used_once_the_peer_grants_in_small_steps():
    side = Probed(parallelism=1)
    side.credit = (8192, 8_000_000)
    await side.begin()
    ((epoch, number, _),) = await side.probes(1)
    await side.answer(epoch, number, 2, 100, 100)
    link = side.lanes.links[0]
    connection = link.connection
    assert connection is not None
    before = connection.stats().credit_messages
    link.retransmitted = 5
    for each in range(40):
        await side.send(each)
    *_, (_, number, steps) = await side.probes(2)
    assert side.stats.share == 0.5
    await until(lambda: connection.stats().credit_messages <= before - 40)
    assert connection.stats().credit_messages > before - 200  # as before: who knows when CREDIT comes
    while steps < 4:
        await side.answer(epoch, number, steps, 100, 100)
        for each in range(40):
            await side.send(each)
        link.retransmitted = 5
        *_, (_, number, steps) = await side.probes(number + 1)
    await side.answer(epoch, number, steps, 100, 100)
    await until(lambda: connection.stats().credit_messages < before - 4000)


@virtual
async def test_a_probe_is_answered_with_what_came_and_what_was_taken_up():
    side = Probed()
    await side.send(0)
    dialled = await side.rig.enter(side.peer.who, epoch=77)
    for number in range(3):
        dialled.connection.send(Envelope(Kind.CALL, "a.b", number, body=body(1)))
    await until(lambda: len(side.rig.handled) == 3)
    for epoch, steps in ((77, 8), (78, 8), (77, 9999), (77, -1)):
        dialled.connection.send_exempt(Envelope(Kind.CORE, PROBE, body=body((epoch, 5, steps))))
    await until(lambda: len(side._probes()) == 3)
    assert [said(envelope) for envelope in side._probes()] == [
        [77, 5, 8, 3, 3],
        [77, 5, 64, 3, 3],
        [77, 5, 2, 3, 3],
    ]


@virtual
async def test_batches_are_smaller_where_the_network_is_slow():
    side = Probed(parallelism=1)
    await side.send(0)
    governor = side.rig.plane._governor
    connection = side.lanes.links[0].connection
    assert connection is not None
    from fdn.runtime.flow.tuner import TunerSample

    for _ in range(20):
        governor._tune(side.lanes.links[0], TunerSample(0.05, 100_000, True, True))
    assert connection._batch_bytes_max == 4096  # type: ignore[attr-defined]
    assert "a batch takes about 2 ms" in side.stats.explain[1]


@virtual
async def test_it_tells_where_the_last_message_went():
    side = Probed(parallelism=2)
    await side.send(0, SendOptions("k"))
    assert side.stats.explain[-1] == f"the last message took lane {side.lanes.last}: its key: order is kept"
    assert side.stats.lanes == 2
