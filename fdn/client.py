"""The thin client: for scripts and for the `fdn` command. It joins nothing, binds nothing, and needs pyzmq and
msgpack only.

It says HELLO on a node's `coordination` channel, learns the node's other endpoints from the WELCOME, and opens `data`
and `events` when they are first used. Wire format: `docs/spec/0001-wire.md`, section 9 (the minimal client).
"""

import os
import secrets
import time
from typing import Any

import msgpack
import zmq

from fdn.client_events import ClientEvent, ClientSubscription, Credit
from fdn.errors import BadRequest, ConfigError, DeadlineExceeded, Error, Unreachable, VersionMismatch, from_wire
from fdn.messaging.subjects import valid_pattern, valid_queue, valid_subject

__all__ = ("Client",)

_VERSIONS = (1, 1)
_HELLO, _WELCOME, _REFUSED, _BYE, _CALL, _REPLY, _ERROR, _CAST = 1, 2, 3, 4, 5, 6, 7, 11
_SUBSCRIBE, _UNSUBSCRIBE, _EVENT, _CREDIT = 12, 13, 14, 16
_META_ORIGIN, _META_MISSED = 7, 17
_VERSION_OCTET = b"\x01"
_CHANNELS = ("coordination", "data", "events")
_LINGER_MS = 250
# libzmq's own "never", -1, ends the whole endpoint with its connection, and with it what has come and is not read yet:
# the last answer of a node that stops.
_NEVER_MS = 60 * 60 * 1000
# With no redials, a connection that was refused is closed, and one that was lost is disconnected.
_LOST = zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED


