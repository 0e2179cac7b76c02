import random

import pytest
from blake3 import blake3

from fdn.runtime.bulk.messages import Ack, Piece, Refuse, RefuseCode
from fdn.runtime.bulk.receiver import BulkReceiver
from fdn.runtime.bulk.sender import (
    BulkEffect,
    BulkInput,
    BulkSend,
    BulkSender,
    Ended,
    Heard,
    Idle,
    PeerGone,
    PeerUp,
    Submit,
    Tick,
    WaitIdle,
)
from fdn.runtime.bulk.settings import BulkSettings
from topologies.errors import RemoteProtocolError

SETTINGS = BulkSettings(
    piece_bytes=4,
    transfer_bytes_max=20,
    queue_bytes_max=40,
    queue_transfers_max=3,
    active_max=2,
    ack_timeout_s=2,
    attempts_max=3,
    retry_s=1,
)
BODY = b"0123456789"
WAIT = WaitIdle("b")


def submit(transfer: int = 1, body: bytes = BODY) -> Submit:
    return Submit("b", transfer, "p", body)


def ended(reason: str, transfer: int = 1) -> Ended:
    return Ended("b", transfer, "p", reason)


@pytest.fixture
def sender() -> BulkSender:
    sender = BulkSender(SETTINGS)
    sender.handle(PeerUp("b"), 0.0)
    return sender


def sent(effects: list[BulkEffect]) -> Piece:
    (effect,) = effects
    assert isinstance(effect, BulkSend)
    return effect.piece


def test_one_piece_at_a_time_and_each_only_when_nothing_else_waits(sender):
    assert sender.handle(submit(), 0.0) == [WAIT]
    assert sent(sender.handle(Idle("b"), 0.0)) == Piece(1, "p", 10, 0, b"0123")
    assert sender.handle(Idle("b"), 0.0) == []  # it was not asked for, and one piece is under way
    assert sender.handle(Heard("b", Ack(1, 4)), 0.0) == [WAIT]  # not the next piece itself
    assert sent(sender.handle(Idle("b"), 0.0)) == Piece(1, "p", 10, 4, b"4567")
    assert sender.handle(Heard("b", Ack(1, 8)), 0.0) == [WAIT]
    assert sent(sender.handle(Idle("b"), 0.0)) == Piece(1, "p", 10, 8, b"89", blake3(BODY).digest())
    assert sender.handle(Heard("b", Ack(1, 10)), 0.0) == [ended("")]
    assert sender.next_deadline() is None
    stats = sender.stats()
    assert (stats.delivered, stats.failed, stats.pieces, stats.resent, stats.queued) == (1, 0, 3, 0, 0)


def test_transfers_to_one_peer_take_turns(sender):
    for transfer in (1, 2, 3):
        sender.handle(submit(transfer), 0.0)
    turns = []
    received = dict.fromkeys((1, 2, 3), 0)
    for _ in range(9):
        piece = sent(sender.handle(Idle("b"), 0.0))
        turns.append(piece.transfer)
        received[piece.transfer] += len(piece.data)
        sender.handle(Heard("b", Ack(piece.transfer, received[piece.transfer])), 0.0)
    assert turns == [1, 2, 1, 2, 1, 2, 3, 3, 3]  # active_max=2; the third waits for an end
    assert sender.stats().delivered == 3


def test_peers_do_not_wait_for_one_another(sender):
    sender.handle(PeerUp("c"), 0.0)
    sender.handle(submit(), 0.0)
    assert sender.handle(Submit("c", 1, "p", BODY), 0.0) == [WaitIdle("c")]
    sender.handle(Idle("b"), 0.0)
    assert sent(sender.handle(Idle("c"), 0.0)).offset == 0


def test_without_a_connection_it_waits_for_one():
    sender = BulkSender(SETTINGS)
    assert sender.handle(submit(), 0.0) == []
    assert sender.next_deadline() is None
    assert sender.handle(PeerUp("b"), 5.0) == [WAIT]


