"""Interceptors: one ordered chain around every send and every dispatch.

Access rules, tracing, breakers and retries attach here, so that none of them edits the hot path. The chain is composed
once; an empty one costs nothing.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fdn.context import Context
from fdn.runtime.send_options import SendOptions

__all__ = ("Dispatch", "Incoming", "Interceptor", "Outgoing", "Send", "compose_dispatch", "compose_send")


@dataclasses.dataclass(slots=True)
class Outgoing:
    """A call, cast or event about to be sent. An interceptor may change it."""

    target: str
    payload: Any
    is_call: bool
    timeout_s: float | None
    is_event: bool = False  # `target` is a subject, and the result the number of nodes it was sent to
    is_stream: bool = False  # what `proceed` returns is the open call, from which the items are read after the chain
    options: SendOptions | None = None  # key, priority and the like


@dataclasses.dataclass(slots=True)
class Incoming:
    """A call, cast or event about to be handled. An interceptor may change its arguments."""

    target: str
    arguments: tuple[Any, ...]
    is_call: bool
    context: Context
    handler: Callable[..., Any]
    is_event: bool = False  # for a subscription with a handler; an iterator has none to be around


Send = Callable[[Outgoing], Awaitable[Any]]
Dispatch = Callable[[Incoming], Awaitable[Any]]


class Interceptor:
    """Override either or both; call `proceed` once to go on, or raise an `fdn.Error` to refuse."""

    async def on_send(self, outgoing: Outgoing, proceed: Send) -> Any:
        """Around a call (returns its result), a cast (None) or an event (a number), on the sending node."""
        return await proceed(outgoing)

    async def on_dispatch(self, incoming: Incoming, proceed: Dispatch) -> Any:
        """Around a handler, on the serving node, in the handler's own task and context."""
        return await proceed(incoming)


def compose_send(interceptors: Sequence[Interceptor], last: Send) -> Send:
    """The chain, first interceptor outermost; `last` itself if there are none."""
    chain = last
    for interceptor in reversed(interceptors):
        chain = _around_send(interceptor, chain)
    return chain


def compose_dispatch(interceptors: Sequence[Interceptor], last: Dispatch) -> Dispatch:
    """The chain, first interceptor outermost; `last` itself if there are none."""
    chain = last
    for interceptor in reversed(interceptors):
        chain = _around_dispatch(interceptor, chain)
    return chain


def _around_send(interceptor: Interceptor, proceed: Send) -> Send:
    return lambda outgoing: interceptor.on_send(outgoing, proceed)


def _around_dispatch(interceptor: Interceptor, proceed: Dispatch) -> Dispatch:
    return lambda incoming: interceptor.on_dispatch(incoming, proceed)