class Client:
    """A blocking client of one node. Use it from one thread, as a context manager.

    Args:
        endpoint: The node's coordination endpoint, `tcp://HOST:PORT` (its base port).
        cluster: The cluster's name.
        timeout: For the handshake, and for calls that give none.

    Raises:
        Unreachable: Nobody answers there (from `connect`, or on entering the context).
        ConfigError: The node belongs to another cluster.
        VersionMismatch: The two speak no common version of the protocol.
    """

    def __init__(self, endpoint: str, *, cluster: str = "fdn", timeout: float = 5.0, reconnect: bool = True) -> None:
        self.endpoint = endpoint
        self.cluster = cluster
        self.timeout = timeout
        self.id = f"client-{secrets.token_hex(8)}"
        self.node: dict[str, Any] = {}
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._next_id = secrets.randbits(63)
        self._epoch = secrets.randbits(32)
        self._subscriptions: dict[int, ClientSubscription] = {}
        self._asked = 0  # the id whose answer is waited for on `events`
        self._answer: Any = None  # it, in a tuple, once it is here
        self._credit = Credit((0, 0), 0)  # to publish

    def __enter__(self) -> "Client":
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def connect(self) -> None:
        """Say HELLO; afterwards `node` is the identity of the node. Idempotent."""
        if not self._sockets:
            self.node = self._open("coordination", self.endpoint)

    def call(self, target: str, payload: Any = None, *, timeout: float | None = None, channel: str = "data") -> Any:
        """Call `service.method` somewhere in the cluster, or `fdn.*` of this node on the coordination channel.

        Args:
            target: As in `Node.call`.
            payload: Anything MessagePack holds.
            timeout: Seconds to wait; None takes the client's.
            channel: `data` for services, `coordination` for the node itself, which answers there even while its user's
                code is stuck.

        Returns:
            The result, in plain values.

        Raises:
            Error: What the handler or the cluster answered; `DeadlineExceeded` when nothing came in time.
        """
        deadline_at = time.monotonic() + (self.timeout if timeout is None else timeout)
        socket = self._socket(channel)
        self._next_id += 1
        call_id = self._next_id
        silence = DeadlineExceeded(
            f"no answer to {target} from {self.endpoint} before the deadline",
            hint="whether it was carried out is not known; allow more time, or see `fdn members` for a stalled node",
        )
        try:
            left_ms = max(1, int((deadline_at - time.monotonic()) * 1000))
            self._send(socket, [_CALL, target, call_id, left_ms, None, payload], deadline_at, silence)
            while True:
                kind, _to, answered, _deadline, _meta, body = self._receive(socket, deadline_at, silence)
                if kind == _BYE:
                    self.close()
                    raise Unreachable(
                        f"the node at {self.endpoint} is stopping", hint="use another node of the cluster"
                    )
                if answered == call_id and kind == _REPLY:
                    return body
                if answered == call_id and kind == _ERROR:
                    raise from_wire(body)
        except _Lost:
            raise self._lost(f"before it answered {target}") from None

    def cast(self, target: str, payload: Any = None) -> None:
        """Send without waiting for an answer; at most once."""
        silence = DeadlineExceeded(f"{self.endpoint} takes no more messages", hint="send fewer, or allow more time")
        try:
            self._send(
                self._socket("data"), [_CAST, target, 0, 0, None, payload], time.monotonic() + self.timeout, silence
            )
        except _Lost:
            raise self._lost("before a cast was sent") from None

    def publish(self, subject: str, payload: Any = None) -> None:
        """Publish to everybody in the cluster who wants the subject; at most once, in order.

        Waits while the node gives no credit. See `flush`.

        Raises:
            BadRequest: The subject is none.
            DeadlineExceeded: The node took nothing in `timeout_s`.
            Unreachable: The node is gone.
        """
        envelope = [_EVENT, valid_subject(subject), 0, 0, None, payload]
        silence = DeadlineExceeded(f"{self.endpoint} takes no more events", hint="publish less, or allow more time")
        deadline_at = time.monotonic() + self.timeout
        socket = self._socket("events")
        try:
            while self._credit.spent:
                self._take_event(socket, deadline_at, silence)
            self._credit.spend(self._send(socket, envelope, deadline_at, silence))
        except _Lost:
            raise self._lost("before an event was sent") from None

    def flush(self) -> None:
        """Return when the node has received all that was published here.

        Raises:
            As `publish`.
        """
        self._ask("fdn.node.ping", _CALL, None, self.timeout)

    def subscribe(self, pattern: str, *, queue: str = "", timeout: float | None = None) -> ClientSubscription:
        """Get the events of a subject, or of all that match a pattern, from everywhere in the cluster.

        What this client is too slow to read is dropped, the oldest first, and counted in the next event's `missed`.

        Args:
            pattern: `*` stands for one token, `>` at the end for the rest.
            queue: A queue group: one member of it in the whole cluster gets each event.
            timeout: Seconds to wait until the members know of it; None takes the node's setting.

        Raises:
            ConfigError: The pattern or the group is not possible.
            Overloaded: The node has too many subscriptions.
        """
        valid_pattern(pattern)
        wanted = {"queue": valid_queue(queue), "timeout_ms": None if timeout is None else int(timeout * 1000)}
        subscription = ClientSubscription(pattern, self._next_id + 1, self._read_event, self._unsubscribe)
        self._subscriptions[subscription.number] = subscription  # events may come before the answer
        try:
            unaware = self._ask(pattern, _SUBSCRIBE, wanted, self.timeout + (timeout or 0.0))
        except Error:
            self._subscriptions.pop(subscription.number, None)
            raise
        subscription.unaware = tuple(unaware)
        return subscription

    def close(self) -> None:
        """Say goodbye and close. Idempotent."""
        if self._pid != os.getpid():
            return  # a forked child owns neither the sockets nor the thread behind them
        for socket in self._sockets.values():
            try:
                socket.send(_batch([_BYE, "", 0, 0, None, {}]), zmq.NOBLOCK)
            except zmq.ZMQError:
                pass  # the peer is gone or full: there is nobody to say goodbye to
            _close(socket, _LINGER_MS)
        self._sockets.clear()
        self._subscriptions.clear()
        if self._context is not None:
            self._context.term()
            self._context = None

    def _ask(self, to: str, kind: int, body: Any, timeout_s: float) -> Any:
        """Send on `events` and wait for the answer, while events may come before it."""
        deadline_at = time.monotonic() + timeout_s
        silence = DeadlineExceeded(f"no answer from {self.endpoint} in time", hint="allow more time")
        socket = self._socket("events")
        self._next_id += 1
        self._asked, self._answer = self._next_id, None
        try:
            size = self._send(socket, [kind, to, self._asked, int(timeout_s * 1000), None, body], deadline_at, silence)
            if kind == _CALL:
                self._credit.spend(size)
            while self._answer is None:
                self._take_event(socket, deadline_at, silence)
        except _Lost:
            raise self._lost("before it answered") from None
        finally:
            self._asked = 0
        (answer,) = self._answer
        if isinstance(answer, Error):
            raise answer
        return answer

    def _unsubscribe(self, subscription: ClientSubscription) -> None:
        if self._subscriptions.pop(subscription.number, None) is None or "events" not in self._sockets:
            return  # the client is closed, or the node has ended it
        silence = DeadlineExceeded(f"{self.endpoint} takes no more messages", hint="close the client")
        envelope = [_UNSUBSCRIBE, "", subscription.number, 0, None, None]
        try:
            self._send(self._sockets["events"], envelope, time.monotonic() + self.timeout, silence)
        except _Lost:
            self.close()

    def _read_event(self, timeout_s: float) -> bool:
        silence = DeadlineExceeded("no event")
        try:
            self._take_event(self._socket("events"), time.monotonic() + timeout_s, silence)
        except _Lost:
            raise self._lost("while events were waited for") from None
        except DeadlineExceeded:
            return False
        return True

    def _take_event(self, socket: "zmq.Socket[bytes]", deadline_at: float, silence: Error) -> None:
        """Read one message of the `events` channel, and hand it to whom it is for."""
        kind, subject, number, _deadline, meta, body = self._receive(socket, deadline_at, silence)
        if kind == _EVENT and number in self._subscriptions:
            meta = meta or {}
            event = ClientEvent(subject, body, meta.get(_META_ORIGIN, ""), meta.get(_META_MISSED, 0))
            self._subscriptions[number].put(event)
        elif kind == _CREDIT:
            self._credit.on_credit(body)
        elif kind in (_REPLY, _ERROR) and number == self._asked:
            self._answer = (body if kind == _REPLY else from_wire(body),)
        elif kind == _ERROR and number in self._subscriptions:
            self._subscriptions.pop(number).error = from_wire(body)
        elif kind == _BYE:
            self.close()
            raise Unreachable(f"the node at {self.endpoint} is stopping", hint="use another node of the cluster")

    def _socket(self, channel: str) -> "zmq.Socket[bytes]":
        self.connect()
        socket = self._sockets.get(channel)
        if socket is None:
            self._open(channel, self.node["endpoints"][channel])
            socket = self._sockets[channel]
        return socket

    def _open(self, channel: str, endpoint: str) -> dict[str, Any]:
        if self._context is None:
            self._context = zmq.Context(io_threads=1)
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.reconnect_ivl = _NEVER_MS  # a lost connection is an error that the caller sees, not a silent wait
        socket.ipv6 = "[" in endpoint
        socket.get_monitor_socket(_LOST)
        self._epoch += 1
        hello = {
            "versions": _VERSIONS,
            "cluster": self.cluster,
            "identity": {"node": self.id, "name": f"client pid {self._pid}"},
            "channel": channel,
            "epoch": self._epoch,
            "role": "client",
        }
        silence = Unreachable(f"no node answers at {endpoint}", hint="is the node running, and the address right?")
        deadline_at = time.monotonic() + self.timeout
        try:
            socket.connect(endpoint)
            self._send(socket, [_HELLO, "", 0, 0, None, hello], deadline_at, silence)
            kind, *_, body = self._receive(socket, deadline_at, silence)
            if kind == _REFUSED:
                raise _refusal(endpoint, body)
            if kind != _WELCOME:
                raise Unreachable(
                    f"{endpoint} answered a HELLO with kind {kind}", hint="is it an fdn node's base port?"
                )
            identity = _identity(endpoint, body)
        except zmq.ZMQError as error:
            _close(socket)
            self._end_context_if_unused()
            raise ConfigError(f"{endpoint!r} cannot be dialled: {error}", hint="expected tcp://HOST:PORT") from error
        except _Lost:
            _close(socket)
            self._end_context_if_unused()
            raise Unreachable(f"{silence.message}: the connection was refused", hint=silence.hint) from None
        except Error:
            _close(socket)
            self._end_context_if_unused()
            raise
        self._sockets[channel] = socket
        if channel == "events":
            self._credit = Credit(tuple(body.get("credit", (0, 0))), self._epoch)
        return identity

    def _end_context_if_unused(self) -> None:
        if not self._sockets and self._context is not None:
            self._context.term()
            self._context = None

    def _lost(self, when: str) -> Unreachable:
        self.close()
        return Unreachable(
            f"the connection to {self.endpoint} was lost {when}",
            hint="whether it was carried out is not known; ask another node of the cluster",
        )

    def _send(self, socket: "zmq.Socket[bytes]", envelope: list[Any], deadline_at: float, silence: Error) -> int:
        """Returns the bytes sent."""
        if self._pid != os.getpid():
            raise Error("this client was made before a fork", hint="make a new one in the child")
        frame = _batch(envelope)
        while True:
            try:
                socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                _wait(socket, zmq.POLLOUT, deadline_at, silence)
            else:
                return len(frame)

    def _receive(self, socket: "zmq.Socket[bytes]", deadline_at: float, silence: Error) -> list[Any]:
        while True:
            _wait(socket, zmq.POLLIN, deadline_at, silence)
            frame = socket.recv_multipart()[0]
            envelope = _envelope(frame)
            if envelope is not None:  # or it is not of this protocol version, and nothing that we asked for
                return envelope


