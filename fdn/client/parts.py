"""Arrays, and what comes beside a batch: the extensions of `docs/spec/0001-wire.md`, section 4.10, with msgpack alone.

A client sends everything in one piece, arrays too. It takes attachments, so that a node need not copy what is large.
"""

import array
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from fdn.arrays import describe, is_array, plain_scalar, rebuild

__all__ = ("FEATURE", "array_of", "on_ext", "put_back")

FEATURE: Final = "attachments"
_BUFFER: Final = 1
_ARRAY: Final = 2
_BODY: Final = 3


def array_of(value: Any) -> Any:
    """What arrays and numpy's numbers are in MessagePack; None for anything else.

    Raises:
        TypeError: Arrays of this dtype cannot be sent.
    """
    if is_array(value):
        dtype, shape, order, octets = describe(value)
        return msgpack.ExtType(_ARRAY, msgpack.packb((dtype, shape, order, octets)))
    return value.tobytes() if type(value) is array.array else plain_scalar(value)


def on_ext(code: int, data: bytes) -> Any:
    """The `ext_hook` of everything that comes in. What is no array that may be received stays what it was."""
    if code == _ARRAY:
        try:
            match msgpack.unpackb(data):
                case [dtype, shape, order, bytes(inside)]:
                    return rebuild(dtype, shape, order, inside)
        except (ValueError, TypeError, ImportError, msgpack.UnpackException):
            pass  # for whoever looks at it: the rest of the message is good
    return msgpack.ExtType(code, data)


def put_back(body: Any, indexes: Any, frames: Sequence[bytes]) -> tuple[Any, int]:
    """A body with its attachments in their places.

    Args:
        body: As it was unpacked.
        indexes: What `meta` says of its attachments.
        frames: All that came with the batch.

    Returns:
        The body, and the octets of its attachments.

    Raises:
        ValueError: It names what did not come, or twice.
    """
    if not isinstance(indexes, list) or len(set(map(repr, indexes))) != len(indexes):
        raise ValueError("a list of attachments that is none")
    if not all(type(index) is int and 0 <= index < len(frames) for index in indexes):
        raise ValueError("an attachment that did not come")
    left: dict[int, bytes] = {at: frames[index] for at, index in enumerate(indexes)}
    size = sum(map(len, left.values()))
    if isinstance(body, msgpack.ExtType) and body.code == _BODY:
        packed = left.pop(_index(body.data), None)
        if packed is None:
            raise ValueError("a body that did not come")
        body = msgpack.unpackb(packed, strict_map_key=False, timestamp=3, ext_hook=on_ext)
    return _fill(body, left), size


def _fill(value: Any, left: dict[int, bytes]) -> Any:
    if isinstance(value, msgpack.ExtType):
        if value.code == _BUFFER:
            return _take(_index(value.data), left)
        if value.code == _ARRAY:
            match msgpack.unpackb(value.data):
                case [dtype, shape, order, int(index)]:
                    return rebuild(dtype, shape, order, _take(index, left))
        return value
    if isinstance(value, dict):
        return {key: _fill(item, left) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, left) for item in value]
    return value


def _index(data: bytes) -> int:
    if len(data) != 2:
        raise ValueError(f"an index of {len(data)} octets; expected 2")
    return int.from_bytes(data, "big")


def _take(index: int, left: dict[int, bytes]) -> bytes:
    part = left.pop(index, None)  # once: what is named a million times must not fill our memory
    if part is None:
        raise ValueError(f"attachment {index} did not come, or is named twice")
    return part
