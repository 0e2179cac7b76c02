"""A link: our way to one endpoint of one peer on one channel, or one of several side by side (lanes).

One connection is one DEALER for one attempt. The link dials, says HELLO, waits for WELCOME, and only then lets
messages pass; when the connection ends it tells its owner why and, if it is a kept one, dials again after a jittered,
capped pause. What was queued on an ended connection is dropped with it, so that no stale queue outlives a peer.
"""

import asyncio
import collections
import enum
import random
import weakref
from typing import Protocol

import msgspec

from fdn.errors import Unreachable
from fdn.runtime.greeting import HANDSHAKE_BYTES_MAX, Greeter
from fdn.settings import LinkSettings
from transports.channel import Channel
from transports.errors import TransportError
from transports.packing import ZLIB
from transports.transport import Batch, Connection, ConnectionEvent, EventKind, Transport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Refused, RefusedCode, Welcome, common_version

__all__ = ("Link", "LinkOwner", "LinkState")

_welcome_decoder = msgspec.msgpack.Decoder(Welcome)
_refused_decoder = msgspec.msgpack.Decoder(Refused)
_encode = msgspec.msgpack.Encoder().encode
_BYE_LINGER_S = 0.25  # how long a goodbye and what precedes it may take to leave


class LinkState(enum.Enum):
    """Where a link stands."""

    IDLE = "idle"  # no connection; the next use dials
    DIALING = "dialing"  # connecting, or waiting for WELCOME
    OPEN = "open"
    WAITING = "waiting"  # pausing before the next attempt
    CLOSED = "closed"  # for good


class LinkOwner(Protocol):
    """Who is told about a link. None of these may raise."""

    def on_link_open(self, link: "Link", welcome: Welcome) -> None: ...

    def on_link_refused(self, link: "Link", refused: Refused) -> None: ...

    def on_link_lost(self, link: "Link", event: ConnectionEvent, was_open: bool, dropped: int) -> None: ...

    def on_link_batch(self, link: "Link", batch: Batch) -> None:
        """Anything but the handshake that came back on the connection."""


