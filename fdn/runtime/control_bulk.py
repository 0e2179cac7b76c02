"""Drives `fdn.bulk` on the control plane: large messages of its cores go in pieces, behind everything else.

A piece leaves only when nothing waits on the `gossip` connection to its peer, and the next when that one has been
acknowledged. `coordination` never carries any.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from fdn.runtime.bulk import (
    Ack,
    BulkReceiver,
    BulkReceiverStats,
    BulkSender,
    BulkSenderStats,
    BulkSettings,
    Ended,
    Idle,
    PeerGone,
    PeerUp,
    Piece,
    Refuse,
    Submit,
    WaitIdle,
    decode,
    encode,
)
from fdn.runtime.bulk.sender import BulkEffect, BulkInput, BulkSend, Heard, Tick
from fdn.runtime.control_links import ControlLinks
from transports.channel import Channel
from transports.wire.envelope import Envelope, Kind

__all__ = ("BULK", "BULK_FEATURE", "BulkStats", "ControlBulk", "OnEnded")

BULK: Final = "fdn.bulk"
BULK_FEATURE: Final = "bulk"  # in HELLO and WELCOME: whoever does not say it is sent everything whole
_log = logging.getLogger(__name__)
_ID_MASK: Final = 2**64 - 1

OnEnded = Callable[[str], None]
"""Called with why a transfer failed; with an empty string when the peer has the message."""


@dataclasses.dataclass(frozen=True, slots=True)
class BulkStats:
    """Both directions."""

    sent: BulkSenderStats
    received: BulkReceiverStats


class ControlBulk:
    """See the module. All methods belong to the control plane's loop.

    Args:
        links: Where pieces leave.
        loop: For the time.
        first_id: Begin of the transfers' numbers: random at each start, so that no two lives of this node share one.
        deliver: Called with (peer, protocol, body) when a message has come whole.
        settings: See there.
    """

    def __init__(
        self,
        links: ControlLinks,
        loop: asyncio.AbstractEventLoop,
        first_id: int,
        deliver: Callable[[str, str, bytearray], None],
        settings: BulkSettings | None = None,
    ) -> None:
        self.settings = settings or BulkSettings()
        self._links = links
        self._loop = loop
        self._next_id = first_id
        self._deliver = deliver
        self._sender = BulkSender(self.settings)
        self._receiver = BulkReceiver(self.settings)
        self._on_ended: dict[tuple[str, int], OnEnded] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def send(self, peer: str, protocol: str, body: bytes, on_ended: OnEnded | None = None) -> None:
        """Send a message of a core in pieces. Never waits.

        Messages to one peer arrive in any order, and may be lost: when the peer is gone, when it does not acknowledge a
        piece `attempts_max` times, or past a bound of `BulkSettings`. Each failure is counted and logged.

        Args:
            peer: A member. With no open link, it waits for one.
            protocol: As in the `to` of a CORE.
            body: Not empty.
            on_ended: Called once, perhaps before this returns.
        """
        self._next_id = transfer = (self._next_id + 1) & _ID_MASK
        if on_ended is not None:
            self._on_ended[peer, transfer] = on_ended
        self._feed(Submit(peer, transfer, protocol, body))

    def on_message(self, peer: str, body: msgspec.Raw) -> None:
        """Something of `fdn.bulk` came from a living member.

        Raises:
            RemoteProtocolError: It cannot be read, or nobody honest would say it. It is dropped.
        """
        message = decode(body)
        match message:
            case Piece():
                answer, delivered = self._receiver.on_piece(peer, message, self._loop.time())
                self._links.send(peer, Channel.GOSSIP, _envelope(answer))
                self._set_timer()
                if delivered is not None:
                    self._deliver(peer, delivered.protocol, delivered.body)
            case Ack() | Refuse():
                self._feed(Heard(peer, message))
            case _:
                assert_never(message)

    def on_link_up(self, peer: str) -> None:
        """Our gossip link to a member has opened."""
        self._feed(PeerUp(peer))

    def on_gone(self, peer: str) -> None:
        """A member is dead, has left, or is forgotten."""
        self._receiver.on_gone(peer)
        self._feed(PeerGone(peer))

    def stats(self) -> BulkStats:
        return BulkStats(self._sender.stats(), self._receiver.stats())

    def close(self) -> None:
        """Stop. What is under way is lost. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed(self, message: BulkInput) -> None:
        if self._closed:
            return
        for effect in self._sender.handle(message, self._loop.time()):
            self._carry_out(effect)
        self._set_timer()

    def _carry_out(self, effect: BulkEffect) -> None:
        match effect:
            case WaitIdle(peer):
                self._links.when_idle(peer, Channel.GOSSIP, lambda: self._feed(Idle(peer)))
            case BulkSend(peer, piece):
                self._links.send(peer, Channel.GOSSIP, _envelope(piece))
            case Ended(peer, transfer, protocol, reason):
                if reason:
                    _log.warning(
                        "bulk of %s to %s failed: %s",
                        protocol,
                        peer,
                        reason,
                        extra={"peer": peer, "protocol": protocol},
                    )
                on_ended = self._on_ended.pop((peer, transfer), None)
                if on_ended is not None:
                    on_ended(reason)
            case _:
                assert_never(effect)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadlines = [at for at in (self._sender.next_deadline(), self._receiver.next_deadline()) if at is not None]
        if deadlines and not self._closed:
            self._timer = self._loop.call_at(max(min(deadlines), self._loop.time() + 0.001), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._receiver.tick(self._loop.time())
        self._feed(Tick())


def _envelope(message: Ack | Refuse | Piece) -> Envelope:
    return Envelope(Kind.CORE, BULK, body=msgspec.Raw(encode(message)))
