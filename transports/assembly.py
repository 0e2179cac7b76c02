"""Large payloads on their way in: pieces into a buffer, and the message when it is whole.

Nothing that a peer announces is believed further than it goes: octets are counted against a bound for each peer and
one for all when a transfer begins, memory is taken as they come (an anonymous mapping has no pages before they are
written), pieces come in order and without gaps, or the transfer is dropped. What is whole counts until somebody has
taken it up.

Buffers are used again once nobody holds a view of them any more, because fresh memory costs a page fault every 4 KiB:
an eighth of the time in which a large message arrives.

Pure: no clock, no socket. Wire format: `docs/spec/0001-wire.md`, section 4.12.
"""

import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from transports.errors import RemoteProtocolError
from transports.limits import Limits
from transports.parcel import Body, Buffer, Parcel, whole
from transports.wire.batch import WIRE_VERSION, decode_batch
from transports.wire.envelope import NIL, Envelope

__all__ = ("Assembled", "Assembly", "AssemblyStats", "BufferPool", "Refusal")

_piece = msgspec.msgpack.Decoder(tuple[int, int, int, int])
_end = msgspec.msgpack.Decoder(bytes | None)
_ONE_ENVELOPE: Final = bytes((WIRE_VERSION, 0x91))
_ROUNDED_BYTES: Final = 1024 * 1024
_TOTAL_MAX: Final = 1 << 48  # more is nonsense, and its sum would not fit into a CREDIT


@dataclass(frozen=True, slots=True)
class AssemblyStats:
    """Counters since the start."""

    open: int  # transfers under way now
    held_bytes: int  # announced by those, or whole and not taken up
    whole: int  # messages that came in pieces
    refused: int  # transfers past a bound
    given_up: int  # by their sender
    lost: int  # with their connection
    malformed: int  # pieces that the specification does not allow, or of no transfer


