"""A node whose user loop is stuck must not look healthy; on whole nodes, in virtual time."""

import asyncio
from typing import Any

import pytest

import fdn
from fdn.runtime.facts import DataPlaneLagging, DataPlaneRecovered
from fdn.runtime.view import Member
from tests.unit.fdn.harness import World, until, virtual

SETTINGS: dict[str, Any] = {"data": {"stall_warn_s": 0.5, "stall_max_s": 3.0}}


def member(node: fdn.Node, name: str) -> Member:
    found = node._view.named(name)
    assert found is not None
    return found


def who() -> fdn.App:
    app = fdn.App()

    @app.service("who")
    def answer(context: fdn.Context) -> str:
        return context.node

    return app


def wedge(node: fdn.Node) -> None:
    """From now on the user's loop does not answer the control plane's beats."""
    node._control._data_side.beat = lambda: None  # type: ignore[method-assign]


def unwedge(node: fdn.Node) -> None:
    del node._control._data_side.beat
    node._control.on_beat()


@virtual
async def test_a_stalled_node_is_avoided_a_wedged_one_unreachable_and_both_come_back(caplog: pytest.LogCaptureFixture):
    async with World() as world:
        first, second, third = await world.cluster(3, who(), **SETTINGS)
        facts = second.facts()
        wedge(second)
        await until(lambda: member(first, "n2").state == member(third, "n2").state == "stalled")
        assert member(first, "n2").reachable
        assert member(first, "n2").lag_ms >= 500
        assert {await first.call("who") for _ in range(6)} == {"n1", "n3"}
        await until(lambda: member(first, "n2").state == member(third, "n2").state == "wedged")
        for node in (first, third):
            assert not member(node, "n2").reachable
            assert member(node, "n2").status == "alive"
        await asyncio.sleep(60)
        assert member(first, "n2").status == "alive"
        assert (await first.stats()).control.swim.suspicions == 0
        unwedge(second)
        await until(lambda: member(first, "n2").reachable and member(first, "n2").state == "serving")
        assert {await first.call("who") for _ in range(6)} == {"n1", "n2", "n3"}
        await second.stop()
        seen = [fact async for fact in facts]
        assert [fact.state for fact in seen if isinstance(fact, DataPlaneLagging)] == ["stalled", "wedged"]
        (recovered,) = [fact for fact in seen if isinstance(fact, DataPlaneRecovered)]
        assert recovered.lag_s > 60
        assert caplog.text.count("the user's loop has not turned for") == 2


@virtual
async def test_whoever_serves_alone_is_asked_while_stalled_and_not_while_wedged():
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", who(), **SETTINGS)
        wedge(second)
        await until(lambda: member(first, "n2").state == "stalled")
        assert await first.call("who") == "n2"
        await until(lambda: member(first, "n2").state == "wedged")
        with pytest.raises(fdn.NotFound):
            await first.call("who")
        unwedge(second)
        await until(lambda: member(first, "n2").state == "serving")
        assert await first.call("who") == "n2"


@virtual
async def test_a_wedged_node_does_not_spin():
    async with World() as world:
        node = await world.start("n1", **SETTINGS)
        wedge(node)
        await until(lambda: node._control._watch.state == "wedged")
        turns = 0
        on_timer = node._control._on_timer

        def counted() -> None:
            nonlocal turns
            turns += 1
            on_timer()

        node._control._on_timer = counted  # type: ignore[method-assign]
        node._control._set_timer()
        await asyncio.sleep(30)
        assert turns < 100


@virtual
async def test_a_draining_node_stays_draining_however_its_loop_is():
    async with World() as world:
        first, second = await world.cluster(2, **SETTINGS)
        await second.drain()
        wedge(second)
        await asyncio.sleep(10)
        assert member(first, "n2").state == "draining"
