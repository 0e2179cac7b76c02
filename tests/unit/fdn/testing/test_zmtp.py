"""Bytes that libzmq 4.3 sent, and what they are, however they are cut into pieces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fdn.testing.zmtp import Piece, PieceKind, ZmtpStream, frames_of

GREETING = bytes.fromhex("ff00000000000000017f03014e554c4c" + "00" * 48)
READY = bytes.fromhex("04290552454144590b536f636b65742d54797065000000064445414c4552084964656e7469747900000000")
PING = bytes.fromhex("04070450494e470000")
HELLO = bytes.fromhex("000568656c6c6f")
PARTS = bytes.fromhex("01036f6e6501000005") + b"three"
LONG = bytes.fromhex("02000000000000012c") + b"x" * 300

# A DEALER's side of a connection: its handshake, one message of a frame, one of three, one of 300 bytes, a heartbeat.
DEALER = GREETING + READY + HELLO + PARTS + LONG + PING
WHOLE = [
    (PieceKind.GREETING, GREETING),
    (PieceKind.COMMAND, READY),
    (PieceKind.MESSAGE, HELLO),
    (PieceKind.MESSAGE, PARTS),
    (PieceKind.MESSAGE, LONG),
    (PieceKind.COMMAND, PING),
]


def joined(pieces: list[Piece]) -> list[tuple[PieceKind, bytes]]:
    """Greetings, commands and messages, each put together from its pieces."""
    found: list[tuple[PieceKind, bytes]] = []
    for piece in pieces:
        if piece.first:
            found.append((piece.kind, piece.data))
        else:
            kind, data = found[-1]
            assert kind is piece.kind
            found[-1] = kind, data + piece.data
    return found


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def test_what_a_dealer_sends():
    stream = ZmtpStream()
    assert joined(stream.feed(DEALER)) == WHOLE
    assert stream.mechanism == "NULL"


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_any_split_of_the_stream_gives_the_same(cuts: list[int]):
    stream = ZmtpStream()
    pieces = [piece for part in split(DEALER, cuts) for piece in stream.feed(part)]
    assert joined(pieces) == WHOLE
    assert sum(piece.last for piece in pieces) == len(WHOLE)


def test_byte_by_byte():
    stream = ZmtpStream()
    assert joined([piece for at in range(len(DEALER)) for piece in stream.feed(DEALER[at : at + 1])]) == WHOLE


def test_the_greeting_is_passed_on_as_it_comes():
    # libzmq sends its first ten bytes, and the rest when the other side has answered.
    stream = ZmtpStream()
    assert [piece.data for piece in stream.feed(GREETING[:10])] == [GREETING[:10]]
    assert [piece.data for piece in stream.feed(GREETING[10:])] == [GREETING[10:]]


def test_a_heartbeat_between_the_frames_of_a_message():
    stream = ZmtpStream()
    stream.feed(GREETING + READY)
    kinds = [(piece.kind, piece.first, piece.last) for piece in stream.feed(PARTS[:5] + PING + PARTS[5:])]
    assert kinds == [
        (PieceKind.MESSAGE, True, False),
        (PieceKind.COMMAND, True, True),
        (PieceKind.MESSAGE, False, False),
        (PieceKind.MESSAGE, False, True),
    ]


def test_the_frames_of_a_message():
    stream = ZmtpStream()
    stream.feed(GREETING + READY)
    assert frames_of(stream.feed(PARTS)) == [b"one", b"", b"three"]
    assert frames_of(stream.feed(LONG)) == [b"x" * 300]
    assert frames_of([]) == []


def test_a_long_message_is_not_held_back():
    stream = ZmtpStream()
    stream.feed(GREETING + READY)
    announced = bytes.fromhex("02ffffffffffffffff")
    assert [(piece.first, piece.last) for piece in stream.feed(announced + b"x")] == [(True, False)]
    assert [(piece.first, piece.last) for piece in stream.feed(b"x" * 1000)] == [(False, False)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=10))
def test_whatever_comes_in_goes_out(data: bytes, cuts: list[int]):
    for begin in (b"", GREETING):
        stream = ZmtpStream()
        out = b"".join(piece.data for part in split(begin + data, cuts) for piece in stream.feed(part))
        assert (begin + data).startswith(out)
        assert len(begin + data) - len(out) <= 8  # a header that is not whole


def test_what_is_no_zmtp_3_is_passed_on_as_it_is():
    for begin in (b"GET / HTTP/1.1\r\n\r\n", GREETING[:10] + b"\x01\x05" + GREETING[12:], GREETING + b"\x80\x01\x01"):
        stream = ZmtpStream()
        pieces = [*stream.feed(begin), *stream.feed(b"anything")]
        assert pieces[-1] == Piece(PieceKind.OPAQUE, b"anything", False, False)
        assert b"".join(piece.data for piece in pieces) == begin + b"anything"
