"""Calls and casts: from `await node.call(...)` to the wire, and the answers back.

Each call has an id that begins at random at every start, so that a late reply never meets a new future; a reply is
believed only from the node that was asked. The deadline travels as the milliseconds that are left. Leaving the `await`
sends CANCEL. A node that could not even be dialled was surely not asked, so the next one is tried at once; a call
that may
have run is made again only if its caller gave a `Retry`.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from fdn.context import Scope, new_span, new_trace, pack_trace, scope_var
from fdn.errors import BadRequest, DeadlineExceeded, Error, Overloaded, Unreachable, from_wire
from fdn.messaging.deadlines import Deadlines
from fdn.messaging.directory import Directory, Route
from fdn.messaging.dispatch import PING, Dispatcher
from fdn.messaging.payloads import MISFITS, arrive, decode, does_not_fit, encode, open_parcel
from fdn.messaging.retry import Retry
from fdn.messaging.settled import settled
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import DataPlane, NoTicket, Origin, Ticket
from fdn.runtime.lanes import Lanes
from fdn.runtime.link import Link
from fdn.runtime.outlets import LinkOutlet, Outlet, does_not_fit_frame
from fdn.runtime.send_options import SendOptions, node_of_key
from fdn.settings import Settings
from transports.channel import Channel
from transports.errors import OversizedEnvelope
from transports.parcel import Body, Parcel
from transports.transport import Connection
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("Caller", "CallerStats", "OpenCalls", "Way")

_log = logging.getLogger(__name__)
_ID_MASK = 0xFFFF_FFFF_FFFF_FFFF
_NO_TICKET = NoTicket()
_NO_ROOM = "its handlers are slower than what is sent; slow down or add nodes"
_EPSILON_MS = 1  # a deadline written as 0 would mean "the receiver's default"
# As plain numbers: to look up a member of an enum costs as much as to make an envelope.
_CALL: Final = int(Kind.CALL)
_CAST: Final = int(Kind.CAST)
_TRACE: Final = int(MetaKey.TRACE)
_HEADERS: Final = int(MetaKey.HEADERS)


@dataclasses.dataclass(frozen=True, slots=True)
class CallerStats:
    """Counters since the start."""

    calls: int
    casts: int
    in_flight: int
    deadline_exceeded: int
    cancelled: int
    retried: int
    stray_answers: int  # answers to no call of ours, late ones included, or from a node that was not asked
    streams: int  # calls with streams that are open now
    overruns: int  # items of streamed replies past what was granted


class OpenCalls(Protocol):
    """Calls with streams, which share our ids: what comes in and is none of ours may be theirs.

    Attributes:
        overruns: Items that came past what was granted.
    """

    overruns: int

    @property
    def count(self) -> int: ...

    def on_reply(self, origin: Origin, envelope: Envelope) -> bool: ...

    def on_error(self, origin: Origin, envelope: Envelope) -> bool: ...

    def on_item(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None: ...

    def on_end(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None: ...

    def on_credit(self, origin: Origin, envelope: Envelope) -> None: ...

    def on_refused(self, node: str, call_id: int, error: Error) -> None: ...

    def fail_peer(self, who: object, error: Exception) -> None: ...


class _Here:
    """This node as the origin of its own calls."""

    __slots__ = ("answer", "outlet", "peer")
    is_client = False

    def __init__(self, peer: str, answer: Callable[[Envelope], None]) -> None:
        self.peer = peer
        self.answer = answer
        self.outlet: Callable[[], Outlet] = lambda: _HereOutlet(answer)

    def withdraw(self, call_id: int) -> None:
        """What is sent here arrives at once."""


class _HereOutlet:
    """What is sent arrives at once."""

    __slots__ = ("_deliver",)

    def __init__(self, deliver: Callable[[Envelope], None]) -> None:
        self._deliver = deliver

    def try_send(self, envelope: Envelope) -> bool:
        self._deliver(envelope)
        return True

    async def wait_room(self) -> None:
        """There is always room: each stream's own window is the bound."""


