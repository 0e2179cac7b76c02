from typing import Any

import msgspec
import pytest

from transports.errors import LocalProtocolError, OversizedEnvelope
from transports.parcel import EXT_ARRAY, EXT_BODY, EXT_BUFFER, Parcel, claim, encode_alone, index_of, lay_out, whole
from transports.wire.batch import decode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey

Ext = msgspec.msgpack.Ext


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def received(body: object, indexes: Any, kind: int = Kind.CAST) -> Envelope:
    return Envelope(kind, "t", 1, 0, {int(MetaKey.ATTACHMENTS): indexes}, raw(body))


def sound(envelope: Envelope, *attachments: bytes) -> list[Envelope]:
    envelopes, unsound = whole([envelope], [memoryview(each) for each in attachments])
    assert len(envelopes) + unsound == 1
    return envelopes


def test_its_size_is_that_of_all_octets():
    assert len(Parcel(raw([1, 2]), [b"abc", memoryview(b"de")])) == 3 + 3 + 2
    assert len(Parcel.of_buffer(b"abc")) == 4 + 3


def test_an_envelope_is_laid_out_and_made_whole_again():
    original = Envelope(Kind.CALL, "t.f", 5, 0, {1: "trace"}, Parcel(raw([Ext(EXT_BUFFER, b"\0\0")]), [b"abc"]))
    frame, attachments = encode_alone(original, 1000)
    assert attachments == [b"abc"]
    assert original.meta == {1: "trace"}  # it may be on its way to others too
    [envelope], _ = decode_batch(frame)
    assert envelope.meta == {1: "trace", 6: [0]}
    [envelope] = sound(envelope, b"abc")
    assert envelope.meta == {1: "trace"}
    assert msgspec.msgpack.decode(envelope.body.inline()) == [b"abc"]


def test_several_envelopes_of_one_batch_have_their_own():
    first, second = received(Ext(EXT_BUFFER, b"\0\0"), [1]), received(Ext(EXT_BUFFER, b"\0\0"), [0])
    envelopes, unsound = whole([first, second], [memoryview(b"a"), memoryview(b"b")])
    assert unsound == 0
    assert [msgspec.msgpack.decode(each.body.inline()) for each in envelopes] == [b"b", b"a"]


@pytest.mark.parametrize("indexes", [[2], [-1], [0, 0], [True], ["0"], 0, None, {0: 0}, [0.0], [2**70]])
def test_an_envelope_that_names_what_did_not_come_is_dropped(indexes: object):
    assert sound(received(Ext(EXT_BUFFER, b"\0\0"), indexes), b"a", b"b") == []


def test_what_is_no_payload_is_left_alone():
    hello = received({}, [0], Kind.HELLO)
    assert sound(hello, b"a") == [hello]
    assert type(hello.body) is msgspec.Raw


def test_a_body_may_itself_be_an_attachment():
    [envelope] = sound(received(Ext(EXT_BODY, b"\0\0"), [0]), msgspec.msgpack.encode([1, 2]))
    assert type(envelope.body) is msgspec.Raw
    assert msgspec.msgpack.decode(envelope.body) == [1, 2]
    body = msgspec.msgpack.encode({"a": Ext(EXT_BUFFER, b"\0\0")})
    [envelope] = sound(received(Ext(EXT_BODY, b"\0\1"), [0, 1]), b"abc", body)
    assert msgspec.msgpack.decode(envelope.body.inline()) == {"a": b"abc"}
    assert msgspec.msgpack.decode(Parcel.of_body(raw([3])).inline()) == [3]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01\x01", b"\x91" * 5000])
def test_a_small_body_that_is_none_could_spoil_a_batch_and_is_dropped(body: bytes):
    assert sound(received(Ext(EXT_BODY, b"\0\0"), [0]), body) == []
    assert sound(received(Ext(EXT_BODY, b"\0\1"), [0]), b"\x01") == []


def test_in_one_piece_arrays_keep_their_form():
    inside = msgspec.msgpack.encode(["<i2", [2], "C", 0])
    parcel = Parcel(raw([Ext(EXT_ARRAY, inside), Ext(77, b"x")]), [b"abcd"])
    array, other = msgspec.msgpack.decode(parcel.inline())
    assert msgspec.msgpack.decode(array.data) == ["<i2", [2], "C", b"abcd"]
    assert other == Ext(77, b"x")
    assert msgspec.msgpack.decode(Parcel(raw([array]), []).inline()) == [array]


def test_nothing_is_taken_twice_so_that_nothing_grows():
    take = claim([b"a"])
    assert take(0) == b"a"
    for index in (0, 1, -1):
        with pytest.raises(ValueError, match="is not there"):
            take(index)
    with pytest.raises(LocalProtocolError, match="one piece"):
        Parcel(raw([Ext(EXT_BUFFER, b"\0\0")] * 2), [b"a"]).inline()


def test_a_copy_keeps_no_frame_alive():
    frame = bytearray(b"abc")
    copied = Parcel.of_buffer(memoryview(frame)).copy()
    frame[0] = 0
    assert copied.attachments == [b"abc"]


def test_an_index_is_two_octets():
    assert index_of(b"\1\2") == 258
    for data in (b"", b"\0", b"\0\0\0"):
        with pytest.raises(ValueError, match="expected 2"):
            index_of(data)


def test_what_does_not_fit_into_a_frame_is_refused():
    envelope = Envelope(Kind.CAST, "t", 0, 0, None, Parcel.of_buffer(bytes(100)))
    assert lay_out(envelope)[0].meta == {6: [0]}
    with pytest.raises(OversizedEnvelope):
        encode_alone(envelope, 99)
