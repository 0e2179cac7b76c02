"""Time that jumps: it passes when nobody does anything, and in no other way."""

import asyncio
import inspect
import threading
import time

import pytest

import fdn
from fdn.testing.clock import VirtualLoop, until, virtual
from fdn.testing.cluster import Cluster


@virtual
async def test_an_hour_passes():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    begun = loop.time()
    await asyncio.sleep(3600)
    assert loop.time() - begun == 3600


@virtual
async def test_what_is_due_first_comes_first():
    order: list[int] = []

    async def after(seconds: int) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    await asyncio.gather(*(after(seconds) for seconds in (3, 1, 2)))
    assert order == [1, 2, 3]


@pytest.mark.parametrize("number", [1])
@virtual
async def test_fixtures_and_parameters_are_those_of_the_test(number: int, tmp_path: object):
    assert number == 1
    assert tmp_path


@virtual
async def test_while_a_thread_works_the_clock_stands_still():
    loop = asyncio.get_running_loop()
    go = threading.Event()
    begun = loop.time()
    working = asyncio.create_task(asyncio.to_thread(go.wait, 10))
    later = asyncio.create_task(asyncio.sleep(60))
    threading.Timer(0.05, go.set).start()
    assert await working
    assert loop.time() == begun
    await later
    assert loop.time() == begun + 60


@virtual
async def test_a_service_on_threads_is_waited_for():
    app = fdn.App()

    @app.service("work", threads=1)
    def work() -> str:
        time.sleep(0.01)
        return "done"

    async with Cluster(2, app=app) as cluster:
        assert await cluster[0].call("work@n2", timeout=0.001) == "done"


def test_a_loop_that_nothing_can_wake_says_so():
    @virtual
    async def test() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing is left that could ever wake the loop"):
        test()


def test_a_failed_callback_fails_the_test():
    @virtual
    async def test() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        test()


@virtual
async def test_until_gives_up():
    begun = asyncio.get_running_loop().time()
    with pytest.raises(AssertionError, match="not within 5 virtual seconds: the moon"):
        await until(lambda: False, "the moon", 5)
    assert asyncio.get_running_loop().time() >= begun + 5


def test_what_it_makes_is_no_coroutine_function():
    assert not inspect.iscoroutinefunction(test_an_hour_passes)