class _Lost(Exception):
    """The connection was refused, or has ended."""


def _wait(socket: "zmq.Socket[bytes]", event: int, deadline_at: float, silence: Error) -> None:
    """Return when the socket is ready for `event`. Without a connection it never is, so its monitor is asked too."""
    monitor = socket.get_monitor_socket(_LOST)
    left_ms = int((deadline_at - time.monotonic()) * 1000)
    ready = dict(zmq.zmq_poll([(socket, event), (monitor, zmq.POLLIN)], left_ms)) if left_ms > 0 else {}
    if socket in ready or socket.poll(0, event):  # what came before the loss is read first
        return
    raise _Lost if monitor in ready else silence


def _close(socket: "zmq.Socket[bytes]", linger_ms: int = 0) -> None:
    monitor = socket.get_monitor_socket(_LOST)
    socket.disable_monitor()
    monitor.close(0)
    socket.close(linger_ms)


def _batch(envelope: list[Any]) -> bytes:
    try:
        packed: bytes = msgpack.packb([envelope])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(
            f"a {type(envelope[-1]).__name__} cannot be sent: {error}", hint="send plain values that MessagePack holds"
        ) from error
    return _VERSION_OCTET + packed


def _envelope(frame: bytes) -> list[Any] | None:
    """The first envelope of a batch with all its fields; None if there is none that can be read."""
    if frame[:1] != _VERSION_OCTET:
        return None
    try:
        batch = msgpack.unpackb(frame[1:], strict_map_key=False)
    except (ValueError, TypeError, RecursionError):
        return None
    first = batch[0] if isinstance(batch, list) and batch else None
    if not isinstance(first, list) or not first or not isinstance(first[0], int):
        return None
    return (first + [None] * 6)[:6]


def _identity(endpoint: str, welcome: Any) -> dict[str, Any]:
    identity: Any = welcome.get("identity") if isinstance(welcome, dict) else None
    endpoints = identity.get("endpoints") if isinstance(identity, dict) else None
    if not isinstance(endpoints, dict) or not all(isinstance(endpoints.get(channel), str) for channel in _CHANNELS):
        raise Unreachable(f"{endpoint} sent a WELCOME without its endpoints", hint="is it an fdn node's base port?")
    return dict(identity)


def _refusal(endpoint: str, body: Any) -> Error:
    body = body if isinstance(body, dict) else {}
    reason = f"{endpoint} refused this client: {body.get('reason', '')}"
    if body.get("code") == "no_common_version":
        return VersionMismatch(reason, hint="use the fdn version of the cluster")
    if body.get("code") == "wrong_cluster":
        return ConfigError(reason, hint="name the cluster with --cluster, FDN_CLUSTER or in fdn.toml")
    return Unreachable(reason, hint="try another node")
