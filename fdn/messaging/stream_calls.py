"""Calls with streams, on the side of the caller: opened, fed with what comes in, and ended.

`fdn.messaging.calls` has the calls with one answer; both share ids, links and the ways to a node.

A call is open until END, REPLY or ERROR has come, the other side is lost, or nobody wants it any more. Only in the last
two cases something is still to be said: CANCEL, so that no generator over there waits for ever for a window.
"""

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from fdn.context import DEADLINE_S_MAX, current_meta, scope_var
from fdn.errors import BadRequest, Cancelled, DeadlineExceeded, Error, Overloaded, Unreachable, from_wire
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
from fdn.runtime.send_options import SendOptions
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.parcel import Body
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey

__all__ = ("Items", "OpenCall", "StreamCaller")

_log = logging.getLogger(__name__)
Items = Iterable[Any] | AsyncIterable[Any]
_END_PATIENCE_S: Final = 30.0  # for a request stream's END to leave, once it is complete


class OpenCall:
    """A call whose answer, and perhaps whose request, is a stream.

    Attributes:
        to: The target, for errors.
        node: Node id (or client id) of who answers.
        who: The same as messages show it: the node id, or a client's session.
        call_id: On the wire.
        received: What has come of the answer.
        sender: Of the request stream, or None.
        pump: The task that sends it.
        ends_at: Loop time of its deadline.
    """

    __slots__ = ("_cancel", "call_id", "ends_at", "node", "pump", "received", "send_exempt", "sender", "to", "who")

    def __init__(
        self,
        to: str,
        node: str,
        who: object,
        call_id: int,
        received: StreamReceiver,
        send_exempt: Callable[[Envelope], object],
        cancel: "Callable[[OpenCall, Exception | None], None]",
    ) -> None:
        self.to = to
        self.node = node
        self.who = who
        self.call_id = call_id
        self.received = received
        self.send_exempt = send_exempt
        self.ends_at = math.inf
        self.sender: StreamSender | None = None
        self.pump: asyncio.Task[None] | None = None
        self._cancel = cancel

    def close(self) -> None:
        """Want no more of it: CANCEL goes out, unless it has ended. Idempotent; never waits."""
        self._cancel(self, None)
        self.received.end(at_once=True)

    async def wait_closed(self) -> None:
        """Return when whatever makes the request stream has been left, its cleanup included."""
        pump = self.pump
        if pump is not None and pump is not asyncio.current_task():
            await asyncio.wait((pump,))

    async def next_body(self, timeout_s: float) -> Body | None:
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

    async def only_body(self, timeout_s: float) -> Body:
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
        passed = asyncio.get_running_loop().time() >= self.ends_at
        when = "before the deadline" if passed else f"in {timeout_s:g} s"
        return DeadlineExceeded(
            f"nothing came from {self.to} on node {self.node} {when}",
            hint="it may have been carried out; allow more time, or see `fdn members` for a stalled node",
            node=self.node,
        )


