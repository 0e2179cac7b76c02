"""What goes into the SWIM core and what comes out of it."""

import dataclasses
import enum

from topologies.identity import NodeId
from topologies.swim.messages import Claim, Message

__all__ = (
    "Effect",
    "Evidence",
    "EvidenceKind",
    "Input",
    "Leave",
    "MemberChanged",
    "Met",
    "Neighbours",
    "Received",
    "Refuted",
    "Send",
    "SwimStats",
    "Tick",
)


class EvidenceKind(enum.Enum):
    """What a connection tells about the process behind it."""

    CLOSED = "closed"  # it ended: the process may be gone, or the network, or a restart is under way
    REFUSED = "refused"  # dialled again, and nobody listens where the member listened: the process is gone
    UNREACHABLE = "unreachable"  # no answer to dialling: the member or the path to it


# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message came in. `sender` is who the connection's handshake said it is."""

    sender: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class Met:
    """A handshake told us that this peer is alive: `claim` is ALIVE, with the identity from HELLO or WELCOME."""

    claim: Claim


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """A connection to `peer` told us something."""

    peer: NodeId
    kind: EvidenceKind
    detail: str = ""  # for people: ends up in the reason of a suspicion


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """We are about to leave for good."""

    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """`next_deadline` has come."""


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbours:
    """Under an overlay in which not everybody is linked to everybody: to whom we are. None: to everybody again.

    From then on only they are probed, gossiped to and exchanged with, so that none of that opens a link.
    """

    peers: frozenset[NodeId] | None


Input = Received | Met | Evidence | Leave | Tick | Neighbours

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send to `peer` if there is a way to it; may be lost."""

    peer: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class MemberChanged:
    """What we believe of another member changed. Accuser and reason are in `after`.

    `before` is None for one never heard of, `after` is None for one that is forgotten.
    """

    subject: NodeId
    before: Claim | None
    after: Claim | None
    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Refuted:
    """We were said to be worse than alive, or an older life of ours is still believed in: `me` outranks `heard`."""

    me: Claim
    heard: Claim


Effect = Send | MemberChanged | Refuted


@dataclasses.dataclass(frozen=True, slots=True)
class SwimStats:
    """Counters since the start, and two sizes."""

    members: int  # believed alive or suspect, ourselves excluded
    remembered: int  # dead and left
    probes: int
    probes_failed: int
    indirect_probes: int  # for which helpers were asked
    suspicions: int
    deaths: int
    refutations: int
    claims_ignored: int  # absurd, or more than a message may hold, or the table was full
    health_score: int  # 0: we are well; more: we get too few answers, and probe more slowly
    acks_unexpected: int  # late, or never asked for
    pauses: int  # times when this node itself had not run
