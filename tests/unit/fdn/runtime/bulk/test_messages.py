import msgspec
import pytest

from fdn.runtime.bulk.messages import DIGEST_BYTES, PIECE_BYTES_MAX, Ack, Piece, Refuse, RefuseCode, decode, encode
from topologies.errors import RemoteProtocolError

PIECE = Piece(7, "fdn.records", 3, 0, b"abc", b"d" * DIGEST_BYTES)


@pytest.mark.parametrize("message", [PIECE, Ack(7, 3), Refuse(7, RefuseCode.BUSY)])
def test_what_is_said_is_read(message):
    assert decode(encode(message)) == message
    assert decode(msgspec.Raw(encode(message))) == message


def test_a_piece_in_bytes():
    """The example of docs/spec/0001-wire.md, section 4.9."""
    assert encode(Piece(1, "fdn.swim", 9, 0, b"ab")).hex(" ") == (
        "97 a5 50 69 65 63 65 01 a8 66 64 6e 2e 73 77 69 6d 09 00 c4 02 61 62 c4 00"
    )


def test_a_later_version_may_append_and_name_further_codes():
    packed = msgspec.msgpack.encode(["Refuse", 7, "out_of_sorts", "and more"])
    assert decode(packed) == Refuse(7, "out_of_sorts")


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        ["Piece"],
        ["Shout", 1],
        ["Ack", -1, 0],
        ["Ack", 1, -1],
        ["Ack", 1, 2**53 + 1],
        ["Piece", 1, "fdn.swim", 0, 0, b""],
        ["Piece", 1, "fdn.swim", 9, 0, b""],
        ["Piece", 1, "", 9, 0, b"a"],
        ["Piece", 1, "p" * 65, 9, 0, b"a"],
        ["Piece", 1, "fdn.swim", 10**6, 0, bytes(PIECE_BYTES_MAX + 1)],
        ["Piece", 1, "fdn.swim", 9, 0, b"a", bytes(DIGEST_BYTES + 1)],
        ["Refuse", 1, "x" * 65],
    ],
)
def test_what_is_past_the_limits_is_no_message(said):
    with pytest.raises(RemoteProtocolError, match="no bulk message"):
        decode(msgspec.msgpack.encode(said))


@pytest.mark.parametrize("data", [b"", b"\xc1", encode(PIECE)[:-1], b"\x91" * 5000 + b"\xc0"])
def test_garbage_is_no_message(data):
    with pytest.raises(RemoteProtocolError, match="no bulk message"):
        decode(data)