class StreamCaller:
    """All open calls of one node with streams. All methods belong to the data plane's loop.

    Attributes:
        overruns: Items that came past what was granted.
    """

    def __init__(self, caller: Caller, node: str, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._node = node
        self._loop = loop
        self._window: Window = (settings.calls.stream_window_items, settings.calls.stream_window_bytes)
        self._open_max = settings.calls.in_flight_max
        self._open: dict[int, OpenCall] = {}
        self._closed = False
        self.overruns = 0
        caller.streams = self

    @property
    def count(self) -> int:
        """Calls that are open now."""
        return len(self._open)

    async def open(
        self,
        target: str,
        payload: Any,
        items: Items | None,
        timeout_s: float,
        tried: Sequence[str] = (),
        options: SendOptions | None = None,
    ) -> OpenCall:
        """Send the CALL to one of the nodes that offer `target`.

        Args:
            items: The request stream, or None; taken as fast as the other side reads.
            timeout_s: To get the CALL out.
            tried: Nodes to be asked only if there is no other.
            options: As for `Caller.cast_with`; the items, both ways, go over the same lane.

        Raises:
            As `Caller.cast`.
        """
        body = self._caller.checked_body(target, payload)
        scope = scope_var.get()
        deadline_at = scope.deadline_at if scope is not None and scope.deadline_at else 0.0
        soon = self._loop.time() + timeout_s
        way = await self._caller.way(target, min(soon, deadline_at) if deadline_at else soon, tried, options)
        exempt: Callable[[Envelope], object] = (
            way.link.send_exempt if way.link is not None else lambda envelope: way.send(envelope, 0.0)
        )
        call = self._begin(way.to, way.node, way.node, way.outlet, items, exempt)
        call.ends_at = deadline_at or self._loop.time() + DEADLINE_S_MAX
        try:
            meta = {} if options is None else options.add_to({})
            way.send(self._envelope(call, body, items is not None, meta or {}), call.ends_at)
        except BaseException:
            call.close()
            raise
        return call

    async def open_to_client(
        self, session: Session, target: str, body: Any, items: Items | None, meta: dict[int, Any], deadline_at: float
    ) -> OpenCall:
        """Send a CALL to a client that serves `target`; waits while its queue is full.

        Raises:
            Unreachable: It is gone, or takes nothing.
        """
        call = self._begin(target, session.peer, session, session.outlet, items, session.answer)
        envelope = self._envelope(call, body, items is not None, meta)
        outlet = session.outlet()
        try:
            while True:
                if deadline_at:
                    envelope.deadline_ms = max(1, int((deadline_at - self._loop.time()) * 1000))
                if outlet.try_send(envelope):
                    return call
                await outlet.wait_room()
        except BaseException:
            call.close()
            raise

    def fail_peer(self, who: object, error: Exception) -> None:
        """Calls to this node (or client's session) cannot be answered any more."""
        for call in [call for call in self._open.values() if call.who == who]:
            self.fail(call, error)

    def fail(self, call: OpenCall, error: Exception) -> None:
        """End a call; its reader gets this error behind what has come. The other side, if it is there, hears CANCEL."""
        if self._drop(call):
            call.received.end(error)
            call.send_exempt(Envelope(Kind.CANCEL, "", call.call_id))

    # -- what comes in

    def on_item(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An ITEM of a reply came."""
        call = self._call_of(origin, envelope)
        if call is None:
            self._caller.count_stray(origin, envelope)
        elif not call.received.put(envelope.body):
            self.overruns += 1
            error = BadRequest(f"{call.to} sent more than it was granted", hint="see the wire specification, 4.6")
            self.fail(call, error)

    def on_end(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """The END of a reply came."""
        call = self._call_of(origin, envelope)
        if call is None:
            self._caller.count_stray(origin, envelope)
        else:
            self._end(call, None if envelope.body == NIL else _error(envelope.body))

    def on_reply(self, origin: Origin, envelope: Envelope) -> bool:
        """A REPLY came. Whether it was to one of these calls."""
        call = self._call_of(origin, envelope)
        if call is None:
            return False
        if call.received.items_came:
            self._end(call, BadRequest(f"{call.to} sent a REPLY behind ITEMs", hint="see the wire specification, 4.6"))
            return True
        call.received.one = True
        call.received.put(envelope.body)
        self._end(call, None)
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

    def on_refused(self, node: str, call_id: int, error: Error) -> None:
        """A node has not taken the CALL, or an item of its request stream, because it was large."""
        call = self._open.get(call_id)
        if call is not None and call.who == node:
            self.fail(call, error)

    def close(self) -> None:
        """End all that is open; what is opened from now on fails."""
        self._closed = True
        for call in list(self._open.values()):
            self.fail(call, self._stopped())

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
        if self._closed:
            raise self._stopped()
        if len(self._open) >= self._open_max:
            raise Overloaded(
                f"{len(self._open)} streams of this node are open (calls.in_flight_max)",
                hint="open fewer at once, or raise calls.in_flight_max",
            )
        call_id = self._caller.next_id()

        def grant(window: Window) -> None:
            send_exempt(Envelope(Kind.CREDIT, REPLY_STREAM, call_id, 0, None, encode(window)))

        received = StreamReceiver(self._window, grant, self._loop)
        call = OpenCall(to, node, who, call_id, received, send_exempt, self._cancel)
        if items is not None:
            call.sender = StreamSender(REQUEST_STREAM, call_id, outlet(), (0, 0), self._loop)
            call.pump = self._loop.create_task(self._send_items(call, call.sender, items), name=f"fdn-items-{to}")
        self._open[call_id] = call
        return call

    def _envelope(self, call: OpenCall, body: Any, has_items: bool, meta: dict[int, Any]) -> Envelope:
        meta = {**current_meta(), int(MetaKey.WINDOW): self._window, **meta}
        if has_items:
            meta[int(MetaKey.REQUEST_STREAM)] = True
        return Envelope(Kind.CALL, call.to, call.call_id, 0, meta, body)

    async def _send_items(self, call: OpenCall, sender: StreamSender, items: Items) -> None:
        failure: Exception | None = None
        try:
            try:
                await self._send_all(call.to, sender, items)
            finally:
                await _leave(items)
            async with asyncio.timeout(_END_PATIENCE_S):
                await sender.end()
        except asyncio.CancelledError:
            if call.call_id not in self._open:  # it was we who cancelled this task
                raise
            failure = Cancelled(f"whatever makes the items for {call.to} was cancelled")
        except Exception as error:  # of whatever makes the items: the caller's own code
            failure = error
        if failure is None:
            return
        if call.call_id in self._open:
            call.pump = None  # this task, which ends here
            # No END: the handler must not take what it has for all. It is cancelled, as if the caller had gone.
            self.fail(call, failure)
        elif failure is not sender.failure:
            _log.warning("the items for %s failed once nobody wanted them: %r", call.to, failure)

    async def _send_all(self, to: str, sender: StreamSender, items: Items) -> None:
        checked_body = self._caller.checked_body
        if isinstance(items, AsyncIterable):
            async for item in items:
                body = checked_body(to, item)
                if not sender.try_send(body):
                    await sender.send(body)
        else:
            for item in items:
                body = checked_body(to, item)
                if not sender.try_send(body):
                    await sender.send(body)

    def _end(self, call: OpenCall, error: Exception | None, at_once: bool = False) -> None:
        self._drop(call)
        call.received.end(error, at_once)

    def _cancel(self, call: OpenCall, error: Exception | None) -> None:
        if self._drop(call):
            call.received.end(error, at_once=True)
            call.send_exempt(Envelope(Kind.CANCEL, "", call.call_id))

    def _drop(self, call: OpenCall) -> bool:
        """The call is open no longer, and nothing more is sent. False: it was not open."""
        if self._open.pop(call.call_id, None) is None:
            return False
        if call.sender is not None:
            call.sender.fail(Unreachable(f"{call.to} has answered, or was given up"))
        if call.pump is not None:
            call.pump.cancel()
        return True

    def _call_of(self, origin: Origin, envelope: Envelope) -> OpenCall | None:
        """The call that this belongs to, if it comes from the one who was asked: a client is known by its session."""
        call = self._open.get(envelope.id)
        if call is None:
            return None
        return call if call.who == (origin if origin.is_client else origin.peer) else None

    @staticmethod
    def _stopped() -> Unreachable:
        return Unreachable("this node has stopped", hint="make a new one")


async def _leave(items: Items) -> None:
    """Close a generator, or a stream, that was left before its end: nobody else does so in time."""
    if inspect.isgenerator(items):
        items.close()
    elif isinstance(items, AsyncIterable) and hasattr(items, "aclose"):
        await items.aclose()


def _error(body: msgspec.Raw) -> Exception:
    try:
        return from_wire(decode(body))
    except BadRequest as unreadable:
        return unreadable
