"""Batches and envelopes, with msgpack alone. Wire format: `docs/spec/0001-wire.md`, section 4."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from fdn.client.parts import array_of, on_ext, put_back
from fdn.errors import BadRequest

__all__ = ("Kind", "Meta", "Received", "batch", "decode", "encode", "envelope", "headers_of", "pair_of", "wishes_of")

_VERSION_OCTET: Final = b"\x01"
_KEY_BYTES_MAX: Final = 256
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024  # section 7: a larger frame would cost us the connection
_PRIORITY_MAX: Final = 4
_ENVELOPE_OF_SIX: Final = b"\x96"


class Kind:
    """Numbers of section 4.1. Plain integers: they are compared for every message."""

    HELLO: Final = 1
    WELCOME: Final = 2
    REFUSED: Final = 3
    BYE: Final = 4
    CALL: Final = 5
    REPLY: Final = 6
    ERROR: Final = 7
    ITEM: Final = 8
    END: Final = 9
    CANCEL: Final = 10
    CAST: Final = 11
    SUBSCRIBE: Final = 12
    UNSUBSCRIBE: Final = 13
    EVENT: Final = 14
    ACK: Final = 15
    CREDIT: Final = 16
    CORE: Final = 18


class Meta:
    """Keys of section 4.2."""

    PARTITION_KEY: Final = 2
    PRIORITY: Final = 3
    ATTACHMENTS: Final = 6
    ORIGIN: Final = 7
    SEQUENCE: Final = 10
    HEADERS: Final = 11
    ATTEMPT: Final = 14
    MISSED: Final = 17
    WINDOW: Final = 18
    REQUEST_STREAM: Final = 19
    DELIVERY: Final = 20


class Received(NamedTuple):
    """One envelope that came in.

    Attributes:
        size: Octets of the body, for an ITEM; else 0.
    """

    kind: int
    to: str
    id: int
    deadline_ms: int
    meta: Mapping[int, Any]
    body: Any
    size: int


def encode(value: Any) -> bytes:
    """A body.

    Raises:
        BadRequest: MessagePack cannot hold it, or a frame cannot.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_plain, datetime=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(
            f"a {type(value).__name__} cannot be sent: {error}",
            hint="send plain values that MessagePack holds, dataclasses or Structs",
        ) from error
    if len(packed) > _BODY_BYTES_MAX:
        raise BadRequest(
            f"a body of {len(packed)} bytes exceeds {_BODY_BYTES_MAX}, the most that a client sends at once",
            hint="send it in parts, as a stream (items=), or from a node",
        )
    return packed


def envelope(kind: int, to: str, number: int, deadline_ms: int, meta: Mapping[int, Any] | None, body: bytes) -> bytes:
    """One envelope, whose body is encoded already."""
    head: bytes = msgpack.packb((kind, to, number, deadline_ms, meta))
    return _ENVELOPE_OF_SIX + head[1:] + body


def batch(envelopes: Sequence[bytes]) -> bytes:
    """One frame of 1 to 65535 envelopes."""
    count = len(envelopes)
    header = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join((_VERSION_OCTET, header, *envelopes))


def decode(frame: bytes, attachments: Sequence[bytes] = ()) -> list[Received]:
    """The envelopes of a frame that can be read, with their attachments. Never raises."""
    if frame[:1] != _VERSION_OCTET:
        return []
    try:
        found = msgpack.unpackb(memoryview(frame)[1:], strict_map_key=False, timestamp=3, ext_hook=on_ext)
        if not isinstance(found, list):
            return []
        has_items = any(isinstance(each, list) and each and each[0] == Kind.ITEM for each in found)
        sizes = _body_sizes(frame) if has_items else (0,) * len(found)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return []
    received = [one for each, size in zip(found, sizes, strict=True) if (one := _received(each, size))]
    return received if not attachments else [one for each in received if (one := _whole(each, attachments))]


def pair_of(value: Any) -> tuple[int, int] | None:
    """Two counts, as a window or a grant has them; None if it is anything else."""
    match value:
        case [int(first), int(second)] if first >= 0 and second >= 0:
            return first, second
    return None


def wishes_of(key: str | bytes | None, priority: int) -> dict[int, Any]:
    """What a sender may say of a message beside its payload, as meta.

    Raises:
        BadRequest: One of them is not possible.
    """
    size = len(key.encode(errors="replace")) if isinstance(key, str) else len(key) if isinstance(key, bytes) else 0
    if key is not None and not 0 < size <= _KEY_BYTES_MAX:
        raise BadRequest(f"key={key!r}", hint=f"expected a str or bytes of 1 to {_KEY_BYTES_MAX} bytes")
    if type(priority) is not int or abs(priority) > _PRIORITY_MAX:
        raise BadRequest(
            f"priority={priority!r}", hint=f"expected a whole number from {-_PRIORITY_MAX} to {_PRIORITY_MAX}"
        )
    meta: dict[int, Any] = {} if key is None else {Meta.PARTITION_KEY: key}
    return meta | {Meta.PRIORITY: priority} if priority else meta


def headers_of(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """The headers as they may be sent.

    Raises:
        BadRequest: They are no map from str to str.
    """
    untyped: Mapping[Any, Any] = headers or {}
    for key, value in untyped.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise BadRequest(f"header {key!r}: {value!r}", hint="headers are a map from str to str")
    return headers or {}


def _received(fields: Any, size: int) -> Received | None:
    if not isinstance(fields, list):
        return None
    kind, to, number, deadline_ms, meta, body = (fields + [None] * 6)[:6]
    if type(kind) is not int or type(number or 0) is not int or type(deadline_ms or 0) is not int:
        return None
    return Received(
        kind,
        to if type(to) is str else "",
        number or 0,
        deadline_ms or 0,
        meta if type(meta) is dict else {},
        body,
        size,
    )


def _whole(received: Received, attachments: Sequence[bytes]) -> Received | None:
    """An envelope with what came beside it; None if it names what did not come."""
    if Meta.ATTACHMENTS not in received.meta:
        return received
    try:
        body, size = put_back(received.body, received.meta[Meta.ATTACHMENTS], attachments)
    except (ValueError, TypeError, OverflowError, RecursionError, ImportError, msgpack.UnpackException):
        return None
    return received._replace(body=body, size=received.size + size if received.size else 0)


def _body_sizes(frame: bytes) -> list[int]:
    """Octets of each envelope's body. A window counts them as they were sent, so packing again would not do."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(frame))
    unpacker.feed(memoryview(frame)[1:])
    sizes = []
    for _ in range(unpacker.read_array_header()):
        fields = unpacker.read_array_header()
        for _ in range(min(fields, 5)):
            unpacker.skip()
        start = unpacker.tell()
        if fields > 5:
            unpacker.skip()
        sizes.append(unpacker.tell() - start)
        for _ in range(fields - 6):
            unpacker.skip()
    return sizes


def _plain(value: Any) -> Any:
    """What msgpack does not know and others send as a map: dataclasses, and msgspec's Structs without importing it."""
    from_numpy = array_of(value)
    if from_numpy is not None:
        return from_numpy
    names = getattr(value, "__dataclass_fields__", None) or getattr(value, "__struct_fields__", None)
    if names is None or isinstance(value, type):
        raise TypeError(f"no MessagePack type for {type(value).__name__}")
    return {name: getattr(value, name) for name in names}
