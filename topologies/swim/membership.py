"""Which members we believe in, and which news outranks which.

SWIM section 4.2 orders claims about one member by incarnation, then by how bad the news is; only the member itself
raises its incarnation. That makes claims a join-semilattice: whatever the order in which they arrive, all nodes end
up believing the same one. Departures from the paper:

- The paper's *confirm* is final. Here DEAD yields to a newer life, which is how a healed partition heals; what is final
  for its incarnation is LEFT. A SUSPECT of a newer life outranks DEAD too: it proves that there was a newer life.
- A claim carries the identity (name, endpoints, tags) of its incarnation. News of the same incarnation never replaces
  it, so an accuser cannot move a member to another address.
- Dead and left members stay in the table as graves for `forget_dead_s`, so that late news of their past is known to be
  old. Graves travel with their age: a node that learns of one buries it for what is left of its time, not for a full
  term, or two nodes would hand each other the same grave for ever.
"""

import heapq
import operator
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from topologies.identity import Incarnation, NodeId
from topologies.swim.interface import MemberChanged
from topologies.swim.messages import COUNTER_MAX, GENERATION_MAX, Claim, Status
from topologies.swim.settings import SwimSettings

__all__ = ("Membership", "outranks")

_Compare = Callable[[Incarnation, Incarnation], bool]

# (what we hold, what we hear) -> how the heard incarnation must compare for the news to win.
_OVERRIDES: Final[Mapping[tuple[Status, Status], _Compare]] = {
    (Status.ALIVE, Status.ALIVE): operator.gt,
    (Status.ALIVE, Status.SUSPECT): operator.ge,  # bad news wins a tie
    (Status.ALIVE, Status.DEAD): operator.ge,
    (Status.ALIVE, Status.LEFT): operator.ge,
    (Status.SUSPECT, Status.ALIVE): operator.gt,  # only a newer life refutes
    (Status.SUSPECT, Status.SUSPECT): operator.gt,
    (Status.SUSPECT, Status.DEAD): operator.ge,
    (Status.SUSPECT, Status.LEFT): operator.ge,
    (Status.DEAD, Status.ALIVE): operator.gt,
    (Status.DEAD, Status.SUSPECT): operator.gt,
    (Status.DEAD, Status.DEAD): operator.gt,
    (Status.DEAD, Status.LEFT): operator.ge,
    (Status.LEFT, Status.ALIVE): operator.gt,
    (Status.LEFT, Status.SUSPECT): operator.gt,
    (Status.LEFT, Status.DEAD): operator.gt,
    (Status.LEFT, Status.LEFT): operator.gt,
}
_LIVE: Final = (Status.ALIVE, Status.SUSPECT)


def outranks(heard: Claim, held: Claim) -> bool:
    """Whether `heard` replaces `held`; both about one member."""
    return _OVERRIDES[held.status, heard.status](heard.incarnation, held.incarnation)


class Membership:
    """The table of claims: one for each member that we believe in or remember, and our own.

    Args:
        me: Our claim about ourselves, ALIVE.
        settings: For the bounds.

    Attributes:
        me: Replaced as our incarnation rises.
        refused_count: Claims about new members that found the table full.
    """

    def __init__(self, me: Claim, settings: SwimSettings) -> None:
        self.me = me
        self.refused_count = 0
        self._settings = settings
        self._held: dict[NodeId, Claim] = {}
        self._live: dict[NodeId, None] = {}
        self._graves: dict[NodeId, float] = {}  # when to forget
        self._graves_heap: list[tuple[float, NodeId]] = []  # may hold entries that are no longer in `_graves`

    def get(self, subject: NodeId) -> Claim | None:
        """What we hold about another member."""
        return self._held.get(subject)

    def live(self) -> list[NodeId]:
        """The others that are alive or suspect, in a stable order."""
        return list(self._live)

    @property
    def live_count(self) -> int:
        return len(self._live)

    @property
    def grave_count(self) -> int:
        return len(self._graves)

    def claims(self, now: float) -> list[Claim]:
        """Everything we believe: ourselves first, graves with their age."""
        return [self.me, *(self.dated(claim, now) for claim in self._held.values())]

    def dated(self, claim: Claim, now: float) -> Claim:
        """A held claim as it should be sent now."""
        forget_at = self._graves.get(claim.subject)
        if forget_at is None:
            return claim
        return msgspec.structs.replace(claim, age_s=max(0.0, now - forget_at + self._settings.forget_dead_s))

    def on_claim(self, claim: Claim, now: float) -> list[MemberChanged]:
        """Take in a claim about another member. Returns what changed: the subject if the claim won, last."""
        held = self._held.get(claim.subject)
        changes = []
        if held is None:
            if not self._worth_learning(claim):
                return []
            if len(self._held) + 1 >= self._settings.members_max:  # we ourselves count
                evicted = self._evict(claim, now)
                if evicted is None:
                    self.refused_count += 1
                    return []
                changes.append(evicted)
        elif not outranks(claim, held):
            return []
        elif claim.incarnation == held.incarnation:
            claim = msgspec.structs.replace(
                held, status=claim.status, by=claim.by, reason=claim.reason, age_s=claim.age_s
            )
        self._hold(claim, now)
        return [*changes, MemberChanged(claim.subject, held, claim, at=now)]

    def rise_above(self, heard: Incarnation) -> bool:
        """Raise our incarnation above one that was heard. False if that is as high as they go."""
        generation, counter = max(heard, self.me.incarnation)
        if counter < COUNTER_MAX:
            counter += 1
        elif generation < GENERATION_MAX:
            generation, counter = generation + 1, 0
        else:
            return False
        self.me = msgspec.structs.replace(self.me, incarnation=(generation, counter))
        return True

    def leave(self, reason: str) -> None:
        """Say of ourselves that we left."""
        self.me = msgspec.structs.replace(self.me, status=Status.LEFT, by=self.me.subject, reason=reason)

    def forget_due(self, now: float) -> list[MemberChanged]:
        """Forget the graves whose time has come."""
        changes = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            changes.append(self._forget_oldest(now))
        return changes

    def next_deadline(self) -> float | None:
        heap = self._graves_heap
        while heap and self._graves.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)  # came back to life, or was buried again
        return heap[0][0] if heap else None

    def _worth_learning(self, claim: Claim) -> bool:
        # Whoever forgets a grave first would otherwise learn of it again from whoever forgets it last.
        return claim.status in _LIVE or claim.age_s <= self._settings.forget_dead_s / 2

    def _evict(self, newcomer: Claim, now: float) -> MemberChanged | None:
        """Make room. A grave is worth less than a living member, and no more than another grave."""
        if newcomer.status not in _LIVE or self.next_deadline() is None:
            return None
        return self._forget_oldest(now)

    def _forget_oldest(self, now: float) -> MemberChanged:
        """Forget the grave on top of the heap, which `next_deadline` has just cleaned."""
        _, subject = heapq.heappop(self._graves_heap)
        del self._graves[subject]
        return MemberChanged(subject, self._held.pop(subject), None, at=now)

    def _hold(self, claim: Claim, now: float) -> None:
        subject = claim.subject
        self._held[subject] = claim
        if claim.status in _LIVE:
            self._live[subject] = None
            self._graves.pop(subject, None)
            return
        self._live.pop(subject, None)
        self._graves[subject] = now + max(0.0, self._settings.forget_dead_s - claim.age_s)
        heapq.heappush(self._graves_heap, (self._graves[subject], subject))
