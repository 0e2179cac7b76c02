"""A streamed reply as its caller holds it: an iterator that is opened when it is first read."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import msgspec

from fdn.errors import BadRequest, Error
from fdn.messaging.payloads import MISFITS, does_not_fit, open_parcel
from fdn.messaging.stream_calls import OpenCall
from fdn.messaging.stream_flow import two_readers
from fdn.messaging.workers import loop_pass
from transports.parcel import Body, Parcel

__all__ = ("Stream",)

T = TypeVar("T")
_ITEMS_PER_PASS_MAX: Final = 256  # read without waiting before the loop gets its turn


class Stream(Generic[T]):
    """What `node.stream(...)` gives: iterate over it, in one task.

    ```python
    async for n in node.stream("math.countdown", 3, returns=int):
        ...
    ```

    Items come in the order in which the handler yielded them, none twice and none left out: a stream that loses one
    ends with an error. The producer is at most a window ahead of its reader (`calls.stream_window_items` and
    `calls.stream_window_bytes`).

    Leaving the loop early closes the generator at the other side: at once where the stream is an async context manager
    or `aclose` is awaited, else when the stream is garbage. So does an error, and the cancellation of whoever waits for
    the next item: `asyncio.timeout` around the loop ends it; for the longest silence there is `timeout=`.
    """

    def __init__(
        self,
        target: str,
        opener: Callable[[], Awaitable[OpenCall]],
        decoder: "msgspec.msgpack.Decoder[T]",
        timeout_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.target = target
        self._opener = opener
        self._decoder = decoder
        self._decode = decoder.decode
        self._timeout_s = timeout_s
        self._loop = loop
        self._call: OpenCall | None = None
        self._opening = self._closed = False
        self._reads = 0

    async def __aenter__(self) -> "Stream[T]":
        """Open it: errors that come before the first item show here, as far as they are known by then.

        Raises:
            BadRequest: It has been closed.
            Error: As `Node.call`.
        """
        if self._closed:
            raise BadRequest(f"this stream of {self.target} has been closed", hint="make a new one")
        if self._call is None:
            await self._open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __aiter__(self) -> "Stream[T]":
        return self

    async def __anext__(self) -> T:
        """The next item.

        Raises:
            DeadlineExceeded: Nothing came for as long as `timeout` says, or the scope's deadline has passed.
            BadRequest: The item is not of the type, or another task reads already.
            Error: As the handler raised it, after all items that it had yielded.
        """
        call = self._call
        if call is None:
            call = await self._open()
        self._reads += 1
        if self._reads >= _ITEMS_PER_PASS_MAX:  # before one is taken: a reader that is cancelled here loses none
            self._reads = 0
            await loop_pass()
        body = call.received.take()
        if body is None:
            self._reads = 0
            body = await self._wait(call)
        try:
            return self._decode(body) if type(body) is not Parcel else open_parcel(body, self._decoder)
        except MISFITS as misfit:
            call.close()
            raise does_not_fit(misfit) from misfit

    async def aclose(self) -> None:
        """Want no more items. Returns when a request stream has been left, its cleanup included. Idempotent."""
        self._closed = True
        if self._call is not None:
            self._call.close()
            await self._call.wait_closed()

    def __del__(self) -> None:
        call = self._call
        if call is not None and not call.received.ended:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the node is, too
                self._loop.call_soon_threadsafe(call.close)

    async def _open(self) -> OpenCall:
        if self._closed:
            raise StopAsyncIteration
        if self._opening:
            raise two_readers()
        self._opening = True
        try:
            call = self._call = await self._opener()
        finally:
            self._opening = False
        if self._closed:  # meanwhile
            call.close()
        return call

    async def _wait(self, call: OpenCall) -> Body:
        try:
            body = await call.next_body(self._timeout_s)
        except TimeoutError as late:
            if isinstance(late, Error):
                raise
            call.close()
            raise call.late(self._timeout_s) from None
        except asyncio.CancelledError:
            call.close()
            raise
        if body is None:
            raise StopAsyncIteration
        return body
