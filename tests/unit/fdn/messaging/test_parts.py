import array
import dataclasses
from typing import Any

import msgspec
import numpy
import numpy.typing as npt
import pytest

from fdn.errors import BadRequest
from fdn.messaging.parts import TooLarge, encode_rest, on_ext, pack, unpack
from fdn.messaging.payloads import decode, decoder_of, encode, open_parcel, signature_of, wire
from transports.parcel import ATTACHED_BYTES_MIN, EXT_ARRAY, EXT_BUFFER, Parcel

BIG = bytes(range(256)) * 256
MORE = BIG[::-1]
LONG = numpy.arange(20_000, dtype="f8")

assert len(BIG) == ATTACHED_BYTES_MIN


class Photo(msgspec.Struct):
    name: str
    pixels: bytes
    thumb: memoryview | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    sensor: str
    values: Any


class Typed(msgspec.Struct):
    values: npt.NDArray[numpy.float64]
    tags: list[str] = []


def parcel(value: object) -> Parcel:
    packed = encode(value)
    assert type(packed) is Parcel
    return packed


def back(value: object, kind: Any = Any) -> Any:
    return decode(wire(encode(value)), decoder_of(kind))


@pytest.mark.parametrize(
    "value",
    [BIG, [BIG, MORE], {"a": BIG, "b": {"c": (1, MORE)}}, [[1, BIG], 2.5, None, "x" * 100], {"k": [BIG] * 3}],
    ids=["buffer", "list", "nested", "mixed", "repeated"],
)
def test_large_buffers_travel_beside_and_come_back(value: Any):
    packed = parcel(value)
    assert len(packed.body) < 1000
    assert all(len(part) == len(BIG) for part in packed.attachments)
    assert msgspec.msgpack.encode(back(value)) == msgspec.msgpack.encode(value)
    assert msgspec.msgpack.decode(packed.inline()) == msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def test_nothing_is_copied_on_the_way_out():
    buffer = bytearray(BIG)
    [part] = parcel({"data": buffer}).attachments
    buffer[0] = 77
    assert part[0] == 77


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, Any])
@pytest.mark.parametrize("size", [10, len(BIG)])
def test_what_arrives_does_not_depend_on_the_size(kind: Any, size: int):
    arrived = back(BIG[:size], kind)
    assert type(arrived) is (bytes if kind is Any else kind)
    assert arrived == BIG[:size]


def test_a_memoryview_is_a_view_of_what_was_received():
    received = bytearray(BIG)
    view = unpack(Parcel.of_buffer(memoryview(received)), decoder_of(memoryview))
    received[0] = 77
    assert view[0] == 77
    assert view.readonly


def test_structs_and_dataclasses_keep_their_form_and_are_not_changed():
    photo = Photo("a", BIG, memoryview(MORE))
    arrived = back(photo, Photo)
    assert (arrived.name, arrived.pixels, bytes(arrived.thumb)) == ("a", BIG, MORE)
    assert type(arrived.pixels) is bytes
    assert photo.pixels is BIG
    reading = Reading("s", LONG)
    numpy.testing.assert_array_equal(back(reading, Reading).values, LONG)
    assert reading.values is LONG


@pytest.mark.parametrize(
    "values", [LONG, LONG[:3], LONG[::2], LONG.reshape(100, 200).T], ids=["big", "small", "s", "T"]
)
def test_arrays_arrive_as_arrays(values: Any):
    for arrived in (back(values), back(values, numpy.ndarray), back(Typed(values), Typed).values):
        numpy.testing.assert_array_equal(arrived, values)
        assert arrived.shape == values.shape
        assert not arrived.flags.writeable


def test_an_array_lies_over_the_frame_that_came():
    packed = parcel(LONG)
    frame = bytearray(packed.attachments[0])
    arrived = unpack(Parcel(packed.body, [memoryview(frame)]), decoder_of(Any))
    frame[:8] = numpy.float64(77).tobytes()
    assert arrived[0] == 77


def test_other_numbers_of_numpy_and_of_the_standard_library():
    assert back([numpy.int32(5), numpy.bool_(True), numpy.float32(0.5)]) == [5, True, 0.5]
    assert back(array.array("i", [1, 2])) == array.array("i", [1, 2]).tobytes()
    doubles = array.array("d", range(10_000))
    assert parcel(doubles).attachments[0] == doubles.tobytes()
    assert back({"d": doubles}) == {"d": doubles.tobytes()}


