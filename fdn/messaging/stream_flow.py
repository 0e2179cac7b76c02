"""The two ends of one direction of a stream: what may be sent, and what has come and was not read yet.

Each direction has a window in items and bytes of its own, so that a stream that nobody reads holds up nothing else.
The receiver grants absolute totals, a half window at a time. Wire format: spec 0001, section 4.6.
"""

import asyncio
import collections
from collections.abc import Callable
from typing import Any, Final

import msgspec

from fdn.errors import BadRequest
from fdn.messaging.payloads import wire_size
from fdn.messaging.workers import loop_pass
from fdn.runtime.outlets import Outlet
from transports.parcel import Body
from transports.wire.envelope import Envelope, Kind

__all__ = ("REPLY_STREAM", "REQUEST_STREAM", "StreamReceiver", "StreamSender", "Window", "read_window", "two_readers")

REPLY_STREAM: Final = "reply"
REQUEST_STREAM: Final = "request"
Window = tuple[int, int]  # items, bytes
# A body is a view into the batch that it came in. Small ones are copied out, or each could keep 64 KiB alive.
_COPIED_BYTES_MAX: Final = 16 * 1024
_ITEMS_PER_PASS_MAX: Final = 256  # sent without waiting before the loop gets its turn
_window_decoder = msgspec.msgpack.Decoder(Window)


def read_window(value: object) -> Window | None:
    """A window as `meta` or the body of a CREDIT holds it; None if it is none."""
    if isinstance(value, msgspec.Raw):
        try:
            window: Window = _window_decoder.decode(value)
            return window
        except (ValueError, RecursionError):
            return None
    match value:
        case [int(items), int(size)]:
            return items, size
    return None


def two_readers() -> BadRequest:
    """What the second one gets."""
    return BadRequest("two tasks read from one stream", hint="read it in one task")


