from typing import Any

import msgspec
import numpy as np
import pytest

from transports.errors import SegmentUnavailable
from transports.parcel import EXT_BODY, EXT_BUFFER, Parcel, lay_out, whole
from transports.shm.handles import HANDLE_BYTES, Handle, Received, as_handles, handle_frames, read_handle, weight
from transports.shm.pool import Loan, Pool
from transports.shm.segment import segment_of
from transports.wire.envelope import Envelope, Kind, MetaKey

MIB = 1 << 20
Ext = msgspec.msgpack.Ext
NAME = "fdn-" + "0" * 32


@pytest.fixture
def pool(tmp_path) -> Pool:
    return Pool(16 * MIB, 100, 0, str(tmp_path))


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def test_what_lies_in_a_segment_becomes_a_handle_and_the_rest_stays(pool):
    segment = pool.allocate(100_000)
    view = memoryview(segment)
    array = np.frombuffer(view, np.uint8)
    buffers: list[Any] = [b"plain", view, view[7:100], array[5000:6000].data, memoryview(b"x")]
    parts, places = as_handles(buffers)
    assert places == [1, 2, 3]
    assert [(part.offset, part.length) for part in parts if isinstance(part, Handle)] == [
        (0, segment.nbytes),
        (7, 93),
        (5000, 1000),
    ]
    assert (parts[0], parts[4]) == (buffers[0], buffers[4])
    assert len(parts[1]) == HANDLE_BYTES


def test_a_segment_is_lent_when_the_handle_leaves(pool):
    loan = Loan(pool, "n2")
    segment = pool.allocate(100)
    parts, _ = as_handles([memoryview(segment)])
    assert pool.stats().in_flight == 0
    [frame] = handle_frames(parts, loan)
    assert pool.stats().in_flight == 1
    came = read_handle(frame)
    assert (came.name, came.offset, came.length) == (segment.name, 0, segment.nbytes)
    assert len(came) == segment.nbytes
    assert pool.returned(came.token, "n2")
    assert handle_frames([b"x"], loan) == [b"x"]


def test_both_sides_weigh_a_handle_alike(pool):
    segment = pool.allocate(MIB)
    parts, _ = as_handles([b"frame", memoryview(segment), memoryview(segment)[1:4003]])
    frames = handle_frames(parts, Loan(pool, "n2"))
    came = [frames[0], *map(read_handle, frames[1:])]
    assert weight(parts) == weight(came) == MIB // 4 + 1000
    assert weight([Received(1, NAME, 0, 1 << 40)]) == 4 * MIB


def test_a_part_of_a_received_segment_can_be_passed_on(pool, tmp_path):
    other = Pool(0, 100, 0, str(tmp_path))
    segment = pool.allocate(100_000)
    view = other.receive(segment.name, 10, 50_000)
    found = segment_of(view)
    assert found is not None
    [handle], _ = as_handles([view[5:]])
    assert (handle.segment, handle.offset, handle.length) == (found, 15, 49_995)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        *(
            msgspec.msgpack.encode(fields)
            for fields in (
                [],
                [1, NAME, 0],
                [1, 5, 0, 1],
                ["1", NAME, 0, 1],
                [-1, NAME, 0, 1],
                [1 << 63, NAME, -1, 1],
                [1, NAME, 0, 0],
                [1, NAME, 0, -1],
                [1, NAME, 0, 1 << 63],
                {"a": 1},
            )
        ),
    ],
)
def test_what_is_no_handle_spoils_only_its_envelope(frame):
    with pytest.raises(ValueError):  # noqa: PT011  # msgspec words most of them
        read_handle(frame)
    envelope = Envelope(Kind.CAST, "t", 0, 0, {6: [0], int(MetaKey.SHARED): [0]}, raw(Ext(EXT_BUFFER, b"\0\0")))
    assert whole([envelope, Envelope(Kind.CAST)], [memoryview(frame)]) == ([Envelope(Kind.CAST)], 1)


@pytest.mark.parametrize("places", [[1], ["0"], [0, 0], 0, None, [None], {"a": 1}])
def test_places_that_are_none_spoil_only_their_envelope(places):
    good = msgspec.msgpack.encode([1, NAME, 0, 1])
    envelope = Envelope(Kind.CAST, "t", 0, 0, {6: [0], int(MetaKey.SHARED): places}, raw(Ext(EXT_BUFFER, b"\0\0")))
    assert whole([envelope], [memoryview(good)]) == ([], 1)


def test_a_body_is_never_in_shared_memory():
    good = msgspec.msgpack.encode([1, NAME, 0, 1 << 40])
    envelope = Envelope(Kind.CAST, "t", 0, 0, {6: [0], int(MetaKey.SHARED): [0]}, raw(Ext(EXT_BODY, b"\0\0")))
    assert whole([envelope], [memoryview(good)]) == ([], 1)


def test_a_message_with_handles_there_and_back(pool, tmp_path):
    segment = pool.allocate(MIB)
    segment[3:6] = b"abc"
    body = raw([Ext(EXT_BUFFER, b"\0\0"), Ext(EXT_BUFFER, b"\0\1")])
    parts, places = as_handles([b"frame", memoryview(segment)])
    envelope, attachments = lay_out(Envelope(Kind.CALL, "t.f", 1, 0, {1: "trace"}, Parcel(body, parts)), places)
    frames = [memoryview(frame) for frame in handle_frames(attachments, Loan(pool, "n2"))]
    [[came], unsound] = whole([envelope], frames)
    assert unsound == 0
    assert came.meta == {1: "trace"}
    [handle] = came.body.handles
    assert isinstance(handle, Received)
    other = Pool(0, 100, 0, str(tmp_path))
    parcel = came.body.mapped(other.receive)
    assert parcel.handles == []
    assert bytes(parcel.attachments[0]) == b"frame"
    assert bytes(parcel.attachments[1][:6]) == b"\0\0\0abc"
    del segment, parts, attachments, envelope
    pool.close()
    with pytest.raises(SegmentUnavailable):
        came.body.mapped(Pool(0, 100, 0, str(tmp_path / "elsewhere")).receive)
