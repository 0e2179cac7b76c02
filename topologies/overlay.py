"""Which peers a node holds links to: what every overlay answers, and what it asks of the driver.

The driver's duties, in order:

1. Hand each `MemberChanged` of SWIM to the overlay, and carry out the effects in their order. `Connect` means: keep a
   link there, dialling again when it is lost, until `Disconnect`.
2. Tell it what becomes of those links: `LinkUp` each time one opens, `LinkDown` each time one is lost or a dial fails.
3. Carry `OverlaySend` over the link to that peer, behind what went before it; while the link is still being dialled the
   message waits for it. Without a link it goes over a connection made for it. It may be lost.
4. Hand in what the peers' overlays say as `OverlayReceived`; `sender` is who the connection's handshake said it is.
5. `Pinned` names all the peers to which direct links are kept whatever the overlay chooses, each time anew.
6. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
7. `neighbours()` is where broadcasts and probes go. A peer that leaves it may keep its link for a moment: what was sent
   to it before still arrives, what comes afterwards goes elsewhere.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from topologies.identity import NodeId
from topologies.swim.interface import MemberChanged, Tick

__all__ = (
    "Connect",
    "Disconnect",
    "LinkDown",
    "LinkUp",
    "Overlay",
    "OverlayEffect",
    "OverlayInput",
    "OverlayMessage",
    "OverlayReceived",
    "OverlaySend",
    "Pinned",
)


class OverlayMessage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What any overlay says to its peers; one that does not know a message ignores it, and counts it."""


# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class LinkUp:
    """The link to this peer has opened: what is sent now arrives, or the link is lost."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class LinkDown:
    """The link to this peer was lost, or could not be made."""

    peer: NodeId
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class OverlayReceived:
    """A message came in."""

    sender: NodeId
    message: OverlayMessage


@dataclasses.dataclass(frozen=True, slots=True)
class Pinned:
    """Direct links are kept to these, and to no others for this reason (peer to its endpoints).

    All pinned nodes are given the same peers: that we ourselves are among them means nothing.
    """

    peers: Mapping[NodeId, Mapping[str, str]]


OverlayInput = MemberChanged | LinkUp | LinkDown | OverlayReceived | Pinned | Tick

# -- effects


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


@dataclasses.dataclass(frozen=True, slots=True)
class OverlaySend:
    """Say this to a peer. The endpoints are for when there is no link; empty where only membership knows them."""

    peer: NodeId
    message: OverlayMessage
    endpoints: Mapping[str, str]


OverlayEffect = Connect | Disconnect  # what every overlay asks of the links; those that talk ask for `OverlaySend` too


class Overlay(Protocol):
    """A core that chooses neighbours among the members."""

    def handle(self, input: OverlayInput, now: float) -> Sequence[OverlayEffect | OverlaySend]: ...

    def next_deadline(self) -> float | None: ...

    def neighbours(self) -> frozenset[NodeId]:
        """The peers to which links are wanted now."""
