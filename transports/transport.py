"""What a transport is: listeners, connections, and the batches they hand up.

Two keep this contract: `transports.zmq.ZmqTransport` and its in-memory twin, `transports.memory.MemoryTransport`.
One test suite runs over both (`tests/unit/transports/test_contract.py`).

Everything here belongs to one event loop and one thread; nothing may be called from another.
"""

import dataclasses
import enum
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from transports.channel import Channel
from transports.shm.handles import Lender
from transports.wire.envelope import Envelope

__all__ = (
    "ATTACHMENTS",
    "CHUNKS",
    "SENT",
    "SHARED_MEMORY",
    "Batch",
    "Connection",
    "ConnectionEvent",
    "ConnectionStats",
    "EventKind",
    "Listener",
    "ListenerStats",
    "OnEvent",
    "Receive",
    "Transport",
)

ATTACHMENTS: Final = "attachments"  # a feature of the handshake: frames behind a batch are understood
SHARED_MEMORY: Final = "shared_memory"  # in a WELCOME: the listener sees the dialler's probe, and takes handles
CHUNKS: Final = "chunks"  # and large messages in pieces
SENT: Final = "sent"  # and when by the sender's clock a batch has left


class Batch:
    """One received ZeroMQ message, decoded. Made once per message, so a plain class with slots.

    Attributes:
        source: The routing id that the ROUTER gave the connection; empty on a dialled connection.
        envelopes: At least one; bodies are `msgspec.Raw` views into the frame, or a `Parcel` with attachments.
        size: Bytes of the batch frame and all attachments, the unit of credit; and what handles count.
        attachments: Raw frames that followed the batch, in order, as buffers; not copied.
        has_handles: Whether a `Parcel` among the bodies has attachments that are still to be mapped.
        key: The peer's public key (32 bytes), or None without CURVE.
    """

    __slots__ = ("attachments", "envelopes", "has_handles", "key", "size", "source")

    def __init__(
        self,
        source: bytes,
        envelopes: list[Envelope],
        size: int,
        attachments: Sequence[memoryview],
        key: bytes | None,
        has_handles: bool = False,
    ) -> None:
        self.source = source
        self.envelopes = envelopes
        self.size = size
        self.attachments = attachments
        self.has_handles = has_handles
        self.key = key


Receive = Callable[[Batch], None]


class EventKind(enum.Enum):
    """What became of a dialled connection. At most one of the last four comes, and it is the last event."""

    CONNECTED = "connected"  # the ZMTP handshake is done; the HELLO is on its way
    REFUSED = "refused"  # nobody listens there: the process is gone, or never was
    UNREACHABLE = "unreachable"  # no answer within the connect timeout, or no route
    FAILED = "failed"  # something answered, but not a ZeroMQ peer we can speak with
    CLOSED = "closed"  # an established connection ended: closed, reset, or heartbeats missed


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A socket monitor's word on a dialled connection: evidence for the failure detector."""

    kind: EventKind
    endpoint: str
    detail: str = ""


OnEvent = Callable[[ConnectionEvent], None]


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionStats:
    """Counters of one dialled connection since it was made."""

    messages_sent: int = 0
    bytes_sent: int = 0
    batches_sent: int = 0
    expired: int = 0  # envelopes whose deadline passed before their batch was encoded
    dropped: int = (
        0  # queued here when the connection ended (what libzmq held is not counted), or past `exempt_bytes_max`
    )
    unsendable: int = 0  # envelopes that could not be encoded into one frame
    hwm_hits: int = 0  # sends that met EAGAIN
    credit_stalls: int = 0  # flushes that found no credit
    queued_messages: int = 0
    queued_bytes: int = 0
    batches_received: int = 0
    malformed: int = 0
    transfers: int = 0  # large messages that go in pieces, waiting or under way
    transfers_bytes: int = 0  # what of them has not left
    transfers_refused: int = 0  # by the peer
    credit_messages: int = -1  # that may be sent before a further CREDIT; -1 is no limit
    packed_bytes_in: int = 0  # of frames that were compressed, before
    packed_bytes_out: int = 0  # and after; `bytes_sent` counts them as they were before, as credit does
    shed: int = 0  # queued messages of a priority below 0 that were dropped for more urgent ones
    superseded: int = 0  # queued messages whose place a newer one of their name took


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerStats:
    """Counters of one listener since it was bound."""

    batches_received: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    malformed: int = 0  # frames or envelopes that were not what the specification says
    oversized: int = 0  # frames above `frame_bytes_max` that reached us
    refused_sends: int = 0  # sends to a peer that was gone, or whose queue was full


class Listener(Protocol):
    """A bound ROUTER, or its twin."""

    @property
    def endpoint(self) -> str:
        """Where it listens, with the port that was really bound."""

    def send(self, source: bytes, envelope: Envelope) -> bool:
        """Send one envelope back on the connection `source`. Never waits.

        Only for handshake answers and for clients, which have no listener of their own. The attachments of a `Parcel`
        go as frames; whether the peer understands them is the caller's to know. The first of an idle period leaves at
        once, those that follow within the same pass of the loop with it, in order (`transports.answers`).

        Returns:
            False when the peer is gone or its queue is full; the envelope is then counted and dropped. `gone` says
            which. True when it was accepted: it leaves unless the peer goes first.
        """

    @property
    def gone(self) -> bool:
        """Whether the last `send` that was refused found no such connection, rather than a full queue."""

    def stats(self) -> ListenerStats: ...

    def close(self) -> None:
        """Stop listening and drop every connection at once. Idempotent."""


