"""A socket monitor on the loop: what libzmq's I/O thread does with a dialled connection, as callbacks."""

import itertools
import struct
from collections.abc import Callable

import zmq

from transports.channel import Channel
from transports.zmq.reactor import Pump, Reactor

__all__ = ("Monitor",)

_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)
_HEAD = struct.Struct("=Hi")  # event, value
_numbers = itertools.count()  # an address for each; pyzmq's default reuses that of a descriptor just closed


class Monitor:
    """Watches one socket.

    Args:
        reactor: The reactor of the socket.
        socket: What to watch; must outlive the monitor.
        channel: The socket's channel, for the turn it gets.
        on_event: Called with libzmq's number of the event and its value (errno or protocol error, where it has one).
    """

    def __init__(
        self, reactor: Reactor, socket: "zmq.Socket[bytes]", channel: Channel, on_event: Callable[[int, int], None]
    ) -> None:
        self._watched = socket
        self._on_event = on_event
        self._socket = socket.get_monitor_socket(_EVENTS, f"inproc://monitor-{next(_numbers)}")
        self._socket.set(zmq.LINGER, 0)
        self._pump = Pump(reactor, self._socket, channel, self._read)
        self._open = True

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._open:
            self._open = False
            self._pump.close()
            self._watched.disable_monitor()
            self._socket.close(0)

    def _read(self) -> None:
        try:
            head, _ = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        self._on_event(*_HEAD.unpack(head))
