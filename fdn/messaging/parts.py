"""The large parts of a payload: taken out of a value before it is encoded, and put back when it is decoded.

A part is a buffer (`bytes`, `bytearray`, `memoryview`, `array.array`) or a numpy array of `ATTACHED_BYTES_MIN` octets
or more. Smaller ones stay in the MessagePack. What a receiver gets does not depend on the size: `bytes`, or whatever
the annotation says; only `memoryview`, and arrays, are views of what was received, without a copy.
"""

import array
import copy
import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from fdn.arrays import describe, is_array, plain_scalar, rebuild
from fdn.messaging.blobs.blob import Blob
from fdn.messaging.blobs.reference import EXT_BLOB, pack_reference, unpack_reference
from transports.parcel import ATTACHED_BYTES_MIN, EXT_ARRAY, EXT_BUFFER, Buffer, Parcel, claim, index_of

__all__ = ("TooLarge", "encode_rest", "on_ext", "pack", "unpack")

_ATTACHMENTS_MAX: Final = 60  # of one payload; what is beyond stays inside. The wire allows 64.
_LOOKED_AT_MAX: Final = 4096  # values of one payload looked at for parts, so that a million numbers cost no time
_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()
_BUFFER_TYPES: Final = (memoryview, bytes, Any)
_NOTHING: Final = claim(())
_BUFFERS: Final = (bytes, bytearray, memoryview, array.array)
# What MessagePack holds itself: a text in its place is no more welcome than in a small payload.
_BUILTINS: Final = (bytes, bytearray, memoryview, datetime.datetime)

T = TypeVar("T")


class TooLarge(Exception):
    """Told by `encode_rest`: there is a part to be taken out, so `pack` is wanted."""


def encode_rest(value: Any) -> Any:
    """What `msgspec` does not know itself, as something that it does.

    Raises:
        TooLarge: It is large.
        TypeError: It cannot be sent.
    """
    if is_array(value):
        if value.nbytes >= ATTACHED_BYTES_MIN:
            raise TooLarge
        return _array(value, bytes)
    if type(value) is array.array:
        if len(value) * value.itemsize >= ATTACHED_BYTES_MIN:
            raise TooLarge
        return value.tobytes()
    if type(value) is Blob:
        return msgspec.msgpack.Ext(EXT_BLOB, pack_reference(value.reference))
    scalar = plain_scalar(value)
    if scalar is None:
        raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
    return scalar


def pack(value: Any) -> msgspec.Raw | Parcel:
    """Encode a value, its large parts beside it.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: It holds something that cannot be sent.
    """
    packing = _Packing()
    if type(value) in _BUFFERS:
        view = _octets(value)
        if len(view) >= ATTACHED_BYTES_MIN:
            return Parcel.of_buffer(view)
    body = msgspec.Raw(msgspec.msgpack.Encoder(enc_hook=packing.encode_rest).encode(packing.lighten(value)))
    return Parcel(body, packing.attachments) if packing.attachments else body


