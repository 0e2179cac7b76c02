"""The full mesh: every member is a neighbour, as long as it is alive or suspect.

n - 1 links a node, and no routing: right for clusters up to some tens of nodes. A suspect keeps its link, since the
probes that may clear it go over that link; the dead lose theirs, with what was queued, and it is `topologies.healer`
that looks for them.
"""

from collections.abc import Mapping
from typing import assert_never

from topologies.identity import NodeId
from topologies.overlay import (
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    OverlayEffect,
    OverlayInput,
    OverlayReceived,
    Pinned,
)
from topologies.swim.interface import MemberChanged, Tick
from topologies.swim.messages import Status

__all__ = ("FullMesh",)


class FullMesh:
    """An `Overlay` that connects everybody with everybody."""

    def __init__(self) -> None:
        self._neighbours: dict[NodeId, Mapping[str, str]] = {}

    def handle(self, input: OverlayInput, now: float) -> list[OverlayEffect]:
        match input:
            case MemberChanged():
                return self._on_member_changed(input)
            case LinkUp() | LinkDown() | OverlayReceived() | Pinned() | Tick():
                return []  # links follow membership, and everybody has one already
            case _:
                assert_never(input)

    def next_deadline(self) -> float | None:
        return None

    def neighbours(self) -> frozenset[NodeId]:
        return frozenset(self._neighbours)

    def _on_member_changed(self, change: MemberChanged) -> list[OverlayEffect]:
        peer, after = change.subject, change.after
        linked = self._neighbours.get(peer)
        if after is None or after.status not in (Status.ALIVE, Status.SUSPECT):
            if linked is None:
                return []
            del self._neighbours[peer]
            reason = "forgotten" if after is None else f"{after.status.value}: {after.reason}"
            return [Disconnect(peer, reason)]
        if linked == after.endpoints:
            return []
        self._neighbours[peer] = after.endpoints
        connect = Connect(peer, after.endpoints)
        return [connect] if linked is None else [Disconnect(peer, "it moved"), connect]
