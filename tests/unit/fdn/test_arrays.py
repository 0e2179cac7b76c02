import subprocess
import sys
from typing import Any

import numpy
import pytest

from fdn.arrays import describe, is_array, is_array_type, plain_scalar, rebuild


def there_and_back(array: Any) -> Any:
    return rebuild(*describe(array))


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(12, dtype="<i2").reshape(3, 4),
        numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4)),
        numpy.arange(24, dtype=">u8").reshape(2, 3, 4)[:, ::2],
        numpy.array(7.5),
        numpy.zeros((0, 5), "f4"),
        numpy.array([True, False]),
        numpy.array([1 + 2j]),
        numpy.array(["2026-11-24", "NaT"], "M8[ns]"),
        numpy.array([5], "m8[D]"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_there_and_back(array: Any):
    back = there_and_back(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    numpy.testing.assert_array_equal(back, array)


def test_a_contiguous_array_is_not_copied_on_either_side():
    array = numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4))
    dtype, shape, order, octets = describe(array)
    assert order == "F"
    array[0, 0] = 99.0
    assert rebuild(dtype, shape, order, octets)[0, 0] == 99.0


def test_what_arrives_cannot_be_written_to():
    back = rebuild("<i4", [2], "C", memoryview(bytearray(8)))
    assert not back.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 1


@pytest.mark.parametrize("array", [numpy.array([object()]), numpy.array(["text"]), numpy.zeros(2, [("a", "i4")])])
def test_what_is_no_plain_number_cannot_be_sent(array: Any):
    with pytest.raises(TypeError, match="cannot be sent"):
        describe(array)


@pytest.mark.parametrize(
    ("dtype", "shape", "order", "size"),
    [
        ("|O", [1], "C", 8),
        ("O", [1], "C", 8),
        ("<U4", [1], "C", 16),
        ("|V8", [1], "C", 8),
        ("<f16", [1], "C", 16),
        ("<i4,<i4", [1], "C", 8),
        ("<M8[25s]", [1], "C", 8),
        ("<i٤", [1], "C", 4),
        (["<i4"], [1], "C", 4),
        (None, [1], "C", 8),
        ("<i4", [1], "K", 4),
        ("<i4", [2], "C", 4),
        ("<i4", [], "C", 8),
        ("<i4", [-1, -1], "C", 4),
        ("<i4", [1 << 62, 4], "C", 0),
        ("<i4", [0, 1 << 62], "C", 0),
        ("<i4", [True], "C", 4),
        ("<i4", "1", "C", 4),
        ("<i4", 1, "C", 4),
        ("<i4", [1.0], "C", 4),
        ("<i4", [1] * 33, "C", 4),
    ],
)
def test_a_peer_cannot_have_anything_else_built(dtype: object, shape: object, order: object, size: int):
    with pytest.raises(ValueError, match="an array of"):
        rebuild(dtype, shape, order, bytes(size))


def test_which_values_are_arrays_and_numbers():
    assert is_array(numpy.zeros(1))
    assert not is_array(numpy.ma.masked_array([1], [True]))
    assert not is_array([1])
    assert is_array_type(numpy.ndarray)
    assert not is_array_type(list)
    assert plain_scalar(numpy.int16(7)) == 7
    assert plain_scalar(7) is None


def test_nothing_of_this_imports_numpy_before_there_is_an_array():
    program = "import sys, fdn.messaging.parts as p; p.pack([1, b'x']); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
