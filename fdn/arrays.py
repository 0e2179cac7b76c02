"""numpy arrays as a type, a shape and octets, and back: what travels (`docs/spec/0001-wire.md`, section 4.10).

numpy is imported when the first array is sent or taken, and never by a process that does neither.
"""

import math
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy

__all__ = ("describe", "is_array", "is_array_type", "plain_scalar", "rebuild")

_DIMENSIONS_MAX: Final = 32
# Numbers, truth values and times. Above all no objects, whose octets would be pointers.
_DTYPE: Final = re.compile(
    r"[|<>](?:b1|[iu][1248]|f[248]|c8|c16|[mM]8(?:\[(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)", re.ASCII
)


def is_array(value: object) -> bool:
    """Whether `value` is an array that can be sent. Subclasses that mean more (masked arrays) are not."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) in (numpy.ndarray, numpy.memmap)


def is_array_type(kind: object) -> bool:
    """Whether a class is that of arrays."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and kind is numpy.ndarray


def plain_scalar(value: object) -> Any:
    """The Python number that a numpy scalar is; None if it is none."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.number | numpy.bool_) else None


def describe(array: "numpy.ndarray[Any, Any]") -> tuple[str, tuple[int, ...], str, memoryview]:
    """Take an array apart.

    Returns:
        Its dtype (`<f8`), its shape, the order of its elements (`C` or `F`) and its octets: a view where the array is
        contiguous, else a copy.

    Raises:
        TypeError: Its dtype cannot be sent.
    """
    import numpy

    dtype = array.dtype.str
    if not _DTYPE.fullmatch(dtype):
        raise TypeError(f"arrays of dtype {array.dtype} cannot be sent; convert it to numbers, truth values or times")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    shape = array.shape
    flat = numpy.asarray(array).reshape(-1, order="F" if order == "F" else "C")
    return dtype, shape, order, numpy.ascontiguousarray(flat).view(numpy.uint8).data.toreadonly()


def rebuild(dtype: object, shape: object, order: object, data: bytes | memoryview) -> "numpy.ndarray[Any, Any]":
    """An array over `data`, which is not copied. It cannot be written to.

    Raises:
        ValueError: This does not describe an array of that size, or not one that may be received.
    """
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or order not in ("C", "F"):
        raise ValueError(f"an array of dtype {dtype!r:.40} and order {order!r:.40}")
    if not isinstance(shape, Sequence) or len(shape) > _DIMENSIONS_MAX:
        raise ValueError(f"an array of shape {shape!r:.80}")
    if not all(type(length) is int and 0 <= length < 1 << 48 for length in shape):
        raise ValueError(f"an array of shape {shape!r:.80}")
    import numpy

    kind = numpy.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"an array of dtype {dtype} and shape {tuple(shape)} in {len(data)} octets")
    if not data:
        return numpy.empty(tuple(shape), kind)  # numpy knows no empty buffer
    flat: numpy.ndarray[Any, Any] = numpy.frombuffer(memoryview(data).toreadonly(), kind)
    return flat.reshape(tuple(shape), order="F" if order == "F" else "C")
