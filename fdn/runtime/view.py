"""What one node knows of the cluster, as immutable snapshots that are swapped by reference.

The control plane makes them; the data plane, the user and the command line read them without a lock.
"""

import enum
import types
from collections.abc import Mapping

import msgspec

__all__ = ("EMPTY_VIEW", "Member", "NodeRecord", "NodeState", "View")


class NodeState(enum.StrEnum):
    """What a node says of itself in its record."""

    SERVING = "serving"
    STALLED = "stalled"  # its user loop has not turned for `data.stall_warn_s`: callers avoid it
    WEDGED = "wedged"  # ... nor for `data.stall_max_s`: alive, but not reachable
    DRAINING = "draining"  # it is about to leave: no new work


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gossiped record of one node: versioned, newest wins.

    Attributes:
        state: How it is.
        lag_ms: How far its user loop is behind, when it is.
        offers: What it serves, encoded; messaging knows what is in there.
    """

    state: NodeState = NodeState.SERVING
    lag_ms: int = 0
    offers: msgspec.Raw = msgspec.Raw(b"\xc0")


class Member(msgspec.Struct, frozen=True):
    """One member as this node sees it.

    Attributes:
        node: Node id.
        name: Name for people.
        status: `alive`, `suspect`, `dead` or `left`, by SWIM.
        incarnation: (boot generation, counter).
        endpoints: Channel name to endpoint.
        tags: The member's own labels.
        state: What the member says of itself; `serving` until its record has come.
        lag_ms: See `NodeRecord`.
        reachable: Alive, not wedged, and our coordination link to it is open. Always true of this node itself.
        reason: Why the status is what it is.
        rtt_us: Smoothed probe round trip in microseconds, or None.
        me: Whether this is the node that answers.
        via: Node ids of the relays that messages to it go over, in order; empty: directly.
    """

    node: str
    name: str
    status: str
    incarnation: tuple[int, int]
    endpoints: Mapping[str, str]
    tags: Mapping[str, str]
    state: NodeState = NodeState.SERVING
    lag_ms: int = 0
    reachable: bool = False
    reason: str = ""
    rtt_us: float | None = None
    me: bool = False
    via: tuple[str, ...] = ()


class View(msgspec.Struct, frozen=True):
    """All members, dead and left ones included while they are remembered, and their offers.

    Attributes:
        members: By node id.
        offers: Encoded offers of the members that are alive or suspect, by node id.
    """

    members: Mapping[str, Member]
    offers: Mapping[str, bytes]

    def named(self, name: str) -> Member | None:
        """The member with this node id or, failing that, this name; the living before the dead."""
        found = self.members.get(name)
        if found is not None:
            return found
        matches = [member for member in self.members.values() if member.name == name]
        return min(matches, key=lambda member: member.status not in ("alive", "suspect"), default=None)


EMPTY_VIEW = View(types.MappingProxyType({}), types.MappingProxyType({}))
