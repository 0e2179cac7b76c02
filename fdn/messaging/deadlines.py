"""Deadlines by the thousand, on one timer.

A timer of the loop for each call costs about 1 us and stays in the loop's heap until long after the answer has come.
Nearly every deadline is never reached, so what matters is to set and to forget one quickly. Here they are put into
buckets of a few milliseconds (a hashed timing wheel: Varghese and Lauck 1987, scheme 6), and one timer waits for the
first bucket. A deadline is never early, and late by `TICK_S` at most.

Buckets that have become empty are swept out once there are more of them than of the others, so that memory follows the
number of deadlines that are held.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ("TICK_S", "Deadlines")

T = TypeVar("T")
_TICKS_PER_S: Final = 256  # a power of two: multiplying by it is exact
TICK_S: Final = 1 / _TICKS_PER_S
_SWEEP_AT: Final = 1024  # buckets; fewer are not worth a look


class Deadlines(Generic[T]):
    """Things that have a deadline.

    Args:
        expire: Called with each thing whose deadline has passed, which is then held no more. Must not raise.
        loop: Whose time counts.
    """

    def __init__(self, expire: Callable[[T], None], loop: asyncio.AbstractEventLoop) -> None:
        self._expire = expire
        self._loop = loop
        self._buckets: dict[int, set[T]] = {}
        self._order: list[int] = []  # a heap of the keys of `_buckets`
        self._sweep_at = _SWEEP_AT
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0  # the bucket that `_timer` waits for

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._buckets.values()))

    @property
    def buckets(self) -> int:
        """How many buckets there are, the empty ones included."""
        return len(self._buckets)

    def add(self, thing: T, at: float) -> set[T]:
        """Hold `thing` until `at`, as loop time.

        Returns:
            Where it is held: discard it from there to forget its deadline.
        """
        key = int(at * _TICKS_PER_S)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._new_bucket(key)
        bucket.add(thing)
        return bucket

    def close(self) -> None:
        """Forget all of them."""
        self._buckets.clear()
        self._order.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _new_bucket(self, key: int) -> set[T]:
        if len(self._buckets) >= self._sweep_at:
            self._sweep()
        bucket = self._buckets[key] = set()
        heapq.heappush(self._order, key)
        if self._timer is None or key < self._wakes_at:
            self._wake_at(key)
        return bucket

    def _sweep(self) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket}
        self._order = sorted(self._buckets)  # which is a heap
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._buckets))

    def _wake_at(self, key: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = key
        self._timer = self._loop.call_at((key + 1) * TICK_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = int(self._loop.time() * _TICKS_PER_S)
        order = self._order
        while order and order[0] < now:
            due = self._buckets.pop(heapq.heappop(order))
            while due:  # one by one: to expire one may forget another
                self._expire(due.pop())
        while order and not self._buckets[order[0]]:
            del self._buckets[heapq.heappop(order)]
        if order and (self._timer is None or order[0] < self._wakes_at):
            self._wake_at(order[0])
