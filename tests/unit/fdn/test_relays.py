"""Clusters whose network is cut between two members that are both alive: they go on talking over others."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fdn
from fdn.runtime.facts import RouteChanged
from tests.unit.fdn.harness import World, until, virtual

app = fdn.App("relays")


@app.service("who")
class Who:
    def __init__(self, node: fdn.Node) -> None:
        self.node = node
        self.heard: list[int] = []

    def name(self) -> str:
        return self.node.name

    async def echo(self, data: bytes) -> bytes:
        return data

    def note(self, number: int) -> None:
        self.heard.append(number)

    def noted(self) -> list[int]:
        return self.heard

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number


def via(node: fdn.Node, other: fdn.Node) -> tuple[str, ...]:
    (member,) = [member for member in node.members() if member.node == other.id]
    return member.via


async def talk(one: fdn.Node, other: fdn.Node) -> None:
    """Make `other` one that is talked to."""
    assert await one.call(f"who.name@{other.name}") == other.name


async def cut_between(world: World, one: fdn.Node, other: fdn.Node) -> None:
    await talk(one, other)
    world.cut(one, other)
    await until(lambda: via(one, other))


@virtual
async def test_calls_go_on_over_a_third_when_the_direct_way_is_cut():
    async with World() as world:
        n1, n2, n3 = await world.cluster(3, app)
        facts = n1.facts()
        await cut_between(world, n1, n3)
        assert via(n1, n3) == (n2.id,)
        assert await n1.call("who.name@n3") == "n3"
        assert await n3.call("who.name@n1") == "n1"
        assert await n1.call("who.echo@n3", bytes(300_000)) == bytes(300_000)
        assert via(n3, n1) == (n2.id,)
        routed = [fact async for fact in _until_idle(facts) if isinstance(fact, RouteChanged)]
        assert [(fact.name, fact.via, fact.reason) for fact in routed] == [
            ("n3", ("n2",), "it does not answer directly")
        ]
        (row,) = [row for row in await n1.ask("n1", "fdn.node.ways") if row["name"] == "n3"]
        assert row["via"] == ["n2"]
        assert "it does not answer directly" in row["why"]
        stats = await n2.stats()
        assert stats.data.relaying.relayed > 0
        assert stats.data.relaying.unrelayed == stats.data.relaying.malformed == 0
        assert stats.dispatch.calls == 0, "what is relayed touched user code"


async def _until_idle(facts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    while True:
        try:
            yield await asyncio.wait_for(anext(facts), 0.01)
        except TimeoutError:
            return


@virtual
async def test_casts_streams_and_events_go_over_it_too():
    async with World() as world:
        n1, _, n3 = await world.cluster(3, app)
        events: list[int] = []
        await n3.subscribe("t.numbers", events.append)
        await n1.publish("t.numbers", -1)
        await cut_between(world, n1, n3)
        for number in range(2000):
            await n1.cast("who.note@n3", number)
        assert await n1.call("who.noted@n3") == list(range(2000))
        assert [item async for item in n1.stream("who.count@n3", 3000)] == list(range(3000))
        for number in range(50):
            await n1.publish("t.numbers", number)
        await until(lambda: len(events) == 51)
        assert events == [-1, *range(50)]


@virtual
async def test_when_the_direct_way_is_back_it_is_taken_again():
    async with World() as world:
        n1, n2, n3 = await world.cluster(3, app)
        await cut_between(world, n1, n3)
        await talk(n1, n3)
        world.heal(n1, n3)
        await until(lambda: not via(n1, n3) and not via(n3, n1))
        relayed = (await n2.stats()).data.relaying.relayed
        for _ in range(10):
            await talk(n1, n3)
        assert (await n2.stats()).data.relaying.relayed == relayed


@virtual
async def test_when_the_relay_dies_another_takes_its_place():
    async with World() as world:
        n1, n2, n3, n4 = await world.cluster(4, app)
        await cut_between(world, n1, n3)
        await talk(n1, n3)
        first = via(n1, n3)
        relay = n2 if first == (n2.id,) else n4
        other = n4 if relay is n2 else n2
        under_way = asyncio.ensure_future(n1.call("who.echo@n3", b"x"))
        world.crash(relay)
        await until(lambda: via(n1, n3) == (other.id,))
        assert await n1.call("who.name@n3") == "n3"
        await asyncio.wait([under_way])
        assert under_way.exception() is None or isinstance(under_way.exception(), fdn.Error)


@virtual
async def test_a_path_may_lead_over_two():
    """A chain n1 - n2 - n3 - n4, in which only neighbours reach each other."""
    async with World() as world:
        nodes = await world.cluster(4, app)
        n1, n2, n3, n4 = nodes
        await talk(n1, n4)
        for one, other in ((n1, n3), (n1, n4), (n2, n4)):
            world.cut(one, other)
        await until(lambda: via(n1, n4) == (n2.id, n3.id))
        assert await n1.call("who.name@n4") == "n4"


@virtual
async def test_without_anybody_in_between_calls_fail_as_ever():
    async with World() as world:
        n1, n2 = await world.cluster(2, app)
        await talk(n1, n2)
        world.cut(n1, n2)
        with pytest.raises(fdn.Error):
            await n1.call("who.name@n2", timeout=20.0)
        assert via(n1, n2) == ()


@virtual
async def test_switched_off_nothing_is_relayed():
    async with World() as world:
        n1, _, n3 = await world.cluster(3, app, relay=fdn.settings.RelaySettings(enabled=False))
        await talk(n1, n3)
        world.cut(n1, n3)
        with pytest.raises(fdn.Error):
            await n1.call("who.name@n3", timeout=10.0)
        assert via(n1, n3) == ()
        assert (await n1.stats()).control.relay is None
        assert "relaying is off" in (await n1.ask("n1", "fdn.node.ways"))[0]["why"]


@virtual
async def test_an_idle_cluster_measures_nothing():
    async with World() as world:
        n1, _, n3 = await world.cluster(3, app)
        await talk(n1, n3)
        assert (await n1.stats()).control.relay is not None
        await asyncio.sleep(200.0)  # the links are closed as idle
        stats = (await n1.stats()).control.relay
        assert stats is not None
        assert (stats.in_use, stats.changes) == (0, 0)


@virtual
async def test_a_data_connection_that_cannot_be_had_is_gone_round_and_tried_on():
    """All is well between the control planes: only messages do not get through, as behind a firewall."""
    async with World() as world:
        n1, n2, n3 = await world.cluster(3, app)
        data = n1.endpoints["data"], n3.endpoints["data"]
        world.network.cut(*data)
        with pytest.raises(fdn.Error):
            await n1.call("who.name@n3", timeout=30.0)
        await until(lambda: via(n1, n3) == (n2.id,))
        assert await n1.call("who.name@n3") == "n3"
        assert await n3.call("who.name@n1") == "n1"
        (row,) = [row for row in await n1.ask("n1", "fdn.node.ways") if row["name"] == "n3"]
        assert "it cannot be connected to directly" in row["why"]
        world.network.heal(*data)
        await until(lambda: not via(n1, n3) and not via(n3, n1))
        relayed = (await n2.stats()).data.relaying.relayed
        await talk(n1, n3)
        assert (await n2.stats()).data.relaying.relayed == relayed


@virtual
async def test_a_call_that_waits_for_the_direct_way_goes_on_over_another():
    async with World() as world:
        n1, n2, n3 = await world.cluster(3, app)
        await cut_between(world, n1, n3)
        await asyncio.sleep(200.0)  # nobody talks: no route, and no link
        assert via(n1, n3) == ()
        waiting = [asyncio.ensure_future(n1.call("who.name@n3", timeout=20.0)) for _ in range(5)]
        assert await asyncio.gather(*waiting) == ["n3"] * 5
        assert via(n1, n3) == (n2.id,)


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_calls_are_answered_once_or_fail_while_ways_come_and_go(seed: int):
    """Each call has one answer, of the node that was asked, whatever way it took; and after all is healed they are
    direct.
    """
    rng = random.Random(seed)
    async with World(seed=seed) as world:
        nodes = await world.cluster(4, app)
        answered = failed = 0
        for _ in range(15):
            one, other = rng.sample(nodes, 2)
            if rng.random() < 0.5:
                world.cut(one, other)
            else:
                world.heal(one, other)
            for _ in range(4):
                caller, callee = rng.sample(nodes, 2)
                try:
                    assert await caller.call(f"who.name@{callee.name}", timeout=2.0) == callee.name
                    answered += 1
                except fdn.Error:
                    failed += 1
        assert answered
        assert failed  # else nothing was cut that mattered
        world.heal()
        await world.settle()
        await until(lambda: not any(member.via for node in nodes for member in node.members()))
        for caller in nodes:
            for callee in nodes:
                await talk(caller, callee)
        stats = [(await node.stats()).data for node in nodes]
        assert all(each.relaying.malformed == each.handler_faults == 0 for each in stats)
