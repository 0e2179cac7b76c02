from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from transports.assembly import Assembled, Assembly, BufferPool
from transports.bulk import Bulk, Piece, is_bulk
from transports.limits import Limits
from transports.parcel import Parcel, whole
from transports.wire.batch import decode_batch
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey

LIMITS = Limits(chunk_bytes=10, transfers_active_max=2, outbox_bulk_bytes_max=100)


def message(number: int, size: int, kind: int = Kind.CAST, **meta: Any) -> Envelope:
    named = {int(MetaKey[name.upper()]): value for name, value in meta.items()}
    return Envelope(kind, "t", number, 0, named or None, Parcel.of_buffer(bytes([number]) * size))


def queue(*messages: Envelope, granted: int = 0, limits: Limits = LIMITS) -> Bulk:
    bulk = Bulk(limits)
    bulk.grant(granted)
    for each in messages:
        bulk.put(each, 0.0, None, is_answer=False)
    return bulk


def pieces(bulk: Bulk, now: float = 0.0, departed: int = 0) -> Iterator[Piece]:
    while (piece := bulk.next_piece(now, departed)) is not None:
        yield piece


def who(bulk: Bulk) -> list[int]:
    """The transfers in the order of their pieces, ends included."""
    return [decode_batch(piece.frame)[0][0].id for piece in pieces(bulk)]


def received(bulk: Bulk) -> list[Envelope]:
    """What a receiver makes of everything that is sent."""
    assembly = Assembly(BufferPool(LIMITS), LIMITS)
    messages = []
    for piece in pieces(bulk):
        [envelope], _ = whole(decode_batch(piece.frame)[0], [memoryview(part) for part in piece.attachments])
        result = assembly.on_chunk(envelope.id, envelope.body)
        if isinstance(result, Assembled):
            messages.append(result.envelope)
    return messages


def test_which_payloads_go_in_pieces():
    assert not is_bulk(Parcel.of_buffer(bytes(10)), 10)
    assert is_bulk(Parcel.of_buffer(bytes(11)), 10)
    assert not is_bulk(Parcel(NIL, [bytes(9), bytes(9)]), 10)
    assert is_bulk(Parcel(NIL, [bytes(9), bytes(9), bytes(9)]), 10)
    assert is_bulk(Parcel(msgspec.Raw(msgspec.msgpack.encode("x" * 20)), []), 10)


def test_pieces_are_views_and_the_message_comes_last():
    buffer = bytearray(range(25))
    bulk = queue(Envelope(Kind.CALL, "t.f", 7, 0, {1: "trace"}, Parcel.of_buffer(memoryview(buffer))))
    sent = list(pieces(bulk))
    assert [[len(part) for part in piece.attachments] for piece in sent] == [[10], [10], [5], []]
    assert [piece.done is None for piece in sent] == [True, True, True, False]
    buffer[0] = 99
    assert sent[0].attachments[0][0] == 99
    assert (len(bulk), bulk.queued_bytes) == (0, 0)


def test_what_is_sent_is_what_arrives():
    parts = Parcel(msgspec.Raw(msgspec.msgpack.encode([1])), [bytes(range(25)), b"", b"abc"])
    several = Envelope(Kind.CAST, "t", 1, 0, None, parts)
    body = Envelope(Kind.EVENT, "t", 2, 0, None, Parcel.of_body(msgspec.Raw(msgspec.msgpack.encode(["x" * 30]))))
    both = Envelope(Kind.CALL, "t", 3, 0, {1: "t"}, parts.with_body_beside())
    arrived = received(queue(several, body, both))
    assert {each.id: each.kind for each in arrived} == {1: Kind.CAST, 2: Kind.EVENT, 3: Kind.CALL}
    bodies = {each.id: each.body for each in arrived}
    assert [bytes(part) for part in bodies[1].attachments] == parts.attachments
    assert msgspec.msgpack.decode(bodies[2]) == ["x" * 30]
    assert [bytes(part) for part in bodies[3].attachments] == parts.attachments
    assert bodies[3].body == parts.body


def test_the_smallest_goes_first_the_oldest_now_and_then_and_equal_ones_in_their_order():
    assert who(queue(message(1, 60), message(2, 20), message(3, 10))) == [1, 2, 2, 2, 1, 3, 3, 1, 1, 1, 1, 1]
    assert who(queue(message(1, 20), message(2, 20))) == [1, 1, 1, 2, 2, 2]


def test_a_higher_priority_has_more_turns_and_the_lower_still_some():
    turns = who(queue(message(1, 300, priority=-4), message(2, 300, priority=4)))
    assert turns[:20].count(2) == 15
    assert turns[:20].count(1) == 5
    assert who(queue(message(1, 30, priority=99), message(2, 30, priority="x"))).count(1) == 4  # whatever is said