def unpack(parcel: Parcel, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    """The value of a parcel, as the decoder's type.

    Raises:
        ValueError, TypeError, RecursionError: It is not what the type, or the specification, says.
    """
    kind: Any = decoder.type
    only = parcel.only
    if only is not None and kind in _BUFFER_TYPES:
        return memoryview(only).toreadonly() if kind is memoryview else bytes(only)  # type: ignore[return-value]
    take = claim(parcel.attachments)
    wants_views = _wants_views(kind)

    def on_part(code: int, data: memoryview) -> Any:
        if code == EXT_BUFFER:
            part = take(index_of(data))
            return memoryview(part).toreadonly() if wants_views else bytes(part)
        return on_ext(code, data, take)

    value = msgspec.msgpack.Decoder(ext_hook=on_part).decode(parcel.body)
    if kind is Any:
        return value  # type: ignore[no-any-return]
    converted: T = msgspec.convert(value, kind, builtin_types=_BUILTINS)
    return converted


def on_ext(code: int, data: memoryview, take: Callable[[int], Buffer] = _NOTHING) -> Any:
    """The `ext_hook` of everything that decodes payloads: arrays, blobs, and what users give a meaning.

    Raises:
        ValueError: It is no array, or no blob's reference, that may be received.
    """
    if code == EXT_ARRAY:
        match _plain.decode(data):
            case [dtype, shape, order, bytes(inside)]:
                return rebuild(dtype, shape, order, inside)
            case [dtype, shape, order, int(index)]:
                return rebuild(dtype, shape, order, take(index))
        raise ValueError("an array that is not dtype, shape, order and data")
    if code == EXT_BUFFER:
        raise ValueError("an attachment that did not come")
    if code == EXT_BLOB:
        return Blob(unpack_reference(data))
    return msgspec.msgpack.Ext(code, bytes(data))


class _Packing:
    """One value on its way into a parcel."""

    def __init__(self) -> None:
        self.attachments: list[Buffer] = []
        self._left = _LOOKED_AT_MAX

    def lighten(self, value: Any) -> Any:
        """The same value with an extension in the place of each large buffer; what has none is not copied."""
        self._left -= 1
        kind = type(value)
        if kind in _BUFFERS:
            view = _octets(value)
            if len(view) < ATTACHED_BYTES_MIN or len(self.attachments) >= _ATTACHMENTS_MAX:
                return value if kind is not memoryview else view
            return msgspec.msgpack.Ext(EXT_BUFFER, self._attach(view).to_bytes(2, "big"))
        if self._left <= 0 or kind in (int, str, float, bool, type(None)):
            return value
        if kind is dict:
            return self._lighten_items(value, value.items())
        if kind is list or kind is tuple:
            return self._lighten_items(value, enumerate(value))
        if isinstance(value, msgspec.Struct):
            names = value.__struct_fields__
            return self._lighten_fields(value, names, msgspec.structs.force_setattr)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = tuple(field.name for field in dataclasses.fields(value))
            return self._lighten_fields(value, names, object.__setattr__)
        return value

    def encode_rest(self, value: Any) -> Any:
        """As the function of this name, but takes large parts out."""
        if is_array(value) and value.nbytes >= ATTACHED_BYTES_MIN and len(self.attachments) < _ATTACHMENTS_MAX:
            return _array(value, self._attach)
        if is_array(value):
            return _array(value, bytes)
        if type(value) is array.array:
            return value.tobytes()  # a large one is taken out before, unless there are too many
        return encode_rest(value)

    def _lighten_items(self, value: Any, items: Iterable[tuple[Any, Any]]) -> Any:
        changed: dict[Any, Any] = {}
        for key, item in items:
            if self._left <= 0:
                break
            lighter = self.lighten(item)
            if lighter is not item:
                changed[key] = lighter
        if not changed:
            return value
        if type(value) is dict:
            return {**value, **changed}  # the order of keys stays
        return [changed.get(at, item) for at, item in enumerate(value)]

    def _lighten_fields(self, value: Any, names: tuple[str, ...], put: Callable[[Any, str, Any], None]) -> Any:
        lightened: Any = None
        for name in names:
            item = getattr(value, name, None)
            lighter = self.lighten(item)
            if lighter is not item:
                lightened = lightened if lightened is not None else copy.copy(value)
                put(lightened, name, lighter)
        return value if lightened is None else lightened

    def _attach(self, part: Buffer) -> int:
        self.attachments.append(part)
        return len(self.attachments) - 1


def _array(value: Any, place: Callable[[memoryview], bytes | int]) -> msgspec.msgpack.Ext:
    dtype, shape, order, octets = describe(value)
    return msgspec.msgpack.Ext(EXT_ARRAY, _encoder.encode((dtype, shape, order, place(octets))))


def _octets(value: Any) -> Buffer:
    """A buffer octet by octet; a copy only where it is not contiguous."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


@functools.lru_cache(maxsize=1024)
def _wants_views(kind: Any) -> bool:
    """Whether a type says `memoryview` anywhere, and so asks for what was received, without a copy."""
    seen: set[Any] = set()

    def search(node: Any) -> bool:
        if isinstance(node, msgspec.inspect.MemoryViewType):
            return True
        if isinstance(node, tuple):
            return any(search(each) for each in node)
        if not isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            return False
        named = getattr(node, "cls", None)
        if named is not None and named in seen:
            return False
        seen.add(named)
        return any(search(getattr(node, field)) for field in node.__struct_fields__)

    return search(msgspec.inspect.type_info(kind))
