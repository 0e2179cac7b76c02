import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdn.messaging.blobs import outline as module
from fdn.messaging.blobs.outline import DIGEST_BYTES, Outline, OutlineHasher, digest

PIECE = 8


def plain_outline(data: bytes) -> Outline:
    """The slow, obvious twin."""
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    digests = b"".join(blake3.blake3(piece).digest() for piece in pieces)
    return Outline(blake3.blake3(data).digest(), len(data), PIECE, digests)


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_an_outline_does_not_depend_on_how_the_bytes_came(parts: list[bytes]):
    written = []
    hasher = OutlineHasher(PIECE, lambda part: written.append(bytes(part)))
    for part in parts:
        hasher.update(part)
    assert hasher.finish() == plain_outline(b"".join(parts))
    assert b"".join(written) == b"".join(parts)


def test_the_id_is_that_of_the_blake3_test_vectors():
    hasher = OutlineHasher(PIECE)
    assert hasher.finish().id.hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_a_piece_matches_only_itself_and_only_in_its_place():
    outline = plain_outline(b"01234567abcdefghxyz")
    assert outline.count == 3
    assert outline.span(2) == (16, 3)
    assert outline.matches(0, b"01234567")
    assert outline.matches(2, b"xyz")
    assert not outline.matches(1, b"01234567")
    assert not outline.matches(2, b"xyZ")
    assert not outline.matches(2, b"xyz\0")


def test_the_outline_has_a_digest_of_its_own():
    outline = plain_outline(b"01234567abcdefghxyz")
    assert outline.digest == digest(outline.pieces)
    assert len(outline.pieces) == 3 * DIGEST_BYTES


def test_the_number_of_pieces_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "PIECES_MAX", 2)
    hasher = OutlineHasher(PIECE)
    hasher.update(bytes(2 * PIECE))
    with pytest.raises(ValueError, match="more than 2 pieces"):
        hasher.update(bytes(PIECE))
