"""The contract of `transports.transport`, kept by both transports."""

import asyncio
import dataclasses

import pytest

from tests.unit.transports.harness import Dialled, Events, Inbox, Listening, Rig, body_of, cast, reply, scenario
from transports.assembly import Assembled, Assembly, BufferPool
from transports.channel import Channel
from transports.errors import EndpointInUse, EndpointInvalid, OversizedEnvelope, TransportClosed
from transports.limits import Limits
from transports.parcel import Parcel
from transports.transport import ATTACHMENTS, CHUNKS, EventKind
from transports.wire.batch import encode_batch
from transports.wire.envelope import NIL, Envelope, Kind

# Queues so small that a test can fill them, and bodies so large that a few fill the kernel's buffers too.
TIGHT = Limits(send_hwm=2, receive_hwm=2, answers_hwm=2, outbox_messages_max=8, batch_messages_max=4)
BULK = bytes(60_000)
BULK_COUNT = 400  # 24 MB: more than two TCP buffers hold


# Order and coalescing.


@scenario
async def test_everything_arrives_in_order(rig: Rig):
    listening, dialled = rig.pair()
    for number in range(5000):
        if dialled.connection.full:
            await dialled.connection.wait_room()
        dialled.connection.send(cast(number, b"x" * (number % 300)))
        if number % 700 == 0:
            await asyncio.sleep(0)
    await listening.inbox.count(5000)
    assert listening.inbox.ids == list(range(5000))
    stats = dialled.connection.stats()
    assert stats.messages_sent == 5000
    assert stats.bytes_sent == listening.listener.stats().bytes_received
    assert stats.batches_sent == listening.listener.stats().batches_received


@scenario
async def test_what_is_sent_before_connected_waits_and_leaves_together(rig: Rig):
    listening, dialled = rig.pair()
    for number in range(10):
        dialled.connection.send(cast(number))
    assert dialled.connection.stats().queued_messages == 10
    await listening.inbox.count(10)
    assert listening.inbox.sizes == [10]
    assert dialled.events.kinds == [EventKind.CONNECTED]


@scenario
async def test_the_first_of_an_idle_period_leaves_at_once_and_the_rest_of_the_pass_together(rig: Rig):
    listening, dialled = rig.pair()
    await dialled.connected()
    dialled.connection.send(cast(0))
    assert dialled.connection.stats().batches_sent == 1  # before the loop has turned
    for number in range(1, 10):
        dialled.connection.send(cast(number))
    assert dialled.connection.stats().batches_sent == 1
    await listening.inbox.count(10)
    assert listening.inbox.sizes == [1, 9]


@scenario
async def test_a_batch_is_closed_when_it_is_full(rig: Rig):
    listening, dialled = rig.pair(Limits(batch_messages_max=100, batch_bytes_max=10_000))
    await dialled.connected()
    for number in range(251):
        dialled.connection.send(cast(number))
    for number in range(251, 260):
        dialled.connection.send(cast(number, bytes(6000)))
    await listening.inbox.count(260)
    assert listening.inbox.sizes[:3] == [1, 100, 100]
    assert max(listening.inbox.sizes) == 100
    assert max(batch.size for batch in listening.inbox.entries) < 17_000
    assert listening.inbox.ids == list(range(260))


@scenario
async def test_a_large_body_travels_alone_and_whole(rig: Rig):
    listening, dialled = rig.pair()
    bodies = [b"before", bytes(range(256)) * 4096 * 4, b"after"]
    for number, body in enumerate(bodies):
        dialled.connection.send(cast(number, body))
    envelopes = await listening.inbox.count(3)
    assert [body_of(envelope) for envelope in envelopes] == bodies
    assert listening.inbox.sizes == [1, 1, 1]


