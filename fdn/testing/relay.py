"""One connection through the fault proxy: two sockets, and a pipe for each direction between them.

A pipe holds what is delayed or cut off, in order and never more than `HELD_BYTES_MAX`: then it reads no more, so that
the sender feels it as it would on a network. Whole ZeroMQ messages may be dropped, half ones never.
"""

import asyncio
import collections
import dataclasses
import random
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import msgspec

from fdn.testing.zmtp import Piece, PieceKind, ZmtpStream, frames_of
from transports.errors import RemoteProtocolError
from transports.wire.batch import decode_batch
from transports.wire.envelope import Kind
from transports.wire.handshake import Hello, Role

__all__ = ("HELD_BYTES_MAX", "Fault", "Relay", "Switchboard", "Traffic")

HELD_BYTES_MAX: Final = 1024 * 1024
_HELLO_BYTES_MAX: Final = 64 * 1024
_LUMPS_PER_S: Final = 50  # how finely a limited rate is dealt out
_LUMP_BYTES_MIN: Final = 512
_OVERTAKEN_S_MAX: Final = 0.05  # for the message behind it to come
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What befalls the traffic from one node to another on one channel.

    Attributes:
        cut: Nothing passes, and nobody is told.
        reset: Connections are closed at once, new ones too.
        delay_s: Seconds that everything takes longer.
        jitter_s: At most so many seconds more, by chance; the order stays.
        bytes_per_s: At most so much passes; 0 is no limit.
        loss: Which share of the messages is dropped, 0 to 1. A connection's first, the handshake, is not.
        duplication: Which share comes twice.
        reordering: Which share is overtaken by the message behind it, or held up if there is none.
    """

    cut: bool = False
    reset: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0


@dataclasses.dataclass(slots=True)
class Traffic:
    """What went from one node to another on one channel: counters since the start."""

    connections: int = 0  # those that the first dialled
    messages: int = 0  # ZeroMQ messages, the dropped ones included
    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    bytes: int = 0  # passed on


class Switchboard(Protocol):
    """What a relay is part of."""

    rng: random.Random

    def fault(self, source: str, target: str, channel: str) -> Fault: ...

    def traffic(self, source: str, target: str, channel: str) -> Traffic: ...

    def relay_ended(self, relay: "Relay") -> None: ...


class Relay:
    """A connection that somebody dialled to a node, and the one that was dialled on to it.

    Args:
        switchboard: Knows the faults.
        listener: Name of the node that is dialled.
        channel: The channel that it is dialled on.

    Attributes:
        dialler: Name of the node that dialled, as its HELLO says; empty before, and for whoever is no node.
    """

    def __init__(self, switchboard: Switchboard, listener: str, channel: str) -> None:
        self.dialler = ""
        self.listener = listener
        self.channel = channel
        self._switchboard = switchboard
        self._loop = asyncio.get_running_loop()
        self._there = _Pipe(self, switchboard.rng, self._on_first_message)
        self._back = _Pipe(self, switchboard.rng, None)
        self.near = _End(self._there, self._back)
        self.far = _End(self._back, self._there)
        self._there.connects(self.near, self.far)
        self._back.connects(self.far, self.near)
        self._attribute()

    async def connect(self, dial: Callable[[asyncio.BaseProtocol], Any]) -> None:
        """Dial on to the node; what comes in meanwhile is held."""
        try:
            await dial(self.far)
        except OSError:
            self.abort()  # the nearest to "connection refused" that is left

    def faults_changed(self) -> None:
        """Look up what befalls this connection from now on."""
        self._there.fault = self._switchboard.fault(self.dialler, self.listener, self.channel)
        self._back.fault = self._switchboard.fault(self.listener, self.dialler, self.channel)
        if self._there.fault.reset or self._back.fault.reset:
            self.abort()
            return
        self._there.on_fault()
        self._back.on_fault()

    def check_end(self) -> None:
        """Close both sides when neither has anything more to say, or nothing of it could arrive."""
        if self._there.source_ended and self._back.source_ended:
            frozen = self._there.fault.cut or self._back.fault.cut
            if frozen or (self._there.is_empty and self._back.is_empty):
                self.close()

    def close(self) -> None:
        """Close both sides, once what was written has left."""
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.close()
        self._end()

    def abort(self) -> None:
        """Close both sides at once, with a reset."""
        for end in (self.near, self.far):
            if end.transport is not None:
                end.reset()
        self._end()

    def _end(self) -> None:
        self._there.stop()
        self._back.stop()
        self._switchboard.relay_ended(self)

    def _on_first_message(self, message: list[Piece]) -> None:
        """The dialler's HELLO: now we know whose connection this is."""
        self.dialler = _name_in_hello(frames_of(message))
        self._attribute()
        self._there.traffic.connections += 1

    def _attribute(self) -> None:
        self._there.traffic = self._switchboard.traffic(self.dialler, self.listener, self.channel)
        self._back.traffic = self._switchboard.traffic(self.listener, self.dialler, self.channel)
        self.faults_changed()


