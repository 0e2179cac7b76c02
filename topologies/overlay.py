"""Which peers a node holds links to: what every overlay answers, and what it asks of the driver.

The driver's duties: hand each `MemberChanged` of SWIM to the overlay, call `handle(Tick(), now)` when `next_deadline()`
has come, and carry out the effects. `Connect` means: keep a link there, dialling again when it is lost, until
`Disconnect`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from topologies.identity import NodeId
from topologies.swim.interface import MemberChanged, Tick

__all__ = ("Connect", "Disconnect", "Overlay", "OverlayEffect", "OverlayInput")

OverlayInput = MemberChanged | Tick


@dataclasses.dataclass(frozen=True, slots=True)
class Connect:
    """Hold a link to this peer at these endpoints (channel name to endpoint)."""

    peer: NodeId
    endpoints: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnect:
    """Give up the link to this peer, and what is queued on it."""

    peer: NodeId
    reason: str


OverlayEffect = Connect | Disconnect


class Overlay(Protocol):
    """A core that chooses neighbours among the members."""

    def handle(self, input: OverlayInput, now: float) -> list[OverlayEffect]: ...

    def next_deadline(self) -> float | None: ...

    def neighbours(self) -> frozenset[NodeId]:
        """The peers to which links are wanted now."""
