"""What travels with a call: the trace it belongs to, and the moment by which it must be done.

Both live in one context variable, so that they follow the work through `await`, tasks and threads started with
`asyncio.to_thread`, and over the wire to the next node.
"""

import asyncio
import contextlib
import contextvars
import dataclasses
import random
import struct
from collections.abc import Iterator

__all__ = ("Context", "Scope", "current_scope", "deadline", "new_trace", "pack_trace", "scope_var", "unpack_trace")

_TRACE = struct.Struct(">QQQB")  # trace id (128 bits), parent span id (64), flags: W3C trace context, section 3.2
_random = random.SystemRandom().getrandbits(64)
_ids = random.Random(_random)  # ids need to be unique, not secret; seeded anew in each process


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """The trace and the deadline that the running code inherits.

    Attributes:
        trace_id: 128 bits; 0 when there is no trace.
        span_id: 64 bits, this piece of work; 0 when there is no trace.
        deadline_at: Loop time in seconds, or 0.0 for none.
    """

    trace_id: int = 0
    span_id: int = 0
    deadline_at: float = 0.0


scope_var: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("fdn_scope", default=None)


def current_scope() -> Scope | None:
    """The scope of the running code, or None outside of any."""
    return scope_var.get()


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a handler learns of the call it serves, where it asks by annotation (`context: fdn.Context`).

    Attributes:
        node: Name of the node that serves.
        caller: Node id (or client id) of the one that called.
        target: The name that was called, `service.method`.
        trace_id: 32 hex digits, or empty.
        span_id: 16 hex digits, or empty.
        deadline_at: Loop time in seconds by which the caller needs the answer.
    """

    node: str
    caller: str
    target: str
    trace_id: str
    span_id: str
    deadline_at: float

    def remaining_s(self) -> float:
        """Seconds left before the deadline; negative when it has passed."""
        return self.deadline_at - asyncio.get_running_loop().time()


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give everything called inside at most this long, at this node and at those it calls in turn.

    Deadlines only shrink: inside a tighter one, a wider one changes nothing. When it passes, the waiting call raises
    `DeadlineExceeded` and the work at the far side is cancelled. It needs a running event loop.

    Raises:
        ValueError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"deadline of {seconds!r} s; expected a positive number of seconds")
    outer = scope_var.get()
    at = asyncio.get_running_loop().time() + seconds
    if outer is None:
        inner = Scope(deadline_at=at)
    else:
        inner = dataclasses.replace(outer, deadline_at=min(at, outer.deadline_at) if outer.deadline_at else at)
    token = scope_var.set(inner)
    try:
        yield
    finally:
        scope_var.reset(token)


def new_trace() -> tuple[int, int]:
    """A fresh (trace id, span id); neither is 0."""
    return _ids.getrandbits(128) or 1, _ids.getrandbits(64) or 1


def new_span() -> int:
    """A fresh span id; never 0."""
    return _ids.getrandbits(64) or 1


def pack_trace(trace_id: int, span_id: int) -> bytes:
    """The 25 bytes of `MetaKey.TRACE`."""
    return _TRACE.pack(trace_id >> 64, trace_id & 0xFFFF_FFFF_FFFF_FFFF, span_id, 1)


def unpack_trace(packed: object) -> tuple[int, int]:
    """(trace id, span id) from `MetaKey.TRACE`; (0, 0) when it is not what the specification says."""
    if not isinstance(packed, bytes) or len(packed) != _TRACE.size:
        return 0, 0
    high, low, span_id, _flags = _TRACE.unpack(packed)
    return high << 64 | low, span_id
