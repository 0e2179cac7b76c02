import dataclasses
import datetime
from typing import Any

import msgpack
import msgspec
import pytest

from fdn.client.codec import Kind, Received, batch, decode, encode, envelope, headers_of, pair_of, wishes_of
from fdn.errors import BadRequest


def frame(*envelopes: Any) -> bytes:
    return b"\x01" + bytes(msgpack.packb(envelopes))


def test_what_is_written_is_what_msgpack_reads():
    written = batch([envelope(5, "math.add", 2**64 - 1, 500, {11: {"a": "b"}}, encode([1, 2])) for _ in range(3)])
    assert written[:1] == b"\x01"
    assert (
        msgpack.unpackb(written[1:], strict_map_key=False)
        == [[5, "math.add", 2**64 - 1, 500, {11: {"a": "b"}}, [1, 2]]] * 3
    )


@pytest.mark.parametrize("count", [1, 15, 16, 512])
def test_batches_of_every_size(count: int):
    written = batch([envelope(11, "x", n, 0, None, encode(n)) for n in range(count)])
    assert [received.body for received in decode(written)] == list(range(count))


def test_reading_fills_in_what_was_left_out_and_passes_over_what_is_more():
    assert decode(frame([6], [6, "a", 3, 4, {1: 2}, "body", "more", "still more"])) == [
        Received(6, "", 0, 0, {}, None, 0),
        Received(6, "a", 3, 4, {1: 2}, "body", 0),
    ]


def test_an_item_tells_how_many_octets_it_had():
    long = b"\xdb\x00\x00\x00\x01x"  # a str32 of one character, which nobody would write that is in their right mind
    item = b"\x96\x08\xa0\x01\x00\xc0" + long
    other = msgpack.packb([8, "", 1, 0, None, [1, 2, 3], "more"])
    found = decode(b"\x01\x93" + item + other + msgpack.packb([8]))
    assert [(received.body, received.size) for received in found] == [("x", 6), ([1, 2, 3], 4), (None, 0)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x01",
        b"\x02\x90",
        b"\x01\xc1",
        b"\x01\x05",
        b"\x01" + b"\x91" * 3000,
        b"\x01\x91\x96\x08",
        frame("text", 7, [], ["x"], [True, ""], [5, "", "id"], [5, "", 1.5]),
    ],
)
def test_garbage_is_nothing(garbage: bytes):
    assert decode(garbage) == []


def test_one_envelope_that_cannot_be_read_does_not_take_its_neighbours_with_it():
    assert [received.id for received in decode(frame([6, "", 1], "junk", [6, "", 2]))] == [1, 2]


def test_strange_fields_count_as_left_out():
    assert decode(frame([6, 5, 1, 0, "meta"])) == [Received(6, "", 1, 0, {}, None, 0)]


def test_plain_values_dataclasses_and_structs():
    @dataclasses.dataclass
    class Point:
        x: int

    class Order(msgspec.Struct):
        at: Point

    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    for value, plain in [(Point(1), {"x": 1}), (Order(Point(2)), {"at": {"x": 2}}), (now, now), ((1, b"x"), [1, b"x"])]:
        [received] = decode(batch([envelope(Kind.REPLY, "", 1, 0, None, encode(value))]))
        assert received.body == plain


@pytest.mark.parametrize("value", [object(), {1: object()}, 2**70, int, datetime.datetime(2026, 1, 1)])
def test_what_cannot_be_sent(value: Any):
    with pytest.raises(BadRequest, match="cannot be sent"):
        encode(value)


def test_windows_and_headers():
    assert pair_of([3, 4]) == (3, 4)
    for bad in (None, [], [1], [1, 2, 3], [-1, 2], ["1", 2], "ab"):
        assert pair_of(bad) is None
    assert headers_of(None) == {}
    assert headers_of({"a": "b"}) == {"a": "b"}
    bad_headers: Any
    for bad_headers in ({"a": 1}, {1: "a"}):
        with pytest.raises(BadRequest, match="header"):
            headers_of(bad_headers)


def test_a_body_that_no_frame_holds_is_refused_before_it_costs_the_connection():
    assert len(encode(bytes(16 * 1024 * 1024 - 5))) == 16 * 1024 * 1024
    with pytest.raises(BadRequest, match="16777217 bytes exceeds 16777216"):
        encode(bytes(16 * 1024 * 1024 - 4))


def test_key_and_priority_travel_as_meta():
    assert wishes_of(None, 0) == {}
    assert wishes_of("k", 0) == {2: "k"}
    assert wishes_of(b"k", -4) == {2: b"k", 3: -4}


@pytest.mark.parametrize(("key", "priority"), [("", 0), (7, 0), ("x" * 257, 0), (None, 5), (None, True), (None, "1")])
def test_a_key_or_priority_that_cannot_be_is_refused(key: Any, priority: Any):
    with pytest.raises(BadRequest, match=r"key=|priority="):
        wishes_of(key, priority)
