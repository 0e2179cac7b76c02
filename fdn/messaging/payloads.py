"""Payloads: from Python values to the body of an envelope and back, typed where the handler is typed.

A payload is anything that MessagePack holds, a dataclass or a `msgspec.Struct`, and numpy arrays. There is no pickle,
ever. Large buffers and arrays in it travel beside the MessagePack (`fdn.messaging.parts`).
"""

import inspect
import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping
from typing import Any

import msgspec

from fdn.context import Context
from fdn.errors import BadRequest, ConfigError
from fdn.messaging.parts import TooLarge, encode_rest, on_ext, pack, unpack
from transports.parcel import ATTACHED_BYTES_MIN, Body, Parcel
from transports.wire.envelope import NIL, Envelope

__all__ = (
    "MISFITS",
    "PLAIN",
    "Signature",
    "arrive",
    "decode",
    "decoder_of",
    "does_not_fit",
    "encode",
    "open_parcel",
    "signature_of",
    "wire",
    "wire_size",
)

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_rest)
PLAIN = msgspec.msgpack.Decoder(ext_hook=on_ext)  # of payloads that may be anything
# Types whose last value had large parts: looked through before anything of it is encoded, and so copied.
_bulky: set[type] = set()
_BULKY_MAX = 1024
_UNENCODABLE = (TypeError, OverflowError, ValueError, RecursionError, NotImplementedError)
_NIL = 0xC0  # MessagePack's nil
_STREAMS = (AsyncIterator, AsyncIterable)
# What decoding raises for bytes that are not what the type says: `MsgspecError` is a ValueError, and so is bad UTF-8.
MISFITS = (ValueError, RecursionError)


def encode(value: object) -> Any:
    """The body that carries `value`: bytes and None as they are, all else encoded now, so that later changes do not
    show.

    Raises:
        BadRequest: The value holds something that MessagePack does not know.
    """
    if value is None or type(value) is msgspec.Raw or type(value) is Parcel:
        return value
    if type(value) is bytes:
        return value if len(value) < ATTACHED_BYTES_MIN else Parcel.of_buffer(value)
    kind = type(value)
    if kind in _bulky:
        return _encode_parts(value)
    try:
        body = msgspec.Raw(_encoder.encode(value))
    except (TooLarge, BufferError):
        return _encode_parts(value)
    except _UNENCODABLE as error:
        raise _unsendable(value, error) from error
    return body if len(body) < ATTACHED_BYTES_MIN else _encode_parts(value)


def _encode_parts(value: object) -> Any:
    kind = type(value)
    try:
        body = pack(value)
    except _UNENCODABLE as error:
        raise _unsendable(value, error) from error
    if type(body) is Parcel:
        if len(_bulky) < _BULKY_MAX:
            _bulky.add(kind)
    elif len(body) < ATTACHED_BYTES_MIN:
        _bulky.discard(kind)
    return body


def _unsendable(value: object, error: Exception) -> BadRequest:
    return BadRequest(
        f"a {type(value).__name__} cannot be sent: {error}",
        hint="send plain values, dataclasses or msgspec.Structs; convert other objects first",
    )


def wire(body: Any) -> Body:
    """A body from `encode` as the receiver will see it."""
    if type(body) is msgspec.Raw or type(body) is Parcel:
        return body
    if type(body) is bytes and len(body) >= ATTACHED_BYTES_MIN:
        return Parcel.of_buffer(body)
    return msgspec.Raw(_encoder.encode(body))


def arrive(envelope: Envelope) -> None:
    """Give an envelope of ours that never leaves this node the form that it would have at the other side.

    One with attachments has a `meta`, as it would there: whoever looks at messages without `meta` meets none.
    """
    body = envelope.body = NIL if envelope.body is None else wire(envelope.body)
    if type(body) is Parcel and envelope.meta is None:
        envelope.meta = {}


def wire_size(body: Any) -> int:
    """How many octets a body from `encode` takes on the wire."""
    if body is None:
        return 1
    size = len(body)
    if type(body) is not bytes:
        return size
    return size + (2 if size < 1 << 8 else 3)  # the header of a MessagePack bin; larger ones are parcels


def decode(body: Body, decoder: "msgspec.msgpack.Decoder[Any]" = PLAIN) -> Any:
    """The value of a body, checked against the decoder's type.

    Raises:
        BadRequest: It is not what the type says.
    """
    try:
        return decoder.decode(body) if type(body) is not Parcel else open_parcel(body, decoder)
    except MISFITS as error:
        raise does_not_fit(error) from error


def open_parcel(parcel: Parcel, decoder: "msgspec.msgpack.Decoder[Any]") -> Any:
    """The value of a body with attachments; the body itself where nobody looks into it.

    Raises:
        ValueError, RecursionError: It is not what the type says.
    """
    if decoder.type is msgspec.Raw:
        return parcel
    try:
        return unpack(parcel, decoder)
    except (TypeError, OverflowError, ImportError) as error:
        raise ValueError(str(error)) from error


