"""The codec against honest, odd and hostile input; the golden bytes are in `tests/interop`."""

import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transports.errors import LocalProtocolError, MalformedBatch, RemoteProtocolError, UnknownWireVersion
from transports.wire.batch import (
    META_BYTES_MAX,
    TO_LENGTH_MAX,
    decode_batch,
    encode_batch,
    encode_envelope,
    join_batch,
)
from transports.wire.envelope import NIL, Envelope, Kind

KIB = 1024
GOOD = [11, "a.b", 1, 0, None, None]
U64 = st.integers(0, 2**64 - 1)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=4),
    max_leaves=12,
)
metas = st.none() | st.dictionaries(U64, values, max_size=5)
envelopes = st.builds(
    Envelope,
    st.integers(-5, 300),
    st.text(max_size=TO_LENGTH_MAX),
    U64,
    st.integers(0, 2**63 - 1),
    metas,
    st.none() | st.binary() | values.map(msgspec.msgpack.encode).map(msgspec.Raw),
)
# Arrays that look like envelopes, good or bad in one place or several.
odd_values = values | st.lists(
    st.one_of(st.integers(-2, 20), st.text(max_size=3), U64, metas, values, st.just(b"\xff")), max_size=8
)


def frame(*parts: Any) -> bytes:
    octets: bytes = msgpack.packb(list(parts))
    return b"\x01" + octets


def is_envelope(part: Any) -> bool:
    """The slow, obvious twin: section 4 of the specification in Python, over what the other package has decoded."""
    if not isinstance(part, list) or not part:
        return False
    kind, to, id_, deadline_ms, meta = [*part, *[None, "", 0, 0, None][len(part) :]][:5]
    return (
        is_int(kind)
        and isinstance(to, str)
        and len(to) <= TO_LENGTH_MAX
        and all(is_int(number) and number >= 0 for number in (id_, deadline_ms))
        and (meta is None or (isinstance(meta, dict) and all(is_int(key) for key in meta)))
    )


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@given(st.lists(envelopes, min_size=1, max_size=8))
def test_what_is_encoded_is_decoded(batch: list[Envelope]):
    decoded, malformed = decode_batch(encode_batch(batch))
    assert malformed == 0
    for sent, received in zip(batch, decoded, strict=True):
        assert isinstance(received, Envelope)
        assert (received.kind, received.to, received.id) == (sent.kind, sent.to, sent.id)
        assert (received.deadline_ms, received.meta) == (sent.deadline_ms, sent.meta)
        body = bytes(sent.body) if isinstance(sent.body, msgspec.Raw) else msgspec.msgpack.encode(sent.body)
        assert bytes(received.body) == body


@given(st.lists(odd_values, max_size=6))
def test_good_and_bad_envelopes_are_told_apart_as_the_specification_says(parts: list[Any]):
    good = [part for part in parts if is_envelope(part)]
    try:
        decoded, malformed = decode_batch(frame(*parts))
    except MalformedBatch:
        assert not good
        return
    assert [envelope.kind for envelope in decoded] == [part[0] for part in good]
    assert malformed == len(parts) - len(good)


@given(st.binary())
@example(b"")
@example(b"\x01")
@example(b"\x01\x91\x96\x0b\xa0\x00\x00\x81\x01\x81\x90\x01\xc0")  # a list as a key inside meta
@example(b"\x01\x91\x96\x0b\xa0\x00\x00\x81\x01\xd6\xff\xff\xff\xff\xff\xc0")  # a timestamp
@example(b"\x01\x91\x96\x0b\xa0\x00\x00\x81\x01\xc7\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xc0")
def test_any_octets_are_read_or_refused(octets: bytes):
    for candidate in (octets, b"\x01" + octets, b"\x01\x91\x96\x0b\xa0\x00\x00\x81\x01" + octets + b"\xc0"):
        try:
            decoded, malformed = decode_batch(candidate)
        except RemoteProtocolError:
            continue
        assert decoded
        assert malformed >= 0


@given(st.lists(envelopes, min_size=1, max_size=4), st.data())
def test_a_damaged_frame_is_read_or_refused(batch: list[Envelope], data: st.DataObject):
    damaged = bytearray(encode_batch(batch))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        decode_batch(bytes(damaged))
    except RemoteProtocolError:
        pass  # counted and dropped by the caller; anything else would fail this test


def test_every_truncation_is_refused():
    whole = encode_batch([Envelope(5, "math.add", 1, 250, {1: [b"trace", 2]}, b"body"), Envelope(6, "", 1)])
    for length in range(len(whole)):
        with pytest.raises(MalformedBatch):
            decode_batch(whole[:length])


