"""What is said in `fdn.bulk`. Messages are MessagePack arrays that begin with their name; fields are only appended."""

import enum
from typing import Annotated, Final

import msgspec

from topologies.errors import RemoteProtocolError

__all__ = ("DIGEST_BYTES", "PIECE_BYTES_MAX", "Ack", "BulkMessage", "Piece", "Refuse", "RefuseCode", "decode", "encode")

PIECE_BYTES_MAX: Final = 64 * 1024
DIGEST_BYTES: Final = 32
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Transfer = Annotated[int, msgspec.Meta(ge=0)]  # 64 bits


class RefuseCode(enum.StrEnum):
    """Why a receiver takes no more of a transfer."""

    BUSY = "busy"  # it has too much under way; worth trying again
    TOO_LARGE = "too_large"
    CORRUPT = "corrupt"  # what arrived has another digest


class Piece(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Some bytes of a message, and all that is needed to begin with them."""

    transfer: _Transfer  # chosen by the sender; begins at random at every start
    protocol: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # whose message it is, as in `to` of a CORE
    size: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # of the whole message, bytes
    offset: _Count  # of `data` in it
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PIECE_BYTES_MAX)]
    digest: Annotated[bytes, msgspec.Meta(max_length=DIGEST_BYTES)] = b""  # BLAKE3 of the whole, in the last piece


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The receiver holds the first `received` bytes, and waits for the next; all of them: it has the message."""

    transfer: _Transfer
    received: _Count


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The receiver has nothing of this transfer. It may name codes that are newer than we are."""

    transfer: _Transfer
    code: Annotated[str, msgspec.Meta(max_length=64)]


BulkMessage = Piece | Ack | Refuse

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[BulkMessage] = msgspec.msgpack.Decoder(BulkMessage)


def encode(message: BulkMessage) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> BulkMessage:
    """The message in these bytes.

    Raises:
        RemoteProtocolError: They hold none, or one past the limits of the specification.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"no bulk message: {error}; expected Piece, Ack or Refuse") from error
