"""The gateway: what clients, which know one node, may call on the whole cluster.

A client's CALL or CAST is made again by this node, balanced like its own, with the client's deadline, trace and
headers. Payloads and the items of streams pass through as they are, each stream within the windows of both sides.

A call belongs to the session that it came in on, and not to the client's id: that is the client's own word, and two may
say the same.
"""

import asyncio
import contextlib

import msgspec

from fdn.context import scope_var
from fdn.errors import BadRequest, Error, Overloaded, Unreachable, to_wire
from fdn.messaging.calls import Caller
from fdn.messaging.client_probe import ClientProbe
from fdn.messaging.dispatch import STREAMED, scope_of
from fdn.messaging.payloads import encode
from fdn.messaging.relay import relay
from fdn.messaging.request_items import RequestItems, announces_items, receive_items, take_item
from fdn.messaging.retry import Retry
from fdn.messaging.stream_calls import OpenCall, StreamCaller
from fdn.messaging.stream_flow import REPLY_STREAM, StreamReceiver, StreamSender, Window, read_window
from fdn.runtime.data_plane import Origin, Ticket
from fdn.runtime.send_options import NO_OPTIONS, SendOptions, options_from_wire
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("Gateway",)

_raw = msgspec.msgpack.Decoder(msgspec.Raw)
_TRIES_MAX = 3  # at nodes that are about to stop


class _Forwarded:
    """One CALL or CAST of a client.

    Attributes:
        sender: Of the streamed reply; None for a CAST.
        incoming: The request stream, or None.
        watched: Whether the client is probed as long as this is under way.
    """

    __slots__ = ("envelope", "incoming", "origin", "sender", "task", "watched")

    def __init__(self, origin: Origin, envelope: Envelope) -> None:
        self.origin = origin
        self.envelope = envelope
        self.sender: StreamSender | None = None
        self.incoming: StreamReceiver | None = None
        self.watched = False
        self.task: asyncio.Task[None]


