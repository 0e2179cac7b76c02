import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from fdn.context import Context, current_scope
from fdn.errors import ConfigError
from fdn.runtime.cron import Cron
from fdn.runtime.schedule import Interval, Schedule
from fdn.runtime.timers import Timers, TimersStats
from tests.unit.fdn.harness import until, virtual


class Given:
    """What handlers may ask for here."""


GIVEN = Given()


class Wall:
    """A wall clock that goes with the loop's, and can be set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.ahead = now - asyncio.get_running_loop().time()

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


def make(
    handler: Callable[..., Any], schedule: Schedule | float, wall: Callable[[], float] = lambda: 0.0, **options: Any
) -> Timers:
    timers = Timers("n1", "n1-00", asyncio.get_running_loop(), wall, random.Random(1), {Given: GIVEN})
    timers.add("tick", handler, Interval(schedule) if isinstance(schedule, float) else schedule, **options)
    timers.start()
    return timers


def beginnings(into: list[float]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    return lambda: into.append(round(loop.time() - started, 6))


@virtual
async def test_the_first_run_is_after_one_interval():
    runs: list[float] = []
    timers = make(beginnings(runs), 10.0)
    await until(lambda: len(runs) == 3)
    assert runs == [10.0, 20.0, 30.0]
    await timers.close()


@virtual
async def test_or_at_once():
    runs: list[float] = []
    timers = make(beginnings(runs), 10.0, at_once=True)
    await until(lambda: len(runs) == 3)
    assert runs == [0.0, 10.0, 20.0]
    await timers.close()


@virtual
async def test_it_never_overlaps_with_itself(caplog: pytest.LogCaptureFixture):
    running, worst = 0, 0
    runs: list[float] = []

    async def slow() -> None:
        nonlocal running, worst
        begun()
        running += 1
        worst = max(worst, running)
        await asyncio.sleep(25.0)
        running -= 1

    begun = beginnings(runs)
    timers = make(slow, 10.0)
    await until(lambda: len(runs) == 3, timeout_s=200.0)
    assert worst == 1
    assert runs == [10.0, 40.0, 70.0]  # 20 and 30 fell due while it ran
    assert timers.stats() == TimersStats(timers=1, running=1, runs=3, failed=0, skipped=4)
    await asyncio.sleep(21.0)
    assert timers.stats().skipped == 6, "those that the run under way has cost are counted by now"
    assert "timer tick: 2 skipped" in caplog.text
    await timers.close()


@virtual
async def test_an_error_is_logged_and_does_not_end_it(caplog: pytest.LogCaptureFixture):
    runs: list[float] = []

    async def fails() -> None:
        begun()
        if len(runs) == 1:
            raise ValueError("no disk")
        if len(runs) == 2:
            raise asyncio.CancelledError  # of something that the handler awaited

    begun = beginnings(runs)
    timers = make(fails, 10.0)
    await until(lambda: len(runs) == 3)
    assert timers.stats().failed == 2
    assert "no disk" in caplog.text
    assert runs == [10.0, 20.0, 30.0]
    await timers.close()


@virtual
async def test_jitter_puts_runs_off_and_keeps_the_grid():
    runs: list[float] = []
    timers = make(beginnings(runs), 10.0, jitter_s=4.0)
    await until(lambda: len(runs) == 20, timeout_s=300.0)
    offsets = [run - 10.0 * (number + 1) for number, run in enumerate(runs)]
    assert all(0.0 <= offset <= 4.0 for offset in offsets)
    assert len(set(offsets)) == 20
    await timers.close()


@virtual
async def test_it_is_given_what_it_asks_for():
    seen: list[Any] = []

    async def handler(given: Given, *, context: Context, limit: int = 3) -> None:
        scope = current_scope()
        assert scope is not None
        seen.append((given, context, scope.trace_id.hex(), limit))

    timers = make(handler, 10.0)
    await until(lambda: len(seen) == 2)
    (given, first, trace, _), (_, second, _, _) = seen
    assert given is GIVEN
    assert (first.node, first.caller, first.target, first.remaining_s()) == ("n1", "n1-00", "tick", float("inf"))
    assert first.trace_id == trace
    assert first.trace_id != second.trace_id
    assert current_scope() is None
    await timers.close()


@virtual
async def test_what_nobody_can_give():
    async def wants(order: int) -> None: ...
    async def unknown(order: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for handler, said in ((wants, "takes order: int"), (unknown, "cannot be read"), (lambda *rest: None, r"\*rest")):
        with pytest.raises(ConfigError, match=said):
            make(handler, 10.0)


@virtual
async def test_drain_finishes_what_runs_and_begins_nothing():
    done: list[float] = []

    async def slow() -> None:
        await asyncio.sleep(25.0)
        finished()

    finished = beginnings(done)
    timers = make(slow, 10.0)
    await asyncio.sleep(15.0)
    await timers.drain()
    assert done == [35.0]
    await asyncio.sleep(100.0)
    assert timers.stats() == TimersStats(timers=1, running=0, runs=1, failed=0, skipped=0)
    await timers.close()


@virtual
async def test_close_cancels_what_runs():
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    timers = make(slow, 10.0)
    await asyncio.sleep(15.0)
    await timers.close()
    assert ended == ["cancelled"]
    assert timers.stats().failed == 0
    await timers.drain()  # there is nothing left to wait for


@virtual
async def test_cron_goes_by_the_wall_clock():
    wall = Wall(1_000_000.0)  # 13:46:40
    runs: list[float] = []
    timers = make(lambda: runs.append(wall()), Cron("*/5 * * * *"), wall)
    await until(lambda: len(runs) == 2, timeout_s=1000.0)
    assert [round(run, 3) for run in runs] == [1_000_200.0, 1_000_500.0]
    await timers.close()


@virtual
async def test_a_clock_set_forward_is_noticed_within_a_minute():
    wall = Wall(1_000_000.0)
    runs: list[float] = []
    timers = make(lambda: runs.append(wall()), Cron("0 0 * * *"), wall)
    await asyncio.sleep(30.0)
    wall.ahead += 86_400.0
    await asyncio.sleep(60.0)
    assert len(runs) == 1
    await timers.close()


@virtual
async def test_a_clock_set_back_repeats_nothing_but_by_an_hour_or_more(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    wall = Wall(1_000_000.0)
    runs: list[float] = []
    timers = make(lambda: runs.append(wall()), Cron("*/5 * * * *"), wall)
    await until(lambda: len(runs) == 1, timeout_s=1000.0)
    wall.ahead -= 10.0
    await asyncio.sleep(61.0)
    assert len(runs) == 1, "13:50 came a second time"
    wall.ahead -= 86_400.0
    await until(lambda: len(runs) == 2, timeout_s=1000.0)
    assert "was set back" in caplog.text
    assert runs[1] < runs[0]
    await timers.close()
