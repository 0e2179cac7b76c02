"""What SWIM nodes say to one another, and the bounds within which it is believed.

Messages are MessagePack arrays that begin with their name. Fields are only ever appended, with defaults.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.identity import Incarnation, NodeId

__all__ = (
    "CLAIMS_MAX",
    "COUNTER_MAX",
    "GENERATION_MAX",
    "NEIGHBOURS_MAX",
    "Ack",
    "Claim",
    "Gossip",
    "Message",
    "Nack",
    "Ping",
    "PingReq",
    "PushPull",
    "Status",
    "decode",
    "encode",
    "flaw",
)

# What no honest node exceeds; past these a claim is ignored and counted, so that one peer cannot fill our memory.
CLAIMS_MAX: Final = 1024  # in one message
NEIGHBOURS_MAX: Final = 32  # in one Ack
GENERATION_MAX: Final = 2**32
COUNTER_MAX: Final = 2**53  # exact in every language's numbers
_ID_MAX: Final = 256
_TEXT_MAX: Final = 1024
_ENDPOINTS_MAX: Final = 16
_TAGS_MAX: Final = 64
_MAP_CHARS_MAX: Final = 8192
_AGE_MAX_S: Final = 10 * 365 * 86400.0


class Status(enum.StrEnum):
    """What is believed of a member, from best to worst news."""

    ALIVE = "alive"
    SUSPECT = "suspect"  # did not answer; has `suspicion` time to refute
    DEAD = "dead"  # did not refute; comes back with a higher incarnation
    LEFT = "left"  # said goodbye; final for its incarnation


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """One statement about one member. SWIM section 4.2; carries the whole identity, so that it stands alone.

    Attributes:
        subject: The member spoken of.
        incarnation: The life of the subject that is meant; only the subject raises it.
        status: What is said.
        name: The subject's name for people.
        endpoints: Channel name to endpoint.
        tags: The subject's own labels.
        by: Who said so first: the accuser of a SUSPECT or DEAD, else the subject.
        reason: Why, for people.
        age_s: Of DEAD and LEFT, how long ago the sender held it to have happened.
    """

    subject: NodeId
    incarnation: Incarnation
    status: Status
    name: str = ""
    endpoints: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    by: NodeId = NodeId("")
    reason: str = ""
    age_s: float = 0.0


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Are you there? SWIM section 3.1."""

    seq: int  # chosen by the sender, echoed in the Ack
    claims: tuple[Claim, ...] = ()  # piggybacked, section 4.1


class PingReq(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Ask `target` for me. SWIM section 3.1."""

    seq: int  # the requester's, echoed in the Ack that the helper forwards
    target: NodeId
    claims: tuple[Claim, ...] = ()


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """I am here, or (from a helper) it is."""

    seq: int
    claims: tuple[Claim, ...] = ()
    neighbours: tuple[NodeId, ...] = ()  # of the sender, under an overlay of few links: who may ask it for others


class Nack(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A helper: it has not answered me so far either. Lifeguard section IV-A."""

    seq: int  # the requester's
    claims: tuple[Claim, ...] = ()


class Gossip(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """News that did not want to wait for a Ping."""

    claims: tuple[Claim, ...]


class PushPull(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A part of everything that the sender believes."""

    claims: tuple[Claim, ...]
    reply: bool = False  # wanted: everything that the receiver believes


Message = Ping | PingReq | Ack | Nack | Gossip | PushPull

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> Message:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: They hold none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(
            f"no SWIM message: {error}; expected Ping, PingReq, Ack, Nack, Gossip or PushPull"
        ) from error


def flaw(claim: Claim) -> str | None:
    """What makes a claim absurd, or None if it may be believed."""
    generation, counter = claim.incarnation
    if not (0 <= generation <= GENERATION_MAX and 0 <= counter <= COUNTER_MAX):
        return f"incarnation {claim.incarnation} is out of range"
    if not 0.0 <= claim.age_s <= _AGE_MAX_S:
        return f"age {claim.age_s} s is out of range"
    if not 0 < len(claim.subject) <= _ID_MAX or len(claim.by) > _ID_MAX:
        return "a node id is empty or too long"
    if len(claim.name) > _ID_MAX or len(claim.reason) > _TEXT_MAX:
        return "name or reason is too long"
    if len(claim.endpoints) > _ENDPOINTS_MAX or len(claim.tags) > _TAGS_MAX:
        return f"{len(claim.endpoints)} endpoints and {len(claim.tags)} tags are too many"
    pairs = (*claim.endpoints.items(), *claim.tags.items())
    if sum(len(key) + len(value) for key, value in pairs) > _MAP_CHARS_MAX:
        return "endpoints and tags are too long"
    return None