class BufferPool:
    """The memory for what all peers send in pieces, and the count of it.

    Args:
        limits: For `assembly_bytes_max`, of all peers together, and `pooled_bytes_max`.
    """

    def __init__(self, limits: Limits) -> None:
        self._bytes_max = limits.assembly_bytes_max
        self._pooled_max = limits.pooled_bytes_max
        self._buffers: list[mmap.mmap] = []
        self._used = False  # since the last `trim`
        self.held_bytes = 0

    def reserve(self, size: int) -> bool:
        """Count octets that are to come. False: there would be too many; one transfer passes when nothing is held."""
        if self.held_bytes and self.held_bytes + size > self._bytes_max:
            return False
        self.held_bytes += size
        return True

    def release(self, size: int) -> None:
        """They have been taken up, or will not come."""
        self.held_bytes -= size

    def buffer(self, size: int) -> memoryview:
        """Memory for one part; a buffer that nobody looks at any more, or a new one."""
        self._used = True
        for at, length in enumerate(map(len, self._buffers)):
            # Twice as large as needed would keep memory for nothing.
            if size <= length <= 2 * size and _references(self._buffers, at) == _REFERENCES_FREE:
                return memoryview(self._buffers[at])[:size]
        rounded = -(-size // _ROUNDED_BYTES) * _ROUNDED_BYTES
        fresh = mmap.mmap(-1, rounded)
        if sum(map(len, self._buffers)) + rounded <= self._pooled_max:
            self._buffers.append(fresh)
        return memoryview(fresh)[:size]

    def trim(self) -> None:
        """Called now and then: give memory back that was not used since the last time."""
        if not self._used:
            self._buffers.clear()
        self._used = False

    @property
    def pooled_bytes(self) -> int:
        """Octets of the buffers that are kept."""
        return sum(map(len, self._buffers))


@dataclass(frozen=True, slots=True)
class Assembled:
    """A message that is whole.

    Attributes:
        size: Octets to be given back with `Assembly.consumed` when it was taken up.
    """

    envelope: Envelope
    size: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transfer that will not be taken; its sender is to be told."""

    transfer: int
    reason: str


class _Incoming:
    """One transfer.

    Attributes:
        total: Octets that were announced.
        left: Those that have not been announced by a part.
        parts: Those that are whole.
        buffer: Of the part that is coming, or None.
        filled: Octets of that.
    """

    __slots__ = ("buffer", "filled", "left", "parts", "total")

    def __init__(self, total: int) -> None:
        self.total = self.left = total
        self.parts: list[Buffer] = []
        self.buffer: memoryview | None = None
        self.filled = 0


class Assembly:
    """What one peer sends in pieces, on one connection.

    Args:
        pool: Shared by all peers.
        limits: Bounds.

    Attributes:
        granted: Octets that the peer may begin, in all.
    """

    def __init__(self, pool: BufferPool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._window = limits.bulk_window_bytes
        self._incoming: dict[int, _Incoming] = {}
        self._begun = self._consumed = 0
        self._held = 0  # whole, and not taken up
        self.granted = self._window
        self._whole = self._refused = self._given_up = self._lost = self._malformed = 0

    def on_chunk(self, transfer: int, body: Body) -> Assembled | Refusal | None:
        """Take a CHUNK in.

        Args:
            transfer: Its id.
            body: A piece with its octets as the one attachment, or the end of a transfer.
        """
        if type(body) is Parcel:
            return self._on_piece(transfer, body)
        incoming = self._incoming.pop(transfer, None)
        if incoming is None:
            return None  # it was refused, or was malformed
        try:
            message = _end.decode(body)
        except (ValueError, RecursionError):
            self._drop(incoming, malformed=True)
            return None
        if message is None:
            self._given_up += 1
            self._drop(incoming)
            return None
        envelope = self._message(incoming, message)
        if envelope is None:
            self._drop(incoming, malformed=True)
            return None
        self._whole += 1
        self._held += incoming.total
        return Assembled(envelope, incoming.total)

    def consumed(self, size: int) -> int | None:
        """A message was taken up. Returns a new total to grant when it is time to, else None."""
        self._held -= size
        self._pool.release(size)
        return self._on_consumed(size)

    def regrant(self) -> int | None:
        """A new total to grant, if what was refused or dropped has made it time to."""
        return self._on_consumed(0)

    def close(self) -> None:
        """The connection is gone, and with it what had not come whole."""
        for incoming in self._incoming.values():
            self._pool.release(incoming.total)
        self._lost += len(self._incoming)
        self._incoming.clear()

    def stats(self) -> AssemblyStats:
        """Counters."""
        return AssemblyStats(
            open=len(self._incoming),
            held_bytes=self._held + sum(each.total for each in self._incoming.values()),
            whole=self._whole,
            refused=self._refused,
            given_up=self._given_up,
            lost=self._lost,
            malformed=self._malformed,
        )

    def _on_piece(self, transfer: int, piece: Parcel) -> Refusal | None:
        try:
            total, part, size, offset = _piece.decode(piece.body)
        except (ValueError, RecursionError):
            self._malformed += 1
            return None
        incoming = self._incoming.get(transfer)
        if incoming is None:
            if (part, offset) != (0, 0) or total > _TOTAL_MAX:
                self._malformed += 1  # or it was refused, and this was on its way
                return None
            refusal = self._begin(transfer, total)
            if refusal is not None:
                return refusal
            incoming = self._incoming[transfer]
        if not self._takes(incoming, total, part, size, offset, piece.attachments):
            del self._incoming[transfer]
            self._drop(incoming, malformed=True)
        return None

    def _begin(self, transfer: int, total: int) -> Refusal | None:
        limits = self._limits
        reason = ""
        if not 0 < total <= limits.transfer_bytes_max:
            reason = f"{total} bytes at once exceed {limits.transfer_bytes_max} (data.body_bytes_max)"
        elif len(self._incoming) >= limits.transfers_max:
            reason = f"{len(self._incoming)} transfers of one peer are under way (transfers_max={limits.transfers_max})"
        elif self._begun >= self.granted:
            reason = f"{self._begun} bytes were begun where {self.granted} were granted"
        elif not self._pool.reserve(total):
            reason = (
                f"{self._pool.held_bytes} bytes of large messages wait or are under way here "
                f"(data.assembly_bytes_max={limits.assembly_bytes_max})"
            )
        self._begun += max(total, 0)
        if reason:
            self._refused += 1
            self._consumed += max(total, 0)
            return Refusal(transfer, reason)
        self._incoming[transfer] = _Incoming(total)
        return None

    def _takes(
        self, incoming: _Incoming, total: int, part: int, size: int, offset: int, attachments: Sequence[Buffer]
    ) -> bool:
        """Take a piece in, if it is the one that comes next."""
        if len(attachments) != 1 or total != incoming.total or part != len(incoming.parts):
            return False
        data = attachments[0]
        if offset == 0 and incoming.buffer is None:
            if not 0 <= size <= incoming.left or part >= self._limits.attachments_max:
                return False
            incoming.left -= size
            if len(data) == size:  # all of it: a view of the frame will do
                incoming.parts.append(data)
                return True
            incoming.buffer, incoming.filled = self._pool.buffer(size), 0
        buffer = incoming.buffer
        ends = offset + len(data)
        if buffer is None or offset != incoming.filled or len(buffer) != size or ends > size or not data:
            return False
        buffer[offset:ends] = data
        incoming.filled = ends
        if ends == size:
            incoming.parts.append(buffer)
            incoming.buffer = None
        return True

    def _message(self, incoming: _Incoming, message: bytes) -> Envelope | None:
        if incoming.buffer is not None or incoming.left:
            return None
        try:
            envelopes, _ = decode_batch(_ONE_ENVELOPE + message)
        except RemoteProtocolError:
            return None
        sound, _ = whole(envelopes, incoming.parts)
        if len(sound) != 1:
            return None
        [envelope] = sound
        if envelope.body is None:
            envelope.body = NIL
        return envelope

    def _drop(self, incoming: _Incoming, malformed: bool = False) -> None:
        self._malformed += malformed
        self._pool.release(incoming.total)
        self._consumed += incoming.total

    def _on_consumed(self, size: int) -> int | None:
        self._consumed += size
        total = self._consumed + self._window
        if 4 * (total - self.granted) < self._window and not (self._begun >= self.granted and total > self.granted):
            return None
        if total <= self.granted:
            return None
        self.granted = total
        return total


def _references(buffers: Sequence[object], at: int) -> int:
    return sys.getrefcount(buffers[at])


# Of one that nothing but its list refers to; how many those are depends on the interpreter.
_REFERENCES_FREE: Final = _references([object()], 0)
