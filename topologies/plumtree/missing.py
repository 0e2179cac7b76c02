"""Messages that were announced and have not come: whom to ask, and when. Plumtree section 3.5."""

import dataclasses
import heapq
import math

from topologies.identity import NodeId
from topologies.plumtree.messages import Announcement, MessageId

__all__ = ("Missing",)


@dataclasses.dataclass(slots=True)
class _Wanted:
    due: float
    announcements: dict[NodeId, Announcement]  # in the order in which they came
    asked: list[NodeId]


class Missing:
    """The timers of announced messages.

    Args:
        count_max: Past it no further message is waited for.
    """

    __slots__ = ("_max", "_timers", "_wanted")

    def __init__(self, count_max: int) -> None:
        self._max = count_max
        self._wanted: dict[MessageId, _Wanted] = {}
        self._timers: list[tuple[float, MessageId]] = []  # may hold some that are over; `_wanted` knows

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, id: MessageId) -> bool:
        return id in self._wanted

    def announced(self, by: NodeId, announcement: Announcement, due: float) -> bool:
        """Somebody holds a message. Its timer is started unless it runs; False if there is no room for another."""
        wanted = self._wanted.get(announcement.id)
        if wanted is None:
            if len(self._wanted) >= self._max:
                return False
            wanted = self._wanted[announcement.id] = _Wanted(due, {}, [])
            heapq.heappush(self._timers, (due, announcement.id))
        wanted.announcements[by] = announcement
        return True

    def arrived(self, id: MessageId) -> dict[NodeId, Announcement]:
        """It is here; returns who else had announced it."""
        wanted = self._wanted.pop(id, None)
        return {} if wanted is None else wanted.announcements

    def forget(self, peer: NodeId) -> None:
        """This peer cannot be asked any more."""
        for wanted in self._wanted.values():
            wanted.announcements.pop(peer, None)

    def next_deadline(self) -> float:
        """When the next timer ends; infinite without one."""
        while self._timers:
            due, id = self._timers[0]
            wanted = self._wanted.get(id)
            if wanted is not None and wanted.due == due:
                return due
            heapq.heappop(self._timers)
        return math.inf

    def next_to_ask(self, now: float, retry_s: float) -> tuple[MessageId, NodeId, Announcement] | None:
        """Whose turn it is, for one of those that are due; None if nothing is due.

        The caller takes those that nobody is left for with `given_up` first.
        """
        if self.next_deadline() > now:
            return None
        _, id = heapq.heappop(self._timers)
        wanted = self._wanted[id]
        by = next(iter(wanted.announcements))
        announcement = wanted.announcements.pop(by)
        wanted.asked.append(by)
        wanted.due = now + retry_s
        heapq.heappush(self._timers, (wanted.due, id))
        return id, by, announcement

    def given_up(self, now: float) -> tuple[MessageId, tuple[NodeId, ...]] | None:
        """One that is due, and nobody is left to ask for it; it is no longer waited for."""
        if self.next_deadline() > now:
            return None
        _, id = self._timers[0]
        wanted = self._wanted[id]
        if wanted.announcements:
            return None
        del self._wanted[id]
        return id, tuple(wanted.asked)
