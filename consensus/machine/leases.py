"""When a session has been silent for too long: decided by the leader alone, and then by the log.

Clocks of two machines are never compared. The leader counts from when it *heard* of a session, its owner from when it
*sent*, which is earlier: so the owner gives up first. A new leader has heard of nobody yet and gives all of them their
whole time again. A session that the leader has begun to expire is not renewed any more: its owner must not be told that
it lives while its end is on its way into the log.
"""

import heapq
from collections.abc import Iterable

from consensus.identity import LogIndex
from consensus.machine.sessions import Session

__all__ = ("Leases",)


class Leases:
    """Deadlines of sessions, in the leader's monotonic seconds. Empty on everybody else."""

    def __init__(self) -> None:
        self._ends: dict[LogIndex, float] = {}
        self._ttls: dict[LogIndex, float] = {}
        self._heap: list[tuple[float, LogIndex]] = []  # may hold earlier ends than `_ends`: found when they come up
        self._doomed: set[LogIndex] = set()

    def lead(self, sessions: Iterable[Session], now: float) -> None:
        """This node leads from now on."""
        self.follow()
        for session in sessions:
            self.open(session.number, session.ttl_s, now)

    def follow(self) -> None:
        """This node does not lead any more."""
        self._ends.clear()
        self._ttls.clear()
        self._heap.clear()
        self._doomed.clear()

    def open(self, number: LogIndex, ttl_s: float, now: float) -> None:
        """A session was opened."""
        self._ttls[number] = ttl_s
        self._ends[number] = now + ttl_s
        heapq.heappush(self._heap, (now + ttl_s, number))

    def close(self, number: LogIndex) -> None:
        """A session has ended. Idempotent."""
        self._ends.pop(number, None)
        self._ttls.pop(number, None)
        self._doomed.discard(number)

    def renew(self, number: LogIndex, now: float) -> bool:
        """Its owner was heard. False: it has ended, or will."""
        if number not in self._ends or number in self._doomed:
            return False
        self._ends[number] = max(self._ends[number], now + self._ttls[number])
        return True

    def expired(self, now: float) -> tuple[LogIndex, ...]:
        """Those to be expired by the log now. Each is told once."""
        found: list[LogIndex] = []
        while self._heap and self._heap[0][0] <= now:
            _, number = heapq.heappop(self._heap)
            end = self._ends.get(number)
            if end is None or number in self._doomed:
                continue
            if end > now:
                heapq.heappush(self._heap, (end, number))
            else:
                self._doomed.add(number)
                found.append(number)
        return tuple(found)

    def undone(self, numbers: Iterable[LogIndex], now: float) -> None:
        """Their expiry did not get into the log: they are still due."""
        for number in numbers:
            if number in self._doomed:
                self._doomed.discard(number)
                heapq.heappush(self._heap, (now, number))

    def next_deadline(self) -> float | None:
        """When to ask for `expired`; it may be too early."""
        return self._heap[0][0] if self._heap else None

    def left_s(self, number: LogIndex, now: float) -> float | None:
        """Seconds that a session has left, for people; None if it is not known here."""
        end = self._ends.get(number)
        return None if end is None else max(0.0, end - now)