def decoder_of(kind: Any) -> "msgspec.msgpack.Decoder[Any]":
    """A decoder of payloads of this type.

    Raises:
        TypeError: It cannot be decoded.
    """
    return PLAIN if kind is Any else msgspec.msgpack.Decoder(kind, ext_hook=on_ext)


def does_not_fit(error: Exception) -> BadRequest:
    """What a payload's decoding error means to whoever sent it."""
    return BadRequest(f"payload does not fit: {error}", hint="compare it with the handler's annotations")


class Signature:
    """How a handler takes its arguments.

    One parameter: the body is its value. None: the body is nil. Several: the body is a map by name, or an array by
    position. A parameter annotated `fdn.Context` takes no part, nor does one annotated `AsyncIterator[T]`: it is given
    the request stream.

    Attributes:
        context_name: The parameter that wants the `Context`, or None.
        stream_name: The parameter that wants the request stream, or None.
        stream_decoder: For its items.
        names: Of the parameters that the body gives.
        single: The decoder when the body is the one argument and always given: the hot path calls it directly.
    """

    def __init__(self, name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> None:
        wanted = (p for p in parameters if hints.get(p) is Context or Context in typing.get_args(hints.get(p)))
        self.context_name = next(wanted, None)
        streams = {
            p: hint for p in parameters if typing.get_origin(hint := hints.get(p)) in _STREAMS or hint in _STREAMS
        }
        if len(streams) > 1:
            raise TypeError(f"it takes {len(streams)} request streams ({', '.join(streams)}); expected one at most")
        self.stream_name = next(iter(streams), None)
        item = next(iter(typing.get_args(streams[self.stream_name])), Any) if self.stream_name else Any
        self.stream_decoder: msgspec.msgpack.Decoder[Any] = decoder_of(item)
        asides = {self.context_name, self.stream_name} - {None}
        taken = [p for p in parameters.values() if p.name not in asides]
        for parameter in taken:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"it takes {parameter}; expected named parameters only")
        self._name = name
        self.names = tuple(parameter.name for parameter in taken)
        self._by_keyword = _needs_keywords(parameters, asides)
        self._optional = len(taken) == 1 and taken[0].default is not inspect.Parameter.empty
        self._by_name: msgspec.msgpack.Decoder[Any] | None = None
        self._by_position: msgspec.msgpack.Decoder[Any] | None = None
        self._value: msgspec.msgpack.Decoder[Any] | None = None
        if len(taken) == 1:
            self._value = decoder_of(hints.get(taken[0].name, Any))
        elif taken:
            self._by_name = decoder_of(_struct(name, taken, hints, array_like=False))
            self._by_position = decoder_of(_struct(name, taken, hints, array_like=True))
        self.single = None if self._optional else self._value

    def arguments(self, body: Body) -> tuple[Any, ...]:
        """The positional arguments for one call.

        Raises:
            BadRequest: The body does not fit.
        """
        view = memoryview(body if type(body) is not Parcel else body.body)
        is_nil = len(view) == 1 and view[0] == _NIL
        if self._value is not None:
            return () if self._optional and is_nil else (decode(body, self._value),)
        if self._by_name is None or self._by_position is None:
            if not is_nil:
                raise BadRequest(f"{self._name} takes no payload", hint="call it without one")
            return ()
        is_array = 0x90 <= view[0] <= 0x9F or view[0] in (0xDC, 0xDD)
        values = decode(body, self._by_position if is_array else self._by_name)
        return tuple(getattr(values, name) for name in self.names)

    def adapt(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, or one around it, that takes the arguments by position and the context by keyword."""
        if not self._by_keyword:
            return function
        names = self.names
        return lambda *values, **context: function(**dict(zip(names, values, strict=False)), **context)


def signature_of(name: str, function: Callable[..., Any]) -> Signature:
    """Read a handler's parameters and annotations (a bound method's `self` is not among them).

    Raises:
        ConfigError: It takes `*args` or `**kwargs`, or an annotation names a type that cannot be decoded.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)  # with their `msgspec.Meta`
        return Signature(name, inspect.signature(function).parameters, hints)
    except (TypeError, NameError) as error:
        raise ConfigError(
            f"handler {name} cannot be served: {error}", hint="annotate it with types that MessagePack can hold"
        ) from error


def _needs_keywords(parameters: Mapping[str, inspect.Parameter], asides: Collection[str | None]) -> bool:
    """Whether a parameter can be given by keyword only, or stands behind one of those that always are."""
    kinds = [parameter.kind for parameter in parameters.values() if parameter.name not in asides]
    for name in asides:
        if name is not None and parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY:
            raise TypeError(f"its parameter {name!r} cannot be given by keyword; remove the / behind it")
    behind = list(parameters)[len(parameters) - len(asides) :]
    return inspect.Parameter.KEYWORD_ONLY in kinds or bool(set(behind) - set(asides))


def _struct(name: str, taken: list[inspect.Parameter], hints: Mapping[str, Any], array_like: bool) -> Any:
    fields: list[Any] = []
    for parameter in taken:
        hint = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    return msgspec.defstruct(
        f"{name.replace('.', '_')}_arguments", fields, array_like=array_like, kw_only=not array_like
    )
