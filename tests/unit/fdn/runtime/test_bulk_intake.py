import logging
from typing import Any, cast

import msgspec
import pytest

from fdn.runtime.bulk_intake import BULK, BulkIntake, BulkTicket, read_bulk_credit
from fdn.runtime.sessions import Session
from transports.limits import Limits
from transports.parcel import Parcel
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind

LIMITS = Limits(transfer_bytes_max=1000, bulk_window_bytes=400, transfers_max=1)


class Peer:
    """What a session is to the intake."""

    peer = "n2-0000000000000002"

    def __init__(self) -> None:
        self.answers: list[Envelope] = []
        self.hello = type("Said", (), {"epoch": 7})

    def answer(self, envelope: Envelope) -> None:
        self.answers.append(envelope)


class Taken:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.tickets: list[BulkTicket] = []

    def __call__(self, session: Session, envelope: Envelope, ticket: BulkTicket) -> None:
        ticket.held += 1
        self.envelopes.append(envelope)
        self.tickets.append(ticket)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def chunk(transfer: int, size: int) -> Envelope:
    return Envelope(Kind.CHUNK, "", transfer, 0, None, Parcel(raw([size, 0, size, 0]), [memoryview(bytes(size))]))


def end(transfer: int, kind: int = Kind.CAST) -> Envelope:
    inner = encode_batch((Envelope(kind, "t", 5, 0, {6: [0]}, raw(msgspec.msgpack.Ext(1, b"\0\0"))),))[2:]
    return Envelope(Kind.CHUNK, "", transfer, 0, None, raw(inner))


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def intake(taken: Taken) -> BulkIntake:
    return BulkIntake(LIMITS, {Kind.CAST: cast(Any, taken)})


@pytest.fixture
def peer() -> Any:
    return Peer()


def test_a_whole_message_goes_to_its_handler_and_more_is_granted_once_it_is_taken_up(
    intake: BulkIntake, taken: Taken, peer: Any
):
    intake.on_chunk(peer, chunk(1, 300))
    intake.on_chunk(peer, end(1))
    [envelope], [ticket] = taken.envelopes, taken.tickets
    assert len(envelope.body) > 300
    assert peer.answers == []
    ticket.release()
    [grant] = peer.answers
    assert (grant.kind, grant.to, grant.id) == (Kind.CREDIT, BULK, 0)
    assert msgspec.msgpack.decode(grant.body) == [7, 700]
    assert intake.stats().held_bytes == 0


def test_a_refusal_is_told_to_the_sender_and_logged_ever_more_rarely(
    intake: BulkIntake, peer: Any, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        for number in range(1, 9):
            intake.on_chunk(peer, chunk(number, 2000))
    refusals = [each for each in peer.answers if each.id]
    assert [each.id for each in refusals] == list(range(1, 9))
    said = read_bulk_credit(refusals[0])
    assert said is not None
    assert said[0] == 7
    assert "2000 bytes" in str(said[1])
    assert len(caplog.records) == 4
    assert intake.stats().refused == 8


def test_what_nobody_handles_and_a_chunk_in_a_chunk_go_nowhere(intake: BulkIntake, taken: Taken, peer: Any):
    for number, kind in enumerate((Kind.EVENT, Kind.CHUNK), 1):
        intake.on_chunk(peer, chunk(number, 10))
        intake.on_chunk(peer, end(number, kind))
    assert taken.envelopes == []
    assert intake.stats().held_bytes == 0


def test_a_lost_connection_drops_what_was_not_whole_and_keeps_the_count(intake: BulkIntake, taken: Taken, peer: Any):
    intake.on_chunk(peer, chunk(1, 300))
    intake.on_chunk(peer, end(1))
    intake.on_chunk(peer, Envelope(Kind.CHUNK, "", 2, 0, None, Parcel(raw([99, 0, 99, 0]), [memoryview(b"a")])))
    intake.session_closed(peer)
    stats = intake.stats()
    assert (stats.whole, stats.lost, stats.open) == (1, 1, 0)
    taken.tickets[0].release()  # its handler is done only now
    assert peer.answers == []
    another = cast(Any, Peer())
    for number in (1, 2):
        intake.on_chunk(another, chunk(number, 300))
        intake.on_chunk(another, end(number))
    assert intake.stats().whole == 3


def test_what_is_no_credit_is_not_read():
    for body in (None, [1], [1, 2.5], "x", [1, 2, 3]):
        assert read_bulk_credit(Envelope(Kind.CREDIT, BULK, body=raw(body))) is None


def test_memory_is_given_back_when_idle(intake: BulkIntake, peer: Any):
    intake.on_chunk(peer, Envelope(Kind.CHUNK, "", 2, 0, None, Parcel(raw([99, 0, 99, 0]), [memoryview(b"a")])))
    intake.session_closed(peer)
    assert intake.pooled_bytes > 0
    intake.trim()
    intake.trim()
    assert intake.pooled_bytes == 0