class _End(asyncio.Protocol):
    """One of the two sockets."""

    def __init__(self, out: "_Pipe", into: "_Pipe") -> None:
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self._out = out
        self._into = into

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._into.is_stopped:
            self.reset()
        self._into.pump()

    def data_received(self, data: bytes) -> None:
        self._out.feed(data)

    def eof_received(self) -> bool:
        self._out.source_over()
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._out.source_over()

    def pause_writing(self) -> None:
        self._into.is_blocked = True

    def resume_writing(self) -> None:
        self._into.is_blocked = False
        self._into.pump()

    def reset(self) -> None:
        assert self.transport is not None
        if not self.is_lost:
            made: socket.socket = self.transport.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()


class _Pipe:
    """One direction.

    Attributes:
        fault: What befalls it now.
        traffic: Where it is counted.
        is_blocked: Whether the receiver takes no more at the moment.
        source_ended: Whether the sender has ended.
        is_stopped: Whether the connection is over.
    """

    def __init__(self, relay: Relay, rng: random.Random, on_first: Callable[[list[Piece]], None] | None) -> None:
        self.fault = Fault()
        self.traffic = Traffic()
        self.is_blocked = False
        self.source_ended = False
        self._relay = relay
        self._rng = rng
        self._on_first = on_first
        self._loop = asyncio.get_running_loop()
        self._stream = ZmtpStream()
        self._messages = 0
        self._first: list[Piece] = []
        self._is_dropping = False
        self._partial: list[bytes] = []  # of a message that may come twice, or be overtaken
        self._overtaken = b""
        self._overtaken_timer: asyncio.TimerHandle | None = None
        self._queue: collections.deque[tuple[float, bytes]] = collections.deque()  # due when; empty bytes: the end
        self._held_bytes = 0
        self._line_free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_stopped = False

    def connects(self, source: _End, sink: _End) -> None:
        self._source, self._sink = source, sink

    @property
    def is_empty(self) -> bool:
        return not self._queue

    def feed(self, data: bytes) -> None:
        """Take what the sender sent."""
        if self.is_stopped:
            return
        kept = [self._mixed(piece) for piece in self._stream.feed(data) if not self._drops(piece)]
        if self.is_stopped:  # by its first message, which told whose it is
            return
        data = kept[0] if len(kept) == 1 else b"".join(kept)
        if data:
            self._hold(data)
            self.pump()

    def source_over(self) -> None:
        """The sender has ended: so will we, after what it sent before."""
        if not (self.source_ended or self.is_stopped):
            self.source_ended = True
            self._let_overtaken_go()
            self._queue.append((self._loop.time(), b""))
            self.pump()
            self._relay.check_end()

    def on_fault(self) -> None:
        """`fault` has changed."""
        if not self.fault.bytes_per_s:
            latest = self._loop.time() + self.fault.delay_s + self.fault.jitter_s
            self._line_free_at = 0.0
            self._queue = collections.deque((min(at, latest), data) for at, data in self._queue)
        self.pump()
        self._relay.check_end()

    def pump(self) -> None:
        """Pass on what is due."""
        if self.is_stopped or self.fault.cut or self._sink.transport is None:
            return
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now and not self.is_blocked:
            data = self._queue.popleft()[1]
            self._pass_on(self._sink.transport, data)
            if self.is_stopped:
                return
        if self._held_bytes < HELD_BYTES_MAX // 2 and self._source.transport is not None:
            self._source.transport.resume_reading()
        if self._queue and not self.is_blocked and self._timer is None:
            self._timer = self._loop.call_at(self._queue[0][0], self._on_timer)

    def stop(self) -> None:
        self.is_stopped = True
        self._queue.clear()
        for timer in (self._timer, self._overtaken_timer):
            if timer is not None:
                timer.cancel()

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _pass_on(self, sink: asyncio.Transport, data: bytes) -> None:
        if data:
            self._held_bytes -= len(data)
            self.traffic.bytes += len(data)
            if not sink.is_closing():
                sink.write(data)
        elif self._source.is_lost:
            self._relay.close()
        else:
            if not sink.is_closing():
                sink.write_eof()
            self._relay.check_end()

    def _hold(self, data: bytes) -> None:
        fault, now = self.fault, self._loop.time()
        size = len(data)
        if fault.bytes_per_s:
            size = max(_LUMP_BYTES_MIN, int(fault.bytes_per_s / _LUMPS_PER_S))
        for begin in range(0, len(data), size):
            lump = data[begin : begin + size]
            at = now
            if fault.bytes_per_s:
                at = self._line_free_at = max(now, self._line_free_at) + len(lump) / fault.bytes_per_s
            at += fault.delay_s + self._rng.random() * fault.jitter_s
            if self._queue:
                at = max(at, self._queue[-1][0])
            self._queue.append((at, lump))
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES_MAX and self._source.transport is not None:
            self._source.transport.pause_reading()

    def _mixed(self, piece: Piece) -> bytes:
        """What goes on now because of a piece: of a message that may come twice or be overtaken nothing before it is
        whole; with it, perhaps, one that it has overtaken.
        """
        fault = self.fault
        if piece.kind is not PieceKind.MESSAGE or self._messages <= 1:
            return piece.data
        if not self._partial and not (piece.first and (fault.duplication or fault.reordering or self._overtaken)):
            return piece.data
        self._partial.append(piece.data)
        if not piece.last and sum(map(len, self._partial)) <= HELD_BYTES_MAX:
            return b""
        whole = b"".join(self._partial)
        self._partial.clear()
        if not piece.last or len(whole) > HELD_BYTES_MAX:
            return whole  # too large to be held: what is not here yet follows as it comes
        if self._rng.random() < fault.duplication:
            self.traffic.duplicated += 1
            whole += whole
        if self._overtaken:
            whole, self._overtaken = whole + self._overtaken, b""
        elif self._rng.random() < fault.reordering:
            self.traffic.reordered += 1
            self._overtaken, whole = whole, b""
            self._overtaken_timer = self._loop.call_later(_OVERTAKEN_S_MAX, self._let_overtaken_go)
        return whole

    def _let_overtaken_go(self) -> None:
        """Nothing has overtaken it."""
        overtaken, self._overtaken = self._overtaken, b""
        if self._overtaken_timer is not None:
            self._overtaken_timer.cancel()
            self._overtaken_timer = None
        if overtaken and not self.is_stopped:
            self._hold(overtaken)
            self.pump()

    def _drops(self, piece: Piece) -> bool:
        if piece.kind is not PieceKind.MESSAGE:
            return False
        if piece.first:
            self._messages += 1
            # HELLO and WELCOME come first: without them it would be no lossy connection, but none.
            self._is_dropping = self._messages > 1 and self._rng.random() < self.fault.loss
            if self._on_first is None:
                self.traffic.messages += 1
                self.traffic.dropped += self._is_dropping
        if self._on_first is not None:
            self._first.append(piece)
            if piece.last or sum(len(held.data) for held in self._first) > _HELLO_BYTES_MAX:
                on_first, self._on_first = self._on_first, None
                on_first(self._first if piece.last else [])
                self._first = []
                self.traffic.messages += 1
        return self._is_dropping


def _name_in_hello(frames: list[bytes]) -> str:
    """Which node's HELLO it is; empty if it is none."""
    try:
        (envelope,), _ = decode_batch(frames[0])
        if envelope.kind != Kind.HELLO or envelope.body is None:
            return ""
        hello = msgspec.msgpack.decode(envelope.body, type=Hello)
    except (RemoteProtocolError, msgspec.MsgspecError, ValueError, TypeError, RecursionError, IndexError):
        return ""  # somebody else, whom no fault befalls
    return hello.identity.name if hello.role == Role.NODE else ""
