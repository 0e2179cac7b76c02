import asyncio
from pathlib import Path

import pytest

from fdn.demo.up import Order, Voice, _finished, up
from fdn.errors import ConfigError, Error
from fdn.local.cluster import ClusterPlan
from fdn.local.interrupt import Interrupt


def test_a_task_that_ends_first_is_finished():
    async def main() -> None:
        async def work() -> int:
            return 7

        task = asyncio.create_task(work())
        assert await _finished(task, Interrupt())
        assert task.result() == 7

    asyncio.run(main())


def test_a_signal_cancels_the_task_and_waits_for_its_end():
    cleaned: list[str] = []

    async def main() -> None:
        interrupt = Interrupt()

        async def work() -> int:
            interrupt.on_signal()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append("yes")
            return 0

        assert not await _finished(asyncio.create_task(work()), interrupt)

    asyncio.run(main())
    assert cleaned == ["yes"]


def test_an_error_on_the_way_out_of_an_interrupted_task_is_not_news():
    async def main() -> None:
        interrupt = Interrupt()

        async def work() -> int:
            interrupt.on_signal()
            try:
                await asyncio.Event().wait()
            finally:
                raise Error("the node went away")

        assert not await _finished(asyncio.create_task(work()), interrupt)

    asyncio.run(main())


def test_a_node_that_cannot_start_is_an_error_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "n1").write_text("a file where the data directory should be")
    voice = Voice(lambda rows, form_s: None, lambda text: None, lambda text: None, lambda result: None)
    with pytest.raises(ConfigError, match="cannot be used for node n1: File exists"):
        asyncio.run(up(Order(ClusterPlan(tmp_path), 1), voice))
