"""The sending half of `fdn.bulk`: one piece at a time to each peer, and none while anything else waits to leave.

Transfers to one peer take turns piece by piece, so that a short one does not wait for the end of a long one; they end
in any order.

The driver's duties, in order:

1. `PeerUp` when a connection to a peer has opened, again each time: what was under way on the former is sent anew.
   `PeerGone` when membership says that it is dead, has left or is forgotten: its transfers end.
2. On `WaitIdle` give `Idle` once, when nothing waits to leave on the connection to that peer. When there is none, or
   it ends first, do nothing: `PeerUp` begins anew.
3. Send what `BulkSend` holds at once; it may be lost.
4. Call `tick` when `next_deadline()` has come.
"""

import collections
import dataclasses
from typing import assert_never

from blake3 import blake3

from fdn.runtime.bulk.messages import Ack, Piece, Refuse, RefuseCode
from fdn.runtime.bulk.settings import BulkSettings
from topologies.errors import RemoteProtocolError

__all__ = (
    "BulkEffect",
    "BulkInput",
    "BulkSend",
    "BulkSender",
    "BulkSenderStats",
    "Ended",
    "Heard",
    "Idle",
    "PeerGone",
    "PeerUp",
    "Submit",
    "Tick",
    "WaitIdle",
)

# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Submit:
    """Send this message of `protocol`. `transfer` names it; no two to one peer may have the same."""

    peer: str
    transfer: int
    protocol: str
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Idle:
    """Nothing waits to leave on the connection to this peer."""

    peer: str


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """A peer has answered."""

    peer: str
    answer: Ack | Refuse


@dataclasses.dataclass(frozen=True, slots=True)
class PeerUp:
    """A connection to this peer has opened."""

    peer: str


@dataclasses.dataclass(frozen=True, slots=True)
class PeerGone:
    """It is dead, has left, or is forgotten."""

    peer: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


BulkInput = Submit | Idle | Heard | PeerUp | PeerGone | Tick

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class WaitIdle:
    """Give `Idle` when nothing else waits to leave to this peer."""

    peer: str


