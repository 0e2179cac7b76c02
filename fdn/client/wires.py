"""The sockets of one client: carries out what the core wants, and hands in what comes. It never waits.

A ZeroMQ socket's descriptor is edge-triggered, so the socket's state is read again after every drain and every send.
"""

import os
from collections.abc import Callable
from typing import Final

import zmq

from fdn.client.connection import Dial, Hang, Link, Sweep, Tell
from fdn.client.core import Core, Run, Stop

__all__ = ("Wires",)

_MESSAGES_MAX: Final = 256  # taken in by one `pump`, so that a flood leaves a turn to others
_LINGER_MS: Final = 250
# libzmq's own "never", -1, ends the whole endpoint with its connection, and with it what has come and is not read yet:
# the last answer of a node that stops.
_NEVER_MS: Final = 60 * 60 * 1000
# With no redials, a connection that was refused is closed, and one that was lost is disconnected.
_LOST: Final = zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED
_HEARTBEAT_MS: Final = 1000
_SILENCE_MS: Final = {"coordination": 5000, "data": 30_000, "events": 30_000}


class _Wire:
    """One channel's socket, and the monitor that tells when its connection is gone."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", channel: str, endpoint: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = _NEVER_MS  # a lost connection is news, not a silent wait
        self.socket.heartbeat_ivl = _HEARTBEAT_MS
        self.socket.heartbeat_timeout = _SILENCE_MS[channel]
        self.socket.ipv6 = "[" in endpoint
        self.monitor = self.socket.get_monitor_socket(_LOST)
        self.is_full = False
        self.descriptors = (int(self.socket.getsockopt(zmq.FD)), int(self.monitor.getsockopt(zmq.FD)))

    def close(self, linger_ms: int = 0) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger_ms)


class Wires:
    """See the module.

    Args:
        core: Whose effects are carried out.
        clock: Monotonic seconds.
        watch: A descriptor is to be watched for reading from now on.
        unwatch: Not any more.
        run: Begin a handler.
        stop: Cancel one.
    """

    def __init__(
        self,
        core: Core,
        clock: Callable[[], float],
        *,
        watch: Callable[[int], object],
        unwatch: Callable[[int], object],
        run: Callable[[Run], object],
        stop: Callable[[Stop], object],
    ) -> None:
        self._core = core
        self._clock = clock
        self._watch = watch
        self._unwatch = unwatch
        self._run = run
        self._stop = stop
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._open: dict[str, _Wire] = {}
        self._pid = os.getpid()

    def __del__(self) -> None:
        # A client that was dropped without being closed; libzmq would wait for its sockets.
        self._unwatch = lambda descriptor: None
        self.close()

    def pump(self) -> bool:
        """Do all that can be done without waiting; True if there is more to take in: it is to be called again soon."""
        more = False
        for name, wire in tuple(self._open.items()):
            more = self._pump_one(wire, self._core.connection.links[name]) or more
        return self.push() or more

    def push(self) -> bool:
        """The same, but for what has come in on channels that have nothing to send."""
        core, more = self._core, False
        core.tick(self._clock())
        self._obey()
        # What one channel brings may give another something to send, or dial it.
        while sendable := [
            (wire, link)
            for name, wire in self._open.items()
            if (link := core.connection.links[name]).has_frame and not wire.is_full
        ]:
            for wire, link in sendable:
                more = self._pump_one(wire, link) or more
            core.tick(self._clock())
            self._obey()
        return more

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to wait for, and something to `release`: nobody was reached, or the node is gone."""
        return self._context is not None and not self._open and self._core.next_deadline() is None

    def release(self) -> "zmq.Context[zmq.Socket[bytes]] | None":
        """Close what is open, and give what is left to end: `term` waits a moment for what is still to go out."""
        for name in tuple(self._open):
            self._hang(name, None, _LINGER_MS)
        context, self._context = self._context, None
        return context

    def close(self) -> None:
        """Close everything; what was sent gets a moment to go out. Takes `_LINGER_MS` at most."""
        if self._pid != os.getpid():
            return  # a forked child owns neither the sockets nor the threads behind them
        context = self.release()
        if context is not None:
            context.term()

    def _pump_one(self, wire: _Wire, link: Link) -> bool:
        socket, core, budget = wire.socket, self._core, _MESSAGES_MAX
        while budget > 0 and not socket.closed:
            now = self._clock()
            self._send_all(wire, link, now)
            try:
                while budget > 0:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                    budget -= 1
                    core.on_frame(link.name, frames[0], now, frames[1:])
                    if core.has_effects:
                        self._obey()
                        if socket.closed:
                            return False
            except zmq.Again:
                pass
            if self._is_lost(wire):
                self._take_in(wire, link, now)
                core.connection.on_lost(link.name, now)
                return False
            events = _events(socket)
            may_send = link.has_frame and not (wire.is_full and not events & zmq.POLLOUT)
            if not events & zmq.POLLIN and not may_send:
                return False
        return not socket.closed

    def _send_all(self, wire: _Wire, link: Link, now: float) -> None:
        wire.is_full = False
        while (frame := link.next_frame(now)) is not None:
            try:
                wire.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                link.hold(frame)
                wire.is_full = True
                return

    def _is_lost(self, wire: _Wire) -> bool:
        return bool(_events(wire.monitor) & zmq.POLLIN)

    def _take_in(self, wire: _Wire, link: Link, now: float) -> None:
        """All that has come on a socket: it is read before its end is believed."""
        try:
            while not wire.socket.closed:
                frame, *attachments = wire.socket.recv_multipart(zmq.NOBLOCK)
                self._core.on_frame(link.name, frame, now, attachments)
                self._obey()
        except zmq.Again:
            pass  # that was all

    def _sweep(self) -> None:
        now = self._clock()
        for name, wire in tuple(self._open.items()):
            self._take_in(wire, self._core.connection.links[name], now)
        self._core.connection.on_swept(now)

    def _obey(self) -> None:
        while self._core.has_effects:
            for effect in self._core.take_effects():
                match effect:
                    case Dial(channel, endpoint):
                        self._dial(channel, endpoint)
                    case Hang(channel, farewell):
                        self._hang(channel, farewell, _LINGER_MS if farewell else 0)
                    case Sweep():
                        self._sweep()
                    case Tell():
                        _tell(effect)
                    case Run():
                        self._run(effect)
                    case Stop():
                        self._stop(effect)

    def _dial(self, channel: str, endpoint: str) -> None:
        if self._context is None:
            self._context = zmq.Context(io_threads=1)
        wire = _Wire(self._context, channel, endpoint)
        try:
            wire.socket.connect(endpoint)
        except zmq.ZMQError as error:
            wire.close()
            self._core.connection.on_undialled(channel, str(error), self._clock())
            return
        self._open[channel] = wire
        for descriptor in wire.descriptors:
            self._watch(descriptor)

    def _hang(self, channel: str, farewell: bytes | None, linger_ms: int) -> None:
        wire = self._open.pop(channel, None)
        if wire is None:
            return
        for descriptor in wire.descriptors:
            self._unwatch(descriptor)
        if farewell is not None:
            try:
                wire.socket.send(farewell, zmq.NOBLOCK)
            except zmq.ZMQError:
                pass  # the peer is gone or full: there is nobody to say goodbye to
        wire.close(linger_ms)


def _tell(effect: Tell) -> None:
    import logging  # here, because it takes a fifth of the time that importing a client may take

    log = logging.getLogger("fdn.client")
    log.log(logging.WARNING if effect.is_warning else logging.INFO, "%s", effect.text)


def _events(socket: "zmq.Socket[bytes]") -> int:
    return int(socket.getsockopt(zmq.EVENTS))