def test_a_strange_view_is_sent_all_the_same():
    assert back(memoryview(BIG * 2)[::2]) == (BIG * 2)[::2]
    assert back(memoryview(BIG).cast("I")) == BIG
    assert back(memoryview(b"")) == b""


def test_a_million_small_values_are_not_looked_through():
    numbers = list(range(200_000))
    assert type(encode(numbers)) is msgspec.Raw
    assert back([*numbers, BIG])[-1] == BIG  # so far behind it stays inside


def test_more_parts_than_may_travel_beside():
    parts = [BIG] * 70
    assert len(parcel(parts).attachments) == 60
    assert back(parts) == parts
    arrays = [LONG] * 70
    assert len(parcel(arrays).attachments) == 60
    assert len(back(arrays)) == 70


def test_what_cannot_be_sent_is_told_as_for_small_values():
    for value in ([BIG, object()], numpy.array([object()] * 10_000), numpy.ma.masked_array([1], [True])):
        with pytest.raises(BadRequest, match="cannot be sent"):
            encode(value)


def test_several_parameters_and_none():
    def many(name: str, pixels: bytes, thumb: Any = None) -> None: ...

    signature = signature_of("s.f", many)
    assert signature.arguments(wire(encode({"name": "a", "pixels": BIG}))) == ("a", BIG, None)
    assert signature.arguments(wire(encode(["a", BIG, MORE]))) == ("a", BIG, MORE)
    with pytest.raises(BadRequest, match="does not fit"):
        signature.arguments(wire(encode({"name": 5, "pixels": BIG})))
    with pytest.raises(BadRequest, match="takes no payload"):
        signature_of("s.g", lambda: None).arguments(wire(encode(BIG)))


def test_a_text_is_no_buffer():
    class Both(msgspec.Struct):
        data: bytes
        text: bytes

    with pytest.raises(BadRequest, match="does not fit"):
        decode(encode({"data": BIG, "text": "abcd"}), decoder_of(Both))


def test_a_type_that_holds_itself():
    class Tree(msgspec.Struct):
        data: memoryview
        branches: "list[Tree]" = []

    globals()["Tree"] = Tree
    arrived = back(Tree(memoryview(BIG), [Tree(memoryview(MORE))]), Tree)
    assert (arrived.data, arrived.branches[0].data) == (BIG, MORE)


def test_who_decodes_nothing_passes_the_parcel_on():
    packed = parcel([BIG])
    assert open_parcel(packed, msgspec.msgpack.Decoder(msgspec.Raw)) is packed
    assert encode(packed) is packed


@pytest.mark.parametrize(
    "value",
    [
        msgspec.msgpack.Ext(EXT_BUFFER, b"\0\1"),
        msgspec.msgpack.Ext(EXT_BUFFER, b"\0"),
        [msgspec.msgpack.Ext(EXT_BUFFER, b"\0\0")] * 2,
        msgspec.msgpack.Ext(EXT_ARRAY, b"\xc1"),
        msgspec.msgpack.Ext(EXT_ARRAY, msgspec.msgpack.encode(["|O", [1], "C", 0])),
        msgspec.msgpack.Ext(EXT_ARRAY, msgspec.msgpack.encode(["<i4", [1], "C", -1])),
        msgspec.msgpack.Ext(EXT_ARRAY, msgspec.msgpack.encode(["<i4", [1], "C", True])),
        msgspec.msgpack.Ext(EXT_ARRAY, msgspec.msgpack.encode([1])),
    ],
)
def test_hostile_bodies_are_bad_requests(value: object):
    hostile = Parcel(msgspec.Raw(msgspec.msgpack.encode(value)), [memoryview(b"abcd")])
    with pytest.raises(BadRequest, match="does not fit"):
        decode(hostile)
    with pytest.raises(BadRequest, match="does not fit"):
        decode(hostile.body)


def test_extensions_of_users_stay_theirs():
    theirs = msgspec.msgpack.Ext(77, b"abc")
    assert back([theirs, BIG]) == [theirs, BIG]
    assert back(theirs) == theirs


def test_the_hooks_themselves():
    with pytest.raises(TooLarge):
        encode_rest(LONG)
    with pytest.raises(TooLarge):
        encode_rest(array.array("d", range(10_000)))
    with pytest.raises(TypeError, match="unsupported"):
        encode_rest(object())
    with pytest.raises(ValueError, match="did not come"):
        on_ext(EXT_BUFFER, memoryview(b"\0\0"))
    assert type(pack([1])) is msgspec.Raw
