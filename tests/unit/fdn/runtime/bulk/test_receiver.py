import pytest
from blake3 import blake3

from fdn.runtime.bulk.messages import Ack, Piece, Refuse, RefuseCode
from fdn.runtime.bulk.receiver import BulkReceiver, Delivered
from fdn.runtime.bulk.settings import BulkSettings
from topologies.errors import RemoteProtocolError

SMALL = BulkSettings(
    transfer_bytes_max=20, taken_bytes_max=30, taken_total_bytes_max=40, taken_max=2, queue_bytes_max=20, stale_s=10
)
BODY = b"0123456789"


def piece(start: int, end: int, *, transfer: int = 1, body: bytes = BODY, protocol: str = "p") -> Piece:
    digest = blake3(body).digest() if end == len(body) else b""
    return Piece(transfer, protocol, len(body), start, body[start:end], digest)


@pytest.fixture
def receiver() -> BulkReceiver:
    return BulkReceiver(SMALL)


def test_pieces_become_a_message(receiver):
    assert receiver.on_piece("a", piece(0, 4), 0.0) == (Ack(1, 4), None)
    assert receiver.on_piece("a", piece(4, 8), 0.0) == (Ack(1, 8), None)
    assert receiver.stats().held_bytes == 8
    assert receiver.on_piece("a", piece(8, 10), 0.0) == (Ack(1, 10), Delivered("a", "p", bytearray(BODY)))
    stats = receiver.stats()
    assert (stats.delivered, stats.pieces, stats.held, stats.held_bytes) == (1, 3, 0, 0)
    assert receiver.next_deadline() is None


def test_a_repeated_piece_adds_nothing(receiver):
    receiver.on_piece("a", piece(0, 4), 0.0)
    assert receiver.on_piece("a", piece(0, 4), 0.0) == (Ack(1, 4), None)
    assert receiver.on_piece("a", piece(8, 10), 0.0) == (Ack(1, 4), None)  # what is between them was lost
    receiver.on_piece("a", piece(4, 10), 0.0)
    assert receiver.on_piece("a", piece(4, 10), 0.0) == (Ack(1, 10), None)  # complete, and not delivered twice
    assert (receiver.stats().delivered, receiver.stats().repeated) == (1, 3)


def test_a_transfer_that_is_not_known_begins_at_the_beginning(receiver):
    assert receiver.on_piece("a", piece(4, 8), 0.0) == (Ack(1, 0), None)
    assert receiver.stats().held == 0


def test_what_has_another_digest_is_refused_as_a_whole(receiver):
    receiver.on_piece("a", piece(0, 4), 0.0)
    forged = Piece(1, "p", 10, 4, b"!!!!!!", blake3(BODY).digest())
    assert receiver.on_piece("a", forged, 0.0) == (Refuse(1, RefuseCode.CORRUPT), None)
    assert (receiver.stats().held, receiver.stats().delivered, receiver.stats().refused) == (0, 0, 1)


def test_each_bound_refuses(receiver):
    large = Piece(1, "p", 21, 0, b"x")
    assert receiver.on_piece("a", large, 0.0)[0] == Refuse(1, RefuseCode.TOO_LARGE)
    for transfer in (1, 2):
        receiver.on_piece("a", piece(0, 4, transfer=transfer), 0.0)
    assert receiver.on_piece("a", piece(0, 4, transfer=3), 0.0)[0] == Refuse(3, RefuseCode.BUSY)  # taken_max
    receiver.on_piece("b", Piece(1, "p", 20, 0, b"x"), 0.0)
    assert receiver.on_piece("c", piece(0, 4), 0.0)[0] == Refuse(1, RefuseCode.BUSY)  # taken_total_bytes_max
    receiver.on_gone("a")
    assert receiver.on_piece("b", Piece(2, "p", 11, 0, b"x"), 0.0)[0] == Refuse(2, RefuseCode.BUSY)  # taken_bytes_max
    assert receiver.on_piece("c", piece(0, 4), 0.0)[0] == Ack(1, 4)
    # A refusal of new ones does not touch those that were begun.
    assert receiver.on_piece("c", piece(4, 10), 0.0)[1] is not None


def test_two_peers_may_use_one_number(receiver):
    receiver.on_piece("a", piece(0, 4), 0.0)
    receiver.on_piece("b", piece(0, 4, body=b"abcdefgh"), 0.0)
    assert receiver.on_piece("b", piece(4, 8, body=b"abcdefgh"), 0.0)[1] == Delivered("b", "p", bytearray(b"abcdefgh"))
    assert receiver.on_piece("a", piece(4, 10), 0.0)[1] == Delivered("a", "p", bytearray(BODY))


def test_what_is_stale_is_forgotten(receiver):
    receiver.on_piece("a", piece(0, 4), 0.0)
    receiver.on_piece("a", piece(0, 4, transfer=2), 5.0)
    assert receiver.next_deadline() == 10.0
    receiver.tick(9.9)
    assert receiver.stats().held == 2
    receiver.tick(10.0)
    assert (receiver.stats().held, receiver.stats().expired) == (1, 1)
    assert receiver.on_piece("a", piece(4, 8), 10.0)[0] == Ack(1, 0)  # it begins anew


def test_who_is_gone_leaves_nothing(receiver):
    receiver.on_piece("a", piece(0, 10), 0.0)
    receiver.on_piece("a", piece(0, 4, transfer=2), 0.0)
    receiver.on_gone("a")
    receiver.on_gone("never seen")
    assert (receiver.stats().held, receiver.stats().expired) == (0, 1)
    assert receiver.on_piece("a", piece(0, 10), 0.0)[1] is not None  # a later life may use the number again


@pytest.mark.parametrize(
    "hostile",
    [
        Piece(1, "p", 5, 0, b"123456"),  # past the end
        Piece(1, "p", 10, 2**53, b"1"),
        Piece(1, "p", 10, 0, BODY),  # the last, without a digest
        Piece(1, "p", 10, 0, BODY, b"short"),
        Piece(1, "p", 10, 4, b"4", bytes(32)),  # a digest in the middle
        Piece(1, "p", 11, 4, b"4"),  # another size than it began with
        Piece(1, "q", 10, 4, b"4"),  # another protocol
    ],
)
def test_what_nobody_honest_sends_ends_the_transfer(receiver, hostile):
    receiver.on_piece("a", piece(0, 4), 0.0)
    with pytest.raises(RemoteProtocolError, match="piece of bulk transfer 1 from a"):
        receiver.on_piece("a", hostile, 0.0)
    assert receiver.stats().held == 0
    assert receiver.on_piece("a", piece(0, 10), 0.0)[1] is not None  # and nothing else


def test_nothing_is_reserved_for_what_is_announced():
    receiver = BulkReceiver(BulkSettings())
    receiver.on_piece("a", Piece(1, "p", 64 * 1024 * 1024, 0, b"x"), 0.0)
    assert receiver.stats().held_bytes == 1
