import array
import json
from pathlib import Path
from typing import Any

import msgpack
import numpy
import pytest

from fdn.arrays import describe
from fdn.client.codec import decode, encode
from fdn.client.parts import array_of, on_ext, put_back

VECTORS = json.loads((Path(__file__).parents[3] / "interop" / "vectors.json").read_text(encoding="utf-8"))
GOOD = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["attachments"]]
BAD = [
    pytest.param(vector, id=vector["name"])
    for vector in VECTORS["attachments_refused"]
    if "handle" not in vector["name"] and "shared" not in vector["name"]
]
Ext = msgpack.ExtType


def value(meaning: Any) -> Any:
    match meaning:
        case {"bin": digits}:
            return bytes.fromhex(digits)
        case {"map": items}:
            return {value(key): value(item) for key, item in items}
        case {"array": [dtype, rows]}:
            return numpy.array(rows, dtype).tolist()
        case list():
            return [value(item) for item in meaning]
    return meaning


def plain(body: Any) -> Any:
    return body.tolist() if isinstance(body, numpy.ndarray) else body


@pytest.mark.parametrize("vector", GOOD)
def test_what_the_specification_shows_is_read(vector: dict[str, Any]):
    frame, *attachments = (bytes.fromhex(digits) for digits in vector["frames"])
    [received] = decode(frame, attachments)
    assert plain(received.body) == value(vector["value"])


@pytest.mark.parametrize("vector", BAD)
def test_what_it_refuses_is_dropped(vector: dict[str, Any]):
    frame, *attachments = (bytes.fromhex(digits) for digits in vector["frames"])
    assert decode(frame, attachments) == []


def test_an_item_weighs_what_came_beside_it_too():
    frame = b"\x01" + msgpack.packb([[8, "", 7, 0, {6: [0]}, Ext(1, b"\0\0")], [8, "", 7, 0, None, b"ab"]])
    assert [received.size for received in decode(frame, [bytes(100)])] == [104, 4]


@pytest.mark.parametrize("dtype", ["<f8", ">i2", "|b1", "<c16", "<M8[s]"])
def test_arrays_go_in_one_piece_and_come_back(dtype: str):
    rows = numpy.arange(6).reshape(2, 3).astype(dtype)
    back = msgpack.unpackb(encode({"rows": rows}), ext_hook=on_ext)["rows"]
    numpy.testing.assert_array_equal(back, rows)
    assert back.dtype == rows.dtype


def test_numbers_of_numpy_and_arrays_of_the_standard_library():
    assert msgpack.unpackb(encode([numpy.int8(0), numpy.bool_(False), array.array("b", [1])])) == [0, False, b"\x01"]
    assert array_of("text") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(["|O", [1], "C", bytes(8)]),
        msgpack.packb(["<i4", [2], "C", bytes(4)]),
        msgpack.packb(5),
    ],
)
def test_what_is_no_array_stays_what_it_was(data: bytes):
    assert on_ext(2, data) == Ext(2, data)
    assert on_ext(77, data) == Ext(77, data)


@pytest.mark.parametrize(
    "body",
    [
        [Ext(1, b"\0\0")] * 2,
        Ext(1, b"\0"),
        Ext(1, b"\0\1"),
        Ext(3, b"\0\1"),
        Ext(2, msgpack.packb(["|O", [1], "C", 0])),
        Ext(2, msgpack.packb(["<i4", [9], "C", 0])),
    ],
)
def test_a_body_cannot_take_what_is_not_there_or_take_it_twice(body: Any):
    with pytest.raises(ValueError, match=r".+"):
        put_back(body, [0], [b"abcd"])


def test_an_array_lies_over_what_came():
    dtype, shape, order, octets = describe(numpy.arange(3.0))
    body, size = put_back(Ext(2, msgpack.packb([dtype, shape, order, 0])), [0], [bytes(octets)])
    assert body.tolist() == [0.0, 1.0, 2.0]
    assert size == 24
