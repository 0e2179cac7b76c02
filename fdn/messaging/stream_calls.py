"""Calls with streams, on the side of the caller: opened, fed with what comes in, and ended.

`fdn.messaging.calls` has the calls with one answer; both share ids, links and the ways to a node.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Final

import msgspec

from fdn.context import DEADLINE_S_MAX, current_meta, scope_var
from fdn.errors import BadRequest, DeadlineExceeded, Error, Overloaded, Unreachable, from_wire, to_wire
from fdn.messaging.calls import Caller
from fdn.messaging.payloads import decode, encode
from fdn.messaging.stream_flow import (
    REPLY_STREAM,
    REQUEST_STREAM,
    StreamReceiver,
    StreamSender,
    Window,
    read_window,
)
from fdn.runtime.data_plane import Origin, Ticket
from fdn.runtime.outlets import Outlet
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey

__all__ = ("Items", "OpenCall", "StreamCaller")

Items = Iterable[Any] | AsyncIterable[Any]
_END_PATIENCE_S: Final = 30.0  # for a request stream's END to leave, once it is complete


class OpenCall:
    """A call whose answer, and perhaps whose request, is a stream.

    Attributes:
        received: What has come of the answer.
        to: The target, for errors.
        node: Node id (or client id) of who answers.
        ends_at: Loop time of its deadline.
    """

    __slots__ = ("_close", "_pump", "call_id", "ends_at", "node", "received", "sender", "to", "who")

    def __init__(self, to: str, node: str, who: object, call_id: int, received: StreamReceiver) -> None:
        self.to = to
        self.node = node
        self.who = who
        self.call_id = call_id
        self.received = received
        self.ends_at = math.inf
        self.sender: StreamSender | None = None
        self._pump: asyncio.Task[None] | None = None
        self._close: Callable[[OpenCall], None] = lambda call: None

    def close(self) -> None:
        """Want no more of it: CANCEL goes out, unless it has ended. Idempotent; never waits."""
        close, self._close = self._close, lambda call: None
        close(self)
        if self._pump is not None:
            self._pump.cancel()

    async def next_body(self, timeout_s: float) -> msgspec.Raw | None:
        """The next item's body, or None at the end.

        Raises:
            TimeoutError: Nothing came in so many seconds, or until the call's deadline.
            Error: Why the stream ended, after all that came before.
        """
        received = self.received
        while True:
            body = received.take()
            if body is not None:
                return body
            if received.ended:
                if received.failure is not None:
                    raise received.failure
                return None
            async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + timeout_s, self.ends_at)):
                await received.wait()

    async def only_body(self, timeout_s: float) -> msgspec.Raw:
        """The one answer of a handler that does not stream.

        Raises:
            BadRequest: It streams.
            DeadlineExceeded: Nothing came in so many seconds.
            Error: The handler's.
        """
        try:
            body = await self.next_body(timeout_s)
        except TimeoutError as late:
            if isinstance(late, Error):
                raise
            raise self.late(timeout_s) from None
        if body is None or not self.received.one:
            raise BadRequest(f"{self.to} answers with a stream", hint="use `node.stream` and iterate over it")
        return body

    def late(self, timeout_s: float) -> DeadlineExceeded:
        """What to raise when nothing came."""
        return DeadlineExceeded(
            f"no answer to {self.to} from node {self.node} in {timeout_s:g} s",
            hint="it may have been carried out; allow more time, or see `fdn members` for a stalled node",
            node=self.node,
        )


class StreamCaller:
    """All open calls of one node with streams. All methods belong to the data plane's loop."""

    def __init__(self, caller: Caller, node: str, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._node = node
        self._loop = loop
        self._window: Window = (settings.calls.stream_window_items, settings.calls.stream_window_bytes)
        self._timeout_s = settings.calls.timeout_s
        self._open_max = settings.calls.in_flight_max
        self._open: dict[int, OpenCall] = {}
        self.overruns = 0  # items past what was granted
        caller.streams = self

    @property
    def count(self) -> int:
        """Calls that are open now."""
        return len(self._open)

    async def open(self, target: str, payload: Any, items: Items | None, timeout_s: float) -> OpenCall:
        """Send the CALL to one of the nodes that offer `target`.

        Args:
            items: The request stream, or None; taken as fast as the other side reads.
            timeout_s: To get the CALL out.

        Raises:
            As `Caller.cast`.
        """
        body = self._caller.checked_body(target, payload)
        scope = scope_var.get()
        deadline_at = scope.deadline_at if scope is not None and scope.deadline_at else 0.0
        soon = self._loop.time() + timeout_s
        way = await self._caller.way(target, min(soon, deadline_at) if deadline_at else soon)
        ends_at = deadline_at or self._loop.time() + DEADLINE_S_MAX
        exempt: Callable[[Envelope], object] = (
            way.link.send_exempt if way.link is not None else lambda envelope: way.send(envelope, 0.0)
        )
        call = self._begin(way.to, way.node, way.node, way.outlet, items, exempt)
        call.ends_at = ends_at
        way.send(self._envelope(call, body, items is not None, {}), ends_at)
        return call

    def open_to_client(
        self, session: Session, target: str, body: Any, items: Items | None, meta: dict[int, Any], deadline_at: float
    ) -> OpenCall:
        """Send a CALL to a client that serves `target`.

        Raises:
            Unreachable: It takes nothing.
        """
        call = self._begin(target, session.peer, session, session.outlet, items, session.answer)
        envelope = self._envelope(call, body, items is not None, meta)
        if deadline_at:
            envelope.deadline_ms = max(1, int((deadline_at - self._loop.time()) * 1000))
        if not session.listener.send(session.source, envelope):
            call.close()
            raise Unreachable(f"client {session.peer}, which serves {target}, takes nothing", hint="call again")
        return call

    def fail_peer(self, who: object, error: Exception) -> None:
        """Calls to this node (or client's session) cannot be answered any more."""
        for call in [call for call in self._open.values() if call.who == who]:
            self._end(call, error, at_once=False)

    # -- what comes in

    def on_item(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An ITEM of a reply came."""
        call = self._call_of(origin, envelope)
        if call is None:
            self._caller.count_stray(origin, envelope)
        elif not call.received.put(envelope.body):
            self.overruns += 1
            call.close()
            error = BadRequest(f"{call.to} sent more than it was granted", hint="see the wire specification, 4.6")
            call.received.end(error)

    def on_end(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """The END of a reply came."""
        call = self._call_of(origin, envelope)
        if call is not None:
            self._end(call, None if envelope.body == NIL else _error(envelope.body), at_once=False)

    def on_reply(self, origin: Origin, envelope: Envelope) -> bool:
        """A REPLY came. Whether it was to one of these calls."""
        call = self._call_of(origin, envelope)
        if call is None:
            return False
        call.received.open()
        call.received.one = True
        call.received.put(envelope.body)
        self._end(call, None, at_once=False)
        return True

    def on_error(self, origin: Origin, envelope: Envelope) -> bool:
        """An ERROR came. Whether it was to one of these calls."""
        call = self._call_of(origin, envelope)
        if call is None:
            return False
        self._end(call, _error(envelope.body), at_once=True)
        return True

    def on_credit(self, origin: Origin, envelope: Envelope) -> None:
        """A CREDIT for a request stream came."""
        call = self._call_of(origin, envelope)
        window = read_window(envelope.body)
        if call is not None and call.sender is not None and window is not None:
            call.sender.grant(window)

    def close(self) -> None:
        """End all that is open."""
        for call in list(self._open.values()):
            call.close()
            call.received.end(Unreachable("this node has stopped", hint="make a new one"))

    # -- one call

    def _begin(
        self,
        to: str,
        node: str,
        who: object,
        outlet: Callable[[], Outlet],
        items: Items | None,
        send_exempt: Callable[[Envelope], object],
    ) -> OpenCall:
        if len(self._open) >= self._open_max:
            raise Overloaded(
                f"{len(self._open)} streams of this node are open (calls.in_flight_max)",
                hint="open fewer at once, or raise calls.in_flight_max",
            )
        call_id = self._caller.next_id()

        def grant(window: Window) -> None:
            send_exempt(Envelope(Kind.CREDIT, REPLY_STREAM, call_id, 0, None, encode(window)))

        def cancel(call: OpenCall) -> None:
            if self._open.pop(call_id, None) is not None:
                call.received.end(None, at_once=True)
                send_exempt(Envelope(Kind.CANCEL, "", call_id))

        call = self._open[call_id] = OpenCall(to, node, who, call_id, StreamReceiver(self._window, grant, self._loop))
        call._close = cancel
        if items is not None:
            call.sender = StreamSender(REQUEST_STREAM, call_id, outlet(), (0, 0), self._loop)
            call._pump = self._loop.create_task(self._send_items(call, call.sender, items), name=f"fdn-items-{to}")
        return call

    def _envelope(self, call: OpenCall, body: Any, has_items: bool, meta: dict[int, Any]) -> Envelope:
        meta = {**current_meta(), int(MetaKey.WINDOW): self._window, **meta}
        if has_items:
            meta[int(MetaKey.REQUEST_STREAM)] = True
        return Envelope(Kind.CALL, call.to, call.call_id, 0, meta, body)

    async def _send_items(self, call: OpenCall, sender: StreamSender, items: Items) -> None:
        failure: Exception | None = None
        try:
            async with contextlib.aclosing(self._bodies(call.to, items)) as bodies:
                async for body in bodies:
                    await sender.send(body)
        except Exception as error:  # of whatever makes the items: the caller's own code
            failure = error
        try:
            async with asyncio.timeout(_END_PATIENCE_S):
                await sender.end(None if failure is None else encode(to_wire(failure, node=self._node)))
        except (Error, TimeoutError) as lost:
            failure = failure or lost
        if failure is not None and call.call_id in self._open:
            call.close()
            call.received.ended = False
            call.received.end(failure)

    async def _bodies(self, to: str, items: Items) -> AsyncGenerator[Any, None]:
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield self._caller.checked_body(to, item)
        else:
            for item in items:
                yield self._caller.checked_body(to, item)

    def _end(self, call: OpenCall, error: Exception | None, at_once: bool) -> None:
        self._open.pop(call.call_id, None)
        call.received.end(error, at_once)
        if call.sender is not None:
            call.sender.fail(Unreachable(f"{call.to} has answered"))
        if call._pump is not None and asyncio.current_task() is not call._pump:
            call._pump.cancel()

    def _call_of(self, origin: Origin, envelope: Envelope) -> OpenCall | None:
        """The call that this belongs to, if it comes from the one who was asked: a client is known by its session."""
        call = self._open.get(envelope.id)
        if call is None:
            return None
        return call if call.who == (origin if origin.is_client else origin.peer) else None


def _error(body: msgspec.Raw) -> Exception:
    try:
        return from_wire(decode(body))
    except BadRequest as unreadable:
        return unreadable
