"""The queue alone, without a network; what a sender sees of it is in `test_contract.py`."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

import msgspec
import pytest

from tests.unit.transports.harness import cast, reply
from transports.errors import OversizedEnvelope
from transports.intake import Intake
from transports.limits import Limits
from transports.outbox import Outbox
from transports.parcel import Buffer, Parcel
from transports.transport import ConnectionStats
from transports.wire.batch import decode_batch
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey


class Wire(Outbox):
    """Takes `room` frames, then no more until `open`."""

    def __init__(self, limits: Limits | None = None, room: int = 1000) -> None:
        super().__init__(asyncio.get_running_loop(), limits or Limits())
        self.frames: list[bytes] = []
        self.attachments: list[Sequence[Buffer]] = []
        self.room = room
        self.shut = False

    def open(self, room: int = 1000) -> None:
        self.room = room
        self._resume()

    def counters(self) -> ConnectionStats:
        return self._stats(Intake("", lambda batch: None, Limits()))

    @property
    def ids(self) -> list[list[int]]:
        return [[envelope.id for envelope in decode_batch(frame)[0]] for frame in self.frames]

    @property
    def kinds(self) -> list[list[int]]:
        return [[envelope.kind for envelope in decode_batch(frame)[0]] for frame in self.frames]

    @property
    def delivered(self) -> list[int]:
        """What a receiver has whole, in order."""
        found: list[int] = []
        for envelope in (each for frame in self.frames for each in decode_batch(frame)[0]):
            body = msgspec.msgpack.decode(envelope.body)
            if envelope.kind != Kind.CHUNK:
                found.append(envelope.id)
            elif isinstance(body, bytes):
                found.append(msgspec.msgpack.decode(body)[2])
        return found

    def _write(self, frame: bytes, attachments: Sequence[Buffer] = ()) -> bool:
        self.frames.append(frame)
        self.attachments.append(attachments)
        self.room -= 1
        return self.room > 0

    def _hush(self) -> None:
        pass

    def _shut(self) -> None:
        self.shut = True
        self._end()


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


async def turn(passes: int = 1) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)


@on_loop
async def test_a_steady_stream_stays_coalesced_and_an_idle_pass_ends_it():
    wire = Wire()
    wire.open()
    for first in (0, 10, 20):
        for number in range(first, first + 3):
            wire.send(cast(number))
        await turn()
    await turn(2)
    assert wire.ids == [[0], [1, 2], [10, 11, 12], [20, 21, 22]]
    wire.send(cast(30))
    assert wire.ids[-1] == [30]  # idle again: at once


@on_loop
async def test_answers_of_a_busy_pass_leave_in_shares_of_what_the_last_one_made():
    wire = Wire()
    wire.open()
    for number in range(400):
        wire.send_exempt(reply(number))
    assert [len(ids) for ids in wire.ids] == [1, *[32] * 12]  # whoever asked need not wait for the end of the pass
    await turn()
    assert len(wire.ids.pop()) == 15
    for passed in range(2):
        wire.frames.clear()
        for number in range(400):
            wire.send_exempt(reply(number))
        assert [len(ids) for ids in wire.ids] == [100] * 4  # a quarter each
        await turn()
        assert len(wire.ids) == 4, passed
    await turn(2)
    wire.frames.clear()
    wire.send_exempt(reply(1))
    assert wire.ids == [[1]]


@on_loop
async def test_whatever_the_rate_nothing_waits_longer_than_its_pass_and_order_is_kept():
    wire = Wire()
    wire.open(10**6)
    chance = random.Random(5)
    sent: list[int] = []
    answered: list[int] = []
    for passed in range(300):
        burst = chance.choice((0, 0, 1, 1, 2, 5, 40, 700))
        for number in range(burst):
            if chance.random() < 0.5:
                sent.append(1000 * passed + number)
                wire.send(cast(sent[-1]))
            else:
                answered.append(1000 * passed + number)
                wire.send_exempt(reply(answered[-1]))
        await turn()
        left = [envelope for frame in wire.frames for envelope in decode_batch(frame)[0]]
        assert [envelope.id for envelope in left if envelope.kind == Kind.CAST] == sent
        assert [envelope.id for envelope in left if envelope.kind == Kind.REPLY] == answered
        wire.frames.clear()
        sent.clear()
        answered.clear()


@on_loop
async def test_nothing_is_written_before_the_network_takes_frames():
    wire = Wire()
    wire.send(cast(1))
    wire.send_exempt(reply(2))
    await turn(3)
    assert wire.frames == []
    wire.open()
    assert wire.ids == [[2], [1]]


@on_loop
async def test_an_idle_resume_leaves_the_next_send_immediate():
    wire = Wire()
    wire.open()
    wire.send(cast(1))
    assert wire.ids == [[1]]


@on_loop
async def test_a_network_that_is_full_is_left_alone_until_it_resumes():
    wire = Wire(Limits(batch_messages_max=2))
    wire.open(room=2)
    for number in range(7):
        wire.send(cast(number))
    await turn(3)
    assert wire.ids == [[0], [1, 2]]
    assert wire.counters().hwm_hits == 1
    assert wire.counters().queued_messages == 4
    wire.open()
    assert wire.ids == [[0], [1, 2], [3, 4], [5, 6]]
    assert wire.counters().queued_messages == wire.counters().queued_bytes == 0


@on_loop
async def test_full_counts_messages_or_bytes_and_ends_at_half():
    limits = Limits(outbox_messages_max=8, batch_messages_max=2, outbox_bytes_max=10_000)
    wire = Wire(limits)
    for number in range(7):
        wire.send(cast(number))
        assert not wire.full
    wire.send(cast(7))
    assert wire.full
    waiters = [asyncio.create_task(wire.wait_room()) for _ in range(3)]
    await turn()
    wire.open(room=1)
    assert wire.full  # 6 of 8 wait
    await turn()
    wire.open(room=1)
    assert not wire.full
    await asyncio.gather(*waiters)
    wire.send(cast(8, bytes(20_000)))
    assert wire.full
    wire.open()
    assert not wire.full


@on_loop
async def test_a_body_larger_than_the_queue_still_passes():
    wire = Wire(Limits(outbox_bytes_max=1000))
    wire.open()
    wire.send(cast(1, bytes(100_000)))
    await wire.wait_room()
    assert wire.ids == [[1]]


@on_loop
async def test_a_waiter_that_is_cancelled_leaves_the_others_alone():
    wire = Wire(Limits(outbox_messages_max=1))
    wire.send(cast(1))
    one, other = asyncio.create_task(wire.wait_room()), asyncio.create_task(wire.wait_room())
    await turn()
    one.cancel()
    await turn()
    wire.open()
    await other
    assert one.cancelled()


@on_loop
async def test_who_has_waited_finds_the_room_still_there():
    wire = Wire(Limits(outbox_messages_max=2, batch_messages_max=1), room=0)
    for number in range(2):
        wire.send(cast(number))
    seen: list[bool] = []

    async def sender() -> None:
        await wire.wait_room()
        seen.append(wire.full)
        wire.send(cast(9))

    senders = [asyncio.create_task(sender()) for _ in range(5)]
    await turn()
    while not all(task.done() for task in senders):
        wire.open(room=1)
        await turn(3)
    assert seen == [False] * 5


@on_loop
async def test_exempt_batches_are_bounded_too():
    wire = Wire(Limits(batch_messages_max=3, batch_bytes_max=10_000))
    for number in range(7):
        wire.send_exempt(reply(number))
    wire.send_exempt(cast(7, bytes(50_000)))
    wire.send_exempt(reply(8))
    wire.open()
    assert wire.ids == [[0, 1, 2], [3, 4, 5], [6], [7], [8]]


@on_loop
async def test_metas_heavier_than_a_frame_are_sent_one_by_one():
    wire = Wire(Limits(frame_bytes_max=300_000))
    for number in range(4):
        envelope = cast(number)
        envelope.meta = {11: "x" * (100_000 if number != 2 else 400_000)}
        wire.send(envelope)
    wire.open()
    assert wire.ids == [[0], [1], [3]]
    assert wire.counters().unsendable == 1


@on_loop
async def test_deadlines_are_what_is_left_when_the_batch_is_encoded():
    wire = Wire()
    wire._now = lambda: 10.0
    for number, deadline_at in enumerate((12.5, 10.0001, 10.0, 0.0)):
        wire.send(cast(number), deadline_at)
    wire._now = lambda: 10.00005
    wire.open()
    envelopes, _ = decode_batch(wire.frames[0])
    assert [(envelope.id, envelope.deadline_ms) for envelope in envelopes] == [(0, 2499), (1, 1), (3, 0)]


@on_loop
async def test_closing_with_linger_waits_for_what_may_still_leave():
    wire = Wire()
    wire.send(cast(1))
    wire.close(linger_s=1000)
    assert not wire.shut
    wire.open()
    assert wire.shut
    assert wire.ids == [[1]]


@on_loop
async def test_closing_does_not_linger_for_credit_that_cannot_come():
    wire = Wire()
    wire.grant(1, 1000)
    wire.open()
    wire.send(cast(1))
    wire.send(cast(2))
    await turn(2)
    wire.close(linger_s=1000)
    assert wire.shut
    assert wire.ids == [[1]]


@on_loop
async def test_linger_ends():
    wire = Wire()
    wire.send(cast(1))
    wire.close(linger_s=0.001)
    while not wire.shut:
        await turn()
    assert wire.frames == []


@on_loop
async def test_answers_that_a_peer_does_not_read_are_bounded() -> None:
    wire = Wire(Limits(exempt_bytes_max=1000), room=0)
    for number in range(100):
        wire.send_exempt(reply(number, bytes(100)))
    assert wire.counters().queued_bytes < 1000 + 200
    assert wire.counters().dropped + wire.counters().queued_messages == 100
    wire.open()
    await turn()
    wire.send_exempt(reply(100))
    assert wire.ids[-1][-1] == 100  # there is room again


@on_loop
async def test_what_was_queued_when_it_ended_is_counted() -> None:
    wire = Wire(room=0)
    wire.send(cast(1))
    wire.send_exempt(reply(2))
    wire._end()
    assert wire.counters().dropped == 2
    assert wire.counters().queued_messages == 0


@on_loop
async def test_a_large_buffer_leaves_beside_the_batch_once_the_peer_takes_it_so():
    wire = Wire()
    wire.open()
    wire.send(cast(1, bytes(100_000)))
    assert (len(wire.frames[-1]) > 100_000, wire.attachments[-1]) == (True, ())
    wire.agree(("attachments", "something newer"))
    for send in (wire.send, wire.send_exempt):
        send(cast(2, bytes(100_000)))
        await turn(3)
        assert len(wire.frames[-1]) < 100
        assert [len(part) for part in wire.attachments[-1]] == [100_000]
    assert wire.counters().bytes_sent == sum(map(len, wire.frames)) + 200_000


@on_loop
async def test_one_with_attachments_travels_alone_and_in_its_place():
    wire = Wire(room=0)
    wire.agree(("attachments",))
    for number in range(5):
        wire.send(cast(number, bytes(100_000) if number in (1, 3) else b""))
    wire.open()
    await turn(3)
    assert wire.ids == [[0], [1], [2], [3], [4]]
    assert [len(parts) for parts in wire.attachments] == [0, 1, 0, 1, 0]


@on_loop
async def test_a_parcel_is_put_into_one_piece_for_a_peer_that_knows_none():
    wire = Wire()
    wire.open()
    wire.send(Envelope(Kind.CAST, "t", 1, 0, None, Parcel.of_buffer(bytes(100_000))))
    [envelope], _ = decode_batch(wire.frames[0])
    assert len(envelope.body) == 100_005
    assert envelope.meta is None


@on_loop
async def test_no_part_may_be_larger_than_a_frame():
    wire = Wire(Limits(frame_bytes_max=300_000))
    wire.agree(("attachments",))
    wire.send(Envelope(Kind.CAST, "t", 1, 0, None, Parcel(NIL, [bytes(150_000)] * 4)))
    with pytest.raises(OversizedEnvelope):
        wire.send(Envelope(Kind.CAST, "t", 1, 0, None, Parcel.of_buffer(bytes(200_000))))


# -- by rank


@on_loop
async def test_ranked_ones_leave_at_once_when_nothing_waits_and_first_when_something_does():
    wire = Wire()
    wire.send_ranked(cast(1), 1)
    assert wire.ids == []
    wire.open()
    assert wire.ids == [[1]]
    await turn(3)
    wire.send_ranked(cast(2), -1)
    assert wire.ids[1:] == [[2]]  # idle: at once
    wire.send(cast(3))
    wire.send_ranked(cast(4), 1)
    wire.send_ranked(cast(5), -1)
    wire.send_exempt(reply(6))
    await turn(2)
    assert wire.ids[2:] == [[6], [4], [3], [5]]
    assert wire.counters().queued_messages == wire.counters().queued_bytes == 0


@on_loop
async def test_ranked_ones_need_credit_and_count_as_queued():
    wire = Wire(Limits(outbox_messages_max=4, batch_messages_max=2))
    wire.open()
    wire.grant(1, 10_000)
    wire.send(cast(1))
    for number in range(2, 5):
        wire.send_ranked(cast(number, bytes(100)), number)
    assert not wire.full
    wire.send_ranked(cast(5), 5)
    assert wire.full
    assert wire.counters().queued_messages == 4
    assert wire.backlog == wire.counters().queued_bytes > 300
    await turn(2)
    assert wire.ids == [[1]]
    wire.grant(100, 100_000)
    assert wire.ids == [[1], [5], [4], [3], [2]]
    assert not wire.full


@on_loop
async def test_a_superseded_one_is_counted_and_leaves_no_trace():
    wire = Wire()
    for number in range(100):
        wire.send_ranked(cast(number, bytes(number)), 0, "speed")
    assert wire.counters().queued_messages == 1
    wire.open()
    assert wire.ids == [[99]]
    assert (wire.counters().superseded, wire.counters().queued_bytes) == (99, 0)


@on_loop
async def test_ranked_ones_expire_and_are_dropped_with_the_connection():
    wire = Wire()
    expired: list[int] = []
    past = asyncio.get_running_loop().time() - 1
    wire.send_ranked(cast(1), 1, "", past, lambda envelope: expired.append(envelope.id))
    wire.send_ranked(cast(2), 1)
    wire.open(room=1)
    assert (wire.ids, expired) == ([[2]], [1])
    wire.send_ranked(cast(3), 1)
    wire.send_ranked(cast(4), 0)
    wire.close()
    assert wire.counters().dropped == 2
    wire.send_ranked(cast(5), 1)
    assert wire.counters().queued_messages == 0


@on_loop
async def test_waiters_go_on_in_the_order_of_waiting():
    wire = Wire(Limits(outbox_messages_max=2, batch_messages_max=1))
    wire.send(cast(1))
    wire.send(cast(2))
    order: list[int] = []

    async def wait(number: int) -> None:
        await wire.wait_room()
        order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(50)]
    await turn()
    wire.open()
    await asyncio.gather(*tasks)
    assert order == list(range(50))


def chunked(room: int = 1000, **limits: Any) -> Wire:
    wire = Wire(Limits(chunk_bytes=100_000, frame_bytes_max=600_000, **limits), room)
    wire.agree(("attachments", "chunks"))
    wire.grant_bulk(0)
    return wire


@on_loop
async def test_small_messages_pass_between_the_pieces_of_a_large_one():
    wire = chunked(room=0)
    wire.send(cast(1, bytes(500_000)))
    for number in (2, 3):
        wire.send(cast(number, bytes(60_000)))
    wire.send_exempt(reply(4))
    wire.open()
    await turn(3)
    sizes = [[len(part) for part in parts] for parts in wire.attachments]
    # The answer, a piece; as much of small messages as the piece was; the other pieces, and last the message.
    assert sizes == [[], [100_000], [], [100_000], [100_000], [100_000], [100_000], []]
    assert wire.kinds[:4] == [[Kind.REPLY], [Kind.CHUNK], [Kind.CAST, Kind.CAST], [Kind.CHUNK]]


@on_loop
async def test_what_has_the_same_key_stays_behind_a_large_message_and_before_it():
    wire = chunked(room=0)
    key = {int(MetaKey.PARTITION_KEY): "k"}

    def keyed(number: int, size: int) -> Envelope:
        return Envelope(Kind.CAST, "t", number, 0, dict(key), bytes(size))

    for number, size in ((1, 10), (2, 300_000), (3, 10), (4, 300_000), (5, 10)):
        wire.send(keyed(number, size))
    wire.send(cast(6))
    wire.open()
    await turn(5)
    assert [number for number in wire.delivered if number != 6] == [1, 2, 3, 4, 5]
    assert wire.delivered.index(6) < 3  # another key, or none, does not wait
    assert wire.counters().queued_messages == 0


@on_loop
async def test_a_cancelled_call_sends_no_further_piece():
    wire = chunked(room=2)
    wire.open(2)
    wire.send(Envelope(Kind.CALL, "t", 7, 0, None, bytes(500_000)))
    assert len(wire.frames) == 2
    wire.send_exempt(Envelope(Kind.CANCEL, "", 7))
    wire.open()
    await turn(3)
    assert [kinds[0] for kinds in wire.kinds[2:]] == [Kind.CANCEL, Kind.CHUNK]
    assert wire.attachments[-1] == ()  # says that it is given up
    assert wire.counters().transfers == 0


@on_loop
async def test_pieces_leave_a_quarter_of_the_credit_to_small_messages():
    wire = chunked()
    wire.open()
    wire.grant(1000, 400_000)
    wire.send(cast(1, bytes(1_000_000)))
    await turn(3)
    assert len(wire.frames) == 3
    wire.send(cast(2, bytes(50_000)))
    await turn(3)
    assert wire.kinds[3] == [Kind.CAST]
    wire.grant(1000, 2_000_000)
    await turn(3)
    assert wire.delivered == [2, 1]


@on_loop
async def test_senders_of_large_messages_wait_for_room_and_others_do_not():
    wire = chunked(room=0, outbox_bulk_bytes_max=400_000)
    wire.send(cast(1, bytes(300_000)))
    wire.send(cast(2, bytes(300_000)))
    assert (wire.full, wire.bulk_full, wire.has_room(10), wire.has_room(200_000)) == (False, True, True, False)
    await wire.wait_room(10)
    waiting = asyncio.ensure_future(wire.wait_room(200_000))
    await turn(2)
    assert not waiting.done()
    wire.open()
    await waiting
    assert not wire.bulk_full


@on_loop
async def test_a_refused_transfer_is_given_back_and_the_next_goes_on():
    wire = chunked(room=1)
    wire.open(1)
    wire.send(Envelope(Kind.CALL, "t", 7, 0, {2: "k"}, bytes(300_000)))
    wire.send(Envelope(Kind.CALL, "t", 8, 0, {2: "k"}, bytes(10)))
    message = wire.on_refused(1)
    assert message is not None
    assert (message.kind, message.id) == (Kind.CALL, 7)
    assert wire.on_refused(1) is None
    wire.open()
    await turn(3)
    assert wire.delivered == [8]
    assert wire.counters().transfers_refused == 1


@on_loop
async def test_a_large_message_that_is_late_is_given_up_and_handed_back():
    wire = chunked(room=1)
    wire.open(1)
    late: list[int] = []
    now = asyncio.get_running_loop().time()
    wire.send(cast(1, bytes(300_000)), now + 0.001, lambda envelope: late.append(envelope.id))
    wire._now = lambda: now + 1
    wire.open()
    await turn(3)
    assert late == [1]
    assert wire.counters().expired == 1
    assert wire.delivered == []


@on_loop
async def test_a_pace_holds_pieces_back_and_nothing_else():
    wire = chunked(bulk_bytes_per_s=100_000.0)
    wire.open()
    wire.send(cast(1, bytes(300_000)))
    wire.send(cast(2))
    await turn(5)
    assert wire.delivered == [2]
    assert len(wire.frames) == 2
    started = wire._now()
    for second in range(1, 4):
        now = started + second
        wire._now = lambda now=now: now  # type: ignore[misc]
        wire._on_pace()
        await turn(3)
    assert wire.delivered == [2, 1]


@on_loop
async def test_large_answers_are_bounded_and_a_lost_connection_drops_them():
    wire = chunked(room=0, exempt_bulk_bytes_max=500_000)
    for number in (1, 2, 3):
        wire.send_exempt(reply(number, bytes(300_000)))
    assert wire.counters().transfers == 1
    wire._shut()
    assert wire.counters().dropped == 3
    assert wire.counters().transfers_bytes == 0


@on_loop
async def test_a_large_message_is_refused_where_it_can_never_go():
    wire = chunked(transfer_bytes_max=400_000)
    with pytest.raises(OversizedEnvelope):
        wire.send(cast(1, bytes(500_000)))
