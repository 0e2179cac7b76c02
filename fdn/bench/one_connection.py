"""The baseline B0: fdn's codec over one FIFO connection a pair, as a cluster has it that knows no channels.

Two bare DEALERs, one connection, and everything on it: a round trip of coordination waits behind the objects that were
handed over before it, and behind a consumer that does not read. All else is as kind to it as can be: one thread a
process, blocking polls, no event loop; objects go as frames of their own without a copy; each of its senders has one
object on the way at a time, as each of fdn's.
"""

import time
from typing import Any, Final

import msgspec
import zmq

from fdn.bench.metronome import Metronome
from fdn.bench.worker import orders
from transports.wire.batch import decode_batch, encode_batch
from transports.wire.envelope import Envelope, Kind

__all__ = ("receiver", "sender")

_LINGER_MS: Final = 0
_ANSWER_TIMEOUT_S: Final = 10.0
_BULK, _STUCK, _BLOCK, _PING, _END = "bench.bulk", "bench.stuck", "bench.block", "fdn.node.ping", "bench.end"


def receiver(endpoint: str) -> None:
    """Bind, and answer one round for each order."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = _LINGER_MS
    dealer.bind(endpoint)

    def serve(order: dict[str, Any]) -> dict[str, Any]:
        bytes_ = count = 0
        begun = False
        while True:
            batch, *attachments = dealer.recv_multipart(copy=False)
            for envelope in decode_batch(batch.buffer)[0]:
                if envelope.kind == Kind.CALL:
                    dealer.send(encode_batch([Envelope(Kind.REPLY, "", envelope.id)]))
                elif envelope.to == _END:
                    return {"received": count, "bytes": bytes_}
                else:
                    if envelope.to != _BULK and not begun:
                        begun = True
                        _hold(msgspec.msgpack.decode(envelope.body, type=float), busy=envelope.to == _BLOCK)
                    bytes_ += sum(len(attachment) for attachment in attachments)
                    count += 1
                    dealer.send(encode_batch([Envelope(Kind.ACK, "", envelope.id)]))

    orders({"endpoint": dealer.getsockopt_string(zmq.LAST_ENDPOINT)}, serve)
    context.destroy(_LINGER_MS)


def sender(endpoint: str) -> None:
    """Connect, and send as ordered: see `fdn.bench.mixed_nodes`, whose orders these are."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = _LINGER_MS
    dealer.connect(endpoint)

    def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        with Metronome(order["rate"], order["seconds"]) as metronome:
            return _Round(dealer, metronome, **order).run()

    orders({}, carry_out)
    context.destroy(_LINGER_MS)


class _Round:
    """One round of the sender: what is due, what is on the way, and what has come back."""

    def __init__(
        self,
        dealer: "zmq.Socket[bytes]",
        metronome: Metronome,
        order: str,
        rate: float,
        seconds: float,
        senders: int = 1,
        size: int = 1024 * 1024,
    ) -> None:
        self._dealer = dealer
        self._metronome = metronome
        self._to = {"saturated": _BULK, "reader_stopped": _STUCK, "loop_blocked": _BLOCK}.get(order, "")
        self._seconds = seconds
        self._window = 1 if order == "loop_blocked" else senders
        self._data = bytes(size)
        self._due: dict[int, float] = {}
        self._durations_s: list[float] = []
        self._sent = self._acknowledged = 0
        self._first_id = self._next_id = time.monotonic_ns()  # what is late from an earlier round is nobody's

    def run(self) -> dict[str, Any]:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._metronome.fileno(), zmq.POLLIN)
        started_at = self._metronome.begins_at
        ends_at = started_at + self._seconds
        give_up_at = ends_at + _ANSWER_TIMEOUT_S
        ticking, last_at = True, started_at
        while (ticking or self._due or self._acknowledged < self._sent) and time.monotonic() < give_up_at:
            while self._to and self._sent - self._acknowledged < self._window and time.monotonic() < ends_at:
                self._send_object(ends_at - time.monotonic())
            ready = dict(poller.poll(100))
            if self._metronome.fileno() in ready:
                ticking = self._on_ticks()
                if not ticking:
                    poller.unregister(self._metronome.fileno())
            if self._dealer in ready:
                self._on_readable()
                last_at = time.monotonic()
        self._dealer.send(encode_batch([Envelope(Kind.CAST, _END)]))
        unanswered = len(self._due)
        self._durations_s += [time.monotonic() - due_at for due_at in self._due.values()]
        result: dict[str, Any] = {"durations_s": self._durations_s, "unanswered": unanswered, "sent": self._sent}
        if self._to == _BULK:
            bytes_ = self._acknowledged * len(self._data)
            result |= {"received": self._acknowledged, "bulk_mb_s": bytes_ / (last_at - started_at) / 1e6}
        return result

    def _send_object(self, hold_s: float) -> None:
        self._next_id += 1
        self._sent += 1
        body = msgspec.Raw(msgspec.msgpack.encode(hold_s))
        batch = encode_batch([Envelope(Kind.CAST, self._to, self._next_id, 0, None, body)])
        self._dealer.send_multipart([batch, self._data], copy=False)

    def _on_ticks(self) -> bool:
        ticks = self._metronome.read()
        for due_at in ticks or ():
            self._next_id += 1
            self._due[self._next_id] = due_at
            self._dealer.send(encode_batch([Envelope(Kind.CALL, _PING, self._next_id)]))
        return ticks is not None

    def _on_readable(self) -> None:
        while self._dealer.poll(0):
            for envelope in decode_batch(self._dealer.recv())[0]:
                if envelope.kind == Kind.REPLY:
                    due_at = self._due.pop(envelope.id, None)
                    if due_at is not None:
                        self._durations_s.append(time.monotonic() - due_at)
                elif envelope.id >= self._first_id:
                    self._acknowledged += 1


def _hold(seconds: float, *, busy: bool) -> None:
    """The consumer does not read: because it waits, or because its code computes."""
    ends_at = time.monotonic() + seconds
    if not busy:
        time.sleep(seconds)
    while time.monotonic() < ends_at:
        pass
