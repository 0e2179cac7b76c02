"""What a blob's bytes must be: the digest of the whole, and one of each piece.

The content id is BLAKE3-256 of the whole, so that `b3sum FILE` names a blob too. It can only be checked at the end. So
that a bad piece is found when it comes, there is a list of the pieces' digests, the *outline*; the outline's own digest
travels with the blob's reference, so that whoever trusts the reference can check the list before the first piece.
BLAKE3's tree would do without the list, but its inner nodes are not to be had from the library that we use.

docs/spec/0001-wire.md, section 11.
"""

import dataclasses
from collections.abc import Callable
from typing import Final

import blake3

__all__ = ("DIGEST_BYTES", "PIECES_MAX", "PIECE_BYTES_MAX", "PIECE_BYTES_MIN", "Outline", "OutlineHasher", "digest")

DIGEST_BYTES: Final = 32
PIECE_BYTES_MIN: Final = 64 * 1024
PIECE_BYTES_MAX: Final = 8 * 1024 * 1024
PIECES_MAX: Final = 1 << 20  # an outline of 32 MiB; with pieces of 1 MiB, a blob of 1 TiB

Buffer = bytes | bytearray | memoryview


def digest(data: Buffer) -> bytes:
    """BLAKE3-256."""
    hashed: bytes = blake3.blake3(data).digest()
    return hashed


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """The digests of one blob.

    Attributes:
        id: BLAKE3-256 of the whole.
        size: Bytes of the whole.
        piece_bytes: Bytes of each piece but the last, which may be shorter.
        pieces: The pieces' digests, one behind the other.
    """

    id: bytes
    size: int
    piece_bytes: int
    pieces: bytes

    @property
    def digest(self) -> bytes:
        """BLAKE3-256 of the list."""
        return digest(self.pieces)

    @property
    def count(self) -> int:
        """Number of pieces; an empty blob has none."""
        return len(self.pieces) // DIGEST_BYTES

    def span(self, index: int) -> tuple[int, int]:
        """Where a piece lies: offset and length."""
        offset = index * self.piece_bytes
        return offset, min(self.piece_bytes, self.size - offset)

    def matches(self, index: int, data: Buffer) -> bool:
        """Whether these are the bytes of that piece."""
        at = index * DIGEST_BYTES
        return len(data) == self.span(index)[1] and digest(data) == self.pieces[at : at + DIGEST_BYTES]


class OutlineHasher:
    """Makes an outline from bytes as they come, in parts of any size.

    Args:
        piece_bytes: See `Outline`.
        on_bytes: Called with what was hashed, in order, so that one pass can write it too.
    """

    def __init__(self, piece_bytes: int, on_bytes: Callable[[memoryview], object] = lambda part: None) -> None:
        self._piece_bytes = piece_bytes
        self._on_bytes = on_bytes
        self._whole = blake3.blake3()
        self._piece = blake3.blake3()
        self._in_piece = 0
        self._pieces = bytearray()
        self.size = 0

    def update(self, data: Buffer) -> None:
        """Take the next bytes.

        Raises:
            ValueError: The blob would have more than `PIECES_MAX` pieces.
        """
        rest = memoryview(data).cast("B")
        while rest:
            part, rest = rest[: self._piece_bytes - self._in_piece], rest[self._piece_bytes - self._in_piece :]
            self._whole.update(part)
            self._piece.update(part)
            self._on_bytes(part)
            self.size += len(part)
            self._in_piece += len(part)
            if self._in_piece == self._piece_bytes:
                self._end_piece()

    def finish(self) -> Outline:
        """The outline of all that came."""
        if self._in_piece:
            self._end_piece()
        return Outline(self._whole.digest(), self.size, self._piece_bytes, bytes(self._pieces))

    def _end_piece(self) -> None:
        if len(self._pieces) >= PIECES_MAX * DIGEST_BYTES:
            raise ValueError(f"it has more than {PIECES_MAX} pieces of {self._piece_bytes} bytes")
        self._pieces += self._piece.digest()
        self._piece = blake3.blake3()
        self._in_piece = 0
