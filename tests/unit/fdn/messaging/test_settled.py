"""An answer that is there already: awaited often, and taken wherever asyncio takes a coroutine."""

import asyncio
from typing import Any

import pytest

from fdn.messaging.settled import settled
from fdn.testing import virtual


@virtual
async def test_it_gives_its_result_each_time_without_a_turn_of_the_loop():
    loop = asyncio.get_running_loop()
    turns: list[str] = []
    loop.call_soon(turns.append, "a turn")
    answer = settled(7, loop)
    assert [await answer, await answer] == [7, 7]
    assert turns == []


@virtual
async def test_asyncio_takes_it_for_a_coroutine():
    answer: Any = settled("x", asyncio.get_running_loop())
    assert await asyncio.create_task(answer) == "x"
    assert [*await asyncio.gather(answer, answer)] == ["x", "x"]
    assert await asyncio.wait_for(answer, 1) == "x"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(answer)
    assert task.result() == "x"


@virtual
async def test_a_task_of_it_can_be_cancelled_before_it_begins():
    answer: Any = settled("x", asyncio.get_running_loop())
    task = asyncio.create_task(answer)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await answer == "x"