@pytest.mark.parametrize("buffer", [bytes, memoryview], ids=["bytes", "view"])
@pytest.mark.parametrize("size", [0, 10_000, 1 << 20])
def test_bodies_are_views_into_the_frame(buffer: type, size: int):
    octets = encode_batch([Envelope(11, "a.b", 1, 0, {3: 1}, bytes(size))])
    tracemalloc.start()
    try:
        [envelope], _ = decode_batch(buffer(octets))
        assert tracemalloc.get_traced_memory()[1] < 8 * KIB
    finally:
        tracemalloc.stop()
    assert msgspec.msgpack.decode(envelope.body) == bytes(size)
    assert envelope.meta == {3: 1}


def test_an_absent_body_is_nil():
    [envelope], _ = decode_batch(frame([4]))
    assert envelope.body is NIL
    assert (envelope.to, envelope.id, envelope.deadline_ms, envelope.meta) == ("", 0, 0, None)


# Lengths that promise much reserve nothing, and little that becomes much is refused before it does.
LARGE = {
    "envelopes": b"\x01\xdd\x00\xff\xff\xff" + b"\x91\x01" * 500_000,
    "array of empty arrays in meta": frame([11, "a.b", 1, 0, {1: [[]] * 1_000_000}, None]),
    "map in meta": frame([11, "a.b", 1, 0, {1: dict.fromkeys(range(100_000))}, None]),
    "announced array": b"\x01\x91\x95\x05\xa1a\x01\x00\x81\x01\xdd\xff\xff\xff\xff",
    "announced map": b"\x01\x91\x95\x05\xa1a\x01\x00\xdf\xff\xff\xff\xff",
    "announced text": b"\x01\x91\x92\x05\xdb\xff\xff\xff\xff",
    "announced body": b"\x01\x91\x96\x05\xa1a\x01\x00\xc0\xc6\xff\xff\xff\xff",
    "address": frame([11, "x" * 1_000_000, 1]),
}


@pytest.mark.parametrize("octets", LARGE.values(), ids=LARGE.keys())
def test_hostile_sizes_cost_no_more_memory_than_they_sent(octets: bytes):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedBatch):
            decode_batch(octets)
        assert tracemalloc.get_traced_memory()[1] < len(octets) + 64 * KIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [600, 5_000, 1_000_000])
@pytest.mark.parametrize("head", [b"\x01\x91\x96\x05\xa1a\x01\x00\xc0", b"\x01\x91\x96\x05\xa1a\x01\x00\x81\x01"])
def test_deep_nesting_is_refused_and_harms_nothing(head: bytes, depth: int):
    tail = b"\xc0" if head.endswith(b"\xc0") else b"\xc0\xc0"
    try:
        decoded, _ = decode_batch(head + b"\x91" * depth + tail)
    except MalformedBatch:
        assert depth > 500
    else:
        assert depth == 600  # below the interpreter's own limit
        assert len(decoded) == 1
    assert decode_batch(frame(GOOD))[1] == 0


def test_meta_of_a_large_batch_is_weighed():
    body = bytes(200 * KIB)
    heavy = [11, "a.b", 1, 0, {1: bytes(META_BYTES_MAX)}, None]
    decoded, malformed = decode_batch(frame([11, "a.b", 2, 0, {1: bytes(1000)}, body], heavy))
    assert [envelope.id for envelope in decoded] == [2]
    assert malformed == 1


def test_an_unknown_version_is_named():
    with pytest.raises(UnknownWireVersion, match="version octet 2") as caught:
        decode_batch(b"\x02\x90")
    assert caught.value.version == 2


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(11, "a.b", 2**64),
        Envelope(11, "\ud800"),
        Envelope(11, "a.b", 1, 0, {1: object()}),
        Envelope(11, "a.b", 1, 0, None, object()),
    ],
    ids=["id", "to", "meta", "body"],
)
def test_what_cannot_be_encoded_says_so(envelope: Envelope):
    with pytest.raises(LocalProtocolError, match="cannot encode"):
        encode_batch([envelope])


def test_a_deadline_beyond_what_the_wire_can_say_is_malformed():
    for deadline_ms, good in ((2**63 - 1, 1), (2**63, 0)):
        frame = b"\x01" + msgspec.msgpack.encode([[5, "a.b", 1, deadline_ms], [5, "a.b", 2]])
        envelopes, malformed = decode_batch(frame)
        assert (len(envelopes), malformed) == (1 + good, 1 - good)


@pytest.mark.parametrize("count", [1, 15, 16, 70, 400])
def test_envelopes_that_were_encoded_singly_make_the_same_batch(count: int):
    envelopes = [Envelope(Kind.ITEM, "x", number, 0, None, b"body") for number in range(count)]
    assert join_batch([encode_envelope(envelope) for envelope in envelopes]) == encode_batch(envelopes)


def test_one_that_cannot_be_encoded_says_so():
    with pytest.raises(LocalProtocolError, match="give bytes"):
        encode_envelope(Envelope(Kind.ITEM, "x", 1, 0, {1: object()}))
