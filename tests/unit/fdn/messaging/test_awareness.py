import asyncio
from typing import Any

import pytest

import fdn
from fdn.messaging.awareness import KNOWS
from tests.unit.fdn.harness import World, until, virtual


async def version(of: fdn.Node) -> Any:
    return await of._host.call(lambda: of._control.record_version(of.id))


@virtual
async def test_a_member_says_whether_it_holds_a_version():
    async with World() as world:
        first, second = await world.cluster(2)
        generation, counter = await version(first)
        assert await first.ask("n2", KNOWS, [first.id, [generation, counter], 1000]) is True
        assert await first.ask("n2", KNOWS, [first.id, [generation, counter + 1], 100]) is False
        assert await first.ask("n2", KNOWS, ["nobody", [0, 0], 0]) is False
        assert await first.ask("n1", KNOWS, [second.id, [0, 0], 1000]) is True


@virtual
async def test_it_waits_for_what_is_under_way():
    async with World() as world:
        first, second = await world.cluster(2)
        generation, counter = await version(first)
        asked = asyncio.create_task(second.ask("n2", KNOWS, [first.id, [generation, counter + 1], 5000]))
        await asyncio.sleep(0.5)
        assert not asked.done()
        first.serve("more", lambda: None)
        assert await asked is True
        assert any(offer.name == "more" for offer in second.offers()[first.id])


@virtual
async def test_what_is_no_question():
    async with World() as world:
        (node,) = await world.cluster(1)
        for payload in (None, [], ["n1", 7, 0], ["n1", ["a", 0], 0], [1, [0, 0], 0], {"node": "n1"}):
            with pytest.raises(fdn.BadRequest, match="takes a list"):
                await node.ask("n1", KNOWS, payload)


@virtual
async def test_askers_without_end_are_refused():
    async with World() as world:
        first, _second = await world.cluster(2)
        asked = [asyncio.create_task(first.ask("n2", KNOWS, ["x", [9, 9], 1000])) for _ in range(200)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert answers.count(False) == 128
        assert sum(isinstance(answer, fdn.Overloaded) for answer in answers) == 72


@virtual
async def test_who_is_told_and_who_not():
    async with World() as world:
        first, second, third = await world.cluster(3)
        assert await first._awareness.wait_told(1.0) == ()
        world.cut(first, second)
        first.serve("more", lambda: None)
        assert await first._awareness.wait_told(0.2) == ("n2",)
        world.heal(first, second)
        assert await first._awareness.wait_told(5.0) == ()
        del third


@virtual
async def test_one_that_dies_meanwhile_is_not_waited_for():
    async with World() as world:
        first, second, _third = await world.cluster(3)
        loop = asyncio.get_running_loop()
        world.crash(second)
        started = loop.time()
        assert await first._awareness.wait_told(60.0) == ()
        assert loop.time() - started < 30
        await until(lambda: [m.status for m in first.members() if m.name == "n2"] == ["dead"])


@virtual
async def test_one_whose_users_loop_is_stuck_is_not_aware():
    async with World() as world:
        first, second = await world.cluster(2)

        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        second._awareness._caught_up = never
        assert await first._awareness.wait_told(0.5) == ("n2",)
