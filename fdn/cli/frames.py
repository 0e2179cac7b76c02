"""Wire bytes made readable: each envelope with its offset, its fields by name, and what is wrong where.

It reads with the `msgpack` package, not with the codec of the nodes: a second opinion, and one that goes on where the
codec would drop. Wire format: `docs/spec/0001-wire.md`, section 4.
"""

import enum
from typing import Any, Final

import msgpack

from transports.wire.batch import META_BYTES_MAX, TO_LENGTH_MAX, WIRE_VERSION
from transports.wire.envelope import Kind, MetaKey

__all__ = ("explain_frame",)

_FIELDS: Final = ("kind", "to", "id", "deadline_ms", "meta", "body")
_META_KEYS_MAX: Final = 64
_ENVELOPES_MAX: Final = 65_535
_ARRAY32: Final = 0xDD
_UNREADABLE: Final = (ValueError, TypeError, msgpack.UnpackException)


def explain_frame(frame: bytes) -> dict[str, Any]:
    """What a batch frame says: `bytes`, `envelopes` (maps with `at`, `bytes`, the six fields and `problems`), and
    `problems` of the frame as a whole. A problem is a map of `at`, an offset in the frame, and `what`.
    """
    told: dict[str, Any] = {"bytes": len(frame), "envelopes": [], "problems": []}
    problems = told["problems"]
    if len(frame) < 2:
        problems.append(_problem(0, "too short for a batch: expected a version octet and an array of envelopes"))
        return told
    if frame[0] != WIRE_VERSION:
        problems.append(_problem(0, f"version octet {frame[0]}: expected {WIRE_VERSION}"))
        return told  # how the rest is laid out is not known
    if frame[1] == _ARRAY32:
        problems.append(_problem(1, "the array of envelopes has a long header: expected at most array16"))
    reader = _Reader(frame)
    try:
        count = reader.unpacker.read_array_header()
    except _UNREADABLE as error:
        problems.append(_problem(1, f"no array of envelopes begins here: {_reason(error)}"))
        return told
    if not 1 <= count <= _ENVELOPES_MAX:
        problems.append(_problem(1, f"{count} envelopes are announced: expected 1 to {_ENVELOPES_MAX}"))
    for index in range(count):
        reader.field_at, reader.field = reader.at, "it"
        try:
            told["envelopes"].append(_envelope(reader))
        except _UNREADABLE as error:
            # Where the next one begins is not known any more.
            what = f"envelope {index + 1} of {count}: {reader.field} cannot be read, nor what follows: {_reason(error)}"
            problems.append(_problem(reader.field_at, what))
            return told
    if reader.at < len(frame):
        problems.append(_problem(reader.at, f"{len(frame) - reader.at} bytes too many"))
    return told


class _Reader:
    """A MessagePack reader that knows where in the frame it is, and what it is about to read there."""

    def __init__(self, frame: bytes) -> None:
        self.field_at, self.field = 1, ""
        self.unpacker: Any = msgpack.Unpacker(
            strict_map_key=False, unicode_errors="surrogateescape", max_buffer_size=max(len(frame), 1)
        )
        self.unpacker.feed(frame[1:])

    @property
    def at(self) -> int:
        return int(self.unpacker.tell()) + 1


def _envelope(reader: _Reader) -> dict[str, Any]:
    at = reader.at
    try:
        count = reader.unpacker.read_array_header()
    except ValueError:
        value = reader.unpacker.unpack()
        return {"at": at, "bytes": reader.at - at, "problems": [_problem(at, f"{_kind_of(value)}: expected an array")]}
    told: dict[str, Any] = {"at": at, "problems": []}
    if count == 0:
        told["problems"].append(_problem(at, "an empty array: expected a kind at least"))
    for index in range(count):
        name = _FIELDS[index] if index < len(_FIELDS) else f"element {index + 1}"
        reader.field_at, reader.field = field_at, _ = reader.at, name
        value = reader.unpacker.unpack()
        if index >= len(_FIELDS):
            continue  # of a later version: ignored, as the specification says
        told[name] = value
        if problem := _CHECKS[name](value, reader.at - field_at):
            told["problems"].append(_problem(field_at, f"{name}: {problem}"))
    told["bytes"] = reader.at - at
    if isinstance(told.get("kind"), int):
        told["kind_name"] = _name(Kind, told["kind"])
    meta = told.get("meta")
    if isinstance(meta, dict):
        told["meta"] = {_name(MetaKey, key).lower(): value for key, value in meta.items()}
    return told


def _check_kind(value: Any, size: int) -> str:
    return "" if _is_int(value) else f"{_kind_of(value)}: expected an integer"


def _check_to(value: Any, size: int) -> str:
    if not isinstance(value, str):
        return f"{_kind_of(value)}: expected a string"
    if any("\udc80" <= character <= "\udcff" for character in value):
        return "a string that is not UTF-8"
    return "" if len(value) <= TO_LENGTH_MAX else f"{len(value)} characters: expected at most {TO_LENGTH_MAX}"


def _check_number(value: Any, size: int) -> str:
    return "" if _is_int(value) and value >= 0 else f"{_kind_of(value)}: expected an integer from 0"


def _check_meta(value: Any, size: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        return f"{_kind_of(value)}: expected nil or a map"
    if not all(map(_is_int, value)):
        return "a key is no integer"
    if len(value) > _META_KEYS_MAX:
        return f"{len(value)} keys: expected at most {_META_KEYS_MAX}"
    return "" if size <= META_BYTES_MAX else f"{size} bytes: expected at most {META_BYTES_MAX}"


def _check_body(value: Any, size: int) -> str:
    return ""  # any one value


_CHECKS: Final = {
    "kind": _check_kind,
    "to": _check_to,
    "id": _check_number,
    "deadline_ms": _check_number,
    "meta": _check_meta,
    "body": _check_body,
}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(numbers: type[enum.IntEnum], number: Any) -> str:
    try:
        return numbers(number).name
    except ValueError:
        return str(number)


def _kind_of(value: Any) -> str:
    names = {type(None): "nil", bool: "a boolean", int: f"{value}", str: "a string", bytes: "a bin", list: "an array"}
    return names.get(type(value), "a map" if isinstance(value, dict) else type(value).__name__)


def _reason(error: BaseException) -> str:
    match error:
        case msgpack.OutOfData():
            return "the frame ends before it does"
        case msgpack.StackError():
            return "it is nested too deeply"
        case msgpack.FormatError():
            return "an octet that begins no value"
    return str(error)


def _problem(at: int, what: str) -> dict[str, Any]:
    return {"at": at, "what": what}