class StreamSender:
    """Sends the items of one direction, in order.

    Args:
        stream: `REPLY_STREAM` or `REQUEST_STREAM`.
        call_id: The call's.
        outlet: Where they leave.
        window: What may be sent before the first CREDIT; None sets no limit.
        loop: For waiting.

    Attributes:
        items: Sent so far.
        failure: Why nothing more can be sent, or None.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_call_id",
        "_items_max",
        "_loop",
        "_outlet",
        "_stops_at",
        "_to",
        "_turn_at",
        "_waiter",
        "failure",
        "items",
    )

    def __init__(
        self, stream: str, call_id: int, outlet: Outlet, window: Window | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._to = REQUEST_STREAM if stream == REQUEST_STREAM else ""
        self._call_id = call_id
        self._outlet = outlet
        self._loop = loop
        self._items_max, self._bytes_max = window or (1 << 63, 1 << 63)
        self._turn_at = _ITEMS_PER_PASS_MAX
        self._stops_at = min(self._items_max, self._turn_at)  # items at which `try_send` has to be asked why
        self.items = self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.failure: Exception | None = None

    def try_send(self, body: Any) -> bool:
        """Send one item if the window and the outlet have room for it. False: nothing was done, use `send`."""
        if self.items >= self._stops_at or self._bytes >= self._bytes_max or self.failure is not None:
            return False
        if not self._outlet.try_send(Envelope(Kind.ITEM, self._to, self._call_id, 0, None, body)):
            return False
        self.items += 1
        self._bytes += wire_size(body)
        return True

    async def send(self, body: Any) -> None:
        """Send one item; waits for the window and the outlet.

        Raises:
            Unreachable: The other side is gone.
        """
        while not self.try_send(body):
            if self.failure is not None:
                raise self.failure
            if self.items >= self._items_max or self._bytes >= self._bytes_max:
                await self._wait_window()
            elif self.items >= self._turn_at:
                await loop_pass()
            else:
                await self._outlet.wait_room()
            self._turn_at = self.items + _ITEMS_PER_PASS_MAX
            self._stops_at = min(self._items_max, self._turn_at)

    async def end(self, error: Any = None) -> None:
        """Say that no more items follow.

        Args:
            error: The encoded map of the error that ended it, or None.

        Raises:
            Unreachable: The other side is gone.
        """
        while not self._outlet.try_send(Envelope(Kind.END, self._to, self._call_id, 0, None, error)):
            if self.failure is not None:
                raise self.failure
            await self._outlet.wait_room()

    def grant(self, window: Window) -> None:
        """A CREDIT came: totals that may be sent; lower ones than those held are ignored."""
        self._items_max = max(self._items_max, window[0])
        self._bytes_max = max(self._bytes_max, window[1])
        self._stops_at = min(self._items_max, self._turn_at)
        self._wake()

    def fail(self, error: Exception) -> None:
        """The other side is gone: whoever sends, now or later, is told so."""
        self.failure = self.failure or error
        self._wake()

    async def _wait_window(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class StreamReceiver:
    """Holds what came of one direction until it is read: never more than its window, and one item.

    Args:
        window: Items and bytes that may wait here.
        grant: Sends a CREDIT with these totals.
        loop: For waiting.
        opened: Whether the other side has the first window already; else `open` grants it.

    Attributes:
        items_came: In all.
        bytes_came: Theirs.
        ended: No more items will come; `failure` says why, or is None.
        one: The answer was no stream but this one REPLY.
    """

    __slots__ = (
        "_bytes_granted",
        "_bytes_read",
        "_grant",
        "_grant_at_bytes",
        "_grant_at_items",
        "_items",
        "_items_granted",
        "_items_read",
        "_loop",
        "_window",
        "bytes_came",
        "ended",
        "failure",
        "items_came",
        "one",
        "waiter",
    )

    def __init__(
        self, window: Window, grant: Callable[[Window], None], loop: asyncio.AbstractEventLoop, opened: bool = True
    ) -> None:
        self._window = window
        self._grant = grant
        self._loop = loop
        self._items: collections.deque[Body] = collections.deque()
        self._set_granted(*(window if opened else (0, 0)))
        self._items_read = self._bytes_read = 0
        self.items_came = self.bytes_came = 0
        self.ended = False
        self.one = False
        self.failure: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Grant the first window, where the other side was given none with the CALL."""
        if not self._items_granted and not self.ended:
            self._set_granted(*self._window)
            self._grant(self._window)

    def put(self, body: Body) -> bool:
        """One item came. False: it is past what was granted, and was not taken."""
        if self.ended:
            return True  # one more on its way when we stopped
        if self.items_came >= self._items_granted or self.bytes_came >= self._bytes_granted:
            return False
        size = len(body)
        self.items_came += 1
        self.bytes_came += size
        self._items.append(body.copy() if size <= _COPIED_BYTES_MAX else body)
        if self.waiter is not None:
            self._wake()
        return True

    def end(self, failure: Exception | None = None, at_once: bool = False) -> None:
        """No more will come.

        Args:
            failure: Why, if not because it is complete. What it ended with first, counts.
            at_once: What came and was not read is of no use.
        """
        if at_once:
            self._items.clear()
        if not self.ended:
            self.ended, self.failure = True, failure
            self._wake()

    def take(self) -> Body | None:
        """The next item that has come; None if there is none."""
        if not self._items:
            return None
        body = self._items.popleft()
        self._items_read += 1
        self._bytes_read += len(body)
        if (self._items_read >= self._grant_at_items or self._bytes_read >= self._grant_at_bytes) and not self.ended:
            items, size = self._window
            self._set_granted(self._items_read + items, self._bytes_read + size)
            self._grant((self._items_granted, self._bytes_granted))
        return body

    async def wait(self) -> None:
        """Return when something has come, or it has ended. One waiter at a time.

        Raises:
            BadRequest: Somebody waits already.
        """
        if self._items or self.ended:
            return
        if self.waiter is not None:
            raise two_readers()
        waiter = self.waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self.waiter = None

    def _set_granted(self, items: int, size: int) -> None:
        self._items_granted, self._bytes_granted = items, size
        # What must have been read before more is granted: worked out once a grant, and not once an item.
        self._grant_at_items, self._grant_at_bytes = items - self._window[0] // 2, size - self._window[1] // 2

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
