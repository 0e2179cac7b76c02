"""The coalescing queue in front of a connection, shared by every transport.

Envelopes queue in a list that becomes one batch. The first of an idle period leaves at once; those that follow within
the same pass of the event loop leave together at its end, or earlier when they fill a batch (or, of answers, a share
of what the last pass has made). An idle period begins with the first pass that has sent nothing. The point is the cost
of a message: one `send` on a ZeroMQ socket costs about 2 us, an append here 0.3 us, and the first message of a burst
still waits for nobody.

Two queues: `send` needs credit, `send_exempt` does not and goes ahead, also while the other waits for credit.
They never share a batch, so that the first envelope of a batch tells the receiver whether it counts.

Large messages go in pieces (`transports.bulk`), which take turns with the small ones: after a piece, as many octets of
those may pass.

A batch is encoded when it leaves and not before: only then is it known how much of each deadline is left.
"""

import abc
import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence

from transports.bulk import Bulk, Transfer, is_bulk, order_key
from transports.credit import SendWindow
from transports.errors import LocalProtocolError, OversizedEnvelope
from transports.intake import Intake
from transports.limits import Limits
from transports.packing import Packer
from transports.parcel import ATTACHED_BYTES_MIN, Buffer, Parcel, lay_out
from transports.ranks import RankedQueue
from transports.shm.handles import Lender, as_handles, handle_frames, weight
from transports.transport import ATTACHMENTS, CHUNKS, SENT, ConnectionStats
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind

__all__ = ("OnExpired", "Outbox")

OnExpired = Callable[[Envelope], None]

logger = logging.getLogger(__name__)

# What an envelope weighs beside its body, for the bounds only: array, kind, id, deadline and a usual address.
# Credit counts the bytes really sent.
_ENVELOPE_BYTES = 48
_SENT = int(Kind.SENT)
_CLOCK_S = 0.005  # between two words of our clock, where the peer wants to know how old messages are

# Of the answers that one pass makes, each quarter leaves by itself, if it is no fewer than this: else whoever asked for
# 256 things would wait, idle, until all are done, and then we for the next 256. A batch costs some 40 us on its way.
_SHARE_LEAST = 32


class _Queued:
    """Envelopes that will leave as one batch."""

    __slots__ = ("attachments", "envelopes", "size", "timed")

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.size = 0  # estimated bytes
        self.attachments: Sequence[Buffer] = ()  # of the one envelope, if it has any
        self.timed: list[tuple[Envelope, float, OnExpired | None]] = []


