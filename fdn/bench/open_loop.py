"""Requests at times that are fixed beforehand, made on the event loop that is measured.

Unlike `fdn.bench.metronome` it is bound to the loop's own timers, which are up to a millisecond late; in return it
makes tens of thousands of requests a second. Latencies count from the time at which a request was due, so that what
waits because the loop was late counts as late.
"""

import asyncio
import collections
import dataclasses
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from fdn.errors import DeadlineExceeded, Error, Overloaded

__all__ = ("Offered", "offer", "poisson", "steady")

_AT_ONCE_MAX: Final = 32  # requests that are begun, when late, before anything else has its turn


@dataclasses.dataclass(slots=True)
class Offered:
    """What became of the requests.

    Attributes:
        durations_s: Of those that were answered in the window of time that counts, from when each was due.
        outcomes: How many, window or not, were `answered`, `expired` (their deadline passed), `refused`
            (`Overloaded`), `failed`, or `turned_away` before they were made, because too many were under way.
    """

    durations_s: list[float] = dataclasses.field(default_factory=list)
    outcomes: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)

    @property
    def offered(self) -> int:
        """All of them."""
        return self.outcomes.total()


def steady(rate: float, seconds: float) -> Iterator[float]:
    """Seconds after the start at which requests are due: the same time between any two."""
    return (number / rate for number in range(round(rate * seconds)))


def poisson(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """The same as independent users make them: exponential times between."""
    at = rng.expovariate(rate)
    while at < seconds:
        yield at
        at += rng.expovariate(rate)


async def offer(
    request: Callable[[], Awaitable[Any]],
    times: Iterator[float],
    under_way_max: int = 1_000_000,
    window: tuple[float, float] = (0.0, math.inf),
) -> Offered:
    """Make a request at each of those times, however many are still under way, and wait for all.

    Args:
        request: Makes one; its errors of fdn are counted, any other one is a bug and ends the run.
        times: Ascending, in seconds from now.
        under_way_max: Beyond so many, the next is counted as turned away in place of being made.
        window: Seconds from now between which answers count: after queues have filled, before they are drained.
    """
    loop = asyncio.get_running_loop()
    offered, under_way = Offered(), 0
    started = loop.time()
    begins_at, ends_at = started + window[0], started + window[1]

    async def one(due_at: float) -> None:
        nonlocal under_way
        try:
            await request()
            answered_at = loop.time()
            if begins_at <= answered_at <= ends_at:
                offered.durations_s.append(answered_at - due_at)
            outcome = "answered"
        except DeadlineExceeded:
            outcome = "expired"
        except Overloaded:
            outcome = "refused"
        except Error:
            outcome = "failed"
        finally:
            under_way -= 1
        offered.outcomes[outcome] += 1

    async with asyncio.TaskGroup() as group:
        for number, at in enumerate(times):
            if number % _AT_ONCE_MAX == 0:
                await asyncio.sleep(0)
            if (left_s := started + at - loop.time()) > 0:
                await asyncio.sleep(left_s)
            if under_way >= under_way_max:
                offered.outcomes["turned_away"] += 1
                continue
            under_way += 1
            group.create_task(one(started + at))
    return offered
