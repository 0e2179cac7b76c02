import asyncio
import threading
from collections.abc import AsyncIterator

from fdn.runtime.inspection import loop_state, source_lines, thread_stacks
from tests.unit.fdn.harness import virtual


def test_every_thread_and_where_it_is():
    ready, end = threading.Event(), threading.Event()

    def waits_here() -> None:
        ready.set()
        end.wait()

    thread = threading.Thread(target=waits_here, name="waiter", daemon=True)
    thread.start()
    ready.wait()
    try:
        stacks = {stack["thread"]: stack for stack in source_lines(thread_stacks())}
    finally:
        end.set()
        thread.join()
    waiter = stacks["waiter"]
    assert waiter["daemon"]
    (mine,) = [frame for frame in waiter["frames"] if frame["file"] == __file__]
    assert mine["function"].endswith("waits_here")
    assert mine["line"] > 0
    assert stacks[threading.current_thread().name]["frames"][-1]["function"] == "thread_stacks"


async def inner() -> None:
    await asyncio.sleep(5)


async def outer() -> None:
    await inner()


@virtual
async def test_tasks_show_the_whole_way_to_what_they_wait_for():
    task = asyncio.create_task(outer(), name="a task")
    await asyncio.sleep(0)
    state = loop_state(asyncio.get_running_loop())
    task.cancel()
    assert state["tasks"] == 2
    assert state["timers"] >= 1
    (shown,) = [shown for shown in state["shown"] if shown["name"] == "a task"]
    assert shown["coroutine"] == "outer"
    assert [frame["function"] for frame in shown["frames"]] == ["outer", "inner", "sleep"]
    assert shown["waits_for"] == "FutureIter"


@virtual
async def test_a_task_that_has_not_begun_and_generators():
    async def items() -> AsyncIterator[object]:
        yield await asyncio.get_running_loop().create_future()

    async def reads() -> None:
        async for _ in items():
            pass

    task = asyncio.create_task(reads())
    fresh = loop_state(asyncio.get_running_loop())
    assert fresh["tasks"] == 2
    await asyncio.sleep(0)
    waiting = [
        shown for shown in loop_state(asyncio.get_running_loop())["shown"] if shown["coroutine"].endswith("reads")
    ]
    task.cancel()
    assert waiting[0]["frames"][0]["function"].endswith("reads")