class Gateway:
    """Forwards for clients; at most `calls.in_flight_max` at once.

    Attributes:
        dropped: Casts past that bound.
        overruns: Items of clients' request streams past what was granted.
    """

    def __init__(
        self,
        caller: Caller,
        streams: StreamCaller,
        probe: ClientProbe,
        node: str,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._caller = caller
        self._streams = streams
        self._probe = probe
        self._node = node
        self._loop = loop
        self._in_flight_max = settings.calls.in_flight_max
        self._default_timeout_s = settings.calls.timeout_s
        self._retry = Retry(settings.calls.retries)
        self._window: Window = (settings.calls.stream_window_items, settings.calls.stream_window_bytes)
        self._forwarded: dict[tuple[Origin, int], _Forwarded] = {}
        self._no_options = NO_OPTIONS if settings.data.parallelism > 1 else None
        self._serial = 0  # names casts, which have no id
        self.dropped = 0
        self.overruns = 0

    @property
    def count(self) -> int:
        """Calls and casts of clients under way."""
        return len(self._forwarded)

    def forward(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """Take a client's CALL or CAST."""
        is_call = envelope.kind == Kind.CALL
        if len(self._forwarded) >= self._in_flight_max:
            if is_call:
                full = Overloaded(
                    f"node {self._node} forwards {self._in_flight_max} calls of clients (calls.in_flight_max)",
                    hint="use another node as well, or make fewer at once",
                )
                self._fail(origin, envelope.id, full)
            else:
                self.dropped += 1
            return
        self._serial -= 1
        key = (origin, envelope.id if is_call else self._serial)
        if key in self._forwarded:
            self._fail(origin, envelope.id, BadRequest(f"call {envelope.id} is under way", hint="choose another id"))
            return
        forwarded = _Forwarded(origin, envelope)
        if is_call:
            self._give_streams(forwarded)
        ticket.held += 1
        forwarded.task = self._loop.create_task(self._forward(forwarded, ticket), name="fdn-gateway")
        self._forwarded[key] = forwarded
        forwarded.task.add_done_callback(lambda _: self._done(key))

    def cancel(self, origin: Origin, call_id: int) -> None:
        """The client gave this call up."""
        forwarded = self._forwarded.get((origin, call_id))
        if forwarded is not None:
            forwarded.task.cancel()

    def on_item(self, origin: Origin, envelope: Envelope) -> None:
        """An ITEM, or the END, of a client's request stream."""
        forwarded = self._forwarded.get((origin, envelope.id))
        if forwarded is None or forwarded.incoming is None:
            return
        if not take_item(forwarded.incoming, envelope):
            self.overruns += 1
            overrun = BadRequest("more was sent than granted", hint="keep to CREDIT")
            forwarded.incoming.end(overrun, at_once=True)
            self._fail(origin, envelope.id, overrun)
            forwarded.task.cancel()

    def on_credit(self, origin: Origin, envelope: Envelope) -> None:
        """A client's CREDIT for a streamed reply."""
        forwarded = self._forwarded.get((origin, envelope.id))
        window = read_window(envelope.body)
        if forwarded is not None and forwarded.sender is not None and window is not None:
            forwarded.sender.grant(window)

    def session_closed(self, session: Session) -> None:
        """Nobody waits for this client's calls any more. Its casts, which nobody ever waits for, go on."""
        for key in [key for key in self._forwarded if key[0] is session and key[1] >= 0]:
            self._forwarded[key].task.cancel()

    async def drain(self) -> None:
        """Return when nothing is under way; bound it with a timeout."""
        while self._forwarded:
            await asyncio.wait([forwarded.task for forwarded in self._forwarded.values()])

    async def close(self) -> None:
        """Give up everything under way."""
        tasks = [forwarded.task for forwarded in self._forwarded.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _give_streams(self, forwarded: _Forwarded) -> None:
        origin, envelope = forwarded.origin, forwarded.envelope
        window = read_window((envelope.meta or {}).get(MetaKey.WINDOW))
        forwarded.sender = StreamSender(REPLY_STREAM, envelope.id, origin.outlet(), window, self._loop)
        if announces_items(envelope):
            forwarded.incoming = receive_items(origin, envelope.id, self._window, self._loop)
        if (window is not None or forwarded.incoming is not None) and isinstance(origin, Session):
            forwarded.watched = True  # its stream may be silent for as long as it grants, or sends, nothing
            self._probe.watch(origin)

    def _done(self, key: tuple[Origin, int]) -> None:
        forwarded = self._forwarded.pop(key)
        if forwarded.watched and isinstance(forwarded.origin, Session):
            self._probe.release(forwarded.origin)

    async def _forward(self, forwarded: _Forwarded, ticket: Ticket) -> None:
        ticket.release()
        envelope, sender = forwarded.envelope, forwarded.sender
        timeout_s = envelope.deadline_ms / 1000 or self._default_timeout_s
        scope_var.set(scope_of(envelope, self._loop.time() + timeout_s))
        options = options_from_wire(envelope.meta) or self._no_options
        if sender is None:
            with contextlib.suppress(Error):  # nobody waits to hear of it
                if options is None:
                    await self._caller.cast(envelope.to, envelope.body)
                else:
                    await self._caller.cast_with(envelope.to, envelope.body, options)
            return
        try:
            answer = await self._call(forwarded, sender, timeout_s, options)
        except Error as error:
            kind, answer = Kind.ERROR, encode(to_wire(error, node=self._node))
        else:
            kind = Kind.REPLY
        if answer is not STREAMED:
            await self._answer(forwarded.origin, Envelope(kind, "", envelope.id, 0, None, answer))

    async def _answer(self, origin: Origin, answer: Envelope) -> None:
        """Waits where another stream keeps the client's queue full."""
        outlet = origin.outlet()
        with contextlib.suppress(Unreachable):  # then nobody is there to be told
            try:
                while not outlet.try_send(answer):
                    await outlet.wait_room()
            except BadRequest as too_large:
                self._fail(origin, answer.id, too_large)

    async def _call(
        self, forwarded: _Forwarded, sender: StreamSender, timeout_s: float, options: SendOptions | None
    ) -> object:
        envelope, incoming = forwarded.envelope, forwarded.incoming
        tried: list[str] = []
        while True:
            call: OpenCall | None = None
            try:
                items = None if incoming is None else RequestItems(incoming, _raw)
                call = await self._streams.open(envelope.to, envelope.body, items, timeout_s, tried, options)
                if incoming is not None:
                    incoming.open()
                return await relay(call, sender, timeout_s, lambda error: encode(to_wire(error, node=self._node)))
            except Error as error:
                tried.append("" if call is None else call.node)
                if error.facts.get("not_begun") and incoming is None and len(tried) < _TRIES_MAX:
                    continue  # that node went away just then, and surely has not done it
                pause = None if incoming is not None else self._retry.pause_before(len(tried), error, self._caller.rng)
                if pause is None:
                    raise
                await self._caller.pause(pause)

    def _fail(self, origin: Origin, call_id: int, error: Error) -> None:
        origin.answer(Envelope(Kind.ERROR, "", call_id, 0, None, encode(to_wire(error, node=self._node))))