class Connection(Protocol):
    """A dialled DEALER for one attempt, or its twin. It never reconnects: its owner dials again.

    Order: envelopes sent with `send` arrive in that order, those sent with `send_exempt` likewise; between the
    two nothing is promised.
    """

    @property
    def endpoint(self) -> str: ...

    @property
    def full(self) -> bool:
        """Whether the queue has reached `outbox_messages_max` or `outbox_bytes_max`: a sender should `wait_room`."""

    def shed(self, priority: int, size: int) -> list[Envelope]:
        """Make room for one message of this priority and size, which is then sent in any case: drop queued ones of
        lower priorities below 0. Returns those; none if that is not enough.
        """

    def compress(self) -> None:
        """Compress batches from now on, where they shrink. Only for a peer that reads such frames."""

    def hold_back(self, messages: int, bytes_: int) -> None:
        """Use so much less than is granted, from now on and with every further grant."""

    def limit_batches(self, bytes_: int) -> None:
        """Close batches at so many bytes, if that is less than the transport's limit."""

    @property
    def backlog(self) -> int:
        """Bytes that wait in the queue, as estimated for its bounds."""

    @property
    def has_credit(self) -> bool:
        """Whether the peer takes a further batch now; one that does not has not finished with what it has got."""

    def send(
        self, envelope: Envelope, deadline_at: float = 0.0, on_expired: Callable[[Envelope], None] | None = None
    ) -> None:
        """Queue one envelope. Never waits.

        The first of an idle period leaves at once; those that follow within the same loop pass leave together.

        Args:
            envelope: Must not be changed afterwards, nor may the attachments of its `Parcel`: they are sent from where
                they are. Its `deadline_ms` is written when the batch is encoded.
            deadline_at: Loop time after which it must not be sent, or 0.0 for none. What expires in the queue is
                counted and handed to `on_expired`.
        """

    def send_ranked(
        self,
        envelope: Envelope,
        priority: int,
        latest: str = "",
        deadline_at: float = 0.0,
        on_expired: Callable[[Envelope], None] | None = None,
    ) -> None:
        """Queue one envelope beside those of `send`: ahead of them or, below priority 0, behind; none starves.

        Order is kept among those of one priority. What has left the queue is overtaken by nothing.

        Args:
            envelope: As for `send`.
            priority: Higher leaves first; `send` has 0.
            latest: Takes the place of the one of this name and address that still waits; empty for none.
            deadline_at: As for `send`.
            on_expired: As for `send`.
        """

    def send_exempt(self, envelope: Envelope) -> None:
        """Queue an envelope that needs no credit: handshakes, replies, errors, cancels, CREDIT itself."""

    def grant(self, messages: int, bytes_: int) -> None:
        """Raise the totals that may be sent on this connection (absolute; a lower value than held is ignored).

        Until the first call there is no limit on `send`. (0, 0) lifts the limit.
        """

    def lend_by(self, lender: Lender) -> None:
        """From now on pass attachments that lie in shared memory as handles: the peer is on this host.

        The lender's `end` is called when the connection ends.
        """

    def agree(self, features: Collection[str]) -> None:
        """Use the optional parts of the protocol that the peer's WELCOME names; none until then."""

    def grant_bulk(self, total: int) -> None:
        """Raise the bytes of large messages that may be begun on this connection; absolute, as for `grant`."""

    @property
    def bulk_full(self) -> bool:
        """Whether so much of large messages waits that whoever has another should `wait_room`; small ones need not."""

    def withdraw(self, kinds: Collection[int], message_id: int) -> None:
        """Stop sending the large message of one of these kinds with this id, if one is under way."""

    def on_refused(self, transfer_id: int) -> Envelope | None:
        """The peer does not take this transfer: give it up. Returns its message, without its payload."""

    def has_room(self, size: int) -> bool:
        """Whether there is room for a message with a body of so many bytes."""

    async def wait_room(self, size: int = 0) -> None:
        """Return when the queue has room again, or the connection has ended (see the events for which).

        Args:
            size: Bytes of the body that there is to be room for.
        """

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once, in a later turn of the loop, when nothing waits here and the network takes frames.

        What is sent before that turn goes first. There is one callback at a time; a later one takes its place. It is
        not called any more when the connection has ended.
        """

    def stats(self) -> ConnectionStats: ...

    def close(self, linger_s: float = 0.0) -> None:
        """Close. Idempotent; no event follows.

        Args:
            linger_s: How long what has been queued may still leave, in the background; 0.0 drops it.
        """


class Transport(Protocol):
    """One plane's way to the network."""

    def listen(self, channel: Channel, endpoint: str, receive: Receive) -> Listener:
        """Bind.

        Args:
            channel: Selects the socket's limits.
            endpoint: `tcp://HOST:PORT` (port 0: ephemeral; IPv6 in brackets) or `ipc://PATH`; `memory://NAME` for
                the twin.
            receive: Called with each batch, in the order of arrival per source; must not raise.

        Raises:
            EndpointInUse: The port or path is taken.
            EndpointInvalid: It cannot be parsed, or the host is not one of this machine.
        """

    def dial(self, channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent) -> Connection:
        """Connect, in the background. What is sent before `CONNECTED` waits in the queue.

        Raises:
            EndpointInvalid: It cannot be parsed.
        """

    async def close(self) -> None:
        """Close what is still open and release threads and descriptors. Bounded, idempotent."""