def test_after_a_reconnect_it_goes_on_where_it_was(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    sender.handle(Heard("b", Ack(1, 4)), 0.0)
    sender.handle(Idle("b"), 0.0)  # this one, or its Ack, is lost with the connection
    assert sender.handle(PeerUp("b"), 1.0) == [WAIT]
    assert sent(sender.handle(Idle("b"), 1.0)) == Piece(1, "p", 10, 4, b"4567")
    assert sender.stats().resent == 1


def test_a_connection_that_ends_before_it_is_idle_is_replaced(sender):
    assert sender.handle(submit(), 0.0) == [WAIT]
    assert sender.handle(PeerUp("b"), 1.0) == [WAIT]  # the first was never answered


def test_a_receiver_that_has_forgotten_all_gets_all_and_the_right_digest(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    sender.handle(Heard("b", Ack(1, 4)), 0.0)
    sender.handle(Idle("b"), 0.0)
    sender.handle(Heard("b", Ack(1, 0)), 0.0)  # it was started again
    pieces = []
    for received in (4, 8, 10):
        pieces.append(sent(sender.handle(Idle("b"), 0.0)))
        last = sender.handle(Heard("b", Ack(1, received)), 0.0)
    assert b"".join(piece.data for piece in pieces) == BODY
    assert pieces[-1].digest == blake3(BODY).digest()
    assert last == [ended("")]


def test_a_receiver_that_always_begins_anew_is_given_up(sender):
    sender.handle(submit(), 0.0)
    for _ in range(2):
        sender.handle(Idle("b"), 0.0)
        assert sender.handle(Heard("b", Ack(1, 0)), 0.0) == [WAIT]
    sender.handle(Idle("b"), 0.0)
    assert sender.handle(Heard("b", Ack(1, 0)), 0.0) == [ended("the peer begins it again and again, 3 times")]


def test_what_is_not_acknowledged_is_sent_again_and_then_given_up(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    assert sender.next_deadline() == 2.0
    assert sender.handle(Tick(), 1.9) == []
    assert sender.handle(Tick(), 2.0) == [WAIT]
    assert sent(sender.handle(Idle("b"), 2.0)).offset == 0
    sender.handle(Tick(), 4.0)
    sender.handle(Idle("b"), 4.0)
    assert sender.handle(Tick(), 6.0) == [ended("not acknowledged, 3 times")]
    assert (sender.stats().failed, sender.stats().resent, sender.stats().queued) == (1, 2, 0)


def test_an_ack_after_the_timeout_is_no_news(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    sender.handle(Tick(), 2.0)
    assert sender.handle(Heard("b", Ack(1, 4)), 2.1) == []
    assert sent(sender.handle(Idle("b"), 2.2)).offset == 0  # the receiver will say that it has it already


def test_a_busy_receiver_is_asked_again_after_a_pause(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    assert sender.handle(Heard("b", Refuse(1, RefuseCode.BUSY)), 0.5) == []
    assert sender.next_deadline() == 1.5
    assert sender.handle(Tick(), 1.5) == [WAIT]
    assert sent(sender.handle(Idle("b"), 1.5)).offset == 0


def test_one_that_pauses_does_not_hold_up_the_others(sender):
    sender.handle(submit(1), 0.0)
    sender.handle(submit(2), 0.0)
    sender.handle(Idle("b"), 0.0)
    assert sender.handle(Heard("b", Refuse(1, RefuseCode.BUSY)), 0.0) == [WAIT]
    assert sent(sender.handle(Idle("b"), 0.0)).transfer == 2


@pytest.mark.parametrize("code", [RefuseCode.TOO_LARGE, RefuseCode.CORRUPT, "something new"])
def test_any_other_refusal_is_the_end(sender, code):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    assert sender.handle(Heard("b", Refuse(1, code)), 0.0) == [ended(f"refused: {code}")]


def test_who_is_gone_is_sent_nothing_more(sender):
    sender.handle(submit(1), 0.0)
    sender.handle(submit(2), 0.0)
    sender.handle(Idle("b"), 0.0)
    assert set(sender.handle(PeerGone("b"), 0.0)) == {ended("the peer is gone", n) for n in (1, 2)}
    assert sender.handle(PeerGone("b"), 0.0) == []
    assert sender.handle(Heard("b", Ack(1, 4)), 0.0) == []
    assert sender.next_deadline() is None


@pytest.mark.parametrize(
    ("body", "reason"), [(b"", "0 bytes, transfer_bytes_max=20"), (bytes(21), "21 bytes, transfer_bytes_max=20")]
)
def test_what_cannot_be_sent_ends_at_once(sender, body, reason):
    assert sender.handle(submit(body=body), 0.0) == [ended(reason)]


def test_the_queue_has_bounds(sender):
    for transfer in (1, 2, 3):
        sender.handle(submit(transfer), 0.0)
    assert sender.handle(submit(4), 0.0) == [ended("queue_transfers_max=3 wait already", 4)]
    sender.handle(PeerGone("b"), 0.0)
    for transfer in (5, 6):
        sender.handle(submit(transfer, bytes(20)), 0.0)
    assert sender.handle(submit(7, b"1"), 0.0) == [ended("more than queue_bytes_max=40 would wait", 7)]


def test_an_ack_of_what_was_never_sent_is_hostile(sender):
    sender.handle(submit(), 0.0)
    sender.handle(Idle("b"), 0.0)
    with pytest.raises(RemoteProtocolError, match="b acknowledges 5 bytes of bulk transfer 1; 4 were sent"):
        sender.handle(Heard("b", Ack(1, 5)), 0.0)
    assert sender.handle(Heard("b", Ack(9, 4)), 0.0) == []  # nor is one of another transfer believed
    assert sender.handle(Heard("b", Ack(1, 4)), 0.0) == [WAIT]


@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_lost_or_repeated_each_message_arrives_once_or_is_reported(seed):
    """Both halves, on a virtual clock, over a way that loses and doubles 20 %, and breaks now and then."""
    rng = random.Random(seed)
    sender, receiver = BulkSender(SETTINGS), BulkReceiver(BulkSettings(taken_max=2, stale_s=60))
    bodies = {n: rng.randbytes(rng.randint(1, 20)) for n in range(1, 4)}
    arrived: list[bytes] = []
    results: dict[int, str] = {}
    in_flight = False
    now = 0.0
    inputs: list[BulkInput] = [PeerUp("b"), *(Submit("b", n, "p", body) for n, body in bodies.items())]
    while inputs or sender.next_deadline() is not None:
        if not inputs:
            now = max(now, sender.next_deadline() or now)
            inputs.append(Tick())
        input = inputs.pop(0)
        in_flight = in_flight and not isinstance(input, Heard | Tick | PeerUp)
        for effect in sender.handle(input, now):
            match effect:
                case WaitIdle():
                    inputs.append(Idle("b"))
                case BulkSend(_, piece):
                    assert not in_flight, "a second piece, and neither an answer nor a timeout for the first"
                    in_flight = True
                    for _ in range(rng.choices((0, 1, 2), (2, 7, 1))[0]):
                        answer, delivered = receiver.on_piece("a", piece, now)
                        if delivered is not None:
                            arrived.append(bytes(delivered.body))
                        if rng.random() > 0.2:
                            inputs.append(Heard("b", answer))
                    if rng.random() < 0.1:
                        inputs.append(PeerUp("b"))
                case Ended(_, transfer, _, reason):
                    assert transfer not in results
                    results[transfer] = reason
    assert results.keys() == bodies.keys()
    assert all(arrived.count(body) <= 1 for body in arrived)
    for n, body in bodies.items():
        assert body in arrived or results[n], "said to be delivered, and is not"
