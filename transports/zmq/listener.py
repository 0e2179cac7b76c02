"""A bound ROUTER."""

import contextlib
import errno
import os
import socket as sockets
import stat
from collections.abc import Callable, Sequence

import zmq

from transports.answers import Answers, Outcome
from transports.channel import Channel
from transports.endpoint import Endpoint
from transports.errors import EndpointInUse, EndpointInvalid
from transports.intake import Intake
from transports.limits import Limits
from transports.parcel import Buffer
from transports.transport import ListenerStats, Receive
from transports.wire.envelope import Envelope
from transports.zmq.reactor import Pump, Reactor
from transports.zmq.sockets import make_socket, read_message, send_message

__all__ = ("ZmqListener",)

_UNBIND_MS_MAX = 200


class ZmqListener:
    """See `transports.transport.Listener`.

    Raises:
        EndpointInUse: The port or path is taken.
        EndpointInvalid: libzmq or the system will not bind it.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        reactor: Reactor,
        limits: Limits,
        channel: Channel,
        endpoint: Endpoint,
        receive: Receive,
        on_closed: Callable[["ZmqListener"], None],
    ) -> None:
        if endpoint.scheme == "ipc":
            _check_path(endpoint)
        self._limits = limits
        self._on_closed = on_closed
        self._gone = False
        self._open = True
        self._socket = make_socket(context, zmq.ROUTER, channel, endpoint, limits)
        self._socket.set(zmq.SNDHWM, limits.answers_hwm)
        # Without it a message to a peer that is gone, or does not read, would vanish without a word.
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        try:
            self._socket.bind(str(endpoint))
        except zmq.ZMQError as error:
            self._socket.close(0)
            if error.errno == errno.EADDRINUSE:
                raise EndpointInUse(str(endpoint)) from error
            reason = f"cannot be bound ({error.strerror}); give an address of this machine"
            raise EndpointInvalid(str(endpoint), reason) from error
        self._endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._intake = Intake(self._endpoint, receive, limits, channel.carries_payloads)
        self._answers = Answers(reactor.loop, limits, self._write)
        self._pump = Pump(reactor, self._socket, channel, self._read)

    @property
    def endpoint(self) -> str:
        """See `Listener.endpoint`."""
        return self._endpoint

    def send(self, source: bytes, envelope: Envelope) -> bool:
        """See `Listener.send`.

        Raises:
            LocalProtocolError: The envelope cannot be encoded, or does not fit into one frame.
        """
        outcome = self._answers.send(source, envelope) if self._open else Outcome.GONE
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
        """See `Listener.close`. When it returns, the port is free."""
        if not self._open:
            return
        self._answers.close()
        self._open = False
        self._pump.close()
        self._unbind()
        self._socket.close(0)
        self._on_closed(self)

    def _write(self, source: bytes, frame: bytes, attachments: Sequence[Buffer]) -> Outcome:
        try:
            # Whether the peer is there and has room is decided at the first part; the second cannot fail.
            self._socket.send(source, zmq.NOBLOCK | zmq.SNDMORE)
            if attachments:
                send_message(self._socket, frame, attachments)
            else:
                self._socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EAGAIN, errno.EHOSTUNREACH):
                raise
            return Outcome.GONE if error.errno == errno.EHOSTUNREACH else Outcome.FULL
        finally:
            self._pump.writable_after_send()
        return Outcome.SENT

    def _read(self) -> None:
        try:
            source = self._socket.recv(zmq.NOBLOCK)
            frame, attachments = read_message(self._socket)
        except zmq.Again:
            return
        self._intake.take(source, frame, attachments)

    def _unbind(self) -> None:
        # libzmq closes the listening socket in its I/O thread, some time later. Wait for its word: who closes a
        # listener and binds the port again must find it free. It takes some 100 us; the bound is for a stuck machine.
        monitor = self._socket.get_monitor_socket(zmq.EVENT_CLOSED | zmq.EVENT_CLOSE_FAILED)
        monitor.set(zmq.LINGER, 0)
        if self._endpoint.startswith("ipc://"):
            # libzmq leaves the file behind. Removed first, it cannot be the one of whoever binds the path next.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._endpoint.removeprefix("ipc://"))
        self._socket.unbind(self._endpoint)
        monitor.poll(_UNBIND_MS_MAX)
        self._socket.disable_monitor()
        monitor.close(0)


def _check_path(endpoint: Endpoint) -> None:
    """Refuse a path that is in use: libzmq would unlink whatever lies there, another process's socket too."""
    path = endpoint.host
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # nothing there; if the directory is missing, bind says so
    if not stat.S_ISSOCK(mode):
        raise EndpointInvalid(str(endpoint), "the path exists and is not a socket; choose another, or remove the file")
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(path) in (0, errno.EAGAIN):  # EAGAIN: somebody listens, and has a full backlog
            raise EndpointInUse(str(endpoint))
