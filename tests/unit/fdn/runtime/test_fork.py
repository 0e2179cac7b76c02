"""What becomes of a node in a forked child; the whole of it is tested in `tests/unit/fdn/test_node.py`."""

import asyncio
import os
import sys
from collections.abc import Callable

import pytest

from fdn.errors import Error
from fdn.runtime.fork import ForkGuard, detach_loop


def in_child(check: Callable[[], bool]) -> int:
    """The exit status of a child that runs `check`: 0 when it returned something true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_parent_may_and_the_child_may_not():
    guard = ForkGuard("this thing")
    told: list[int] = []
    guard.on_fork = lambda: told.append(os.getpid())

    def refused() -> bool:
        try:
            guard.check()
        except Error as error:
            return "this thing was started before a fork" in str(error) and told == [os.getpid()]
        return False

    guard.check()
    assert in_child(refused) == 0
    guard.check()
    assert not guard.forked
    assert told == []


def test_a_guard_made_in_the_child_is_its_own():
    ForkGuard("x")

    def works() -> bool:
        mine = ForkGuard("y")
        mine.check()
        return not mine.forked

    assert in_child(works) == 0


def test_a_grandchild_is_told_once():
    guard = ForkGuard("x")
    told: list[int] = []
    guard.on_fork = lambda: told.append(1)
    assert in_child(lambda: in_child(lambda: told == [1]) == 0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is what is inherited, and only Linux has it")
def test_a_child_that_closes_its_copy_of_the_loop_leaves_the_parents_awake():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        heard = asyncio.Event()
        loop.add_reader(reader, heard.set)

        def close_it() -> bool:
            detach_loop(loop)
            loop.remove_reader(reader)
            return True

        assert in_child(close_it) == 0
        os.write(writer, b"x")
        async with asyncio.timeout(20):
            await heard.wait()
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)

    asyncio.run(main())
