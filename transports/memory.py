"""The in-memory twin of the ZeroMQ transport: real bytes, real bounds, no sockets.

It is a full twin and not a mock: batches are encoded and decoded, queues have the same bounds, dials are refused, ends
are noticed. What needs a network to go wrong can be had by asking: `MemoryNetwork.cut` and `heal`.

A transport belongs to one loop; two transports on one network may run on different loops in different threads. Only
what is posted from loop to loop is shared, and the table of listeners, which has a lock.
"""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from transports.answers import Answers, Outcome
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInUse, EndpointInvalid, TransportClosed
from transports.intake import Intake
from transports.limits import Limits
from transports.outbox import Outbox
from transports.parcel import Buffer
from transports.transport import Batch, ConnectionEvent, ConnectionStats, EventKind, ListenerStats, OnEvent, Receive
from transports.wire.envelope import Envelope

__all__ = ("MemoryConnection", "MemoryListener", "MemoryNetwork", "MemoryTransport")


class MemoryNetwork:
    """What `MemoryTransport`s are plugged into: who listens where, and what has been cut."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.listeners: dict[str, MemoryListener] = {}
        self.connections: set[MemoryConnection] = set()  # those that are established
        self._owners: dict[str, MemoryTransport] = {}  # who listens, or last listened, on an endpoint
        self._cuts: set[frozenset[str]] = set()
        self._names = itertools.count(1)
        self._sources = itertools.count(1)

    def cut(self, one: str, other: str) -> None:
        """Cut everything between the transports that listen on these two endpoints.

        As with a pulled cable nobody is told: frames under way are held, dials stay unanswered, and connections that
        are not healed before their heartbeat timeout end as `CLOSED`.
        """
        self._cuts.add(frozenset((one, other)))
        self._tell_all()

    def heal(self, one: str, other: str) -> None:
        """Undo `cut`. Frames held meanwhile arrive, late and in order, as TCP would have it."""
        self._cuts.discard(frozenset((one, other)))
        self._tell_all()

    def is_cut(self, one: "MemoryTransport", other: "MemoryTransport | None") -> bool:
        """Whether nothing passes between two transports."""
        if not self._cuts or other is None:
            return False
        return any(frozenset((mine, theirs)) in self._cuts for mine in one.endpoints for theirs in other.endpoints)

    def owner(self, endpoint: str) -> "MemoryTransport | None":
        """The transport that listens there, or did last."""
        return self._owners.get(endpoint)

    def bind(self, endpoint: str, listener: "MemoryListener", owner: "MemoryTransport") -> str:
        """Enter a listener under `endpoint`, or under a new name when that ends in `:0`. Returns the name."""
        with self.lock:
            if endpoint.endswith(":0"):
                endpoint = f"{endpoint[:-1]}{next(self._names)}"
            if endpoint in self.listeners:
                raise EndpointInUse(endpoint)
            self.listeners[endpoint] = listener
            self._owners[endpoint] = owner
        return endpoint

    def new_source(self) -> bytes:
        """A routing id in the form that a ROUTER gives: a zero octet and 32 bits."""
        return b"\0" + next(self._sources).to_bytes(4, "big")

    def _tell_all(self) -> None:
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            connection.post(connection.on_cable)


class MemoryListener:
    """See `transports.transport.Listener`."""

    def __init__(self, transport: "MemoryTransport", channel: Channel, endpoint: str, receive: Receive) -> None:
        self.transport = transport
        self.links: dict[bytes, MemoryConnection] = {}
        self._under_way: dict[bytes, int] = {}  # batches sent to each source that it has not read
        self._answers = Answers(transport.loop, transport.limits, self._write)
        self._gone = False
        self.open = True
        self._endpoint = transport.network.bind(endpoint, self, transport)
        self._intake = Intake(self._endpoint, receive, transport.limits, channel.carries_payloads)

    @property
    def endpoint(self) -> str:
        """See `Listener.endpoint`."""
        return self._endpoint

    def send(self, source: bytes, envelope: Envelope) -> bool:
        """See `Listener.send`.

        Raises:
            LocalProtocolError: The envelope cannot be encoded, or does not fit into one frame.
        """
        outcome = self._answers.send(source, envelope)
        self._gone = outcome is Outcome.GONE
        return outcome is Outcome.SENT

    @property
    def gone(self) -> bool:
        """See `Listener.gone`."""
        return self._gone

    def stats(self) -> ListenerStats:
        """See `Listener.stats`."""
        intake = self._intake
        return ListenerStats(
            batches_received=intake.batches,
            messages_received=intake.messages,
            bytes_received=intake.bytes,
            malformed=intake.malformed,
            oversized=intake.oversized,
            refused_sends=self._answers.refused,
        )

    def close(self) -> None:
        """See `Listener.close`."""
        if not self.open:
            return
        self._answers.close()
        network = self.transport.network
        with network.lock:
            self.open = False
            del network.listeners[self._endpoint]
            links, self.links = self.links, {}
        self.transport.listeners.discard(self)
        for link in links.values():
            link.post(link.on_cable)

    def _write(self, source: bytes, frame: bytes, attachments: Sequence[Buffer]) -> Outcome:
        link = self.links.get(source)
        under_way = self._under_way.get(source, 0)
        if link is None:
            return Outcome.GONE
        if under_way >= self.transport.limits.answers_hwm:
            return Outcome.FULL
        self._under_way[source] = under_way + 1
        link.post(link.on_frame, frame, _copied(attachments))
        return Outcome.SENT

    def post(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run a callback on this listener's loop."""
        _post(self.transport.loop, callback, *arguments)

    def on_frame(self, source: bytes, frame: bytes, attachments: Sequence[memoryview] = ()) -> None:
        """A message arrived."""
        link = self.links.get(source)
        if link is not None:
            self._intake.take(source, frame, attachments)
            link.post(link.on_read)

    def on_read(self, source: bytes) -> None:
        """The other end has read one of our frames."""
        if source in self._under_way:
            self._under_way[source] -= 1

    def forget(self, source: bytes) -> None:
        """The other end is gone."""
        self.links.pop(source, None)
        self._under_way.pop(source, None)


