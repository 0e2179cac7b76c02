"""What was said of each member, by whom and why: the answer to "why is that node dead?".

A member that is held dead was accused by somebody, confirmed by others, and did not refute; each of these is kept, so
that a verdict can be traced to who had reason for it. Bounded: the last few about each member, and of no more members
than are remembered.
"""

import dataclasses

from topologies.identity import Incarnation, NodeId
from topologies.swim.messages import Claim, Status

__all__ = ("Statement", "Statements")


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """One thing that was said, and believed."""

    at: float  # when we heard it, monotonic seconds
    status: Status
    incarnation: Incarnation
    by: NodeId  # the accuser, else the member itself
    reason: str
    from_whom: NodeId  # who told us; ourselves if we found it out
    confirms: bool = False  # an accusation beside one that stood already


class Statements:
    """The last statements about each member.

    Args:
        each_max: About one member; past it the oldest goes.
    """

    __slots__ = ("_each_max", "_said")

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._said: dict[NodeId, tuple[Statement, ...]] = {}  # tuples, since most members were never accused

    def add(self, claim: Claim, from_whom: NodeId, now: float, *, confirms: bool = False) -> None:
        """Remember what was just believed."""
        new = Statement(now, claim.status, claim.incarnation, claim.by, claim.reason, from_whom, confirms)
        self._said[claim.subject] = (*self._said.get(claim.subject, ()), new)[-self._each_max :]

    def about(self, member: NodeId) -> tuple[Statement, ...]:
        """Oldest first; empty if nothing was said."""
        return self._said.get(member, ())

    def forget(self, member: NodeId) -> None:
        self._said.pop(member, None)
