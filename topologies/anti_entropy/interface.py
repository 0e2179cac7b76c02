"""What goes into the anti-entropy core and what comes out of it."""

import dataclasses

from topologies.anti_entropy.messages import Entry, Message
from topologies.identity import NodeId
from topologies.swim.interface import Tick

__all__ = (
    "AntiEntropyEffect",
    "AntiEntropyInput",
    "AntiEntropyReceived",
    "AntiEntropySend",
    "AntiEntropyStats",
    "Drop",
    "EntryChanged",
    "Peers",
    "Put",
    "Sync",
)

# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Put:
    """We know of this entry, by whatever way. An older version than the one held changes nothing."""

    entry: Entry


@dataclasses.dataclass(frozen=True, slots=True)
class Drop:
    """Forget a key. Whoever still holds it brings it back: a deletion is an entry too, until all have it."""

    key: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Peers:
    """With these replicas are compared from now on."""

    peers: frozenset[NodeId]


@dataclasses.dataclass(frozen=True, slots=True)
class Sync:
    """Begin a round with this peer now: at first contact, or when it has something that did not reach us."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class AntiEntropyReceived:
    """A message came in. `sender` is who the connection's handshake said it is."""

    sender: NodeId
    message: Message


AntiEntropyInput = Put | Drop | Peers | Sync | AntiEntropyReceived | Tick

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class AntiEntropySend:
    """Send to `peer`, in bulk: it may wait behind everything else, and may be lost."""

    peer: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class EntryChanged:
    """An entry that we did not have, or a later version of one, came from a peer."""

    entry: Entry
    sender: NodeId


AntiEntropyEffect = AntiEntropySend | EntryChanged


@dataclasses.dataclass(frozen=True, slots=True)
class AntiEntropyStats:
    """Sizes now, and counters since the start."""

    entries: int
    rounds: int  # that we began
    parts: int  # of the tree that differed, when we compared
    taken: int  # entries of others that we took
    given: int  # entries that we sent
    deferred: int  # messages that differed in more parts than one may be answered for
    ignored: int  # absurd, too large, or more than there is room for
