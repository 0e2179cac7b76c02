"""The transport over ZeroMQ: one context, its I/O threads, and every socket made from it."""

import asyncio
import logging
import threading

import zmq

from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInvalid, TransportClosed
from transports.limits import Limits
from transports.transport import OnEvent, Receive
from transports.zmq.connection import ZmqConnection
from transports.zmq.listener import ZmqListener
from transports.zmq.reactor import Reactor
from transports.zmq.threads import be_nice, name_threads

__all__ = ("ZmqTransport",)

logger = logging.getLogger(__name__)

_TERM_SLACK_S = 2.0


class ZmqTransport:
    """See `transports.transport.Transport`.

    Each has a context of its own: two planes in one process share no I/O thread, so that bulk data in one never
    delays the other.

    Args:
        loop: Every call and callback belongs to it and its thread.
        limits: Bounds.
        io_threads: I/O threads of the context.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits | None = None, io_threads: int = 1) -> None:
        self._loop = loop
        self._limits = limits or Limits()
        self._reactor = Reactor(loop, self._limits)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads)
        self._context.set(zmq.MAX_SOCKETS, self._limits.sockets_max)
        self._io_threads = io_threads
        self._threads = name_threads(self._context) if self._limits.io_nice else 0  # until they are nice
        self._listeners: set[ZmqListener] = set()
        self._connections: set[ZmqConnection] = set()
        self._linger_until = 0.0
        self._all_shut: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None

    def listen(self, channel: Channel, endpoint: str, receive: Receive) -> ZmqListener:
        """See `Transport.listen`.

        Raises:
            EndpointInUse: The port or path is taken.
            EndpointInvalid: It cannot be parsed or bound.
            TransportClosed: After `close()`.
        """
        where = self._parse(endpoint)
        listener = ZmqListener(
            self._context, self._reactor, self._limits, channel, where, receive, self._listeners.discard
        )
        self._listeners.add(listener)
        self._see_to_threads()
        return listener

    def dial(self, channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent) -> ZmqConnection:
        """See `Transport.dial`.

        Raises:
            EndpointInvalid: It cannot be parsed or dialled.
            TransportClosed: After `close()`.
        """
        where = self._parse(endpoint)
        where.check_dialable()
        connection = ZmqConnection(
            self._context, self._reactor, self._limits, channel, where, receive, on_event, self._on_connection_closed
        )
        self._connections.add(connection)
        self._see_to_threads()
        return connection

    async def close(self) -> None:
        """See `Transport.close`. Waits for connections that linger, no longer than they were given."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    def _see_to_threads(self) -> None:
        """They begin with the first socket."""
        if self._threads and be_nice(self._threads, self._limits.io_nice, self._io_threads):
            self._threads = 0

    def _parse(self, endpoint: str) -> Endpoint:
        if self._closing is not None:
            raise TransportClosed
        where = Endpoint.parse(endpoint)
        if where.scheme == "memory":
            raise EndpointInvalid(endpoint, "ZeroMQ speaks tcp and ipc; memory belongs to MemoryTransport")
        return where

    def _on_connection_closed(self, connection: ZmqConnection) -> None:
        self._connections.discard(connection)
        self._linger_until = max(self._linger_until, connection.lingers_until or 0.0)
        if not self._connections and self._all_shut is not None:
            self._all_shut.set()

    async def _close(self) -> None:
        for listener in list(self._listeners):
            listener.close()
        for connection in list(self._connections):
            connection.close()
        if self._connections:  # some linger; each has a timer that ends it
            self._all_shut = asyncio.Event()
            await self._all_shut.wait()
        # Termination waits for what lingers inside libzmq, so it must not run on the loop.
        terminated = asyncio.Event()
        thread = threading.Thread(target=self._terminate, args=(terminated,), name="zmq-term", daemon=True)
        thread.start()
        timeout_s = max(0.0, self._linger_until - self._loop.time()) + _TERM_SLACK_S
        try:
            async with asyncio.timeout(timeout_s):
                await terminated.wait()
        except TimeoutError:
            logger.error("the ZeroMQ context has not ended within %.1f s; its threads are left behind", timeout_s)
        else:
            thread.join()

    def _terminate(self, terminated: asyncio.Event) -> None:
        self._context.term()
        try:
            self._loop.call_soon_threadsafe(terminated.set)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits
            logger.debug("the loop was closed before the ZeroMQ context had ended")