class Link:
    """See the module. All methods belong to the loop of the plane.

    Args:
        transport: Makes the connections.
        channel: The traffic class.
        endpoint: Where to dial.
        peer: The node id that must answer there, or empty while unknown (a seed).
        kept: Whether it dials again by itself when it is lost.
        lane: Its number among the parallel links to this peer on this channel.
        compresses: Whether batches are compressed where they shrink, if the peer takes them so.

    Attributes:
        connection: The connection while the link is open, else None: the hot path sends on it directly.
        losses: Attempts and connections that ended otherwise than by our own wish: what was sent may be lost.
        users: Who counts on the connection to stay: while there are any, it is not closed as idle.
        lanes_admitted: How many lanes the peer took when it last said WELCOME.
        siblings: Of lane 0: the links of the other lanes, in their order.
        first: Lane 0 of those to this peer on this channel: itself, if it is.
        handshake_s: From the dial to the WELCOME of the open connection, seconds; 0 before.
        credit: (messages, bytes) that the peer lets us have under way; (0, 0) is no limit.
        retransmitted: Messages that had to be sent again; the governor takes the count away.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        channel: Channel,
        endpoint: str,
        peer: str,
        kept: bool,
        greeter: Greeter,
        owner: LinkOwner,
        settings: LinkSettings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        lane: int = 0,
        compresses: bool = False,
    ) -> None:
        self.channel = channel
        self.endpoint = endpoint
        self.peer = peer
        self.kept = kept
        self.lane = lane
        self._compresses = compresses
        self.lanes_admitted = 1
        self.siblings: tuple[Link, ...] = ()
        self.first: Link = self
        self.handshake_s = 0.0
        self.credit = (0, 0)
        self.retransmitted = 0
        self._dialled_at = 0.0
        self.state = LinkState.IDLE
        self.connection: Connection | None = None
        self.opened_count = 0
        self.losses = 0
        self.users: weakref.WeakSet[object] = weakref.WeakSet()
        self.last_failure = ""
        self._dialled: Connection | None = None  # in any state of its life
        self._transport = transport
        self._greeter = greeter
        self._owner = owner
        self._settings = settings
        self._loop = loop
        self._rng = rng
        self._epoch = rng.getrandbits(32)
        self._attempts = 0  # since the link was last open
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._pending: collections.deque[Envelope] = collections.deque()
        self._not_before = 0.0

    @property
    def epoch(self) -> int:
        """The link epoch of the newest attempt: what its HELLO said."""
        return self._epoch

    def open(self) -> None:
        """Dial, unless that is under way or done. A link that failed a moment ago waits out its pause first."""
        if self.state is not LinkState.IDLE:
            return
        pause = self._not_before - self._loop.time()
        if pause > 0:
            self.state = LinkState.WAITING
            self._timer = self._loop.call_later(pause, self._dial)
        else:
            self._dial()

    def redial_now(self) -> None:
        """Skip a pause: there is news that the peer lives."""
        if self.state is LinkState.WAITING:
            self._cancel_timer()
            self._attempts = 0
            self._dial()

    async def wait_open(self) -> Connection:
        """Dial if needed, and return the open connection.

        Raises:
            Unreachable: The attempt under way failed, or the link was closed.
        """
        self.open()
        if self.connection is not None:
            return self.connection
        if self.state is LinkState.CLOSED:
            raise self._unreachable("the link is closed")
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if self.connection is None:  # opened and lost again before we ran
            raise self._unreachable(self.last_failure)
        return self.connection

    def send_exempt(self, envelope: Envelope) -> bool:
        """Send what needs no credit, or hold it until the link is open. Never waits.

        Returns:
            False when the link is closed or `links.pending_messages_max` are held already: dropped, for the caller to
            count.
        """
        if self.connection is not None:
            self.connection.send_exempt(envelope)
            return True
        if self.state is LinkState.CLOSED or len(self._pending) >= self._settings.pending_messages_max:
            return False
        self._pending.append(envelope)
        self.open()
        return True

    def close(self, goodbye: str = "") -> None:
        """Close for good. Idempotent.

        Args:
            goodbye: A reason to tell the peer: what is queued then still leaves. Empty drops it at once.
        """
        if self.state is LinkState.CLOSED:
            return
        self.state = LinkState.CLOSED
        self._hang_up(goodbye)
        self._fail_waiters("the link is closed")

    def hang_up(self, goodbye: str) -> None:
        """Close the connection of a link that stays usable (idle)."""
        self._hang_up(goodbye)
        if self.state is not LinkState.CLOSED:
            self.state = LinkState.IDLE

    # -- one attempt

    def _dial(self) -> None:
        self._timer = None
        self.state = LinkState.DIALING
        self._epoch += 1
        self._dialled_at = self._loop.time()
        epoch = self._epoch
        try:
            self._dialled = self._transport.dial(
                self.channel,
                self.endpoint,
                lambda batch: self._on_batch(batch, epoch),
                lambda event: self._on_event(event, epoch),
            )
        except TransportError as error:
            # A peer may claim any endpoint. Not at once: whoever made us dial must first be able to wait for it.
            self._timer = self._loop.call_later(0, self._lost, EventKind.FAILED, str(error))
            return
        hello = self._greeter.hello(self.channel, epoch, self.lane)
        self._dialled.send_exempt(Envelope(Kind.HELLO, body=msgspec.Raw(_encode(hello))))
        self._timer = self._loop.call_later(self._settings.handshake_timeout_s, self._on_handshake_timeout, epoch)

    def _on_batch(self, batch: Batch, epoch: int) -> None:
        if epoch != self._epoch or self._dialled is None:
            return  # a late word from an attempt that was given up
        first = batch.envelopes[0]
        if first.kind == Kind.WELCOME and self.state is LinkState.DIALING:
            self._on_welcome(first)
        elif first.kind == Kind.REFUSED and self.state is LinkState.DIALING:
            self._on_refused(first)
        elif first.kind == Kind.BYE:
            self._lost(EventKind.CLOSED, "the peer has ended our session")
        elif self.state is LinkState.OPEN:
            self._owner.on_link_batch(self, batch)

    def _on_welcome(self, envelope: Envelope) -> None:
        try:
            welcome = _welcome_decoder.decode(_bounded(envelope.body))
        except (ValueError, RecursionError) as error:
            return self._lost(EventKind.FAILED, f"WELCOME cannot be read: {error}")
        if welcome.epoch != self._epoch or common_version((welcome.version, welcome.version)) is None:
            return self._lost(
                EventKind.FAILED, f"WELCOME for epoch {welcome.epoch}, version {welcome.version} was not asked for"
            )
        if welcome.cluster != self._greeter.cluster:
            return self._refused(
                Refused(RefusedCode.WRONG_CLUSTER, f"{self.endpoint} belongs to cluster {welcome.cluster!r}")
            )
        if self.peer and welcome.identity.node != self.peer:
            # The address is another node's now, so nobody of that id listens there.
            return self._lost(EventKind.REFUSED, f"node {welcome.identity.node} answers there now")
        self._cancel_timer()
        connection = self._dialled
        assert connection is not None
        self.state, self.connection = LinkState.OPEN, connection
        self._attempts = 0
        self.opened_count += 1
        connection.agree(welcome.features)
        if self._compresses and ZLIB in welcome.features:
            connection.compress()
        connection.grant_bulk(welcome.bulk)
        self.lanes_admitted = welcome.lanes
        self.handshake_s = self._loop.time() - self._dialled_at
        self.credit = welcome.credit
        connection.grant(*welcome.credit)
        while self._pending:
            connection.send_exempt(self._pending.popleft())
        self._owner.on_link_open(self, welcome)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return None

    def _on_refused(self, envelope: Envelope) -> None:
        try:
            refused = _refused_decoder.decode(_bounded(envelope.body))
        except (ValueError, RecursionError) as error:
            return self._lost(EventKind.FAILED, f"REFUSED cannot be read: {error}")
        return self._refused(refused)

    def _refused(self, refused: Refused) -> None:
        self._end_attempt(f"refused: {refused.reason}")
        self._owner.on_link_refused(self, refused)

    def _on_event(self, event: ConnectionEvent, epoch: int) -> None:
        if epoch == self._epoch and self._dialled is not None and event.kind is not EventKind.CONNECTED:
            self._lost(event.kind, event.detail)

    def _on_handshake_timeout(self, epoch: int) -> None:
        if epoch == self._epoch and self.state is LinkState.DIALING:
            self._timer = None
            self._lost(EventKind.UNREACHABLE, f"no WELCOME within {self._settings.handshake_timeout_s:g} s")

    def _lost(self, kind: EventKind, detail: str) -> None:
        was_open = self.state is LinkState.OPEN
        dropped = self._end_attempt(f"{kind.value}{': ' if detail else ''}{detail}")
        self._owner.on_link_lost(self, ConnectionEvent(kind, self.endpoint, detail), was_open, dropped)

    def _end_attempt(self, failure: str) -> int:
        """Close the connection, fail who waits, and pause or dial again. Returns how many messages were dropped."""
        dropped = len(self._pending)
        self._pending.clear()
        self.losses += 1
        self.last_failure = failure
        if self.state is LinkState.OPEN and self._dialled is not None:
            stats = self._dialled.stats()  # it has ended, or is about to
            dropped += stats.dropped + stats.queued_messages
        self._hang_up("")
        self._attempts += 1
        pause = self._rng.uniform(0.5, 1.0) * min(
            self._settings.redial_max_s, self._settings.redial_min_s * 2.0 ** min(self._attempts - 1, 16)
        )
        if self.kept:
            self.state = LinkState.WAITING
            self._timer = self._loop.call_later(pause, self._dial)
        else:
            self.state = LinkState.IDLE
            self._not_before = self._loop.time() + pause
        self._fail_waiters(failure)
        return dropped

    def _hang_up(self, goodbye: str) -> None:
        self._cancel_timer()
        connection, self._dialled, self.connection = self._dialled, None, None
        if connection is None:
            return
        if goodbye:
            connection.send_exempt(Envelope(Kind.BYE, body=msgspec.Raw(_encode(Bye(goodbye)))))
        connection.close(_BYE_LINGER_S if goodbye else 0.0)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail_waiters(self, failure: str) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(self._unreachable(failure))

    def _unreachable(self, failure: str) -> Unreachable:
        who = self.peer or self.endpoint
        return Unreachable(
            f"{who} cannot be reached on the {self.channel} channel at {self.endpoint}: {failure}",
            hint="check that the node runs and that the address is right; `fdn members` shows what the cluster sees",
        )


def _bounded(body: msgspec.Raw) -> msgspec.Raw:
    """The same body; raises ValueError if it is longer than anything that is said in a handshake."""
    if memoryview(body).nbytes > HANDSHAKE_BYTES_MAX:
        raise ValueError(f"it exceeds {HANDSHAKE_BYTES_MAX} bytes")
    return body