class Outbox(abc.ABC):
    """The sending half of a `Connection`; a transport derives from it and adds `_write`.

    The transport calls `_resume` when its queue takes frames again (and first when it does so at all), and
    `_end` when the connection is over. Closing belongs here too, because what waits here may linger.
    """

    # What every message touches. A transport adds attributes of its own, and a dict of more than 30 of them is slow.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_batch_bytes_max",
        "_batch_messages_max",
        "_bulk",
        "_deferred",
        "_ended",
        "_exempt",
        "_lender",
        "_open",
        "_pass_ends",
        "_share",
        "_slow_at",
        "_writable",
        "full",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._now = loop.time
        self._limits = limits
        self._batch_messages_max = min(limits.batch_messages_max, limits.outbox_messages_max)
        self._batch_bytes_max = min(limits.batch_bytes_max, limits.outbox_bytes_max)
        self._slow_at = self._batch_bytes_max  # bytes from which `send` looks twice; 0 while transfers are under way
        self._open = _Queued()  # still taking envelopes
        self._sealed: deque[_Queued] = deque()  # full, waiting
        self._exempt: deque[_Queued] = deque()  # the last one is still taking envelopes
        self._ranked: RankedQueue | None = None  # made when first used
        self._transfers = Bulk(limits)
        self._bulk: Bulk | None = None  # the same, while there are any
        self._bulk_timer: asyncio.TimerHandle | None = None  # for the pace
        self._n_sealed = self._n_departed = 0  # batches that were sealed, and those of them that have left
        self._window = SendWindow()
        self._waiters: dict[asyncio.Future[None], None] = {}  # the first to wait is the first to go on
        self._writable = False
        self._flushing = False
        self._pass_ends = False  # `_end_pass` is scheduled
        self._deferred = True  # somebody else will flush: `_end_pass`, `_resume` or `grant`
        self._ended = False
        self._linger_until: float | None = None  # set by `close`
        self._linger_timer: asyncio.TimerHandle | None = None
        self._packer: Packer | None = None  # if this connection compresses
        self._attaches = False  # whether the peer takes attachments
        self._lender: Lender | None = None  # if it is on this host
        self._chunks = False  # and pieces
        self._clocks = False  # and clocks
        self._clocked_at = 0.0
        self._messages_queued = 0  # all but the open batch
        self._bytes_queued = 0
        self._messages_sent = self._bytes_sent = self._batches_sent = 0
        self._refused = 0  # transfers that the peer would not take
        self._dropped = self._expired = self._unsendable = self._hwm_hits = self._credit_stalls = 0
        self._n_shed = 0
        self._dropping = False
        self._share = _SHARE_LEAST  # exempt envelopes that leave without waiting for the end of the pass
        self._sent_before = 0  # messages, at the end of the pass before
        self._on_idle: Callable[[], None] | None = None
        self.full = False

    @abc.abstractmethod
    def _write(self, frame: bytes, attachments: Sequence[Buffer] = ()) -> bool:
        """Hand one message to the network, which takes it in any case. Returns whether it would take another."""

    @abc.abstractmethod
    def _hush(self) -> None:
        """From now on hand up neither events nor batches: the owner has closed the connection."""

    @abc.abstractmethod
    def _shut(self) -> None:
        """Release everything, and call `_end`. Idempotent."""

    def send(self, envelope: Envelope, deadline_at: float = 0.0, on_expired: OnExpired | None = None) -> None:
        """See `Connection.send`.

        Raises:
            OversizedEnvelope: The body does not fit into one frame.
        """
        batch = self._open
        body = envelope.body
        size = batch.size + _ENVELOPE_BYTES if body is None else batch.size + len(body) + _ENVELOPE_BYTES
        if size >= self._slow_at:
            self._send_slowly(envelope, deadline_at, on_expired)
        else:
            batch.size = size
            envelopes = batch.envelopes
            envelopes.append(envelope)
            if deadline_at:
                batch.timed.append((envelope, deadline_at, on_expired))
            if len(envelopes) >= self._batch_messages_max:
                self._seal()
        if not self._deferred:
            self._begin_pass()

    def send_exempt(self, envelope: Envelope) -> None:
        """See `Connection.send_exempt`.

        Raises:
            OversizedEnvelope: The body does not fit into one frame.
        """
        if self._ended:
            return
        if self._bulk is not None and envelope.kind == Kind.CANCEL:
            self.withdraw((Kind.CALL, Kind.ITEM), envelope.id)
        body = envelope.body
        size = _ENVELOPE_BYTES if body is None else len(body) + _ENVELOPE_BYTES
        attachments: Sequence[Buffer] = ()
        if size > self._batch_bytes_max:
            if self._put_bulk(envelope, is_answer=True):
                return
            envelope, attachments, size = self._fit(envelope, size)
        if self._bytes_queued >= self._limits.exempt_bytes_max:
            self._drop_exempt(envelope)
            return
        exempt = self._exempt
        if (
            not exempt
            or exempt[-1].size + size > self._batch_bytes_max
            or len(exempt[-1].envelopes) >= self._batch_messages_max
        ):
            exempt.append(_Queued())
        exempt[-1].envelopes.append(envelope)
        exempt[-1].size += size
        if attachments:  # it is alone, because of its size
            exempt[-1].attachments = attachments
        self._count(1, size)
        if self._writable and (not self._pass_ends or len(exempt[-1].envelopes) >= self._share):
            self._begin_pass()

    def lend_by(self, lender: Lender) -> None:
        """See `Connection.lend_by`."""
        self._lender = lender

    def agree(self, features: Collection[str]) -> None:
        """See `Connection.agree`."""
        self._attaches = ATTACHMENTS in features
        self._chunks = self._attaches and CHUNKS in features
        self._clocks = SENT in features

    def grant_bulk(self, total: int) -> None:
        """See `Connection.grant_bulk`."""
        self._transfers.grant(total)
        if self._writable:
            self._go_on()

    @property
    def bulk_full(self) -> bool:
        """See `Connection.bulk_full`."""
        return self._bulk is not None and self._bulk.full

    def withdraw(self, kinds: Collection[int], message_id: int) -> None:
        """See `Connection.withdraw`."""
        if self._bulk is not None:
            transfer = self._bulk.find(kinds, message_id)
            if transfer is not None:
                self._drop_transfer(transfer)

    def on_refused(self, transfer_id: int) -> Envelope | None:
        """See `Connection.on_refused`."""
        transfer = self._transfers.by_id(transfer_id)
        if transfer is None:
            message = self._transfers.ended(transfer_id)
            self._refused += message is not None
            return message
        self._refused += 1
        self._drop_transfer(transfer, tell=False)
        return transfer.envelope

    def send_ranked(
        self,
        envelope: Envelope,
        priority: int,
        latest: str = "",
        deadline_at: float = 0.0,
        on_expired: OnExpired | None = None,
    ) -> None:
        """See `Connection.send_ranked`.

        Raises:
            OversizedEnvelope: The body does not fit into one frame.
        """
        body = envelope.body
        size = _ENVELOPE_BYTES if body is None else len(body) + _ENVELOPE_BYTES
        attachments: Sequence[Buffer] = ()
        if self._ended:
            return
        if size > self._batch_bytes_max:
            if self._put_bulk(envelope, deadline_at, on_expired):
                return
            envelope, attachments, size = self._fit(envelope, size)
        if self._ranked is None:
            self._ranked = RankedQueue(self._batch_messages_max, self._batch_bytes_max)
        self._count(*self._ranked.put(envelope, size, priority, latest, deadline_at, on_expired, attachments))
        if not self._deferred:
            self._begin_pass()

    def shed(self, priority: int, size: int) -> list[Envelope]:
        """See `Connection.shed`."""
        if self._ranked is None:
            return []
        dropped, freed = self._ranked.shed(priority, size)
        self._messages_queued -= len(dropped)
        self._bytes_queued -= freed
        self._n_shed += len(dropped)
        return dropped

    def compress(self) -> None:
        """See `Connection.compress`."""
        self._packer = self._packer or Packer()

    def hold_back(self, messages: int, bytes_: int) -> None:
        """See `Connection.hold_back`."""
        self._window.hold_back(messages, bytes_)
        if self._writable:
            self._go_on()

    def limit_batches(self, bytes_: int) -> None:
        """See `Connection.limit_batches`."""
        self._batch_bytes_max = min(self._limits.batch_bytes_max, self._limits.outbox_bytes_max, bytes_)

    @property
    def backlog(self) -> int:
        """See `Connection.backlog`."""
        return self._bytes_queued + self._open.size

    @property
    def has_credit(self) -> bool:
        """See `Connection.has_credit`."""
        return self._window.open

    def grant(self, messages: int, bytes_: int) -> None:
        """See `Connection.grant`."""
        self._window.grant(messages, bytes_)
        if self._writable:
            self._go_on()

    def has_room(self, size: int) -> bool:
        """See `Connection.has_room`."""
        return not self.full and (size <= self._limits.chunk_bytes or not self.bulk_full)

    async def wait_room(self, size: int = 0) -> None:
        """See `Connection.wait_room`. Whoever calls `send` before the next `await` finds the room still there."""
        while not self.has_room(size) and not self._ended:
            waiter = self._loop.create_future()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)

    def when_idle(self, callback: Callable[[], None]) -> None:
        """See `Connection.when_idle`."""
        if self._ended:
            return
        self._on_idle = callback
        if not self._pass_ends:
            self._loop.call_soon(self._tell_idle)  # else the end of the pass will

    def close(self, linger_s: float = 0.0) -> None:
        """See `Connection.close`."""
        if self._ended or self._linger_until is not None:
            return
        self._linger_until = self._now() + linger_s
        self._hush()
        if linger_s <= 0 or self._spent():
            self._shut()
        else:
            self._linger_timer = self._loop.call_later(linger_s, self._shut)

    def _stats(self, intake: Intake) -> ConnectionStats:
        """The counters, with those of the receiving half."""
        return ConnectionStats(
            messages_sent=self._messages_sent,
            bytes_sent=self._bytes_sent,
            batches_sent=self._batches_sent,
            expired=self._expired,
            unsendable=self._unsendable,
            hwm_hits=self._hwm_hits,
            credit_stalls=self._credit_stalls,
            dropped=self._dropped,
            queued_messages=self._messages_queued + len(self._open.envelopes) + len(self._transfers),
            queued_bytes=self._bytes_queued + self._open.size,
            batches_received=intake.batches,
            malformed=intake.malformed,
            transfers=len(self._transfers),
            transfers_bytes=self._transfers.queued_bytes,
            transfers_refused=self._refused,
            superseded=0 if self._ranked is None else self._ranked.superseded,
            credit_messages=self._window.messages_left,
            shed=self._n_shed,
            packed_bytes_in=0 if self._packer is None else self._packer.bytes_in,
            packed_bytes_out=0 if self._packer is None else self._packer.bytes_out,
        )

    @property
    def _idle(self) -> bool:
        """Whether nothing waits here."""
        return not (self._open.envelopes or self._sealed or self._exempt or self._ranked) and not self._bulk_ready()

    def _spent(self) -> bool:
        """Whether nothing waits here that could leave without a further grant."""
        if self._exempt or self._bulk_ready():
            return False
        return not (self._open.envelopes or self._sealed or self._ranked) or not self._window.open

    def _bulk_ready(self) -> bool:
        """Whether a piece could leave now."""
        bulk = self._bulk
        return bulk is not None and self._window.open_for_bulk and bulk.ready(self._now(), self._n_departed)

    def _resume(self) -> None:
        """The network takes frames again."""
        if self._ended or self._writable:
            return
        self._writable = True
        self._go_on()

    def _end(self) -> None:
        """The connection is over: drop what waits, and let nobody wait any longer. Idempotent."""
        self._dropped += self._messages_queued + len(self._open.envelopes) + self._transfers.clear()
        self._bulk = None
        if self._bulk_timer is not None:
            self._bulk_timer.cancel()
        self._ended = self._deferred = True
        self._writable = self.full = False
        self._on_idle = None
        self._open = _Queued()
        self._sealed.clear()
        self._exempt.clear()
        if self._ranked is not None:
            self._ranked.clear()
        self._messages_queued = self._bytes_queued = 0
        if self._lender is not None:
            self._lender.end()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._wake()

    def _go_on(self) -> None:
        """What held us up is gone."""
        if self._pass_ends:
            return
        if self._idle:
            self._deferred = False
            self._tell_idle()
        else:
            self._begin_pass()

    def _begin_pass(self) -> None:
        self._flush()
        if not self._ended and not self._pass_ends:
            self._pass_ends = self._deferred = True
            self._loop.call_soon(self._end_pass)

    def _end_pass(self) -> None:
        self._pass_ends = False
        if self._ended:
            return
        before, self._sent_before = self._sent_before, self._messages_sent
        if self._idle and self._sent_before - before < _SHARE_LEAST:
            self._share = _SHARE_LEAST
            self._deferred = not self._writable
            self._tell_idle()
            return
        self._flush()
        self._sent_before = self._messages_sent
        self._share = max(_SHARE_LEAST, (self._messages_sent - before) // 4)
        if self._writable and self._window.open:
            # What was sent in this pass makes the next one busy too, so that a steady stream is coalesced.
            self._pass_ends = True
            self._loop.call_soon(self._end_pass)
        else:
            self._tell_idle()

    def _tell_idle(self) -> None:
        callback = self._on_idle
        if callback is not None and self._writable and self._idle and not self._pass_ends:
            self._on_idle = None
            callback()

    def _drop_exempt(self, envelope: Envelope) -> None:
        """Nobody waits to send these, so the bound is kept by dropping: the peer asks and does not read the answers."""
        self._dropped += 1
        if not self._dropping:
            self._dropping = True
            logger.error(
                "exempt_bytes_max=%d wait for a peer that does not read; dropping, first an envelope of kind %d",
                self._limits.exempt_bytes_max,
                envelope.kind,
            )

    def _send_slowly(self, envelope: Envelope, deadline_at: float, on_expired: OnExpired | None) -> None:
        """Queue one that fills its batch, perhaps all by itself, goes in pieces, or waits behind what does."""
        body = envelope.body
        size = _ENVELOPE_BYTES if body is None else len(body) + _ENVELOPE_BYTES
        if size > self._batch_bytes_max:
            if self._put_bulk(envelope, deadline_at, on_expired):
                return
            envelope, size = self._make_way(envelope, size)
        elif self._bulk is not None:
            before = self._bulk.last_of(order_key(envelope))
            if before is not None:
                before.followers.append((envelope, deadline_at, on_expired))
                self._count(1, size)
                return
        batch = self._open
        batch.envelopes.append(envelope)
        batch.size += size
        if deadline_at:
            batch.timed.append((envelope, deadline_at, on_expired))
        if len(batch.envelopes) >= self._batch_messages_max or batch.size >= self._batch_bytes_max:
            self._seal()

    def _put_bulk(
        self,
        envelope: Envelope,
        deadline_at: float = 0.0,
        on_expired: OnExpired | None = None,
        is_answer: bool = False,
    ) -> bool:
        """Let a message go in pieces, if it is one that does. False: nothing was done."""
        body, limits = envelope.body, self._limits
        if not self._chunks or self._ended or len(body) <= limits.chunk_bytes:
            return False
        if type(body) is bytes:
            body = Parcel.of_buffer(body)
        elif type(body) is not Parcel:
            body = Parcel.of_body(body)
        elif self._lender is not None and all(
            len(part) <= limits.chunk_bytes for part in as_handles(body.attachments)[0]
        ):
            return False  # what lies in shared memory goes as a word of where
        if not is_bulk(body, limits.chunk_bytes):
            return False
        if len(body.body) > limits.chunk_bytes:
            body = body.with_body_beside()
        if len(body) > limits.transfer_bytes_max:
            raise OversizedEnvelope(len(body), limits.transfer_bytes_max)
        transfers = self._transfers
        if is_answer and 0 < transfers.queued_answers_bytes > limits.exempt_bulk_bytes_max - len(body):
            self._drop_exempt(envelope)
            return True
        fields = (envelope.kind, envelope.to, envelope.id, envelope.deadline_ms, envelope.meta)
        transfer = transfers.put(Envelope(*fields, body), deadline_at, on_expired, is_answer)
        if transfer.key is not None:  # what was sent before with this key leaves before its end
            if self._open.envelopes:
                self._seal()
            transfer.after = self._n_sealed
        self._bulk, self._slow_at = transfers, 0
        if not self._deferred:
            self._begin_pass()
        return True

    def _drop_transfer(self, transfer: Transfer, tell: bool = True) -> None:
        self._transfers.drop(transfer, tell)
        self._after_transfer(transfer)
        if self._writable:
            self._go_on()

    def _after_transfer(self, transfer: Transfer) -> None:
        """One has ended, however it did: what waited for it may go on."""
        for envelope, deadline_at, on_expired in transfer.followers:
            size = _ENVELOPE_BYTES if envelope.body is None else len(envelope.body) + _ENVELOPE_BYTES
            self._messages_queued -= 1
            self._bytes_queued -= size
            batch = self._open
            batch.envelopes.append(envelope)
            batch.size += size
            if deadline_at:
                batch.timed.append((envelope, deadline_at, on_expired))
            if len(batch.envelopes) >= self._batch_messages_max or batch.size >= self._batch_bytes_max:
                self._seal()
        following = None
        if transfer.key is not None:
            following = next((each for each in self._transfers if each.key == transfer.key), None)
        if following is not None:
            if self._open.envelopes:
                self._seal()
            following.after = self._n_sealed
        if not self._transfers:
            self._bulk, self._slow_at = None, self._batch_bytes_max
        if not self._transfers.full:
            self._wake()

    def _make_way(self, envelope: Envelope, size: int) -> tuple[Envelope, int]:
        """Let a large envelope travel alone: behind others in one batch it might outgrow the frame."""
        envelope, attachments, size = self._fit(envelope, size)
        if self._open.envelopes:
            self._seal()
        self._open.attachments = attachments
        return envelope, size

    def _fit(self, envelope: Envelope, size: int) -> tuple[Envelope, Sequence[Buffer], int]:
        """The form in which a large envelope leaves: with its parts beside it, if the peer takes them so. And what it
        weighs then.
        """
        body = envelope.body
        if type(body) is bytes and self._attaches and len(body) >= ATTACHED_BYTES_MIN:
            body = Parcel.of_buffer(body)
        if type(body) is not Parcel:
            self._check_fits(size - _ENVELOPE_BYTES)
            return envelope, (), size
        fields = (envelope.kind, envelope.to, envelope.id, envelope.deadline_ms, envelope.meta)
        if not self._attaches:
            self._check_fits(len(body))
            return Envelope(*fields, body.inline()), (), size
        shared: Sequence[int] = ()
        if self._lender is not None:
            parts, shared = as_handles(body.attachments)
            if shared:
                body = Parcel(body.body, parts)
                # At least so much that it still travels alone.
                size = max(self._batch_bytes_max, len(body) + weight(parts) + _ENVELOPE_BYTES)
        for part in (*body.attachments, body.body):
            self._check_fits(len(part))
        return *lay_out(Envelope(*fields, body), shared), size

    def _check_fits(self, body_bytes: int) -> None:
        if body_bytes > self._limits.body_bytes_max:
            raise OversizedEnvelope(body_bytes, self._limits.body_bytes_max)

    def _seal(self) -> None:
        """Close the open batch; unless we must wait, it leaves now, so that the I/O thread works beside us."""
        batch = self._open
        self._open = _Queued()
        if self._ended:
            return
        self._sealed.append(batch)
        self._n_sealed += 1
        self._count(len(batch.envelopes), batch.size)
        if self._writable and self._pass_ends:
            self._flush()

    def _flush(self) -> None:
        """Write what may leave. Not reentrant: an `on_expired` that calls `send` finds the loop below still running."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._writable:
                bulk = self._bulk
                if self._exempt:
                    self._depart(self._uncount(self._exempt.popleft()), needs_credit=False)
                elif bulk is not None and self._is_turn_of(bulk) and self._depart_piece(bulk):
                    pass
                elif not (self._sealed or self._open.envelopes or self._ranked):
                    break
                elif not self._window.open:
                    self._credit_stalls += 1
                    break
                elif self._ranked and self._ranked.choose(bool(self._sealed or self._open.envelopes)):
                    batch = _Queued()
                    batch.envelopes, batch.size, batch.timed, batch.attachments = self._ranked.pop()
                    self._depart(self._uncount(batch), needs_credit=True)
                elif self._sealed:
                    self._n_departed += 1
                    self._depart(self._uncount(self._sealed.popleft()), needs_credit=True)
                else:
                    batch = self._open
                    self._open = _Queued()
                    self._depart(batch, needs_credit=True)
        finally:
            self._flushing = False
        if self.full:
            self._make_room()
        if self._bulk is not None and self._bulk_timer is None and self._bulk.resumes_at > self._now():
            self._bulk_timer = self._loop.call_at(self._bulk.resumes_at, self._on_pace)
        if self._linger_until is not None and self._writable and self._spent():
            self._shut()

    def _count(self, messages: int, size: int) -> None:
        self._messages_queued += messages
        self._bytes_queued += size
        limits = self._limits
        if self._messages_queued >= limits.outbox_messages_max or self._bytes_queued >= limits.outbox_bytes_max:
            self.full = True

    def _uncount(self, batch: _Queued) -> _Queued:
        self._messages_queued -= len(batch.envelopes)
        self._bytes_queued -= batch.size
        return batch

    def _depart(self, batch: _Queued, needs_credit: bool) -> None:
        envelopes = self._stamp(batch) if batch.timed else batch.envelopes
        if not envelopes or self._ended:  # an `on_expired` may have closed us
            return
        if self._clocks and needs_credit and batch.timed and not batch.attachments:
            now = self._now()
            if now - self._clocked_at >= _CLOCK_S:
                self._clocked_at = now
                envelopes = [Envelope(Kind.SENT, "", int(now * 1000)), *envelopes]
        try:
            frame = encode_batch(envelopes)
        except LocalProtocolError:
            self._depart_singly(envelopes, needs_credit)
            return
        if len(frame) > self._limits.frame_bytes_max:  # metas far larger than bodies
            self._depart_singly(envelopes, needs_credit)
            return
        messages = len(envelopes)
        size = len(frame)  # before it is packed: credit counts what the peer has to hold
        weighs = 0
        if self._packer is not None:
            frame = self._packer.pack(frame)
        if batch.attachments:
            attachments = batch.attachments
            if self._lender is not None:
                weighs = weight(attachments)
                attachments = handle_frames(attachments, self._lender)
            size += sum(map(len, attachments))
            self._writable = self._write(frame, attachments)
        else:
            self._writable = self._write(frame)
        if needs_credit:
            self._window.spend(messages, size + weighs)
        self._messages_sent += messages - (envelopes[0].kind == _SENT)
        self._bytes_sent += size
        self._batches_sent += 1
        if self._bulk is not None and needs_credit:
            self._bulk.on_small(size)
        if not self._writable:
            self._hwm_hits += 1

    def _is_turn_of(self, bulk: Bulk) -> bool:
        """Whether a piece goes before the small messages that wait: every second turn, counted in octets."""
        return bulk.is_due or not (self._sealed or self._open.envelopes or self._ranked)

    def _depart_piece(self, bulk: Bulk) -> bool:
        """Send one piece of a transfer, if one may leave."""
        now = self._now()
        for late in bulk.expire(now):
            self._expired += 1
            self._after_transfer(late)
            if late.on_expired is not None:
                late.on_expired(late.envelope)
        if not self._window.open_for_bulk:
            return False
        was_full = bulk.full
        piece = bulk.next_piece(now, self._n_departed)
        if piece is None:
            return False
        if piece.failure:
            self._unsendable += 1
            logger.error("a large message cannot be sent: %s; dropped", piece.failure)
        size = len(piece.frame) + sum(map(len, piece.attachments))
        self._writable = self._write(piece.frame, piece.attachments)
        self._window.spend(1, size)
        self._messages_sent += 1
        self._bytes_sent += size
        self._batches_sent += 1
        if not self._writable:
            self._hwm_hits += 1
        if piece.done is not None or not bulk:
            self._after_piece(piece.done)
        elif was_full and not bulk.full:
            self._wake()
        return True

    def _after_piece(self, done: Transfer | None) -> None:
        if done is not None:
            self._after_transfer(done)
        else:  # the last of them was given up, and the receiver knows
            self._bulk, self._slow_at = None, self._batch_bytes_max

    def _on_pace(self) -> None:
        self._bulk_timer = None
        if self._writable:
            self._go_on()

    def _depart_singly(self, envelopes: list[Envelope], needs_credit: bool) -> None:
        """One envelope that cannot be sent must not take its neighbours with it."""
        if len(envelopes) == 1:
            self._unsendable += 1
            logger.error(
                "an envelope of kind %d to %r cannot be encoded into one frame of frame_bytes_max=%d; dropped",
                envelopes[0].kind, envelopes[0].to, self._limits.frame_bytes_max,
            )  # fmt: skip
            return
        for envelope in envelopes:
            single = _Queued()
            single.envelopes.append(envelope)
            self._depart(single, needs_credit)

    def _stamp(self, batch: _Queued) -> list[Envelope]:
        """Write what is left of each deadline; leave out, count and hand back what has none left."""
        now = self._now()
        expired: dict[int, tuple[Envelope, OnExpired | None]] = {}
        for envelope, deadline_at, on_expired in batch.timed:
            left = deadline_at - now
            if left <= 0:
                expired[id(envelope)] = envelope, on_expired
            else:
                envelope.deadline_ms = int(left * 1000) or 1  # 0 would mean the receiver's default
        if not expired:
            return batch.envelopes
        self._expired += len(expired)
        for envelope, callback in expired.values():
            if callback is not None:
                callback(envelope)
        return [envelope for envelope in batch.envelopes if id(envelope) not in expired]

    def _make_room(self) -> None:
        """Half empty is room: waking senders for each batch would cost more than it brings."""
        if (
            2 * self._messages_queued <= self._limits.outbox_messages_max
            and 2 * self._bytes_queued <= self._limits.outbox_bytes_max
        ):
            self.full = False
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
