"""What nodes say to one another about paths. MessagePack arrays that begin with their name; fields are only appended.

Wire format: `docs/spec/0001-wire.md`, section 4.13.
"""

from typing import Annotated, Final

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.identity import NodeId

__all__ = ("RELAYS_MAX", "Ask", "Echo", "Path", "Probe", "RelayMessage", "decode", "encode")

RELAYS_MAX: Final = 5  # on one path; partisan's relay TTL
_RTT_US_MAX: Final = 3_600_000_000
_Seq = Annotated[int, msgspec.Meta(ge=0)]
_Node = Annotated[NodeId, msgspec.Meta(min_length=1, max_length=256)]
_Relays = Annotated[tuple[_Node, ...], msgspec.Meta(max_length=RELAYS_MAX)]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """How long does it take to you?"""

    seq: _Seq  # chosen by the sender, echoed


class Echo(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to a Probe."""

    seq: _Seq


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """How do you reach `target`?"""

    seq: _Seq
    target: _Node
    ttl: Annotated[int, msgspec.Meta(ge=1, le=RELAYS_MAX)]  # relays that the path may have, the one asked included
    avoid: _Relays = ()  # nodes that ask already, and so must not be on the path


class Path(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to an Ask."""

    seq: _Seq
    target: _Node
    reached: bool
    relays: _Relays = ()  # between the one that answers and `target`, in order; empty: directly
    rtt_us: Annotated[int, msgspec.Meta(ge=0, le=_RTT_US_MAX)] = 0  # measured round trip over them; 0: not measured yet


RelayMessage = Probe | Echo | Ask | Path

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[RelayMessage] = msgspec.msgpack.Decoder(RelayMessage)


def encode(message: RelayMessage) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> RelayMessage:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: They hold none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"no relay message: {error}; expected Probe, Echo, Ask or Path") from error
