"""What Plumtree nodes say to one another, and the bounds within which it is believed.

Messages are MessagePack arrays that begin with their name. Fields are only ever appended, with defaults; those that a
later version appends are ignored. `tree` is the root of the tree that a message travels on, empty for the tree that
all roots share.
"""

from typing import Final, NamedTuple

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId

__all__ = (
    "ID_MAX",
    "ROUND_MAX",
    "SHARED",
    "Announcement",
    "Gossip",
    "Graft",
    "IHave",
    "Message",
    "MessageId",
    "Prune",
    "decode",
    "encode",
    "is_sane",
)

SHARED: Final = NodeId("")
ROUND_MAX: Final = 65535
ID_MAX: Final = 256
_NUMBER_MAX: Final = 2**53


class MessageId(NamedTuple):
    """Which broadcast: the roots number theirs from 1 in each of their lives."""

    root: NodeId
    generation: int  # of the root's boot
    number: int


class Announcement(NamedTuple):
    """One message that the sender holds."""

    id: MessageId
    round: int  # hops from the root if the sender were to push it, as in `Gossip`
    tree: NodeId


class Gossip(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Eager push: a message. Plumtree section 3.3."""

    id: MessageId
    round: int  # hops from the root to the receiver
    payload: bytes
    tree: NodeId = SHARED


class IHave(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Lazy push: I hold these, ask if you do not. Section 3.3."""

    announcements: tuple[Announcement, ...]


class Graft(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Push to me from now on, and send me this one if I name it. Section 3.5."""

    tree: NodeId
    id: MessageId | None = None


class Prune(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """I have it from elsewhere: only announce to me from now on. Section 3.4."""

    tree: NodeId


Message = Gossip | IHave | Graft | Prune

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
        raise RemoteProtocolError(f"no Plumtree message: {error}; expected Gossip, IHave, Graft or Prune") from error


def is_sane(id: MessageId, round: int, tree: NodeId) -> bool:
    """Whether what a peer says of a message may be believed."""
    root, generation, number = id
    return (
        0 < len(root) <= ID_MAX
        and 0 <= generation <= _NUMBER_MAX
        and 0 < number <= _NUMBER_MAX
        and 0 <= round <= ROUND_MAX
        and tree in (SHARED, root)
    )
