"""A blob as it travels: who it is, how to check it, and who holds it. docs/spec/0001-wire.md, section 11."""

from typing import Annotated

import msgspec

from fdn.errors import BadRequest
from fdn.messaging.blobs.outline import DIGEST_BYTES, PIECE_BYTES_MAX, PIECE_BYTES_MIN, PIECES_MAX

__all__ = ("HOLDERS_MAX", "Reference", "pack_reference", "unpack_reference")

HOLDERS_MAX = 16
_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
_Holder = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Reference(msgspec.Struct, frozen=True):
    """The data of extension type 3, a MessagePack map; unknown keys are ignored.

    Attributes:
        id: BLAKE3-256 of the content.
        size: Bytes of the content.
        piece: Bytes of each piece but the last.
        outline: BLAKE3-256 of the pieces' digests, one behind the other.
        holders: Node ids, the maker first.
    """

    id: _Digest
    size: Annotated[int, msgspec.Meta(ge=0)]
    piece: Annotated[int, msgspec.Meta(ge=PIECE_BYTES_MIN, le=PIECE_BYTES_MAX)]
    outline: _Digest
    holders: Annotated[tuple[_Holder, ...], msgspec.Meta(max_length=HOLDERS_MAX)] = ()

    @property
    def count(self) -> int:
        """Number of pieces."""
        return -(-self.size // self.piece)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Reference)


def pack_reference(reference: Reference) -> bytes:
    """Its data on the wire."""
    return _encoder.encode(reference)


def unpack_reference(data: bytes | memoryview) -> Reference:
    """Read what a peer sent.

    Raises:
        BadRequest: It is none. (A ValueError would do inside a decoder; this says what was expected.)
    """
    try:
        reference = _decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"a blob's reference cannot be read: {error}", hint="see section 11 of the wire") from error
    if reference.count > PIECES_MAX:
        raise BadRequest(
            f"a blob of {reference.size} bytes in pieces of {reference.piece}", hint=f"expected at most {PIECES_MAX}"
        )
    return reference
