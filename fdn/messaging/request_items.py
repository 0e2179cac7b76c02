"""The request stream of a call, at the side that answers it: what comes in, and the iterator that a handler reads."""

import asyncio
from typing import Any, Final

import msgspec

from fdn.errors import BadRequest, from_wire
from fdn.messaging.payloads import decode, encode
from fdn.messaging.stream_flow import REQUEST_STREAM, StreamReceiver, Window
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import Origin
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey

__all__ = ("RequestItems", "announces_items", "receive_items", "take_item")

_REQUEST_STREAM: Final = int(MetaKey.REQUEST_STREAM)
_ITEMS_PER_PASS_MAX: Final = 256  # read without waiting before the loop gets its turn


class RequestItems:
    """The request stream as a handler sees it: an async iterator."""

    __slots__ = ("_decoder", "_reads", "_received")

    def __init__(self, received: StreamReceiver, decoder: "msgspec.msgpack.Decoder[Any]") -> None:
        self._received = received
        self._decoder = decoder
        self._reads = 0

    def __aiter__(self) -> "RequestItems":
        return self

    async def __anext__(self) -> Any:
        """The next item.

        Raises:
            BadRequest: It is not of the type.
            Error: Why the caller could not send the rest, after all items before.
        """
        received = self._received
        self._reads += 1
        if self._reads >= _ITEMS_PER_PASS_MAX:  # before one is taken: a reader that is cancelled here loses none
            self._reads = 0
            await loop_pass()
        while True:
            body = received.take()
            if body is not None:
                return decode(body, self._decoder)
            if received.ended:
                if received.failure is not None:
                    raise received.failure
                raise StopAsyncIteration
            self._reads = 0
            await received.wait()


def announces_items(envelope: Envelope) -> bool:
    """Whether a CALL has a request stream."""
    meta = envelope.meta
    return meta is not None and bool(meta.get(_REQUEST_STREAM))


def receive_items(origin: Origin, call_id: int, window: Window, loop: asyncio.AbstractEventLoop) -> StreamReceiver:
    """For the items of a call; `open` it when somebody is there to read them."""

    def grant(totals: Window) -> None:
        origin.answer(Envelope(Kind.CREDIT, REQUEST_STREAM, call_id, 0, None, encode(totals)))

    return StreamReceiver(window, grant, loop, opened=False)


def take_item(incoming: StreamReceiver, envelope: Envelope) -> bool:
    """Take an ITEM or END of a request stream in. False: it is past what was granted."""
    if envelope.kind == Kind.ITEM:
        return incoming.put(envelope.body)
    failure: Exception | None = None
    if envelope.body != NIL:
        try:
            failure = from_wire(decode(envelope.body))
        except BadRequest as unreadable:
            failure = unreadable
    incoming.end(failure)
    return True
