"""Connections over relays: the same as direct ones to whoever uses them.

A frame that a direct connection would hand to its socket goes into an envelope of kind RELAY, to the first node of the
path. Handshake, credit, lanes and sessions are those of any connection, end to end; relays see none of that. A
connection lives as long as every frame arrives: frames are numbered, and when one is lost the connection is over, so
that what a connection promises (its order, and that what is missing is missing at the end) holds over relays too.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

import msgspec

from fdn.errors import BadRequest, Unreachable
from fdn.runtime.relay_hop import Hop
from transports.channel import Channel
from transports.intake import Intake
from transports.limits import Limits
from transports.outbox import Outbox
from transports.parcel import Buffer, Parcel
from transports.shm.handles import Lender
from transports.transport import ConnectionEvent, ConnectionStats, EventKind, ListenerStats, OnEvent, Receive
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = (
    "BACK",
    "DIAL",
    "LOST",
    "RelayConnection",
    "RelayTransport",
    "RelayedListener",
    "Ways",
    "frame_of",
    "relay_envelope",
    "whole_body",
)

DIAL: Final = "dial"  # from the node that dialled to the other
BACK: Final = "back"  # the listener's: WELCOME, REFUSED, BYE
LOST: Final = "lost"  # to the dialler: a frame could not be passed on, the connection is over
_WRAPPING_BYTES: Final = 8 * 1024  # what an envelope of kind RELAY adds to a frame at most: 7 node ids of 1 KiB
_decode_frame = msgspec.msgpack.Decoder(bytes).decode

Relays = tuple[str, ...]


class Ways(Protocol):
    """What connections over relays need of whoever passes their envelopes on."""

    node: str
    loop: asyncio.AbstractEventLoop
    limits: Limits

    def hop(self, node: str, channel: Channel) -> Hop: ...

    def opened(self, connection: "RelayConnection") -> int:
        """A new number for it; from now on it is told what comes for it."""

    def over(self, connection: "RelayConnection") -> None: ...

    async def wait_open(self, node: str, channel: Channel) -> None:
        """Return when the direct link to the first relay is open; raises Unreachable."""


def relay_envelope(
    what: str, connection: int, origin: str, dest: str, relays: Relays, sequence: int, body: object
) -> Envelope:
    """An envelope of kind RELAY as its origin sends it."""
    meta = {
        # Between two nodes a large message may be overtaken by small ones, but not by those of its key.
        int(MetaKey.PARTITION_KEY): str(connection),
        int(MetaKey.ORIGIN): origin,
        int(MetaKey.DEST): dest,
        int(MetaKey.TTL): len(relays),
        int(MetaKey.SEQUENCE): sequence,
        int(MetaKey.PATH): relays,
    }
    return Envelope(Kind.RELAY, what, connection, 0, meta, body)


def frame_of(envelope: Envelope) -> bytes:
    """The frame in a received envelope.

    Raises:
        ValueError: There is none.
    """
    return _decode_frame(whole_body(envelope))


def whole_body(envelope: Envelope) -> Any:
    """The body of a received envelope in one piece."""
    body = envelope.body
    return body.inline() if isinstance(body, Parcel) else body


class RelayConnection(Outbox):
    """See `transports.transport.Connection`. Bodies go inline: relays need not know of attachments."""

    def __init__(
        self,
        ways: Ways,
        channel: Channel,
        endpoint: str,
        target: str,
        relays: Relays,
        receive: Receive,
        on_event: OnEvent,
    ) -> None:
        super().__init__(ways.loop, ways.limits)
        self.target = target
        self.relays = relays
        self.channel = channel
        self._ways = ways
        self._endpoint = endpoint
        self._on_event = on_event
        self._intake = Intake(endpoint, receive, ways.limits)
        self._hop = ways.hop(relays[0], channel)
        self._number = ways.opened(self)
        self._sequence = 0
        self._heard = 0
        self._opening = ways.loop.create_task(self._connect())

    @property
    def endpoint(self) -> str:
        """See `Connection.endpoint`."""
        return self._endpoint

    @property
    def number(self) -> int:
        """What it is called in envelopes of kind RELAY."""
        return self._number

    def stats(self) -> ConnectionStats:
        """See `Connection.stats`."""
        return self._stats(self._intake)

    def agree(self, features: Collection[str]) -> None:
        """See `Connection.agree`: what it adds to frames is for direct connections."""

    def on_back(self, sequence: int, frame: bytes) -> None:
        """A frame of the listener came."""
        self._heard += 1
        if sequence != self._heard:
            self.lost("a frame was lost on the way back")
        else:
            self._intake.take(b"", frame)

    def lend_by(self, lender: Lender) -> None:
        """See `Connection.lend_by`: memory is shared over direct connections only."""

    def lost(self, reason: str) -> None:
        """It is over: a relay is gone, or could not pass on."""
        self._finish(EventKind.CLOSED, reason)

    async def _connect(self) -> None:
        try:
            await self._ways.wait_open(self.relays[0], self.channel)
        except Unreachable as error:
            self._finish(EventKind.UNREACHABLE, error.message)
            return
        self._on_event(ConnectionEvent(EventKind.CONNECTED, self._endpoint))
        self._resume()

    def _write(self, frame: bytes, attachments: Sequence[Buffer] = ()) -> bool:
        assert not attachments, "the peer was not told of attachments"
        self._sequence += 1
        node = self._ways.node
        envelope = relay_envelope(DIAL, self._number, node, self.target, self.relays, self._sequence, frame)
        self._hop.send(envelope, node, self.lost)
        if self._hop.has_room or self._ended:
            return not self._ended
        self._hop.when_room(self._resume)
        return False

    def _check_fits(self, body_bytes: int) -> None:
        if body_bytes > self._limits.body_bytes_max - _WRAPPING_BYTES:
            raise BadRequest(
                f"a body of {body_bytes} bytes to node {self.target} is too large for the way over "
                f"{', '.join(self.relays)}, which takes {self._limits.body_bytes_max - _WRAPPING_BYTES}",
                hint="send less at once; `fdn reachability` shows which links are down",
            )

    def _hush(self) -> None:
        self._on_event = _ignore_event
        self._intake.receive = _ignore_batch

    def _finish(self, kind: EventKind, detail: str) -> None:
        if not self._ended:
            on_event = self._on_event
            self._shut()
            # Not at once: the hop may tell while the owner is still sending.
            self._loop.call_soon(on_event, ConnectionEvent(kind, self._endpoint, detail))

    def _shut(self) -> None:
        if self._ended:
            return
        self._end()
        if self._opening is not asyncio.current_task():
            self._opening.cancel()
        self._ways.over(self)


class RelayTransport:
    """Dials one member over fixed relays; see `transports.transport.Transport`. It does not listen."""

    def __init__(self, ways: Ways, target: str, relays: Relays) -> None:
        self._ways = ways
        self._target = target
        self._relays = relays

    def listen(self, channel: Channel, endpoint: str, receive: Receive) -> "RelayedListener":
        """Not here.

        Raises:
            AssertionError: Always.
        """
        raise AssertionError("what comes over relays comes in on the direct listeners")

    def dial(self, channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent) -> RelayConnection:
        """See `Transport.dial`."""
        return RelayConnection(self._ways, channel, endpoint, self._target, self._relays, receive, on_event)

    async def close(self) -> None:
        """Nothing is open but connections, and these have owners."""


class RelayedListener:
    """What sessions that came over relays have for a listener; see `transports.transport.Listener`.

    Args:
        send: Sends a frame back on a connection: (source, frame), false if there is no such connection.
    """

    endpoint = "over relays"

    def __init__(self, limits: Limits, send: Callable[[bytes, bytes], bool]) -> None:
        self._limits = limits
        self._send = send
        self.gone = False
        self._refused_sends = 0

    def send(self, source: bytes, envelope: Envelope) -> bool:
        """See `Listener.send`."""
        sent = self._send(source, encode_batch((envelope,)))
        self.gone = not sent
        self._refused_sends += not sent
        return sent

    def stats(self) -> ListenerStats:
        """See `Listener.stats`."""
        return ListenerStats(refused_sends=self._refused_sends)

    def close(self) -> None:
        """Nothing is bound."""


def _ignore_event(event: ConnectionEvent) -> None:
    """No event follows `close`."""


def _ignore_batch(batch: object) -> None:
    """Nothing is handed up after `close`."""
