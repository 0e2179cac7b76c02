import asyncio
import itertools
import random

import pytest

from fdn.bench.open_loop import offer, poisson, steady
from fdn.errors import DeadlineExceeded, NotFound, Overloaded
from tests.unit.fdn.harness import virtual


def test_schedules() -> None:
    assert list(steady(4, 1)) == [0.0, 0.25, 0.5, 0.75]
    times = list(poisson(1000, 10, random.Random(1)))
    assert times == sorted(times)
    assert 9500 < len(times) < 10_500
    assert max(times) < 10
    assert list(poisson(1000, 10, random.Random(1))) == times


@virtual
async def test_a_stall_makes_all_late_that_were_due_meanwhile() -> None:
    numbers = itertools.count()
    stalled = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stalled.set)

    async def request() -> None:
        if next(numbers) >= 10:
            await stalled.wait()

    offered = await offer(request, steady(20, 1.0))
    assert offered.offered == offered.outcomes["answered"] == 20
    assert [round(each, 3) for each in sorted(offered.durations_s)[10:]] == [
        round(0.05 * number, 3) for number in range(1, 11)
    ]


@virtual
async def test_every_end_is_counted() -> None:
    ends = iter([None, DeadlineExceeded(""), Overloaded(""), NotFound(""), None])

    async def request() -> None:
        if (error := next(ends)) is not None:
            raise error

    offered = await offer(request, steady(10, 0.5))
    assert offered.outcomes == {"answered": 2, "expired": 1, "refused": 1, "failed": 1}
    assert len(offered.durations_s) == 2


@virtual
async def test_a_bound_and_a_window() -> None:
    async def request() -> None:
        await asyncio.sleep(1.0)

    offered = await offer(request, steady(10, 2.0), under_way_max=5, window=(1.2, 1.4))
    assert offered.outcomes == {"answered": 10, "turned_away": 10}
    assert [round(each, 3) for each in offered.durations_s] == [1.0] * 3  # those of 1.2, 1.3 and 1.4


@virtual
async def test_a_mistake_of_ours_is_not_counted_but_raised() -> None:
    async def request() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await offer(request, steady(10, 0.1))
