"""What waits to be sent on one channel, and the credit for it. Wire format: `docs/spec/0001-wire.md`, section 6.

It outlives connections: what was not sent on one goes out on the next.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any, Final

from fdn.client.codec import Kind, batch, envelope
from fdn.client.signals import Signal

__all__ = ("Credit", "Outbox", "Outgoing")

_PAID: Final = frozenset({Kind.CALL, Kind.ITEM, Kind.END, Kind.CAST, Kind.EVENT})
_FRESH: Final = frozenset({Kind.CALL, Kind.CAST, Kind.EVENT})
_ENVELOPES_MAX: Final = 512  # in a batch, as are the bytes
_BATCH_BYTES_MAX: Final = 64 * 1024
_WAITING_MAX: Final = 1024  # beyond which verbs wait for room; the same for the bytes
_WAITING_BYTES_MAX: Final = 8 * 1024 * 1024


class Credit:
    """What the node lets us send on one connection: totals since HELLO.

    Args:
        granted: Messages and bytes of the WELCOME; (0, 0) is no limit.
        epoch: Of the HELLO.
    """

    def __init__(self, granted: tuple[int, int], epoch: int) -> None:
        self._granted = granted
        self._epoch = epoch
        self._sent = (0, 0)

    @property
    def spent(self) -> bool:
        """Whether nothing more may be sent for now."""
        if self._granted == (0, 0):
            return False
        return self._sent[0] >= self._granted[0] or self._sent[1] >= self._granted[1]

    def spend(self, messages: int, size: int) -> None:
        """A batch was sent."""
        self._sent = (self._sent[0] + messages, self._sent[1] + size)

    def on_credit(self, body: Any) -> None:
        """A CREDIT came in."""
        match body:
            case [int(epoch), int(messages), int(size)] if epoch == self._epoch:
                self._granted = (max(self._granted[0], messages), max(self._granted[1], size))


class Outgoing:
    """One envelope to be sent.

    Args:
        deadline_at: After which it is not sent any more; 0.0 for never.
        body: Encoded.
        on_sent: Called when it goes into a batch.

    Attributes:
        dropped: Set it, and the envelope is not sent any more.
    """

    __slots__ = ("body", "deadline_at", "dropped", "kind", "meta", "number", "on_sent", "to")

    def __init__(
        self,
        kind: int,
        to: str,
        number: int,
        body: bytes = b"\xc0",
        *,
        deadline_at: float = 0.0,
        meta: Mapping[int, Any] | None = None,
        on_sent: Callable[[], object] | None = None,
    ) -> None:
        self.kind = kind
        self.to = to
        self.number = number
        self.body = body
        self.deadline_at = deadline_at
        self.meta = meta or None
        self.on_sent = on_sent
        self.dropped = False


class Outbox:
    """Two queues: what needs credit waits for it, and what does not goes ahead.

    Attributes:
        room: Fires when there is room again, and when all is sent.
    """

    def __init__(self) -> None:
        self._paid: collections.deque[Outgoing] = collections.deque()
        self._rested: collections.deque[Outgoing] = collections.deque()
        self._rests = False
        self._exempt: collections.deque[Outgoing] = collections.deque()
        self._paid_bytes = 0
        self.room = Signal()

    def __len__(self) -> int:
        return len(self._paid) + len(self._rested) + len(self._exempt)

    @property
    def full(self) -> bool:
        """Whether a verb should wait for `room` first."""
        return len(self._paid) + len(self._rested) >= _WAITING_MAX or self._paid_bytes >= _WAITING_BYTES_MAX

    def put(self, outgoing: Outgoing) -> None:
        """Send it when its turn comes."""
        if outgoing.kind in _PAID:
            (self._rested if self._rests and outgoing.kind in _FRESH else self._paid).append(outgoing)
            self._paid_bytes += len(outgoing.body)
        else:
            self._exempt.append(outgoing)

    def rest(self) -> None:
        """Keep back whatever would begin something new, until `go_on`, or for the next connection."""
        self._rests = True

    def go_on(self) -> None:
        """Send again what was kept back. Idempotent."""
        self._rests = False
        self._paid.extend(self._rested)
        self._rested.clear()

    def ready(self, credit: Credit) -> bool:
        """Whether something may be sent now."""
        return bool(self._exempt) or (bool(self._paid) and not credit.spent)

    def next_batch(self, credit: Credit, now: float) -> bytes | None:
        """A frame to send now, if there is one; its credit is spent with that."""
        if self._exempt:
            frame = self._batch(self._exempt, now)
            if self.room and not self:
                self.room.fire()
            return frame or self.next_batch(credit, now)
        if not self._paid or credit.spent:
            return None
        frame = self._batch(self._paid, now, credit)
        if self.room and (not self._paid or not self.full):
            self.room.fire()
        return frame or self.next_batch(credit, now)

    def on_lost(self) -> None:
        """The connection is gone: keep what makes sense on another, which is what had not begun."""
        self.go_on()
        self._exempt.clear()
        self._paid = collections.deque(each for each in self._paid if each.kind in _FRESH)
        self._paid_bytes = sum(len(each.body) for each in self._paid)
        self.room.fire()

    def clear(self) -> None:
        """Send nothing of it."""
        self.go_on()
        self._paid.clear()
        self._exempt.clear()
        self._paid_bytes = 0
        self.room.fire()

    def _batch(self, queue: "collections.deque[Outgoing]", now: float, credit: Credit | None = None) -> bytes | None:
        """One frame off the head of a queue; None if all that was tried is not to be sent any more."""
        envelopes: list[bytes] = []
        size = 0
        while queue and size < _BATCH_BYTES_MAX and len(envelopes) < _ENVELOPES_MAX:
            each = queue.popleft()
            if credit is not None:
                self._paid_bytes -= len(each.body)
            if each.dropped or (each.deadline_at and each.deadline_at <= now):
                continue
            # Written here, so that the time spent waiting for credit counts.
            left_ms = max(1, int((each.deadline_at - now) * 1000)) if each.deadline_at else 0
            packed = envelope(each.kind, each.to, each.number, left_ms, each.meta, each.body)
            envelopes.append(packed)
            size += len(packed)
            if each.on_sent is not None:
                each.on_sent()
        if not envelopes:
            return None
        frame = batch(envelopes)
        if credit is not None:
            credit.spend(len(envelopes), len(frame))
        return frame
