"""Large messages of all peers as they come in, piece by piece, beside the data plane.

A message that is whole goes to the handler of its kind as if it had come in one batch. What it takes of the memory for
large messages is given back when that handler has taken it up, and only then may its sender begin another.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from fdn.runtime.sessions import Session
from transports.assembly import Assembled, Assembly, AssemblyStats, BufferPool, Refusal
from transports.limits import Limits
from transports.wire.envelope import Envelope, Kind

__all__ = ("BULK", "BulkIntake", "BulkTicket", "read_bulk_credit")

BULK: Final = "bulk"  # `to` of a CREDIT that is about large messages
_REASON_MAX: Final = 300  # characters

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_grants = msgspec.msgpack.Decoder(tuple[int, int | str])


class BulkTicket:
    """What a large message holds of its sender's window until it was taken up. See `data_plane.Ticket`."""

    __slots__ = ("_intake", "_session", "_size", "held")

    def __init__(self, intake: "BulkIntake", session: Session, size: int) -> None:
        self._intake = intake
        self._session = session
        self._size = size
        self.held = 1  # our own hold, until it is dispatched

    def release(self) -> None:
        self.held -= 1
        if not self.held:
            self._intake.consumed(self._session, self._size)


class BulkIntake:
    """See the module. All methods belong to the user's loop.

    Args:
        limits: Bounds.
        handlers: By kind, as the data plane has them.
    """

    def __init__(self, limits: Limits, handlers: Mapping[int, Callable[[Session, Envelope, BulkTicket], None]]) -> None:
        self._limits = limits
        self._handlers = handlers
        self._pool = BufferPool(limits)
        self._assemblies: dict[Session, Assembly] = {}
        self._former = AssemblyStats(0, 0, 0, 0, 0, 0, 0)  # of connections that are gone
        self._told = 0  # refusals, for the log

    def on_chunk(self, session: Session, envelope: Envelope) -> None:
        """Take one CHUNK in."""
        assembly = self._assemblies.get(session)
        if assembly is None:
            assembly = self._assemblies[session] = Assembly(self._pool, self._limits)
        result = assembly.on_chunk(envelope.id, envelope.body)
        if type(result) is Assembled:
            self._hand_over(session, result)
            return
        if type(result) is Refusal:
            self._refuse(session, result)
        self._grant(session, assembly.regrant())

    def consumed(self, session: Session, size: int) -> None:
        """A large message was taken up."""
        assembly = self._assemblies.get(session)
        if assembly is None:  # its connection is gone
            self._pool.release(size)
        else:
            self._grant(session, assembly.consumed(size))

    def session_closed(self, session: Session) -> None:
        """Drop what had not come whole."""
        assembly = self._assemblies.pop(session, None)
        if assembly is not None:
            assembly.close()
            self._former = _sum(self._former, assembly.stats(), held=False)

    def trim(self) -> None:
        """Called now and then: give memory back that was not used since."""
        self._pool.trim()

    @property
    def pooled_bytes(self) -> int:
        """Memory that is kept for the next large messages."""
        return self._pool.pooled_bytes

    def stats(self) -> AssemblyStats:
        """Counters of all connections."""
        total = self._former
        for assembly in self._assemblies.values():
            total = _sum(total, assembly.stats(), held=True)
        return total

    def _hand_over(self, session: Session, assembled: Assembled) -> None:
        envelope = assembled.envelope
        ticket = BulkTicket(self, session, assembled.size)
        handler = self._handlers.get(envelope.kind)
        try:
            if handler is not None and envelope.kind != Kind.CHUNK:
                handler(session, envelope, ticket)
        finally:
            ticket.release()

    def _refuse(self, session: Session, refusal: Refusal) -> None:
        self._told += 1
        if self._told & (self._told - 1) == 0:  # the first, and then each doubling
            _log.warning(
                "a large message of %s was refused: %s (%d so far)",
                session.peer,
                refusal.reason,
                self._told,
                extra={"peer": session.peer},
            )
        body = msgspec.Raw(_encode((session.hello.epoch, refusal.reason[:_REASON_MAX])))
        session.answer(Envelope(Kind.CREDIT, BULK, refusal.transfer, body=body))

    def _grant(self, session: Session, total: int | None) -> None:
        if total is not None:
            session.answer(Envelope(Kind.CREDIT, BULK, body=msgspec.Raw(_encode((session.hello.epoch, total)))))


def read_bulk_credit(envelope: Envelope) -> tuple[int, int | str] | None:
    """The epoch, and the total or the reason of a refusal; None if it cannot be read."""
    try:
        return _grants.decode(envelope.body)
    except (ValueError, RecursionError):
        return None


def _sum(one: AssemblyStats, other: AssemblyStats, held: bool) -> AssemblyStats:
    return AssemblyStats(
        open=one.open + other.open * held,
        held_bytes=one.held_bytes + other.held_bytes * held,
        whole=one.whole + other.whole,
        refused=one.refused + other.refused,
        given_up=one.given_up + other.given_up,
        lost=one.lost + other.lost,
        malformed=one.malformed + other.malformed,
    )
