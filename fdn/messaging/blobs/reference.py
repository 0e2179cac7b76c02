"""A blob as it travels: who it is, how to check it, and who holds it. docs/spec/0001-wire.md, section 11."""

from typing import Annotated, Final

import msgspec

from fdn.messaging.blobs.outline import DIGEST_BYTES, PIECE_BYTES_MAX, PIECE_BYTES_MIN, PIECES_MAX

__all__ = ("EXT_BLOB", "HOLDERS_MAX", "Reference", "pack_reference", "unpack_reference")

EXT_BLOB: Final = 4  # the MessagePack extension type
HOLDERS_MAX: Final = 16
_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
_Holder = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Reference(msgspec.Struct, frozen=True):
    """The data of extension type 4, a MessagePack map; unknown keys are ignored.

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
        ValueError, RecursionError: It is none.
    """
    reference = _decoder.decode(data)
    if reference.count > PIECES_MAX:
        raise ValueError(f"a blob of {reference.count} pieces; expected at most {PIECES_MAX}")
    return reference