class Way:
    """How one call gets to one node.

    Attributes:
        to: What goes on the wire.
        node: Node id.
        link: None for this node itself.
        send: Sends an envelope that needs credit, with its deadline as loop time.
        outlet: Makes a way out for the call's request stream.
    """

    __slots__ = ("link", "node", "outlet", "send", "to")

    def __init__(
        self,
        to: str,
        node: str,
        link: Link | None,
        send: Callable[[Envelope, float], None],
        outlet: Callable[[], Outlet],
    ) -> None:
        self.to = to
        self.node = node
        self.link = link
        self.send = send
        self.outlet = outlet


# What a call waits for: the node that was asked, the future of the answer, the target, and where its deadline is held.
_Pending = tuple[str, "asyncio.Future[Body]", str, set[int]]


class _LaneSender:
    """An open connection, as the sender of one message with options."""

    __slots__ = ("_connection", "_lanes", "_options")

    def __init__(self, lanes: Lanes, connection: Connection, options: SendOptions) -> None:
        self._lanes = lanes
        self._connection = connection
        self._options = options

    def send(self, envelope: Envelope, deadline_at: float) -> None:
        self._lanes.send(self._connection, envelope, self._options, deadline_at)


class Caller:
    """The sending side of messaging. All methods belong to the data plane's loop.

    Args:
        node: Our own node id: calls to it do not touch the network.

    Attributes:
        here: This node as the origin of its own calls.
        rng: The source of chance for pauses.
        streams: The calls with streams; set before anything comes in.
    """

    def __init__(
        self,
        node: str,
        plane: DataPlane,
        directory: Directory,
        dispatcher: Dispatcher,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
    ) -> None:
        self._node = node
        self._plane = plane
        self._directory = directory
        self._routes = directory.routes
        self._dispatcher = dispatcher
        self._loop = loop
        self._now = loop.time
        self.rng = rng
        self._timeout_s = settings.calls.timeout_s
        self._retry = Retry(settings.calls.retries)
        self._in_flight_max = settings.calls.in_flight_max
        self._body_bytes_max = settings.data.body_bytes_max
        self._large_bytes = min(settings.data.chunk_bytes, self._body_bytes_max)
        self._sends_per_pass_max = settings.data.sends_per_pass_max
        self._refuses = settings.data.when_full == "refuse"
        self._turn_at = self._sends_per_pass_max  # the number of casts at which the loop has its turn
        self._sent = settled(None, loop)
        self._pending: dict[int, _Pending] = {}
        self._deadlines: Deadlines[int] = Deadlines(self._on_deadline, loop)
        self._next_id = rng.getrandbits(64)
        self._links: dict[str, Link] = {}
        self.here = _Here(node, self._answer_here)
        self.streams: OpenCalls
        self._n_calls = self._n_casts = self._n_late = self._n_cancelled = self._n_retried = self._n_stray = 0

    def cast(self, target: str, payload: Any = None) -> Awaitable[None]:
        """Send without waiting for an answer. At most once; casts from one task to one node arrive in order.

        Small ones may overtake large ones, which go in pieces.

        Sent at once where a link with room is open; the `await` waits while the receiver grants no credit or the link
        is not open.

        Raises (where it is awaited):
            NotFound: Nobody offers `target`.
            Unreachable: Nobody that offers it can be reached.
            BadRequest: The payload cannot be sent.
            DeadlineExceeded: The scope's deadline passed while waiting.
        """
        route = self._routes.get(target)
        if route is None:
            return self._cast_slowly(target, payload)
        body = payload
        if type(payload) is not bytes:
            try:
                body = encode(payload)
            except BadRequest as unsendable:
                return _raise(unsendable)
        scope = scope_var.get()
        node = route.only or route.next()
        if body is not None and len(body) > self._large_bytes:
            if len(body) > self._body_bytes_max:
                return _raise(self._too_large(target, len(body)))
            return self._cast_late(route, node, body, scope)
        link = self._links.get(node)
        connection = None if link is None else link.connection
        if connection is None or connection.full:
            return self._cast_late(route, node, body, scope)
        if scope is None:
            connection.send(Envelope(_CAST, route.to, 0, 0, None, body))
        else:
            connection.send(Envelope(_CAST, route.to, 0, 0, _cast_meta(scope), body), scope.deadline_at)
        self._n_casts = casts = self._n_casts + 1
        if casts < self._turn_at:
            return self._sent
        return self._give_turn()

    async def cast_with(self, target: str, payload: Any, options: SendOptions) -> None:
        """`cast` with a key, a priority or a name, over one of the lanes to the node.

        Messages of one key go to one node, as long as the nodes that offer `target` stay the same.

        Raises:
            As `cast`; and Overloaded: There is no room, and `options.refuse`.
        """
        route = self._directory.route(target)
        body = self.checked_body(target, payload)
        scope = scope_var.get()
        deadline_at = 0.0 if scope is None else scope.deadline_at
        meta = None if scope is None else _cast_meta(scope)
        envelope = Envelope(_CAST, route.to, 0, 0, options.add_to(meta), body)
        self._n_casts += 1
        ends_at = deadline_at or self._loop.time() + self._timeout_s
        node, connection = await self._reach(route, self._first(route, options), (), ends_at)
        if connection is None:
            self._deliver_here(envelope, deadline_at)
        else:
            _, sender = await self._lane_to(node, options, body, ends_at)
            sender.send(envelope, deadline_at)
        if self._n_casts >= self._turn_at:
            await self._give_turn()

    async def call(
        self,
        target: str,
        payload: Any,
        timeout_s: float | None,
        decoder: "msgspec.msgpack.Decoder[Any]",
        retry: Retry | None,
        options: SendOptions | None = None,
    ) -> Any:
        """Send and wait for the answer.

        Args:
            timeout_s: Seconds for all tries together; None takes `calls.timeout_s`. A tighter scope's deadline wins.
            decoder: For the result.
            retry: None takes `calls.retries`.
            options: As for `cast_with`.

        Raises:
            DeadlineExceeded: No answer in time. Whether the work was done is not known.
            RemoteError: The handler raised; shows the remote traceback.
            Error: As the handler raised it, or as `cast` raises.
        """
        started = self._now()
        deadline_at = started + (self._timeout_s if timeout_s is None else timeout_s)
        scope = scope_var.get()
        headers: Mapping[str, str] | None = None
        trace_id = b""
        if scope is not None:
            if scope.deadline_at and scope.deadline_at < deadline_at:
                deadline_at = scope.deadline_at
            trace_id, headers = scope.trace_id, scope.headers
        body = self.checked_body(target, payload)
        if deadline_at <= started:
            self._n_late += 1
            raise DeadlineExceeded(f"the deadline had passed before {target} was called", hint="nothing was sent")
        trace_id = trace_id or new_trace()
        self._n_calls += 1
        tried: list[str] = []
        while True:
            route = self._routes.get(target) or self._directory.route(target)
            meta: dict[int, Any] = {_TRACE: (trace_id, new_span(), 1)}
            if headers:
                meta[_HEADERS] = headers
            node = route.next_but(tried) if tried else route.only or route.next()
            try:
                link = self._links.get(node)
                connection = None if link is None else link.connection
                if connection is None or options is not None:
                    if options is not None and not tried:
                        node = self._first(route, options)
                    node, connection = await self._reach(route, node, tried, deadline_at)
                elif connection.full or connection.bulk_full:
                    await self._wait_room(connection, node, deadline_at, body)
                sender: Connection | _LaneSender | None = connection
                if options is not None:
                    options.add_to(meta)
                    if connection is not None:
                        _, sender = await self._lane_to(node, options, body, deadline_at)
                # Here and not in a method of its own: one coroutine less for each call.
                call_id, future = self._ask(route.to, node, sender, meta, body, deadline_at)
                try:
                    answer = await future
                except (asyncio.CancelledError, GeneratorExit):
                    self._on_left(call_id)
                    raise
                try:
                    return decoder.decode(answer) if type(answer) is not Parcel else open_parcel(answer, decoder)
                except MISFITS as misfit:
                    raise does_not_fit(misfit) from misfit
            except Error as error:
                tried.append(node)
                if error.facts.get("not_begun") and any(other not in tried for other in route.nodes):
                    self._n_retried += 1  # it went away just then, and surely has not done it
                    continue
                pause = (retry or self._retry).pause_before(len(tried), error, self.rng)
                if pause is None or self._loop.time() + pause >= deadline_at:
                    raise
            self._n_retried += 1
            if pause:
                await self.pause(pause)

    async def way(
        self, target: str, deadline_at: float, tried: Sequence[str] = (), options: SendOptions | None = None
    ) -> Way:
        """The way to one of the nodes that offer `target`, with room for a message.

        Args:
            tried: Nodes to be asked only if there is no other.
            options: As for `cast_with`.

        Raises:
            As `cast`.
        """
        route = self._directory.route(target)
        first = route.next_but(tried) if tried or options is None else self._first(route, options)
        node, connection = await self._reach(route, first, tried, deadline_at)
        if connection is None:
            return Way(route.to, node, None, self._deliver_here, lambda: _HereOutlet(self._deliver_here))
        if options is not None:
            lane, sender = await self._lane_to(node, options, None, deadline_at)
            return Way(route.to, node, lane, sender.send, lambda: LinkOutlet(lane))
        if connection.full:
            await self._wait_room(connection, node, deadline_at)
        link = self._links[node]
        return Way(route.to, node, link, connection.send, lambda: LinkOutlet(link))

    def next_id(self) -> int:
        """An id that no open call has."""
        call_id = self._next_id or 1
        self._next_id = (call_id + 1) & _ID_MASK
        return call_id

    def checked_body(self, target: str, payload: Any) -> Any:
        """The encoded payload.

        Raises:
            BadRequest: It cannot be sent, or is too large.
        """
        body = encode(payload)
        if body is not None and len(body) > self._body_bytes_max:
            raise self._too_large(target, len(body))
        return body

    async def ping(self, node: str, channel: Channel, timeout_s: float) -> None:
        """Return when `node` has answered on this channel.

        Raises:
            Unreachable: There is no way to it.
            DeadlineExceeded: No answer in time.
        """
        deadline_at = self._loop.time() + timeout_s
        connection: Connection | None = None
        if node != self._node:
            try:
                async with asyncio.timeout_at(deadline_at):
                    connection = await self._plane.link(node, channel).wait_open()
            except TimeoutError:
                raise DeadlineExceeded(f"the {channel} link to node {node} did not open in time") from None
        call_id, future = self._ask(PING, node, connection, None, None, deadline_at)
        try:
            await future
        except (asyncio.CancelledError, GeneratorExit):
            self._on_left(call_id)
            raise

    def fail_peer(self, node: str, reason: str) -> None:
        """Calls in flight to `node` cannot be answered any more."""
        for call_id, (asked, future, _, bucket) in list(self._pending.items()):
            if asked != node:
                continue
            del self._pending[call_id]
            bucket.discard(call_id)
            if not future.done():
                future.set_exception(
                    Unreachable(
                        f"node {node} was lost while a call to it was under way: {reason}",
                        hint="the call may have been carried out; give a Retry where that does no harm",
                        maybe_carried_out=True,
                    )
                )
        self._links.pop(node, None)
        self.streams.fail_peer(
            node, Unreachable(f"node {node} was lost in the middle of a stream: {reason}", hint="begin it again")
        )

    def forget_link(self, node: str) -> None:
        """Messages to `node` take another way from now on; what is in flight is answered all the same."""
        self._links.pop(node, None)

    def stats(self) -> CallerStats:
        return CallerStats(
            calls=self._n_calls,
            casts=self._n_casts,
            in_flight=len(self._pending),
            deadline_exceeded=self._n_late,
            cancelled=self._n_cancelled,
            retried=self._n_retried,
            stray_answers=self._n_stray,
            streams=self.streams.count,
            overruns=self.streams.overruns,
        )

    # -- the data plane calls these

    def on_reply(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A REPLY came in."""
        call_id = envelope.id
        pending = self._pending.get(call_id)
        if pending is None or pending[0] != origin.peer or origin.is_client:
            if not self.streams.on_reply(origin, envelope):
                self._n_stray += 1
            return
        del self._pending[call_id]
        pending[3].discard(call_id)
        future = pending[1]
        if not future.done():
            future.set_result(envelope.body)

    def on_error(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An ERROR came in."""
        pending = self._answered(origin, envelope)
        if pending is None:
            if not self.streams.on_error(origin, envelope):
                self._n_stray += 1
            return
        try:
            error = from_wire(decode(envelope.body))
        except BadRequest as unreadable:
            error = unreadable
        if not pending[1].done():
            pending[1].set_exception(error)

    def on_refused(self, node: str, message: Envelope, error: Error) -> None:
        """A node has not taken a large message of ours."""
        pending = self._pending.get(message.id) if message.kind == Kind.CALL else None
        if pending is not None:
            self._forget(message.id)
            if not pending[1].done():
                pending[1].set_exception(error)
        elif message.kind in (Kind.CALL, Kind.ITEM):
            self.streams.on_refused(node, message.id, error)
        else:  # at most once, so nobody waits to hear of it
            _log.warning("a large message to %s is lost: %s", message.to, error, extra={"peer": node})

    def count_stray(self, origin: Origin, envelope: Envelope) -> None:
        """An ITEM or END came in that belongs to no open stream: a plain call's, perhaps, which expected neither."""
        pending = self._answered(origin, envelope)
        if pending is None:
            self._n_stray += 1
            return
        self._send_cancel(envelope.id, pending[0])
        if not pending[1].done():
            pending[1].set_exception(
                BadRequest("the handler answers with a stream", hint="use `node.stream(...)` and iterate over it")
            )

    # -- one try

    def _ask(
        self,
        to: str,
        node: str,
        connection: Connection | _LaneSender | None,
        meta: dict[int, Any] | None,
        body: Any,
        deadline_at: float,
    ) -> "tuple[int, asyncio.Future[Body]]":
        """Send a CALL: its id, and the future of its answer."""
        if len(self._pending) >= self._in_flight_max:
            raise Overloaded(
                f"{len(self._pending)} calls of this node await an answer (calls.in_flight_max)",
                hint="make fewer at once, or raise calls.in_flight_max",
            )
        call_id = self._next_id or 1
        self._next_id = (call_id + 1) & _ID_MASK
        future: asyncio.Future[Body] = asyncio.Future(loop=self._loop)
        self._pending[call_id] = node, future, to, self._deadlines.add(call_id, deadline_at)
        envelope = Envelope(_CALL, to, call_id, 0, meta, body)
        try:
            if connection is None:
                self._deliver_here(envelope, deadline_at)
            else:
                connection.send(envelope, deadline_at)
        except OversizedEnvelope as error:
            self._forget(call_id)
            raise does_not_fit_frame(error, node) from error
        except BaseException:
            self._forget(call_id)
            raise
        return call_id, future

    def _answered(self, origin: Origin, envelope: Envelope) -> _Pending | None:
        """The call that is answered now, and waits no more; None if it is none of this origin's."""
        pending = self._pending.get(envelope.id)
        if pending is None or pending[0] != origin.peer or origin.is_client:
            return None
        return self._forget(envelope.id)

    def _forget(self, call_id: int) -> _Pending | None:
        pending = self._pending.pop(call_id, None)
        if pending is not None:
            pending[3].discard(call_id)
        return pending

    def _on_left(self, call_id: int) -> None:
        """Nobody awaits this call any more."""
        self._n_cancelled += 1
        pending = self._forget(call_id)
        if pending is not None:
            self._send_cancel(call_id, pending[0])

    def _on_deadline(self, call_id: int) -> None:
        pending = self._forget(call_id)
        if pending is None or pending[1].done():
            return
        node, future, to, _ = pending
        self._n_late += 1
        self._send_cancel(call_id, node)
        future.set_exception(
            DeadlineExceeded(
                f"no answer to {to} from node {node} before the deadline",
                hint="it may have been carried out; allow more time, or see `fdn members` for a stalled node",
                node=node,
            )
        )

    def _send_cancel(self, call_id: int, node: str) -> None:
        cancel = Envelope(Kind.CANCEL, "", call_id)
        if node == self._node:
            self._dispatcher.on_cancel(self.here, cancel, _NO_TICKET)
            return
        link = self._links.get(node)
        if link is not None:
            link.send_exempt(cancel)  # it may have been closed as idle while the call ran
            for lane in link.siblings:  # the CALL may have gone there, and only there nothing overtakes it
                if lane.connection is not None:
                    lane.connection.send_exempt(cancel)

    # -- casts that have to wait

    async def _cast_slowly(self, target: str, payload: Any) -> None:
        route = self._directory.route(target)
        await self._cast_late(route, route.next(), self.checked_body(target, payload), scope_var.get())

    async def _cast_late(self, route: Route, node: str, body: Any, scope: Scope | None) -> None:
        envelope = Envelope(_CAST, route.to, 0, 0, None if scope is None else _cast_meta(scope), body)
        deadline_at = 0.0 if scope is None else scope.deadline_at
        link = self._links.get(node)
        connection = None if link is None else link.connection
        wait_until = deadline_at or self._loop.time() + self._timeout_s
        self._n_casts += 1
        if connection is None:
            node, connection = await self._reach(route, node, (), wait_until)
        if connection is None:
            self._deliver_here(envelope, deadline_at)
        else:
            if connection.full or connection.bulk_full:
                await self._wait_room(connection, node, wait_until, body)
            try:
                connection.send(envelope, deadline_at)
            except OversizedEnvelope as error:
                raise does_not_fit_frame(error, node) from error
        if self._n_casts >= self._turn_at:
            await self._give_turn()

    async def _give_turn(self) -> None:
        self._turn_at = self._n_casts + self._sends_per_pass_max
        await loop_pass()

    # -- ways to a node

    async def _reach(
        self, route: Route, first: str, avoid: Sequence[str], deadline_at: float
    ) -> tuple[str, Connection | None]:
        """`first` and the open connection to it (None: it is this node), or another of the route's nodes.

        Nothing has been sent to a node that cannot be dialled, so any other may be asked instead.
        """
        failure: Unreachable | None = None
        avoided = list(avoid)
        node = first
        for _ in route.nodes:
            if node == self._node:
                return node, None
            try:
                async with asyncio.timeout_at(deadline_at):
                    link, connection = await self._open(node)
            except Unreachable as error:
                failure = failure or error
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the link to node {node} did not open before the deadline", hint="see `fdn members`", node=node
                ) from failure
            else:
                self._links[node] = link
                return node, connection
            avoided.append(node)
            node = route.next_but(avoided)
        assert failure is not None
        raise failure

    async def _open(self, node: str) -> tuple[Link, Connection]:
        link = self._plane.link(node, Channel.DATA)
        try:
            return link, await link.wait_open()
        except Unreachable:
            other = self._plane.link(node, Channel.DATA)
            if other is link:
                raise
            return other, await other.wait_open()  # meanwhile there is another way, over others

    @staticmethod
    def _first(route: Route, options: SendOptions) -> str:
        return route.next() if options.key is None else node_of_key(options.key, route.nodes)

    async def _lane_to(
        self, node: str, options: SendOptions, body: Any, deadline_at: float
    ) -> tuple[Link, _LaneSender]:
        """The lane for one message, open and with room: send before the next `await`."""
        lanes = self._plane.lanes(node, Channel.DATA)
        try:
            async with asyncio.timeout_at(deadline_at):
                link, connection = await lanes.reach(options, 0 if body is None else len(body))
        except TimeoutError:
            raise self._no_credit(node) from None
        return link, _LaneSender(lanes, connection, options)

    async def _wait_room(self, connection: Connection, node: str, deadline_at: float, body: Any = None) -> None:
        size = 0 if body is None else len(body)
        if connection.has_room(size):
            return  # it is for large messages that there is none
        if self._refuses:
            raise Overloaded(f"the queue to node {node} is full (data.when_full)", hint=_NO_ROOM, node=node)
        try:
            async with asyncio.timeout_at(deadline_at):
                await connection.wait_room(size)
        except TimeoutError:
            raise self._no_credit(node) from None
        link = self._links.get(node)
        if link is None or link.connection is not connection:
            raise Unreachable(
                f"the link to node {node} was lost while messages waited for room",
                hint="earlier casts to it may be lost: they are at most once",
            )

    @staticmethod
    def _no_credit(node: str) -> DeadlineExceeded:
        return DeadlineExceeded(f"node {node} granted no credit before the deadline", hint=_NO_ROOM, node=node)

    def _deliver_here(self, envelope: Envelope, deadline_at: float = 0.0) -> None:
        """Dispatch to ourselves what would otherwise have crossed the network, in the form that it would have there."""
        arrive(envelope)
        if deadline_at:
            envelope.deadline_ms = max(_EPSILON_MS, int((deadline_at - self._loop.time()) * 1000))
        match envelope.kind:
            case Kind.CALL:
                self._dispatcher.on_call(self.here, envelope, _NO_TICKET)
            case Kind.CAST:
                self._dispatcher.on_cast(self.here, envelope, _NO_TICKET)
            case Kind.CANCEL:
                self._dispatcher.on_cancel(self.here, envelope, _NO_TICKET)
            case Kind.CREDIT:
                self._dispatcher.on_credit(self.here, envelope)
            case _:
                self._dispatcher.on_item(self.here, envelope, _NO_TICKET)

    def _answer_here(self, envelope: Envelope) -> None:
        arrive(envelope)
        match envelope.kind:
            case Kind.REPLY:
                self.on_reply(self.here, envelope, _NO_TICKET)
            case Kind.ERROR:
                self.on_error(self.here, envelope, _NO_TICKET)
            case Kind.CREDIT:
                self.streams.on_credit(self.here, envelope)
            case Kind.ITEM:
                self.streams.on_item(self.here, envelope, _NO_TICKET)
            case Kind.END:
                self.streams.on_end(self.here, envelope, _NO_TICKET)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        done = self._loop.create_future()
        timer = self._loop.call_later(seconds, done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()

    def _too_large(self, target: str, size: int) -> BadRequest:
        return BadRequest(
            f"body of {size} bytes for {target!r} exceeds data.body_bytes_max={self._body_bytes_max}",
            hint="send less at once, or raise data.body_bytes_max on every node",
        )


def _cast_meta(scope: Scope) -> dict[int, Any] | None:
    meta: dict[int, Any] = {}
    if scope.trace_id:
        meta[_TRACE] = pack_trace(scope.trace_id, scope.span_id)
    if scope.headers:
        meta[_HEADERS] = scope.headers
    return meta or None


async def _raise(error: Error) -> None:
    raise error
