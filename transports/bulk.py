"""Large payloads on their way out of one connection: in pieces, so that nothing waits behind a whole one.

A message whose payload is larger than `chunk_bytes` is a *transfer*: its parts go as CHUNK envelopes of at most that
size, each a ZeroMQ message of its own, and the message itself goes last, when the receiver has everything else. Between
two pieces whatever else the connection has to send may pass. Nothing is copied: pieces are views of what the caller
gave.

A few transfers are under way at once. The next piece is of the one that has the least left, counted less with a higher
priority, so that a smaller one is not held up by a huge one, and equal ones are whole one after the other; every fourth
piece is of the oldest, so that none starves. Those of one stream, or with one partition key, go one after the other,
and what was sent behind one with the same key waits for it.

How much may be begun is the receiver's to say: a window in octets, which it opens as messages are taken up there. It is
apart from the connection's credit, so that a handler which is slow with large messages holds up no small ones.

Pure: no clock, no socket; `Outbox` drives it. Wire format: `docs/spec/0001-wire.md`, section 4.12.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from transports.errors import LocalProtocolError
from transports.limits import Limits
from transports.parcel import Buffer, Parcel, lay_out
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("Bulk", "Piece", "Transfer", "is_bulk", "order_key")

OnExpired = Callable[[Envelope], None]
Follower = tuple[Envelope, float, OnExpired | None]

_PRIORITY_MAX: Final = 4
_ENDED_MAX: Final = 256  # transfers that are remembered
_OLDEST_TURN: Final = 4  # every so many pieces one is of the oldest
_NO_LIMIT: Final = 1 << 63
_encode = msgspec.msgpack.Encoder().encode
_ONE_ATTACHMENT: Final = {int(MetaKey.ATTACHMENTS): [0]}


def is_bulk(parcel: Parcel, chunk_bytes: int) -> bool:
    """Whether a payload goes in pieces: it has a part that is larger than one, or is larger than two."""
    return len(parcel) > 2 * chunk_bytes or any(len(part) > chunk_bytes for part in (parcel.body, *parcel.attachments))


def order_key(envelope: Envelope) -> object:
    """What names the order that an envelope belongs to: its stream, or its partition key; None if it has no order."""
    if envelope.kind in (Kind.ITEM, Kind.END):
        return envelope.to, envelope.id
    return None if envelope.meta is None else envelope.meta.get(MetaKey.PARTITION_KEY)


class Transfer:
    """One message that goes in pieces.

    Attributes:
        envelope: The message, with its `Parcel`.
        key: See `order_key`.
        deadline_at: Loop time after which it is given up, or 0.0.
        followers: Small messages of the same key that were sent after it.
        after: The batch of small messages that has to leave before its end does: they have the same key.
        sent: Octets of its parts that have left.
    """

    __slots__ = (
        "after",
        "deadline_at",
        "envelope",
        "followers",
        "id",
        "is_answer",
        "key",
        "on_expired",
        "pieces",
        "sent",
        "size",
        "weight",
    )

    def __init__(
        self, transfer_id: int, envelope: Envelope, chunk_bytes: int, deadline_at: float, on_expired: OnExpired | None
    ) -> None:
        meta = envelope.meta or {}
        parcel: Parcel = envelope.body
        laid_out, parts = lay_out(envelope)
        priority = meta.get(MetaKey.PRIORITY, 0)
        self.id = transfer_id
        self.envelope = laid_out
        self.key = order_key(envelope)
        self.deadline_at = deadline_at
        self.on_expired = on_expired
        self.followers: list[Follower] = []
        self.after = 0
        self.is_answer = False
        self.size = len(parcel) - len(parcel.body)
        self.sent = 0
        usual = _PRIORITY_MAX + 1
        self.weight = usual + min(max(priority, -_PRIORITY_MAX), _PRIORITY_MAX) if type(priority) is int else usual
        self.pieces = _pieces(parts, self.size, chunk_bytes)


class Piece(NamedTuple):
    """One ZeroMQ message of a transfer.

    Attributes:
        done: The transfer that this ends, or None.
        failure: Why its message cannot be encoded, if so: it is given up.
    """

    frame: bytes
    attachments: Sequence[Buffer]
    done: Transfer | None = None
    failure: str = ""


class Bulk:
    """The transfers of one connection.

    Args:
        limits: Its bounds.

    Attributes:
        full: Whether a sender should wait before it adds another.
        queued_bytes: Octets that have not left.
        expired: Transfers whose deadline passed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._active: list[Transfer] = []
        self._waiting: deque[Transfer] = deque()
        self._aborted: deque[int] = deque()  # begun, and given up: the receiver has to be told
        self._ended: dict[int, Envelope] = {}  # without their payloads
        self._next_id = 1
        self._turns = 0  # pieces that were picked
        self._granted = 0  # octets that may be begun, in all; 0 until it is known
        self._begun = 0
        self._allowance = 0  # octets of small messages that go before the next piece
        self._resumes_at = 0.0  # pacing: when the next piece may leave
        self._s_per_byte = 0.0 if limits.bulk_bytes_per_s == float("inf") else 1 / limits.bulk_bytes_per_s
        self.full = False
        self.queued_bytes = 0
        self.queued_answers_bytes = 0
        self.expired = 0

    def __len__(self) -> int:
        """How many transfers have not ended, those counted that the receiver must still be told of."""
        return len(self._active) + len(self._waiting) + len(self._aborted)

    def __iter__(self) -> Iterator[Transfer]:
        return iter((*self._active, *self._waiting))

    @property
    def is_due(self) -> bool:
        """Whether it is the turn of a piece although small messages wait: they had as many octets as the last one."""
        return self._allowance <= 0

    @property
    def resumes_at(self) -> float:
        """When the pace allows the next piece; 0.0 without one."""
        return self._resumes_at

    def on_small(self, size: int) -> None:
        """A batch of small messages has left."""
        self._allowance -= size

    def put(self, envelope: Envelope, deadline_at: float, on_expired: OnExpired | None, is_answer: bool) -> Transfer:
        """Add one. `envelope` has a `Parcel`."""
        transfer = Transfer(self._next_id, envelope, self._limits.chunk_bytes, deadline_at, on_expired)
        self._next_id += 1
        transfer.is_answer = is_answer
        self._waiting.append(transfer)
        self.queued_bytes += transfer.size
        if is_answer:
            self.queued_answers_bytes += transfer.size
        self._see_to_full()
        return transfer

    def last_of(self, key: object) -> Transfer | None:
        """The last transfer with this partition key; None if there is none, or no key."""
        if key is None:
            return None
        found = None
        for transfer in self:
            if transfer.key == key:
                found = transfer
        return found

    def find(self, kinds: Collection[int], message_id: int) -> Transfer | None:
        """The transfer of this message."""
        return next((each for each in self if each.envelope.id == message_id and each.envelope.kind in kinds), None)

    def by_id(self, transfer_id: int) -> Transfer | None:
        """The transfer of this number, which is under way."""
        return next((each for each in self._active if each.id == transfer_id), None)

    def ended(self, transfer_id: int) -> Envelope | None:
        """The message of a transfer that has left whole a short time ago: a refusal may come behind its end."""
        return self._ended.pop(transfer_id, None)

    def grant(self, total: int) -> None:
        """The receiver lets so many octets be begun, in all; a lower total than held is ignored.

        The first is that of the WELCOME, where 0 sets no limit.
        """
        self._granted = max(self._granted, total) if total or self._granted else _NO_LIMIT

    def drop(self, transfer: Transfer, tell: bool = True) -> None:
        """Give one up. With `tell`, a receiver that has pieces of it hears so."""
        if transfer in self._active:
            self._active.remove(transfer)
            if tell:
                self._aborted.append(transfer.id)
        else:
            self._waiting.remove(transfer)
        self._forget(transfer)

    def clear(self) -> int:
        """Drop everything, at the end of the connection. Returns how many messages that were, followers included."""
        count = sum(1 + len(each.followers) for each in self)
        self._active.clear()
        self._waiting.clear()
        self._aborted.clear()
        self._ended.clear()
        self.queued_bytes = self.queued_answers_bytes = 0
        self.full = False
        return count

    def ready(self, now: float, departed: int) -> bool:
        """Whether `next_piece` has something."""
        if self._aborted:
            return True
        return now >= self._resumes_at and (self._beginner() is not None or self._pick(departed) is not None)

    def expire(self, now: float) -> list[Transfer]:
        """Take out those whose deadline has passed."""
        late = [each for each in self if each.deadline_at and now >= each.deadline_at]
        for transfer in late:
            self.drop(transfer)
        self.expired += len(late)
        return late

    def next_piece(self, now: float, departed: int) -> Piece | None:
        """The next message to send, which the caller then does send; None while nothing may leave.

        Args:
            departed: How many sealed batches of small messages have left.
        """
        if self._aborted:
            return Piece(encode_batch((Envelope(Kind.CHUNK, "", self._aborted.popleft()),)), ())
        if now < self._resumes_at:
            return None
        while (beginner := self._beginner()) is not None:
            self._waiting.remove(beginner)
            self._active.append(beginner)
            self._begun += beginner.size
        transfer = self._pick(departed)
        if transfer is None:
            return None
        self._turns += 1
        if transfer.pieces:
            head, view = transfer.pieces.popleft()
            transfer.sent += len(view)
            self.queued_bytes -= len(view)
            if transfer.is_answer:
                self.queued_answers_bytes -= len(view)
            self._allowance = len(view)
            if self._s_per_byte:
                self._resumes_at = max(now, self._resumes_at) + len(view) * self._s_per_byte
            self._see_to_full()
            body = msgspec.Raw(_encode(head))
            return Piece(encode_batch((Envelope(Kind.CHUNK, "", transfer.id, 0, _ONE_ATTACHMENT, body),)), (view,))
        return self._end(transfer, now)

    def _end(self, transfer: Transfer, now: float) -> Piece:
        envelope = transfer.envelope
        if transfer.deadline_at:
            envelope.deadline_ms = max(1, int((transfer.deadline_at - now) * 1000))
        self._active.remove(transfer)
        self._ended[transfer.id] = envelope
        if len(self._ended) > _ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        inner: bytes | None = None
        failure = ""
        try:
            inner = encode_batch((envelope,))[2:]  # without the version octet and the header of the array
        except LocalProtocolError as error:
            failure = str(error)
        return Piece(encode_batch((Envelope(Kind.CHUNK, "", transfer.id, 0, None, inner),)), (), transfer, failure)

    def _pick(self, departed: int) -> Transfer | None:
        """The one whose turn it is; its end may have to wait for what came before."""
        able = [each for each in self._active if each.pieces or each.after <= departed]
        if not able:
            return None
        return able[0] if self._turns % _OLDEST_TURN == 0 else min(able, key=_left)

    def _beginner(self) -> Transfer | None:
        """One that may begin."""
        if len(self._active) >= self._limits.transfers_active_max or self._begun >= self._granted:
            return None
        keys = {each.key for each in self._active}
        for transfer in self._waiting:
            if transfer.key is None or transfer.key not in keys:
                return transfer
            keys.add(transfer.key)
        return None

    def _forget(self, transfer: Transfer) -> None:
        left = transfer.size - transfer.sent
        self.queued_bytes -= left
        if transfer.is_answer:
            self.queued_answers_bytes -= left
        self._see_to_full()

    def _see_to_full(self) -> None:
        limit = self._limits.outbox_bulk_bytes_max
        if self.queued_bytes >= limit:
            self.full = True
        elif 2 * self.queued_bytes <= limit:
            self.full = False


def _left(transfer: Transfer) -> tuple[float, int]:
    return (transfer.size - transfer.sent) / transfer.weight, transfer.id


def _pieces(parts: Sequence[Buffer], total: int, chunk_bytes: int) -> "deque[tuple[list[int], memoryview]]":
    """What a transfer consists of: for each piece `[total, part, size, offset]` and its octets."""
    return deque(
        ([total, index, len(part), offset], memoryview(part)[offset : offset + chunk_bytes])
        for index, part in enumerate(parts)
        for offset in range(0, len(part) or 1, chunk_bytes)
    )