@scenario
async def test_a_body_beyond_the_frame_is_refused_where_it_is_sent(rig: Rig):
    listening, dialled = rig.pair(Limits(frame_bytes_max=1 << 20))
    with pytest.raises(OversizedEnvelope, match="frame_bytes_max") as caught:
        dialled.connection.send(cast(1, bytes(1 << 20)))
    assert caught.value.size == 1 << 20
    with pytest.raises(OversizedEnvelope):
        dialled.connection.send_exempt(cast(1, bytes(1 << 20)))
    dialled.connection.send(cast(2))
    assert (await listening.inbox.count(1))[0].id == 2


@scenario
async def test_an_envelope_that_cannot_be_encoded_takes_no_neighbour_with_it(
    rig: Rig, caplog: pytest.LogCaptureFixture
):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    dialled.connection.send(Envelope(Kind.CAST, "t.cast", 2, 0, {1: object()}, b""))
    dialled.connection.send(cast(3))
    await listening.inbox.count(2)
    assert listening.inbox.ids == [1, 3]
    assert dialled.connection.stats().unsendable == 1
    assert "cannot be encoded" in caplog.text


# Answers.


@scenario
async def test_two_diallers_with_the_same_everything_get_their_own_replies(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    transport = rig.transport()
    one, other = Dialled(transport, listening.endpoint), Dialled(transport, listening.endpoint)
    one.connection.send(cast(1))
    other.connection.send(cast(2))
    await listening.inbox.count(2)
    for batch in listening.inbox.entries:
        assert listening.listener.send(batch.source, reply(batch.envelopes[0].id))
    await one.inbox.count(1)
    await other.inbox.count(1)
    assert one.inbox.ids == [1]
    assert other.inbox.ids == [2]
    assert {batch.source for batch in one.inbox.entries} == {b""}
    assert len({batch.source for batch in listening.inbox.entries}) == 2
    assert {batch.key for batch in listening.inbox.entries} == {None}


@scenario
async def test_an_answer_to_nobody_is_refused_and_counted(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    assert not listening.listener.send(b"\0\1\2\3\4", reply(1))
    assert listening.listener.stats().refused_sends == 1
    assert listening.listener.gone


@scenario
async def test_a_client_that_does_not_read_is_refused_and_harms_no_other(rig: Rig):
    listening = Listening(rig.transport(TIGHT), rig.fresh)
    loop, stuck = rig.parked(TIGHT)
    sleeper = Dialled(stuck, listening.endpoint)
    reader = Dialled(rig.transport(TIGHT), listening.endpoint)

    async def speak() -> None:
        await sleeper.connected()
        sleeper.connection.send(cast(1))

    await asyncio.to_thread(loop.run_until_complete, speak())
    reader.connection.send(cast(2))
    await listening.inbox.count(2)
    sources = {batch.envelopes[0].id: batch.source for batch in listening.inbox.entries}
    refused = 0
    for number in range(BULK_COUNT):
        refused += not listening.listener.send(sources[1], cast(number, BULK))
        assert listening.listener.send(sources[2], reply(number))
        await reader.inbox.count(number + 1)
    assert refused
    assert listening.listener.stats().refused_sends == refused
    assert not listening.listener.gone  # it is there, and only does not read
    assert reader.inbox.ids == list(range(BULK_COUNT))


# Full queues.


@scenario
async def test_a_sender_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does(rig: Rig):
    loop, stuck = rig.parked(TIGHT)
    listening = Listening(stuck, rig.fresh)
    dialled = await Dialled(rig.transport(TIGHT), listening.endpoint).connected()
    connection = dialled.connection
    was_full = asyncio.Event()

    async def write() -> None:
        for number in range(BULK_COUNT):
            if connection.full:
                was_full.set()
                await connection.wait_room()
                assert not connection.full
            connection.send(cast(number, BULK))
            assert connection.stats().queued_messages <= 8 + 4

    writer = asyncio.create_task(write())
    await was_full.wait()
    assert connection.stats().hwm_hits
    await asyncio.to_thread(loop.run_until_complete, listening.inbox.count(BULK_COUNT))
    await writer
    assert listening.inbox.ids == list(range(BULK_COUNT))


@scenario
async def test_a_full_peer_harms_no_other(rig: Rig):
    _, stuck = rig.parked(TIGHT)
    sleeping = Listening(stuck, rig.fresh)
    reading = Listening(rig.transport(TIGHT), rig.fresh)
    transport = rig.transport(TIGHT)
    to_sleeping = await Dialled(transport, sleeping.endpoint).connected()
    to_reading = await Dialled(transport, reading.endpoint).connected()

    async def flood() -> None:
        while True:
            await to_sleeping.connection.wait_room()
            to_sleeping.connection.send(cast(0, BULK))
            await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    for number in range(BULK_COUNT):
        to_reading.connection.send(cast(number))
        await reading.inbox.count(number + 1)
    assert reading.inbox.ids == list(range(BULK_COUNT))
    assert not flooding.done()
    flooding.cancel()


@scenario
async def test_nobody_waits_for_a_connection_that_has_ended(rig: Rig):
    listening, dialled = rig.pair(TIGHT)
    await dialled.connected()
    dialled.connection.grant(1, 1)
    while not dialled.connection.full:
        dialled.connection.send(cast(1))
    waiting = asyncio.create_task(dialled.connection.wait_room())
    await asyncio.sleep(0)
    listening.listener.close()
    await waiting
    await dialled.events.kind(EventKind.CLOSED)
    dialled.connection.send(cast(2))  # goes nowhere, and does no harm
    await dialled.connection.wait_room()


# Credit.


@scenario
async def test_compressed_batches_arrive_and_count_as_what_they_hold(rig: Rig):
    listening, dialled = rig.pair()
    connection = (await dialled.connected()).connection
    connection.compress()
    for number in range(200):
        connection.send(cast(number, b"the same again " * 20))
    await listening.inbox.count(200)
    assert listening.inbox.ids == list(range(200))
    stats = connection.stats()
    assert stats.packed_bytes_out < stats.packed_bytes_in / 5
    assert sum(batch.size for batch in listening.inbox.entries) == stats.bytes_sent > stats.packed_bytes_in


@scenario
async def test_higher_priorities_and_newest_values_leave_first(rig: Rig):
    listening, dialled = rig.pair()
    connection = (await dialled.connected()).connection
    connection.grant(1, 1000)
    connection.send(cast(1))  # uses the grant up
    connection.send(cast(2))
    connection.send_ranked(cast(3), -1)
    connection.send_ranked(cast(4), 2)
    connection.send_ranked(cast(5), 0, "speed")
    connection.send_ranked(cast(6), 0, "speed")
    connection.grant(0, 0)
    await listening.inbox.count(5)
    assert listening.inbox.ids == [1, 4, 6, 2, 3]
    assert connection.stats().superseded == 1
    with pytest.raises(OversizedEnvelope):
        connection.send_ranked(cast(7, bytes(Limits().body_bytes_max + 1)), 1)


@scenario
async def test_without_credit_only_exempt_envelopes_leave_until_it_is_granted(rig: Rig):
    listening, dialled = rig.pair()
    connection = dialled.connection
    await dialled.connected()
    connection.grant(1, 1000)
    connection.send(cast(1))  # at once, and uses the grant up
    connection.send(cast(2))
    connection.send(cast(3))
    connection.send_exempt(reply(4))
    await listening.inbox.count(2)
    assert listening.inbox.ids == [1, 4]
    connection.send_exempt(reply(5))
    await listening.inbox.count(3)
    assert listening.inbox.ids == [1, 4, 5]
    assert connection.stats().credit_stalls
    connection.grant(1, 500)  # no more than is held: ignored
    connection.grant(2, 2000)
    await listening.inbox.count(5)
    assert listening.inbox.ids == [1, 4, 5, 2, 3]  # one batch, which overshoots
    connection.send(cast(6))
    connection.grant(0, 0)
    await listening.inbox.count(6)
    assert {batch.envelopes[0].kind for batch in listening.inbox.entries} == {Kind.CAST, Kind.REPLY}
    for batch in listening.inbox.entries:
        assert len({envelope.kind for envelope in batch.envelopes}) == 1  # credit and exempt never share one


@scenario
async def test_exempt_envelopes_go_ahead(rig: Rig):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    dialled.connection.send(cast(2))
    dialled.connection.send_exempt(reply(3))
    dialled.connection.send_exempt(reply(4))
    await listening.inbox.count(4)
    assert listening.inbox.ids == [3, 4, 1, 2]
    assert listening.inbox.sizes == [2, 2]


# Deadlines.


@scenario
async def test_what_expires_in_the_queue_is_not_sent_but_handed_back(rig: Rig):
    listening, dialled = rig.pair()
    now = asyncio.get_running_loop().time()
    expired: list[Envelope] = []
    stale, fresh = cast(2), cast(3)
    dialled.connection.send(cast(1))
    dialled.connection.send(stale, now - 0.001, expired.append)
    dialled.connection.send(fresh, now + 100, expired.append)
    dialled.connection.send(cast(4), now - 0.001)
    await listening.inbox.count(2)
    assert listening.inbox.ids == [1, 3]
    assert expired == [stale]
    assert dialled.connection.stats().expired == 2
    first, second = listening.inbox.envelopes
    assert first.deadline_ms == 0
    assert 0 < second.deadline_ms <= 100_000


@scenario
async def test_a_callback_may_send_and_close(rig: Rig):
    listening, dialled = rig.pair()
    now = asyncio.get_running_loop().time()
    connection = dialled.connection
    connection.send(cast(1), now - 1, lambda _: connection.send(cast(2)))
    await listening.inbox.count(1)
    assert listening.inbox.ids == [2]
    connection.send(cast(3), now - 1, lambda _: connection.close())
    connection.send(cast(4))
    await asyncio.sleep(0)
    assert connection.stats().messages_sent == 1


# What becomes of a connection.


@scenario
async def test_a_dial_to_nobody_is_refused(rig: Rig):
    dialled = Dialled(rig.transport(), rig.nowhere())
    dialled.connection.send(cast(1))
    event = await dialled.events.kind(EventKind.REFUSED)
    assert event.endpoint == dialled.connection.endpoint
    assert dialled.events.kinds == [EventKind.REFUSED]
    await dialled.connection.wait_room()


@scenario
async def test_a_listener_that_closes_is_noticed(rig: Rig):
    listening, dialled = rig.pair()
    await dialled.connected()
    listening.listener.close()
    listening.listener.close()
    await dialled.events.kind(EventKind.CLOSED)
    assert dialled.events.kinds == [EventKind.CONNECTED, EventKind.CLOSED]


@scenario
async def test_what_a_listener_says_before_it_closes_is_heard_before_the_end(rig: Rig):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    listening.listener.send(listening.inbox.entries[0].source, Envelope(Kind.BYE))
    await dialled.inbox.count(1)
    assert dialled.events.kinds == [EventKind.CONNECTED]
    listening.listener.close()
    await dialled.events.kind(EventKind.CLOSED)


@scenario
async def test_a_restarted_listener_never_sees_an_old_queue(rig: Rig):
    _, stuck = rig.parked(TIGHT)
    old = Listening(stuck, rig.fresh)
    dialled = await Dialled(rig.transport(TIGHT), old.endpoint).connected()
    while not dialled.connection.full:
        dialled.connection.send(cast(1, BULK))
    old.listener.close()
    new = Listening(rig.transport(), old.endpoint)  # the port is free as soon as `close` returns
    await dialled.events.kind(EventKind.CLOSED)
    dialled.connection.send(cast(2))
    again = Dialled(rig.transport(), new.endpoint)
    again.connection.send(cast(3))
    await new.inbox.count(1)
    assert new.inbox.ids == [3]
    assert old.inbox.entries == []


@scenario
async def test_no_event_and_no_batch_follow_a_close(rig: Rig):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    listening.listener.send(listening.inbox.entries[0].source, reply(1))
    dialled.connection.close()
    dialled.connection.close()
    listening.listener.close()
    other = Dialled(rig.transport(), rig.nowhere())
    await other.events.kind(EventKind.REFUSED)
    assert dialled.events.kinds == [EventKind.CONNECTED]
    assert dialled.inbox.entries == []


@scenario
async def test_a_closed_connection_may_linger_until_its_queue_has_left(rig: Rig):
    listening, dialled = rig.pair()
    for number in range(3000):
        dialled.connection.send(cast(number, b"x" * 100))
    dialled.connection.close(linger_s=10)  # not even connected yet
    await listening.inbox.count(3000)
    assert listening.inbox.ids == list(range(3000))
    assert dialled.events.kinds == []


@scenario
async def test_without_linger_the_queue_is_dropped(rig: Rig):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    dialled.connection.close()
    other = Dialled(rig.transport(), listening.endpoint)
    other.connection.send(cast(2))
    await listening.inbox.count(1)
    assert listening.inbox.ids == [2]


# Hostile input; `tests/unit/transports/wire/test_batch.py` has the codec's.


@scenario
async def test_malformed_frames_are_counted_and_dropped_and_the_rest_is_read(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    good = encode_batch([cast(1)])
    partly = b"\x01\x93" + good[2:] + b"\xc0" + encode_batch([cast(2)])[2:]
    await rig.send_raw(listening.endpoint, b"", b"\x02" + good[1:], good[:-1], b"GET / HTTP/1.1\r\n", partly, good)
    await listening.inbox.count(3)
    assert listening.inbox.ids == [1, 2, 1]
    assert listening.listener.stats().malformed == 5


# Transports.


@scenario
async def test_a_taken_endpoint_says_so(rig: Rig):
    listening = Listening(rig.transport(), rig.fresh)
    with pytest.raises(EndpointInUse) as caught:
        rig.transport().listen(Channel.GOSSIP, listening.endpoint, Inbox())
    assert listening.endpoint in str(caught.value)


@pytest.mark.parametrize("endpoint", ["", "here", "carrier-pigeon://x", "tcp://127.0.0.1", "tcp://127.0.0.1:66000"])
@scenario
async def test_endpoints_that_are_none_are_refused(rig: Rig, endpoint: str):
    transport = rig.transport()
    with pytest.raises(EndpointInvalid):
        transport.listen(Channel.DATA, endpoint, Inbox())
    with pytest.raises(EndpointInvalid):
        transport.dial(Channel.DATA, endpoint, Inbox(), Events())


@scenario
async def test_closing_a_transport_closes_everything(rig: Rig):
    listening, dialled = rig.pair()
    await dialled.connected()
    transport = rig.transport()
    mine = Listening(transport, rig.fresh)
    theirs = await Dialled(rig.transport(), mine.endpoint).connected()
    own = await Dialled(transport, listening.endpoint).connected()
    await asyncio.gather(transport.close(), transport.close())
    await transport.close()
    await theirs.events.kind(EventKind.CLOSED)
    assert own.events.kinds == [EventKind.CONNECTED]
    with pytest.raises(TransportClosed):
        transport.listen(Channel.DATA, rig.fresh, Inbox())
    with pytest.raises(TransportClosed):
        transport.dial(Channel.DATA, listening.endpoint, Inbox(), Events())


@scenario
async def test_stats_are_snapshots(rig: Rig):
    listening, dialled = rig.pair()
    before = dialled.connection.stats()
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    assert before.messages_sent == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.messages_sent = 7  # type: ignore[misc]


# Idleness.


@scenario
async def test_what_is_sent_first_goes_before_what_waits_for_idleness(rig: Rig):
    listening, dialled = rig.pair()
    await dialled.connected()
    connection = dialled.connection
    connection.when_idle(lambda: connection.send_exempt(reply(100)))
    for number in range(10):
        connection.send(cast(number))
    connection.send_exempt(reply(10))
    await listening.inbox.count(12)
    assert listening.inbox.ids[-1] == 100
    connection.when_idle(lambda: connection.send_exempt(reply(101)))  # it is idle already
    await listening.inbox.count(13)


@scenario
async def test_idleness_is_told_once_and_to_the_last_that_asked(rig: Rig):
    listening, dialled = rig.pair()
    calls: list[str] = []
    dialled.connection.when_idle(lambda: calls.append("replaced"))
    dialled.connection.when_idle(lambda: calls.append("told"))
    for number in range(3):
        dialled.connection.send(cast(number))
        await listening.inbox.count(number + 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert calls == ["told"]


@scenario
async def test_a_connection_with_a_full_queue_is_not_idle(rig: Rig):
    loop, stuck = rig.parked(TIGHT)
    listening = Listening(stuck, rig.fresh)
    dialled = await Dialled(rig.transport(TIGHT), listening.endpoint).connected()
    connection = dialled.connection
    while not connection.full:
        connection.send(cast(1, BULK))
        await asyncio.sleep(0)
    idle = asyncio.Event()
    connection.when_idle(idle.set)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not idle.is_set()
    sent = connection.stats().messages_sent + connection.stats().queued_messages
    await asyncio.to_thread(loop.run_until_complete, listening.inbox.count(1))
    drained = asyncio.create_task(asyncio.to_thread(loop.run_until_complete, listening.inbox.count(sent)))
    await idle.wait()
    await drained
    assert connection.stats().queued_messages == 0


@scenario
async def test_a_connection_that_has_ended_is_never_idle(rig: Rig):
    _, dialled = rig.pair()
    await dialled.connected()
    calls: list[str] = []
    dialled.connection.when_idle(lambda: calls.append("before"))
    dialled.connection.close()
    dialled.connection.when_idle(lambda: calls.append("after"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == []


# Large messages.


@scenario
async def test_large_parts_arrive_beside_the_message_and_pieces_as_one(rig: Rig):
    limits = Limits(chunk_bytes=100_000)
    listening, dialled = rig.pair(limits)
    await dialled.connected()
    dialled.connection.agree((ATTACHMENTS, CHUNKS))
    dialled.connection.grant_bulk(0)
    parts = [bytes([number]) * 80_000 for number in (1, 2)]
    dialled.connection.send(Envelope(Kind.CAST, "t.cast", 1, 0, None, Parcel(NIL, parts)))
    dialled.connection.send(Envelope(Kind.CAST, "t.cast", 2, 0, None, Parcel(NIL, [bytes(250_000)])))
    first, *chunks = await listening.inbox.count(5)
    assert [bytes(part) for part in first.body.attachments] == parts
    assert [chunk.kind for chunk in chunks] == [Kind.CHUNK] * 4
    assembly = Assembly(BufferPool(limits), limits)
    results = [assembly.on_chunk(chunk.id, chunk.body) for chunk in chunks]
    assert isinstance(results[-1], Assembled)
    assert len(results[-1].envelope.body) == 250_001
    assert listening.listener.stats().bytes_received == dialled.connection.stats().bytes_sent


@scenario
async def test_a_listener_sends_attachments_back(rig: Rig):
    listening, dialled = rig.pair()
    dialled.connection.send(cast(1))
    await listening.inbox.count(1)
    answer = Envelope(Kind.REPLY, "", 1, 0, None, Parcel.of_buffer(bytes(100_000)))
    assert listening.listener.send(listening.inbox.entries[0].source, answer)
    [envelope] = await dialled.inbox.count(1)
    assert bytes(envelope.body.only or b"") == bytes(100_000)
