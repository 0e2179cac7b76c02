"""What a listener sends back to its diallers, coalesced as an outbox coalesces what a connection sends.

A dialler without a listener of its own, which is a client, is answered on the connection that it made. A ROUTER takes
one message for each answer at some 8 us, where the node makes one in two; so the first of an idle period leaves at
once, and those that follow within the same pass of the loop leave as one batch.

A batch may find the queue of its dialler full. It is held then, and tried again until it is taken, the dialler is
gone, or `HELD_S_MAX` have passed; meanwhile nothing more is accepted for it, so that order is kept and no more is
held than one batch for each dialler.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import Final

from transports.limits import Limits
from transports.parcel import Buffer, Parcel, encode_alone
from transports.wire.batch import encode_envelope, join_batch
from transports.wire.envelope import Envelope, Kind

__all__ = ("HELD_S_MAX", "Answers", "Outcome")

HELD_S_MAX: Final = 30.0
_PAUSE_S: Final = 0.002  # before a batch that was refused is tried again; doubles
_PAUSE_S_MAX: Final = 0.1
# Smaller than the batches of an outbox: `answers_hwm` of them may wait for a client that does not read.
_BATCH_BYTES_MAX: Final = 16 * 1024
_BATCH_MESSAGES_MAX: Final = 64
# Whoever sends these wants to know at once whether they could leave.
_NEVER_LATE: Final = frozenset({Kind.WELCOME, Kind.REFUSED, Kind.BYE})


class Outcome(enum.Enum):
    """What became of an attempt to send."""

    SENT = enum.auto()
    FULL = enum.auto()  # the dialler is there, and has no room
    GONE = enum.auto()  # there is no such connection


Write = Callable[[bytes, bytes, Sequence[Buffer]], Outcome]


class _Lane:
    """One dialler that is busy.

    Attributes:
        packed: Envelopes that leave at the end of the pass.
        size: Their bytes.
        held: A frame that was refused, and how many envelopes it holds.
        until: When it is given up.
    """

    __slots__ = ("held", "packed", "pause", "size", "until")

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.size = 0
        self.held: tuple[bytes, int] | None = None
        self.until = 0.0
        self.pause = _PAUSE_S


class Answers:
    """The sending half of a listener.

    Args:
        loop: Whose passes count.
        limits: For `frame_bytes_max`.
        write: Hands one message to the network: routing id, batch frame, attachments.

    Attributes:
        refused: Envelopes that were refused, or given up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, write: Write) -> None:
        self._loop = loop
        self._frame_bytes_max = limits.frame_bytes_max
        self._write = write
        self._lanes: dict[bytes, _Lane] = {}
        self._pass_ends = False  # `_end_pass` is scheduled
        self._closed = False
        self.refused = 0

    def send(self, source: bytes, envelope: Envelope) -> Outcome:
        """Send one envelope, at once or with this pass. SENT means that it was accepted.

        Raises:
            LocalProtocolError: The envelope cannot be encoded, or does not fit into one frame.
        """
        lane = self._lanes.get(source)
        if lane is None or self._is_apart(envelope):
            return self._send_now(source, lane, envelope)
        packed = encode_envelope(envelope)
        if lane.size + len(packed) > _BATCH_BYTES_MAX:
            self._flush(source, lane)
        if lane.held is not None:
            self.refused += 1
            return Outcome.FULL
        lane.packed.append(packed)
        lane.size += len(packed)
        if len(lane.packed) >= _BATCH_MESSAGES_MAX:
            self._flush(source, lane)
        return Outcome.SENT

    def close(self) -> None:
        """Let go what waits for the end of the pass; nothing is tried again. Idempotent."""
        if not self._closed:
            self._closed = True
            for source, lane in self._lanes.items():
                self._flush(source, lane)
            self._lanes.clear()

    def _is_apart(self, envelope: Envelope) -> bool:
        body = envelope.body
        if envelope.kind in _NEVER_LATE or type(body) is Parcel:
            return True
        return body is not None and len(body) >= _BATCH_BYTES_MAX

    def _send_now(self, source: bytes, lane: _Lane | None, envelope: Envelope) -> Outcome:
        frame, attachments = encode_alone(envelope, self._frame_bytes_max)
        outcome = Outcome.SENT
        if lane is not None:
            outcome = self._flush(source, lane)
        if outcome is Outcome.SENT:
            outcome = self._write(source, frame, attachments)
        if outcome is not Outcome.SENT:
            self.refused += 1
        elif lane is None and not self._closed:
            self._lanes[source] = _Lane()
            if not self._pass_ends:
                self._pass_ends = True
                self._loop.call_soon(self._end_pass)
        return outcome

    def _end_pass(self) -> None:
        self._pass_ends = False
        for source, lane in list(self._lanes.items()):
            if lane.packed:
                self._flush(source, lane)
                self._pass_ends = True  # what was sent in this pass makes the next one busy too
            elif lane.held is None:
                del self._lanes[source]
        if self._pass_ends:
            self._loop.call_soon(self._end_pass)

    def _flush(self, source: bytes, lane: _Lane) -> Outcome:
        if lane.held is not None:
            return Outcome.FULL
        if not lane.packed:
            return Outcome.SENT
        frame, count = join_batch(lane.packed), len(lane.packed)
        lane.packed.clear()
        lane.size = 0
        outcome = self._write(source, frame, ())
        if outcome is Outcome.FULL and not self._closed:
            lane.held = frame, count
            lane.until = self._loop.time() + HELD_S_MAX
            self._loop.call_later(lane.pause, self._try_again, source, lane)
        elif outcome is not Outcome.SENT:
            self.refused += count
        return outcome

    def _try_again(self, source: bytes, lane: _Lane) -> None:
        if self._closed or lane.held is None:
            return
        frame, count = lane.held
        outcome = self._write(source, frame, ())
        if outcome is Outcome.FULL and self._loop.time() < lane.until:
            lane.pause = min(2 * lane.pause, _PAUSE_S_MAX)
            self._loop.call_later(lane.pause, self._try_again, source, lane)
            return
        if outcome is not Outcome.SENT:
            self.refused += count
        del self._lanes[source]  # it is idle: nothing was accepted meanwhile
