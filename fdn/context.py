"""What travels with a call: the trace it belongs to, the moment by which it must be done, and the user's headers.

They live in one context variable, so that they follow the work through `await`, tasks and threads started with
`asyncio.to_thread`, and over the wire to the next node.
"""

import asyncio
import contextlib
import contextvars
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from fdn.errors import BadRequest
from transports.wire.envelope import MetaKey

__all__ = (
    "DEADLINE_S_MAX",
    "HEADERS_BYTES_MAX",
    "Context",
    "Scope",
    "current_meta",
    "current_scope",
    "deadline",
    "headers",
    "new_span",
    "new_trace",
    "pack_trace",
    "scope_var",
    "unpack_headers",
    "unpack_trace",
)

DEADLINE_S_MAX = 86_400.0 * 365  # as milliseconds it fits the wire, and no timer overflows
_TRACE_BYTES, _SPAN_BYTES = 16, 8  # W3C Trace Context, section 3.2
_SAMPLED = 1
HEADERS_BYTES_MAX: Final = 8192  # of names and values together, as UTF-8: they travel with every message
_NONE: Final[Mapping[str, str]] = {}
_ids = random.Random(random.SystemRandom().getrandbits(128))  # ids need to be unique, not secret
_bits = _ids.getrandbits  # half the price of `randbytes`


class Scope(msgspec.Struct, frozen=True):  # made for every call: a frozen dataclass costs five times as much
    """The trace, the deadline and the headers that the running code inherits.

    Attributes:
        trace_id: 16 bytes; empty when there is no trace.
        span_id: 8 bytes, this piece of work; empty when there is no trace.
        deadline_at: Loop time in seconds, or 0.0 for none.
        headers: None for none; never changed.
    """

    trace_id: bytes = b""
    span_id: bytes = b""
    deadline_at: float = 0.0
    headers: Mapping[str, str] | None = None


scope_var: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("fdn_scope", default=None)


def current_scope() -> Scope | None:
    """The scope of the running code, or None outside of any."""
    return scope_var.get()


class Context(msgspec.Struct, frozen=True):
    """What a handler learns of the call it serves, where it asks by annotation (`context: fdn.Context`).

    Attributes:
        node: Name of the node that serves.
        caller: Node id (or client id) of the one that called.
        target: The name that was called, `service.method`.
        trace_id: 32 hex digits, or empty.
        span_id: 16 hex digits, or empty.
        deadline_at: Loop time in seconds by which the caller needs the answer.
        headers: What the caller, or whoever called it, gave along: see `fdn.headers`.
        missed: Events dropped just before this one, because the handler was too slow (a policy that drops).
        redelivered: It was sent before, to this node or another, and somebody may have handled it (`at_least_once`).
    """

    node: str
    caller: str
    target: str
    trace_id: str
    span_id: str
    deadline_at: float
    headers: Mapping[str, str] = _NONE
    missed: int = 0
    redelivered: bool = False

    def remaining_s(self) -> float:
        """Seconds left before the deadline; negative when it has passed."""
        return self.deadline_at - asyncio.get_running_loop().time()


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give everything called inside at most this long, at this node and at those it calls in turn.

    Deadlines only shrink: inside a tighter one, a wider one changes nothing. When it passes, the waiting call raises
    `DeadlineExceeded` and the work at the far side is cancelled. It needs a running event loop.

    Raises:
        ValueError: `seconds` is not positive, or more than `DEADLINE_S_MAX`.
    """
    if not 0 < seconds <= DEADLINE_S_MAX:
        raise ValueError(f"deadline of {seconds!r} s; expected seconds above 0, at most {DEADLINE_S_MAX}")
    outer = scope_var.get()
    at = asyncio.get_running_loop().time() + seconds
    if outer is None:
        inner = Scope(deadline_at=at)
    else:
        inner = msgspec.structs.replace(outer, deadline_at=min(at, outer.deadline_at) if outer.deadline_at else at)
    token = scope_var.set(inner)
    try:
        yield
    finally:
        scope_var.reset(token)


@contextlib.contextmanager
def headers(added: Mapping[str, str]) -> Iterator[None]:
    """Send these with every call, cast, event and stream inside, and with what those send in turn (baggage).

    They add to those that the running code has itself got; a name given again takes the new value. A handler reads them
    in `Context.headers`.

    Raises:
        BadRequest: A name or value is no str, or all together exceed `HEADERS_BYTES_MAX` bytes.
    """
    outer = scope_var.get() or Scope()
    merged: dict[Any, Any] = {**(outer.headers or _NONE), **added}
    for name, value in merged.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise BadRequest(f"header {name!r}: {value!r}", hint="names and values of headers are str")
    try:
        size = sum(len(name.encode()) + len(value.encode()) for name, value in merged.items())
    except UnicodeEncodeError as lone:
        raise BadRequest(f"a header holds {lone.object!r}", hint="lone surrogates cannot be sent") from lone
    if size > HEADERS_BYTES_MAX:
        raise BadRequest(
            f"headers of {size} bytes; at most {HEADERS_BYTES_MAX}", hint="they travel with every message: send less"
        )
    token = scope_var.set(msgspec.structs.replace(outer, headers=merged))
    try:
        yield
    finally:
        scope_var.reset(token)


def current_meta() -> dict[int, Any]:
    """What a call made now carries: its trace, begun here if there is none, and the headers."""
    scope = scope_var.get()
    meta: dict[int, Any] = {
        int(MetaKey.TRACE): pack_trace((scope.trace_id if scope is not None else b"") or new_trace(), new_span())
    }
    if scope is not None and scope.headers:
        meta[int(MetaKey.HEADERS)] = scope.headers
    return meta


def unpack_headers(packed: object) -> Mapping[str, str] | None:
    """The headers in `meta`; None if there are none, or they are not what the specification says."""
    if not isinstance(packed, dict) or not packed:
        return None
    size = 0
    for name, value in packed.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return None
        size += len(name) + len(value)
    return packed if size <= HEADERS_BYTES_MAX else None


def new_trace() -> bytes:
    """A fresh trace id."""
    return _bits(8 * _TRACE_BYTES).to_bytes(_TRACE_BYTES)


def new_span() -> bytes:
    """A fresh span id."""
    return _bits(8 * _SPAN_BYTES).to_bytes(_SPAN_BYTES)


def pack_trace(trace_id: bytes, span_id: bytes) -> tuple[bytes, bytes, int]:
    """The value of `MetaKey.TRACE`."""
    return trace_id, span_id, _SAMPLED


def unpack_trace(packed: Any) -> tuple[bytes, bytes]:
    """(trace id, span id) from `MetaKey.TRACE`; empty when it is not what the specification says."""
    if type(packed) not in (list, tuple) or len(packed) != 3:
        return b"", b""
    trace_id, span_id, flags = packed
    # Not a pattern of `match`, which costs twice as much, for every call.
    if type(trace_id) is not bytes or type(span_id) is not bytes or type(flags) is not int:
        return b"", b""
    if len(trace_id) != _TRACE_BYTES or len(span_id) != _SPAN_BYTES:
        return b"", b""
    return trace_id, span_id


def _reseed() -> None:
    _ids.seed(random.SystemRandom().getrandbits(128))


os.register_at_fork(after_in_child=_reseed)  # parent and child must not make the same ids
