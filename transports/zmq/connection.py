"""A dialled DEALER, good for one attempt."""

import asyncio
import enum
import os
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInvalid
from transports.intake import Intake
from transports.limits import Limits
from transports.outbox import Outbox
from transports.parcel import Buffer
from transports.transport import Batch, ConnectionEvent, ConnectionStats, EventKind, OnEvent, Receive
from transports.zmq.monitor import Monitor
from transports.zmq.probe import probe, resolve
from transports.zmq.reactor import Pump, Reactor
from transports.zmq.sockets import make_socket, read_message, send_message

__all__ = ("ZmqConnection",)

_HANDSHAKE_FAILURES = {
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "it ended the ZMTP handshake",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "it does not speak ZMTP as we do",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "it refused our key",
}
_NEVER_MS = 2**31 - 1  # the most that the option takes


class _State(enum.Enum):
    DIALLING = enum.auto()  # resolving, or waiting for TCP
    GREETING = enum.auto()  # TCP is connected, the ZMTP handshake runs
    CONNECTED = enum.auto()
    OVER = enum.auto()


class ZmqConnection(Outbox):
    """See `transports.transport.Connection`.

    No queue of an earlier life may reach a peer that was restarted, so libzmq must never dial again by itself.
    `RECONNECT_IVL=-1` says so, but then libzmq (4.3.5) also throws away what it has received and we have not read when
    the peer closes: last replies, a REFUSED, a BYE. So does `IMMEDIATE=1`. Instead it is told to wait 24 days, and the
    socket is closed with the first word of a disconnection. Frames are held back in the outbox, where they expire and
    are counted, until the handshake is done.

    Raises:
        EndpointInvalid: libzmq will not dial it.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        reactor: Reactor,
        limits: Limits,
        channel: Channel,
        endpoint: Endpoint,
        receive: Receive,
        on_event: OnEvent,
        on_closed: Callable[["ZmqConnection"], None],
    ) -> None:
        super().__init__(reactor.loop, limits)
        self._endpoint = endpoint
        self._on_event = on_event
        self._on_closed = on_closed
        self._intake = Intake(str(endpoint), receive, limits)
        self._state = _State.DIALLING
        # Messages that met EAGAIN against the socket's word.
        self._held: deque[tuple[bytes, Sequence[Buffer]]] = deque()
        self._targets: list[Endpoint] = []
        self._task: asyncio.Task[None] | None = None
        self._socket = make_socket(context, zmq.DEALER, channel, endpoint, limits)
        self._socket.set(zmq.RECONNECT_IVL, _NEVER_MS)
        # Our own timers tell "no answer" from "refused"; libzmq's would only say that it failed, at the same moment.
        self._socket.set(zmq.HANDSHAKE_IVL, 0)
        self._monitor = Monitor(reactor, self._socket, channel, self._on_monitor)
        self._pump = Pump(reactor, self._socket, channel, self._read, self._on_writable)
        self._timer = self._loop.call_later(
            limits.connect_timeout_s,
            self._on_timeout,
            f"no answer within connect_timeout_s={limits.connect_timeout_s:g}",
        )
        if endpoint.is_name:
            self._task = self._loop.create_task(self._resolve())
        else:
            self._targets = [endpoint]
            try:
                self._attempt()
            except EndpointInvalid:
                self._shut()
                raise

    @property
    def endpoint(self) -> str:
        """See `Connection.endpoint`."""
        return str(self._endpoint)

    @property
    def lingers_until(self) -> float | None:
        """Loop time until which a closed connection may still be sending, or None while it is open."""
        return self._linger_until

    def stats(self) -> ConnectionStats:
        """See `Connection.stats`."""
        return self._stats(self._intake)

    def _hush(self) -> None:
        self._on_event = _ignore_event
        self._intake.receive = _ignore_batch
        self._timer.cancel()

    def _spent(self) -> bool:
        return not self._held and super()._spent()

    def _write(self, frame: bytes, attachments: Sequence[Buffer] = ()) -> bool:
        if not self._held:
            try:
                if attachments:
                    send_message(self._socket, frame, attachments)
                else:
                    self._socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                pass
            else:
                return self._pump.writable_after_send()
        self._held.append((frame, attachments))
        self._pump.writable_after_send()
        return False

    def _on_writable(self) -> None:
        if self._state is not _State.CONNECTED:
            return
        if self._held:
            held, self._held = self._held, deque()
            for frame, attachments in held:  # those that meet EAGAIN once more are held once more, in order
                self._write(frame, attachments)
        if not self._held:
            self._resume()

    def _read(self) -> None:
        try:
            frame, attachments = read_message(self._socket)
        except zmq.Again:
            return
        self._intake.take(b"", frame, attachments)

    async def _resolve(self) -> None:
        try:
            self._targets = await resolve(self._endpoint)
            self._task = None
            self._attempt()
        except OSError as error:
            self._finish(EventKind.UNREACHABLE, f"{self._endpoint.host!r} does not resolve: {error.strerror}")
        except EndpointInvalid as error:
            self._finish(EventKind.UNREACHABLE, str(error))

    def _attempt(self) -> None:
        target = self._targets[0]
        self._socket.set(zmq.IPV6, int(target.is_ipv6))
        try:
            self._socket.connect(str(target))
        except zmq.ZMQError as error:
            raise EndpointInvalid(str(target), f"cannot be dialled ({error.strerror})") from error

    def _on_monitor(self, event: int, value: int) -> None:
        match self._state:
            case _State.DIALLING if event == zmq.EVENT_CONNECTED:
                self._state = _State.GREETING
                if self._linger_until is None:
                    self._restart_timer()
            case _State.DIALLING if event == zmq.EVENT_CLOSED and self._task is None:
                self._task = self._loop.create_task(self._explain())
            case _State.GREETING if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._state = _State.CONNECTED
                self._timer.cancel()
                self._on_event(ConnectionEvent(EventKind.CONNECTED, self.endpoint))
                self._on_writable()
            case _State.GREETING if event in _HANDSHAKE_FAILURES:
                self._finish(EventKind.FAILED, f"{_HANDSHAKE_FAILURES[event]} ({_reason(event, value)})")
            case _State.GREETING if event == zmq.EVENT_DISCONNECTED:
                self._finish(EventKind.FAILED, "it accepted and closed")
            case _State.CONNECTED if event == zmq.EVENT_DISCONNECTED:
                self._drain()
                self._finish(EventKind.CLOSED, "closed by the peer, reset, or silent for too long")

    def _restart_timer(self) -> None:
        self._timer.cancel()
        limit = self._limits.handshake_timeout_s
        # A machine accepts for a process that is stopped: no greeting is no answer, not a wrong one.
        detail = f"accepted, but no greeting within handshake_timeout_s={limit:g}"
        self._timer = self._loop.call_later(limit, self._on_timeout, detail)

    def _on_timeout(self, detail: str) -> None:
        self._finish(EventKind.UNREACHABLE, detail)

    async def _explain(self) -> None:
        """An attempt failed: find out why, then go on with the next address of the name, if there is one."""
        target = self._targets.pop(0)
        kind, detail = await probe(target)
        self._task = None
        self._socket.disconnect(str(target))  # or frames would be dealt out to it too
        if not self._targets:
            self._finish(kind, detail)
            return
        try:
            self._attempt()
        except EndpointInvalid as error:
            self._finish(EventKind.UNREACHABLE, str(error))

    def _drain(self) -> None:
        """Read what the peer sent before it closed (a BYE says why); at most `receive_hwm` batches."""
        while self._state is _State.CONNECTED and self._pump.readable():
            self._read()

    def _finish(self, kind: EventKind, detail: str) -> None:
        if self._state is not _State.OVER:
            on_event = self._on_event
            self._shut()
            on_event(ConnectionEvent(kind, self.endpoint, detail))

    def _shut(self) -> None:
        if self._state is _State.OVER:
            return
        self._state = _State.OVER
        self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        self._monitor.close()
        self._pump.close()
        linger_s = 0.0 if self._linger_until is None else self._linger_until - self._loop.time()
        self._socket.close(max(0, int(linger_s * 1000)))
        self._held.clear()
        self._end()
        self._on_closed(self)


def _reason(event: int, value: int) -> str:
    return f"ZMTP error {value:#x}" if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL else os.strerror(value)


def _ignore_event(event: ConnectionEvent) -> None:
    """No event follows `close`."""


def _ignore_batch(batch: Batch) -> None:
    """Nothing is handed up after `close`."""
