"""What goes into the Plumtree core and what comes out of it."""

import dataclasses

from topologies.identity import NodeId
from topologies.plumtree.messages import Message, MessageId
from topologies.swim.interface import Tick

__all__ = (
    "Broadcast",
    "Delivered",
    "Learned",
    "Missed",
    "NeighborDown",
    "NeighborUp",
    "PlumtreeEffect",
    "PlumtreeInput",
    "PlumtreeReceived",
    "PlumtreeSend",
    "PlumtreeStats",
)

# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Broadcast:
    """Send this to everybody."""

    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PlumtreeReceived:
    """A message came in. `sender` is who the connection's handshake said it is."""

    sender: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class NeighborUp:
    """The overlay has a new neighbour."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class NeighborDown:
    """A peer is no neighbour any more."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class Learned:
    """This message, and what it says, came by another way (anti-entropy): do not ask for it, do not deliver it."""

    id: MessageId


PlumtreeInput = Broadcast | PlumtreeReceived | NeighborUp | NeighborDown | Learned | Tick

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class PlumtreeSend:
    """Send to `peer` over the link that the overlay holds; may be lost."""

    peer: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """A broadcast is here, our own included; once for each. Messages of one root may overtake one another."""

    id: MessageId
    payload: bytes
    round: int  # hops that it took; 0 for our own


@dataclasses.dataclass(frozen=True, slots=True)
class Missed:
    """A broadcast exists that the tree did not bring, and none of these who announced it sent it when asked.

    Run anti-entropy with one of them, or with anybody. If it does come by the tree after all it is still `Delivered`.
    """

    id: MessageId
    announced_by: tuple[NodeId, ...]


PlumtreeEffect = PlumtreeSend | Delivered | Missed


@dataclasses.dataclass(frozen=True, slots=True)
class PlumtreeStats:
    """Sizes now, and counters since the start."""

    neighbours: int
    eager_push_peers: int  # on the shared tree
    trees: int  # of single roots
    missing: int  # announced, not here yet
    stored: int
    delivered: int
    duplicates: int
    announced: int  # ids in our IHave messages
    grafts: int  # that we sent
    prunes: int
    optimisations: int  # a shorter way was taken into a tree
    missed: int
    ignored: int  # absurd, or too large
