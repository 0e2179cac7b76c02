"""The static overlay: links between the pairs that somebody wrote down, and no others.

For networks whose shape is known better than any protocol could find out, and for tests. Nothing is repaired here:
where a link is missing a member cannot be reached, until it is back or the list is changed. All nodes are given the
same list, so that views are symmetric.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from topologies.held_links import HeldLinks
from topologies.identity import NodeId
from topologies.overlay import LinkDown, LinkUp, OverlayEffect, OverlayInput, OverlayReceived, Pinned
from topologies.swim.interface import MemberChanged, Tick
from topologies.swim.messages import Status

__all__ = ("Static",)


class Static:
    """An `Overlay` that connects whom it was told to.

    Args:
        me: Our node id.
        name: Our name, as it stands in the pairs.
        pairs: Names of members that are to be neighbours, in either order.
    """

    def __init__(self, me: NodeId, name: str, pairs: Iterable[tuple[str, str]]) -> None:
        self._me = me
        self._peers = {other if one == name else one for one, other in pairs if name in (one, other)} - {name}
        self._living: dict[NodeId, Mapping[str, str]] = {}  # those of them that live
        self._pinned: dict[NodeId, Mapping[str, str] | None] = {}  # None while it is dead
        self._links = HeldLinks()

    def handle(self, input: OverlayInput, now: float) -> list[OverlayEffect]:
        match input:
            case MemberChanged():
                return self._on_member_changed(input)
            case Pinned(peers):
                former, self._pinned = self._pinned, {peer: it for peer, it in peers.items() if peer != self._me}
                effects = [effect for peer in self._pinned for effect in self._follow(peer, "")]
                return effects + [effect for peer in former for effect in self._follow(peer, "no longer pinned")]
            case LinkUp() | LinkDown() | OverlayReceived() | Tick():
                return []
            case _:
                assert_never(input)

    def next_deadline(self) -> float | None:
        return None

    def neighbours(self) -> frozenset[NodeId]:
        return frozenset(self._living).union(peer for peer, endpoints in self._pinned.items() if endpoints is not None)

    def _on_member_changed(self, change: MemberChanged) -> list[OverlayEffect]:
        peer, after = change.subject, change.after
        self._living.pop(peer, None)
        if after is None or after.status not in (Status.ALIVE, Status.SUSPECT):
            if peer in self._pinned:
                self._pinned[peer] = None
            return self._follow(peer, "forgotten" if after is None else f"{after.status.value}: {after.reason}")
        if after.name in self._peers:
            self._living[peer] = after.endpoints
        if peer in self._pinned:
            self._pinned[peer] = after.endpoints
        return self._follow(peer, "not in the list")

    def _follow(self, peer: NodeId, why: str) -> list[OverlayEffect]:
        """Hold the link to this peer if it is wanted now, else give it up."""
        endpoints = self._living.get(peer, self._pinned.get(peer))
        return self._links.release(peer, why) if endpoints is None else self._links.hold(peer, endpoints)
