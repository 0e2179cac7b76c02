"""What clients and servers of the client-server overlay say to one another.

Messages are MessagePack arrays that begin with their name. Fields are only ever appended, with defaults. A `place` is a
number that the client chose for one stay at one server: what is said of an earlier stay means nothing to the present.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from topologies.errors import RemoteProtocolError
from topologies.overlay import OverlayMessage

__all__ = ("Attach", "Attached", "Detach", "Detached", "Message", "Refused", "decode", "encode", "is_sane")

_ENDPOINTS_MAX: Final = 16
_ENDPOINT_CHARS_MAX: Final = 2048


class Attach(OverlayMessage, frozen=True):
    """Let me in; repeated to stay."""

    place: int
    endpoints: Mapping[str, str]  # of the sender, channel name to endpoint


class Attached(OverlayMessage, frozen=True):
    """You are in."""

    place: int


class Refused(OverlayMessage, frozen=True):
    """I am full, or no server."""

    place: int


class Detach(OverlayMessage, frozen=True):
    """I go elsewhere; this is the last that I send as your client."""

    place: int


class Detached(OverlayMessage, frozen=True):
    """You are out: all that you sent before has arrived, or I have given you up."""

    place: int


Message = Attach | Attached | Refused | Detach | Detached

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
            f"no client-server message: {error}; expected Attach, Attached, Refused, Detach or Detached"
        ) from error


def is_sane(endpoints: Mapping[str, str]) -> bool:
    """Whether somebody who says this of itself may be let in."""
    chars = sum(len(channel) + len(endpoint) for channel, endpoint in endpoints.items())
    return len(endpoints) <= _ENDPOINTS_MAX and chars <= _ENDPOINT_CHARS_MAX
