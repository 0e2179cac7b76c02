"""Shared memory between the nodes of one host: segments for users to fill, passed as handles.

A peer is on this host when it has seen our probe (`transports.shm.probe`), which its WELCOME says. The connections to
it then pass attachments that lie in segments as handles. Whoever receives one maps it when the message arrives, and
says so in a message of the core protocol `fdn.shm`, whose body is an array of the tokens of the handles.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from fdn.errors import Unreachable, to_wire
from fdn.runtime.sessions import Session
from fdn.settings import SharedSettings
from transports.errors import SegmentUnavailable
from transports.parcel import Parcel
from transports.shm.handles import Lender
from transports.shm.pool import Loan, Pool, PoolStats
from transports.shm.probe import Probe, sees
from transports.wire.envelope import Envelope, Kind

__all__ = ("SHM", "Sharing")

SHM: Final = "fdn.shm"
_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_tokens = msgspec.msgpack.Decoder(list[int])
_LOG_EVERY_S: Final = 1.0


class Sharing:
    """One node's part in the shared memory of its host. All but `allocate` belongs to the data plane's loop.

    Args:
        node: Our node id, for errors.

    Attributes:
        probe: What to tell peers; empty when nothing is shared.
        malformed: Words of peers on handles that could not be read.
    """

    def __init__(self, node: str, settings: SharedSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._node = node
        self._settings = settings
        self._loop = loop
        self._pool = Pool(settings.bytes_max, settings.segments_max, settings.spare_bytes_max)
        self._probe = Probe() if settings.enabled else None
        self._loans: set[Loan] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Future[int] | None = None
        self._told_at = -_LOG_EVERY_S
        self.malformed = 0

    @property
    def probe(self) -> str:
        return "" if self._probe is None else self._probe.name

    def start(self) -> None:
        """Remove what killed processes have left behind, now and from time to time."""
        if self.probe:
            self._begin_sweep()

    def sees(self, probe: str) -> bool:
        """Whether a peer that names this probe is on this host."""
        return bool(self.probe) and sees(probe)

    def lender(self, peer: str) -> Lender | None:
        """For a new connection to a peer that has seen our probe."""
        if not self.probe:
            return None
        loan = _Loan(self, self._pool, peer)
        self._loans.add(loan)
        return loan

    def allocate(self, size: int) -> memoryview:
        """Memory to be filled: shared if it can be had, else this process's own. From any thread."""
        if self.probe and size:
            try:
                return memoryview(self._pool.allocate(size))[:size]
            except SegmentUnavailable as full:
                self._tell(full)
        return memoryview(bytearray(size))

    def map_shared(self, session: Session, envelopes: Iterable[Envelope]) -> list[Envelope]:
        """Put memory in the place of the handles in received messages, and say that it is done.

        Returns:
            The messages that can be handled. One whose memory is not there any more is not, and whoever waits for what
            it would have begun, or answered, hears an error.
        """
        good: list[Envelope] = []
        tokens: list[int] = []
        for envelope in envelopes:
            parcel = envelope.body
            handles = parcel.handles if type(parcel) is Parcel else []
            tokens += [handle.token for handle in handles]
            if handles:
                try:
                    envelope.body = parcel.mapped(self._pool.receive)
                except SegmentUnavailable as lost:
                    self._on_lost(session, envelope, lost, good)
                    continue
            good.append(envelope)
        session.answer(Envelope(Kind.CORE, SHM, 0, 0, None, msgspec.Raw(_encode(tokens))))
        return good

    def on_word(self, origin: Any, envelope: Envelope, ticket: Any) -> None:
        """A peer has what these tokens name."""
        if origin.is_client:
            return
        try:
            tokens = _tokens.decode(envelope.body)
        except (ValueError, RecursionError):
            self.malformed += 1
            return
        for token in tokens:
            self._pool.returned(token, origin.peer)

    def stats(self) -> PoolStats:
        return self._pool.stats()

    async def close(self) -> None:
        """Keep nothing that nobody refers to. Idempotent."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._sweeping is not None:
            await asyncio.wait((self._sweeping,))
        if self._probe is not None:
            self._probe.close()
        self._pool.close()

    def ended(self, loan: Loan) -> None:
        """A connection has ended."""
        self._loans.discard(loan)

    def _on_lost(self, session: Session, envelope: Envelope, lost: SegmentUnavailable, good: list[Envelope]) -> None:
        self._tell(lost)
        error = Unreachable(
            f"the shared memory of a message from {session.peer} is not there: {lost}",
            hint="try again; its sender ended, or this process has too many files open",
            not_begun=envelope.kind == Kind.CALL,
        )
        body = msgspec.Raw(_encode(to_wire(error, node=self._node)))
        if envelope.kind == Kind.CALL:
            session.answer(Envelope(Kind.ERROR, "", envelope.id, 0, None, body))
        elif envelope.kind == Kind.REPLY:
            good.append(Envelope(Kind.ERROR, "", envelope.id, 0, None, body))
        elif envelope.kind == Kind.ITEM:  # a stream with a hole is of no use
            good.append(Envelope(Kind.END, envelope.to, envelope.id, 0, None, body))

    def _begin_sweep(self) -> None:
        self._sweep = self._loop.call_later(self._settings.sweep_interval_s, self._begin_sweep)
        self._sweeping = self._loop.run_in_executor(None, self._pool.sweep)

    def _tell(self, what: SegmentUnavailable) -> None:
        now = self._loop.time()
        if now - self._told_at >= _LOG_EVERY_S:
            self._told_at = now
            _log.warning("shared memory is not used: %s", what)


class _Loan(Loan):
    __slots__ = ("_sharing",)

    def __init__(self, sharing: Sharing, pool: Pool, peer: str) -> None:
        super().__init__(pool, peer)
        self._sharing = sharing

    def end(self) -> None:
        super().end()
        self._sharing.ended(self)