@dataclasses.dataclass(frozen=True, slots=True)
class BulkSend:
    """Send this now; it may be lost."""

    peer: str
    piece: Piece


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A transfer is over. `reason` is empty if the peer has the message; else it may have it or not."""

    peer: str
    transfer: int
    protocol: str
    reason: str


BulkEffect = WaitIdle | BulkSend | Ended


@dataclasses.dataclass(frozen=True, slots=True)
class BulkSenderStats:
    """What is queued, and counters since the start."""

    delivered: int  # messages that peers have acknowledged
    failed: int  # refused, given up, or their peer is gone
    pieces: int
    resent: int  # pieces that were sent before
    queued: int  # transfers under way or waiting now
    queued_bytes: int  # of these, what is not acknowledged


class _Transfer:
    __slots__ = ("acked", "attempts", "body", "hashed", "hasher", "highest", "id", "not_before", "protocol", "sent")

    def __init__(self, submitted: Submit) -> None:
        self.id = submitted.transfer
        self.protocol = submitted.protocol
        self.body = memoryview(submitted.body)
        self.hasher = blake3()  # fed as it goes: to hash 64 MiB at once would hold up the loop for 20 ms
        self.hashed = 0
        self.acked = 0  # where the next piece begins
        self.highest = 0  # the most that was ever acknowledged
        self.sent = 0  # the end of the furthest piece that was sent
        self.attempts = 0  # since `highest` rose
        self.not_before = 0.0


class _Peer:
    __slots__ = ("active", "asked", "deadline", "in_flight", "up", "waiting")

    def __init__(self) -> None:
        self.active: collections.deque[_Transfer] = collections.deque()  # the first has the next turn
        self.waiting: collections.deque[_Transfer] = collections.deque()
        self.in_flight: _Transfer | None = None
        self.deadline = 0.0  # for its Ack
        self.asked = False  # `WaitIdle` is out
        self.up = False

    def all(self) -> list[_Transfer]:
        return [*self.active, *self.waiting]

    def due(self) -> float | None:
        if self.in_flight is not None:
            return self.deadline
        if self.up and not self.asked and self.active:  # each of them pauses
            return min(transfer.not_before for transfer in self.active)
        return None


class BulkSender:
    """See the module.

    Args:
        settings: See there.
    """

    def __init__(self, settings: BulkSettings) -> None:
        self._settings = settings
        self._peers: dict[str, _Peer] = {}
        self._out: list[BulkEffect] = []
        self._n_delivered = self._n_failed = self._n_pieces = self._n_resent = 0

    def handle(self, input: BulkInput, now: float) -> list[BulkEffect]:
        """Take in one input; returns what to do, in this order.

        Raises:
            RemoteProtocolError: A peer has acknowledged what was never sent. Nothing is changed by it.
        """
        match input:
            case Submit():
                self._on_submit(input, now)
            case Idle(name):
                self._on_idle(name, now)
            case Heard(name, answer):
                self._on_heard(name, answer, now)
            case PeerUp(name):
                peer = self._peers.setdefault(name, _Peer())
                peer.up, peer.asked, peer.in_flight = True, False, None
                self._go_on(name, peer, now)
            case PeerGone(name):
                gone = self._peers.pop(name, None)
                for transfer in [] if gone is None else gone.all():
                    self._end(name, transfer, "the peer is gone")
            case Tick():
                self._on_tick(now)
            case _:
                assert_never(input)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When the next `Tick` is due."""
        return min((at for peer in self._peers.values() if (at := peer.due()) is not None), default=None)

    def stats(self) -> BulkSenderStats:
        queued = [transfer for peer in self._peers.values() for transfer in peer.all()]
        return BulkSenderStats(
            delivered=self._n_delivered,
            failed=self._n_failed,
            pieces=self._n_pieces,
            resent=self._n_resent,
            queued=len(queued),
            queued_bytes=sum(len(transfer.body) - transfer.acked for transfer in queued),
        )

    # -- inputs

    def _on_submit(self, submitted: Submit, now: float) -> None:
        settings, transfer = self._settings, _Transfer(submitted)
        peer = self._peers.setdefault(submitted.peer, _Peer())
        queued = peer.all()
        size = len(submitted.body)
        if not size or size > settings.transfer_bytes_max:
            self._end(submitted.peer, transfer, f"{size} bytes, transfer_bytes_max={settings.transfer_bytes_max}")
        elif len(queued) >= settings.queue_transfers_max:
            self._end(submitted.peer, transfer, f"queue_transfers_max={settings.queue_transfers_max} wait already")
        elif size + sum(len(other.body) for other in queued) > settings.queue_bytes_max:
            self._end(submitted.peer, transfer, f"more than queue_bytes_max={settings.queue_bytes_max} would wait")
        else:
            peer.waiting.append(transfer)
            self._go_on(submitted.peer, peer, now)

    def _on_idle(self, name: str, now: float) -> None:
        peer = self._peers.get(name)
        if peer is None or not peer.asked:
            return
        peer.asked = False
        transfer = self._next(peer, now)
        if transfer is None:
            return
        start, end = transfer.acked, min(transfer.acked + self._settings.piece_bytes, len(transfer.body))
        data = bytes(transfer.body[start:end])
        if end > transfer.hashed:  # a receiver that has forgotten all gets again what is hashed already
            transfer.hasher.update(transfer.body[transfer.hashed : end])
            transfer.hashed = end
        digest = transfer.hasher.digest() if end == len(transfer.body) else b""
        self._n_pieces += 1
        self._n_resent += end <= transfer.sent
        transfer.sent = max(transfer.sent, end)
        peer.in_flight, peer.deadline = transfer, now + self._settings.ack_timeout_s
        self._out.append(BulkSend(name, Piece(transfer.id, transfer.protocol, len(transfer.body), start, data, digest)))

    def _on_heard(self, name: str, answer: Ack | Refuse, now: float) -> None:
        peer = self._peers.get(name)
        transfer = None if peer is None else peer.in_flight
        if peer is None or transfer is None or transfer.id != answer.transfer:
            return  # it crossed our own timeout, or the transfer is over
        if isinstance(answer, Refuse):
            self._on_refused(name, peer, transfer, answer.code, now)
        elif answer.received > transfer.sent:
            raise RemoteProtocolError(
                f"{name} acknowledges {answer.received} bytes of bulk transfer {transfer.id}; {transfer.sent} were sent"
            )
        else:
            peer.in_flight = None
            transfer.acked = answer.received
            if answer.received == len(transfer.body):
                peer.active.remove(transfer)
                self._end(name, transfer, "")
            elif answer.received > transfer.highest:
                transfer.highest, transfer.attempts = answer.received, 0
            else:
                self._tried_too_often(name, peer, transfer, "the peer begins it again and again")
        self._go_on(name, peer, now)

    def _on_refused(self, name: str, peer: _Peer, transfer: _Transfer, code: str, now: float) -> None:
        peer.in_flight = None
        if code != RefuseCode.BUSY:
            peer.active.remove(transfer)
            self._end(name, transfer, f"refused: {code}")
        elif not self._tried_too_often(name, peer, transfer, "the peer is busy"):
            transfer.not_before = now + self._settings.retry_s

    def _on_tick(self, now: float) -> None:
        for name, peer in list(self._peers.items()):
            transfer = peer.in_flight
            if transfer is not None and peer.deadline <= now:
                peer.in_flight = None
                self._tried_too_often(name, peer, transfer, "not acknowledged")
            self._go_on(name, peer, now)

    # -- what follows from them

    def _go_on(self, name: str, peer: _Peer, now: float) -> None:
        while peer.waiting and len(peer.active) < self._settings.active_max:
            peer.active.append(peer.waiting.popleft())
        if not peer.up and not peer.active:
            del self._peers[name]
        elif peer.up and not peer.asked and peer.in_flight is None and any(t.not_before <= now for t in peer.active):
            peer.asked = True
            self._out.append(WaitIdle(name))

    def _next(self, peer: _Peer, now: float) -> _Transfer | None:
        for _ in range(len(peer.active)):
            transfer = peer.active[0]
            peer.active.rotate(-1)
            if transfer.not_before <= now:
                return transfer
        return None

    def _tried_too_often(self, name: str, peer: _Peer, transfer: _Transfer, reason: str) -> bool:
        transfer.attempts += 1
        if transfer.attempts < self._settings.attempts_max:
            return False
        peer.active.remove(transfer)
        self._end(name, transfer, f"{reason}, {transfer.attempts} times")
        return True

    def _end(self, name: str, transfer: _Transfer, reason: str) -> None:
        if reason:
            self._n_failed += 1
        else:
            self._n_delivered += 1
        self._out.append(Ended(name, transfer.id, transfer.protocol, reason))