def test_messages_of_one_key_go_one_after_the_other():
    turns = who(queue(message(1, 20, partition_key="k"), message(2, 20, partition_key="k"), message(3, 10)))
    assert turns == [1, 1, 1, 3, 3, 2, 2, 2]


def test_the_end_waits_for_small_messages_of_its_key_that_were_sent_before():
    bulk = queue(message(1, 10, partition_key="k"))
    [transfer] = bulk
    transfer.after = 3
    assert len(list(pieces(bulk, departed=2))) == 1
    assert not bulk.ready(0.0, 2)
    [end] = pieces(bulk, departed=3)
    assert end.done is transfer


def test_no_more_is_begun_than_the_receiver_grants():
    bulk = queue(message(1, 20), message(2, 20), granted=10)
    assert who(bulk) == [1, 1, 1]  # one may go past it
    bulk.grant(20)
    assert not bulk.ready(0.0, 0)
    bulk.grant(21)
    bulk.grant(5)  # late, and lower
    assert who(bulk) == [2, 2, 2]


def test_small_messages_have_as_many_octets_between_two_pieces():
    bulk = queue(message(1, 30))
    assert bulk.is_due
    bulk.next_piece(0.0, 0)
    assert not bulk.is_due
    bulk.on_small(9)
    assert not bulk.is_due
    bulk.on_small(1)
    assert bulk.is_due


def test_a_pace_is_kept():
    bulk = queue(message(1, 30), limits=Limits(chunk_bytes=10, bulk_bytes_per_s=10.0))
    assert bulk.next_piece(5.0, 0) is not None
    assert bulk.next_piece(5.9, 0) is None
    assert not bulk.ready(5.9, 0)
    assert bulk.resumes_at == 6.0
    assert bulk.next_piece(6.0, 0) is not None


def test_full_is_a_matter_of_octets_and_half_of_it_is_room():
    bulk = queue(message(1, 60), message(2, 60))
    assert bulk.full
    for _ in range(6):
        bulk.next_piece(0.0, 0)
    assert bulk.full
    for _ in range(2):
        bulk.next_piece(0.0, 0)
    assert not bulk.full


def test_one_whose_deadline_passed_is_given_up_and_the_receiver_told_if_it_has_pieces():
    bulk = Bulk(LIMITS)
    bulk.grant(0)
    for number in (1, 2, 3):
        bulk.put(message(number, 20), 5.0, None, is_answer=True)
    assert bulk.next_piece(4.0, 0) is not None
    assert [each.envelope.id for each in bulk.expire(5.0)] == [1, 2, 3]
    assert (bulk.queued_bytes, bulk.queued_answers_bytes, bulk.expired) == (0, 0, 3)
    told = [decode_batch(piece.frame)[0][0] for piece in pieces(bulk, 5.0)]
    assert [(each.kind, each.id, each.body) for each in told] == [(Kind.CHUNK, 1, NIL), (Kind.CHUNK, 2, NIL)]


def test_what_is_left_of_the_deadline_is_told_at_the_end():
    bulk = Bulk(LIMITS)
    bulk.grant(0)
    bulk.put(message(1, 10), 7.0, None, is_answer=False)
    assert bulk.next_piece(1.0, 0) is not None
    end = bulk.next_piece(5.0, 0)
    assert end is not None
    inner = msgspec.msgpack.decode(msgspec.msgpack.decode(end.frame[1:])[0][5])
    assert inner[3] == 2000


def test_a_message_that_cannot_be_encoded_is_given_up():
    bulk = queue(Envelope(Kind.CAST, "t", 1, 0, {1: object()}, Parcel.of_buffer(bytes(20))))
    *_, end = pieces(bulk)
    assert "cannot encode" in end.failure
    assert decode_batch(end.frame)[0][0].body == NIL
    assert len(bulk) == 0


def test_they_are_found_and_dropped_one_by_one_and_all_at_once():
    bulk = queue(message(1, 20, Kind.CALL), message(1, 20, Kind.REPLY), message(3, 20, partition_key=b"k"))
    bulk.next_piece(0.0, 0)
    found = bulk.find((Kind.REPLY, Kind.ITEM), 1)
    assert found is not None
    assert found.envelope.kind == Kind.REPLY
    assert bulk.by_id(found.id) is found
    assert bulk.last_of(b"k") is not None
    assert bulk.last_of(None) is None
    bulk.drop(found, tell=False)
    assert [each.envelope.kind for each in bulk] == [Kind.CALL, Kind.CAST]
    found.followers.append((message(9, 1), 0.0, None))
    assert bulk.clear() == 2
    assert (len(bulk), bulk.queued_bytes, bulk.full) == (0, 0, False)


@pytest.mark.parametrize("size", [1, 9, 10, 11, 99])
def test_every_octet_goes_once(size: int):
    assert sum(len(part) for piece in pieces(queue(message(1, size))) for part in piece.attachments) == size
