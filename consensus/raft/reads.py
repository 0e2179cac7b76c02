"""Reads that see everything answered before them, without an entry in the log. Dissertation section 6.4.

A leader may have been replaced without knowing it. So before it answers a read it makes sure that it led after the read
arrived: it notes its commit index, sends a round of heartbeats, and when a majority has answered that round or a later
one, the noted index is no older than anything that was answered before the read. Reads share rounds: those that come
while one is out wait for the next. A leader that has committed nothing in its own term does not know yet how far
earlier ones committed; its reads wait for its first entry.

With leases (section 6.4.1) the rounds do double duty. Voters promise with each heartbeat to elect nobody for
`lease_s`, so from the start of an answered round a majority is bound for that long, less what clocks may drift.

A follower asks the leader for an index, one question at a time for all reads that came before it was sent.
"""

import collections
import dataclasses
import math
import random

from consensus.identity import LogIndex, NodeId
from consensus.raft.settings import RaftSettings

__all__ = ("ForwardedReads", "LeaderReads", "PendingRead", "Rounds")


@dataclasses.dataclass(frozen=True, slots=True)
class PendingRead:
    """Who waits: a request of this node, or the question of another."""

    number: int  # of the request, or the question's context
    origin: NodeId | None = None


class Rounds:
    """Heartbeat rounds of one leader, and when each began.

    Attributes:
        newest: The number of the last one begun; 0 before the first.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._void_upto = 0
        self._begun: collections.deque[tuple[int, float]] = collections.deque()

    def begin(self, now: float) -> int:
        self.newest += 1
        self._begun.append((self.newest, now))
        return self.newest

    def forget_before(self, agreed: int) -> None:
        """A majority answered `agreed`: when earlier ones began is of no use."""
        while self._begun and self._begun[0][0] < agreed:
            self._begun.popleft()

    def void(self) -> None:
        """No round begun so far counts for a lease."""
        self._void_upto = self.newest

    def lease_until(self, agreed: int, settings: RaftSettings) -> float:
        """How long nobody else can be elected, if a majority answered `agreed`."""
        if agreed <= self._void_upto or not settings.lease_s:
            return -math.inf
        begun = next((at for number, at in self._begun if number == agreed), -math.inf)
        return begun + settings.lease_s * (1 - settings.clock_drift_max)


class LeaderReads:
    """Reads at the leader: first they wait for a round, then for its answers."""

    def __init__(self) -> None:
        self._waiting: list[PendingRead] = []
        self._asked: collections.deque[tuple[int, LogIndex, list[PendingRead]]] = collections.deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_waiting(self) -> bool:
        """Whether reads wait for a round."""
        return bool(self._waiting)

    def add(self, read: PendingRead) -> None:
        self._waiting.append(read)
        self._count += 1

    def on_round(self, number: int, commit_index: LogIndex) -> None:
        """A round begins. Those that waited for one are served when it is answered."""
        if self._waiting:
            self._asked.append((number, commit_index, self._waiting))
            self._waiting = []

    def on_agreed(self, agreed: int) -> list[tuple[LogIndex, PendingRead]]:
        """A majority answered this round: who may read, and from which index on."""
        ready: list[tuple[LogIndex, PendingRead]] = []
        while self._asked and self._asked[0][0] <= agreed:
            _, index, reads = self._asked.popleft()
            ready.extend((index, read) for read in reads)
        self._count -= len(ready)
        return ready

    def take_all(self) -> list[PendingRead]:
        """We lead no more."""
        everybody = [read for _, _, reads in self._asked for read in reads] + self._waiting
        self._asked.clear()
        self._waiting, self._count = [], 0
        return everybody


class ForwardedReads:
    """Reads at a follower.

    Attributes:
        deadline: When the question that is out has been out for too long.
    """

    def __init__(self, timeout_s: float, chance: random.Random) -> None:
        self._timeout_s = timeout_s
        # Not from 0: an answer to a question from before a restart must not pass for one to a question after it.
        self._context = chance.getrandbits(48)
        self._asked: list[int] = []
        self._waiting: list[int] = []
        self._lease = True  # whether a lease will do for all that wait
        self.deadline = math.inf

    def __len__(self) -> int:
        return len(self._asked) + len(self._waiting)

    def add(self, request: int, lease: bool) -> None:
        self._waiting.append(request)
        self._lease = self._lease and lease

    def ask(self, now: float) -> tuple[int, bool] | None:
        """The question to send, as its context and whether a lease will do; None if one is out or nobody waits."""
        if self._asked or not self._waiting:
            return None
        self._asked, self._waiting = self._waiting, []
        lease, self._lease = self._lease, True
        self._context += 1
        self.deadline = now + self._timeout_s
        return self._context, lease

    def on_answer(self, context: int) -> list[int]:
        """The requests that this answers."""
        if context != self._context:
            return []
        self.deadline = math.inf
        requests, self._asked = self._asked, []
        return requests

    def take_all(self) -> list[int]:
        """The leader is lost, or does not answer."""
        requests = self._asked + self._waiting
        self._asked, self._waiting, self._lease = [], [], True
        self._context += 1  # a late answer is nobody's
        self.deadline = math.inf
        return requests
