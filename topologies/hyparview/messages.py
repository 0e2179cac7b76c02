"""What HyParView nodes say to one another, and the bounds within which it is believed.

Messages are MessagePack arrays that begin with their name. Fields are only ever appended, with defaults; those that a
later version appends are ignored. A `link` is a number that one side chose for one neighbourship: each side names the
other's, so that a message of an earlier neighbourship cannot be taken for one of the present.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.identity import Incarnation, NodeId
from topologies.overlay import OverlayMessage

__all__ = (
    "PEERS_MAX",
    "Accept",
    "Disconnect",
    "Drained",
    "ForwardJoin",
    "Join",
    "Message",
    "Neighbor",
    "Peer",
    "Priority",
    "Reject",
    "Shuffle",
    "ShuffleReply",
    "decode",
    "encode",
    "is_sane",
)

PEERS_MAX: Final = 64  # in one message; no honest node sends more, and what is more is not read
_ID_MAX: Final = 256
_ENDPOINTS_MAX: Final = 16
_ENDPOINT_CHARS_MAX: Final = 2048  # of all endpoints of one peer
_PART_MAX: Final = 2**53


class Peer(msgspec.Struct, frozen=True, array_like=True):
    """A node as others may reach it: what stands in the views."""

    node: NodeId
    incarnation: Incarnation = (0, 0)
    endpoints: Mapping[str, str] = {}  # channel name to endpoint


class Priority(enum.IntEnum):
    """How much the sender of a `Neighbor` needs it."""

    LOW = 0  # accepted where there is a free slot
    HIGH = 1  # "my active view is empty": always accepted (section 4.3)
    TRADE = 2  # "I give up a neighbour for you, and so do you": always accepted; ours, see `hyparview`


class Join(OverlayMessage, frozen=True):
    """I am new; take me in and tell others. Section 4.2."""

    link: int
    peer: Peer  # the sender


class ForwardJoin(OverlayMessage, frozen=True):
    """Somebody is new; this walks. Section 4.2."""

    link: int  # the sender's, at this hop
    peer: Peer
    ttl: int


class Neighbor(OverlayMessage, frozen=True):
    """Let us be neighbours. Section 4.3."""

    link: int
    peer: Peer  # the sender
    priority: Priority


class Accept(OverlayMessage, frozen=True):
    """We are neighbours. Answers `Join` and `Neighbor`."""

    link: int
    your_link: int
    evicted: Peer | None = None  # who lost its place for you, and has not been told of another


class Reject(OverlayMessage, frozen=True):
    """My active view is full. Answers `Neighbor`; and `Join`, while too many links drain."""

    your_link: int
    instead: Peer | None = None  # ask this one


class Disconnect(OverlayMessage, frozen=True):
    """We are no longer neighbours; this is the last that I send as one. Section 4.2."""

    your_link: int
    instead: Peer | None = None  # who took the place or lost one too: it has a free slot


class Drained(OverlayMessage, frozen=True):
    """Answers `Disconnect`: all that you sent before it has arrived."""

    your_link: int


class Shuffle(OverlayMessage, frozen=True):
    """Let us exchange samples of our views; this walks. Section 4.4."""

    link: int  # the sender's, at this hop
    origin: Peer
    ttl: int
    number: int  # echoed in the reply
    peers: tuple[Peer, ...]


class ShuffleReply(OverlayMessage, frozen=True):
    """As many of my passive view as you sent."""

    number: int
    peers: tuple[Peer, ...]


Message = Join | ForwardJoin | Neighbor | Accept | Reject | Disconnect | Drained | Shuffle | ShuffleReply

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: OverlayMessage) -> bytes:
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
            f"no HyParView message: {error}; expected Join, ForwardJoin, Neighbor, Accept, Reject, Disconnect, "
            "Drained, Shuffle or ShuffleReply"
        ) from error


def is_sane(peer: Peer) -> bool:
    """Whether a peer that somebody told us of may enter a view."""
    generation, counter = peer.incarnation
    if not (0 < len(peer.node) <= _ID_MAX and 0 <= generation <= _PART_MAX and 0 <= counter <= _PART_MAX):
        return False
    chars = 0
    for channel, endpoint in peer.endpoints.items():
        chars += len(channel) + len(endpoint)
    return chars <= _ENDPOINT_CHARS_MAX and len(peer.endpoints) <= _ENDPOINTS_MAX