class MemoryConnection(Outbox):
    """See `transports.transport.Connection`."""

    def __init__(
        self, transport: "MemoryTransport", channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent
    ) -> None:
        super().__init__(transport.loop, transport.limits)
        self._transport = transport
        self._endpoint = endpoint
        self._on_event = on_event
        self._intake = Intake(endpoint, receive, transport.limits)
        limits = transport.limits
        self._heartbeat_s = limits.heartbeat_stalled_s if channel.carries_payloads else limits.heartbeat_timeout_s
        self._listener: MemoryListener | None = None
        self._source = b""
        self._under_way = 0  # frames that the listener has not read
        # Messages of both directions that met a cut cable.
        self._held: list[tuple[Callable[..., None], bytes, Sequence[memoryview]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.post(self._connect)

    @property
    def endpoint(self) -> str:
        """See `Connection.endpoint`."""
        return self._endpoint

    def stats(self) -> ConnectionStats:
        """See `Connection.stats`."""
        return self._stats(self._intake)

    def post(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Run a callback on this connection's loop."""
        _post(self._transport.loop, callback, *arguments)

    def on_frame(self, frame: bytes, attachments: Sequence[memoryview] = ()) -> None:
        """A message arrived from the listener."""
        if self._is_cut:
            self._held.append((self.on_frame, frame, attachments))
        elif not self._ended and self._listener is not None:
            self._listener.post(self._listener.on_read, self._source)
            self._intake.take(b"", frame, attachments)

    def on_read(self) -> None:
        """The listener has read one of our frames."""
        self._under_way -= 1
        if self._under_way < self._hwm and not self._ended:
            self._resume()

    def on_cable(self) -> None:
        """The cable was cut or mended, or the listener closed: take notice of what can be noticed."""
        if self._ended or self._listener is None:
            return
        if self._is_cut:
            if self._timer is None:
                self._timer = self._loop.call_later(
                    self._heartbeat_s, self._finish, EventKind.CLOSED, "silent for too long"
                )
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        for deliver, frame, attachments in held:
            deliver(frame, attachments)
        if not self._listener.open:
            self._finish(EventKind.CLOSED, "closed by the peer")

    @property
    def _hwm(self) -> int:
        """Both ends of a ZeroMQ connection have a queue."""
        return self._limits.send_hwm + self._limits.receive_hwm

    @property
    def _is_cut(self) -> bool:
        return self._listener is not None and self._transport.network.is_cut(self._transport, self._listener.transport)

    def _connect(self) -> None:
        network = self._transport.network
        if self._ended:
            return
        if network.is_cut(self._transport, network.owner(self._endpoint)):
            limit = self._limits.connect_timeout_s
            detail = f"no answer within connect_timeout_s={limit:g}"
            self._timer = self._loop.call_later(limit, self._finish, EventKind.UNREACHABLE, detail)
            return
        with network.lock:
            self._listener = network.listeners.get(self._endpoint)
            if self._listener is not None:
                self._source = network.new_source()
                self._listener.links[self._source] = self
                network.connections.add(self)
        if self._listener is None:
            self._finish(EventKind.REFUSED, "nobody listens there")
            return
        self._on_event(ConnectionEvent(EventKind.CONNECTED, self._endpoint))
        self._resume()

    def _write(self, frame: bytes, attachments: Sequence[Buffer] = ()) -> bool:
        self._under_way += 1
        if self._is_cut:
            self._held.append((self._pass_on, frame, _copied(attachments)))
        else:
            self._pass_on(frame, _copied(attachments))
        return self._under_way < self._hwm

    def _pass_on(self, frame: bytes, attachments: Sequence[memoryview] = ()) -> None:
        if self._listener is not None:
            self._listener.post(self._listener.on_frame, self._source, frame, attachments)

    def _hush(self) -> None:
        self._on_event = _ignore_event
        self._intake.receive = _ignore_batch

    def _finish(self, kind: EventKind, detail: str) -> None:
        if not self._ended:
            on_event = self._on_event
            self._shut()
            on_event(ConnectionEvent(kind, self._endpoint, detail))

    def _shut(self) -> None:
        if self._ended:
            return
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()
        self._transport.connections.discard(self)
        with self._transport.network.lock:
            self._transport.network.connections.discard(self)
        if self._listener is not None:
            self._listener.post(self._listener.forget, self._source)


class MemoryTransport:
    """See `transports.transport.Transport`.

    Args:
        network: What it is plugged into.
        loop: Every call and callback belongs to it and its thread. Any kind of asyncio loop, a virtual clock too.
        limits: Bounds, as for the ZeroMQ transport.
    """

    def __init__(self, network: MemoryNetwork, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        self.network = network
        self.loop = loop
        self.limits = limits or Limits()
        self.endpoints: set[str] = set()  # all that it has listened on
        self.connections: set[MemoryConnection] = set()
        self.listeners: set[MemoryListener] = set()
        self._closed = False

    def listen(self, channel: Channel, endpoint: str, receive: Receive) -> MemoryListener:
        """See `Transport.listen`. An endpoint that ends in `:0` gets a number of its own.

        Raises:
            EndpointInUse: It is taken.
            EndpointInvalid: It cannot be parsed, or is not `memory://NAME`.
            TransportClosed: After `close()`.
        """
        self._check(endpoint)
        listener = MemoryListener(self, channel, endpoint, receive)
        self.listeners.add(listener)
        self.endpoints.add(listener.endpoint)
        return listener

    def dial(self, channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent) -> MemoryConnection:
        """See `Transport.dial`.

        Raises:
            EndpointInvalid: It cannot be parsed, or is not `memory://NAME`.
            TransportClosed: After `close()`.
        """
        self._check(endpoint)
        connection = MemoryConnection(self, channel, endpoint, receive, on_event)
        self.connections.add(connection)
        return connection

    async def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        for listener in list(self.listeners):
            listener.close()
        for connection in list(self.connections):
            connection.close()

    def _check(self, endpoint: str) -> None:
        if self._closed:
            raise TransportClosed
        if Endpoint.parse(endpoint).scheme != "memory":
            raise EndpointInvalid(endpoint, "the in-memory transport has memory://NAME endpoints only")


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        loop.call_soon(callback, *arguments)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(callback, *arguments)


def _copied(attachments: Sequence[Buffer]) -> Sequence[memoryview]:
    """As a network does it: what the sender changes afterwards does not show."""
    return [memoryview(bytes(each)) for each in attachments]


def _ignore_event(event: ConnectionEvent) -> None:
    """No event follows `close`."""


def _ignore_batch(batch: Batch) -> None:
    """Nothing is handed up after `close`."""
