"""Relaying on the data plane: our connections over others, those of others that end here, and what we pass on.

A relay follows the path that the origin has written down, over its own direct links, and reads nothing else. It passes
on only between living members, and only what came from the node before it on that path; so nobody outside the cluster
can have anything relayed, and a member can put no other member's name under what it sends but where it is on the path.
A path names no node twice and each node sends to the next one only: nothing can loop, whatever anybody believes.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from fdn.runtime.link import Link
from fdn.runtime.relay_hop import Hop
from fdn.runtime.relayed import (
    BACK,
    DIAL,
    LOST,
    RelayConnection,
    RelayedListener,
    RelayTransport,
    frame_of,
    relay_envelope,
    whole_body,
)
from fdn.settings import RelaySettings
from transports.channel import Channel
from transports.intake import Intake
from transports.limits import Limits
from transports.transport import Batch, Listener
from transports.wire.envelope import Envelope, Kind, MetaKey
from transports.wire.handshake import Hello, Role

__all__ = ("RELAYS_MAX", "Relaying", "RelayingPlane", "RelayingStats", "Sender")

_ID_MASK = 2**64 - 1
RELAYS_MAX = 5  # the wire's
_hello_decoder = msgspec.msgpack.Decoder(Hello)
_reason_decoder = msgspec.msgpack.Decoder(str)

Relays = tuple[str, ...]


class Sender(Protocol):
    """From whom an envelope came directly."""

    @property
    def peer(self) -> str: ...

    @property
    def is_client(self) -> bool: ...

    @property
    def channel(self) -> Channel: ...


class RelayingPlane(Protocol):
    """What is needed of the data plane."""

    def direct_link(self, node: str, channel: Channel) -> Link:
        """Raises Unreachable where there is none."""

    def is_member(self, node: str) -> bool:
        """Whether a node is alive, or suspected."""

    def on_relayed_batch(self, channel: Channel, listener: Listener, batch: Batch) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class RelayingStats:
    """What is open now, and counters since the start."""

    connections: int  # of ours over relays
    inbound: int  # of others over relays to us
    relayed: int  # envelopes passed on for others
    unrelayed: int  # that could not be, or may not be
    lost: int  # our own connections that ended because something was lost on the way
    malformed: int  # what nobody honest sends


@dataclasses.dataclass(slots=True)
class _Inbound:
    """A connection that somebody has dialled to us over relays."""

    origin: str
    number: int
    relays: Relays  # from the origin's side
    channel: Channel
    intake: Intake
    heard: int = 0
    said: int = 0


class Relaying:
    """See the module. All methods belong to the data plane's loop.

    Args:
        node: Our node id.
        plane: The data plane.
        settings: Bounds.
        limits: Of the plane's transport.
        first_number: Of our connections: random at each start.
        inbound_max: Connections of others that are held; past it the longest unused goes.
        on_reached: Called with (node, relays as we would use them) when a member has reached us over relays.
        on_undeliverable: Called with (node, relays) when a connection over them ended because something was lost.
    """

    def __init__(
        self,
        *,
        node: str,
        plane: RelayingPlane,
        settings: RelaySettings,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        first_number: int,
        inbound_max: int,
        on_reached: Callable[[str, Relays], None],
        on_undeliverable: Callable[[str, Relays], None],
    ) -> None:
        self.node = node
        self.loop = loop
        self.limits = limits
        self._plane = plane
        self._settings = settings
        self._next_number = first_number
        self._inbound_max = inbound_max
        self._on_reached = on_reached
        self._on_undeliverable = on_undeliverable
        self._hops: dict[tuple[str, Channel], Hop] = {}
        self._connections: dict[int, RelayConnection] = {}
        self._inbound: collections.OrderedDict[bytes, _Inbound] = collections.OrderedDict()
        self._listeners = {channel: RelayedListener(limits, self._send_back) for channel in Channel}
        self._n_relayed = self._n_unrelayed = self._n_lost = self._n_malformed = 0

    def transport(self, target: str, relays: Relays) -> RelayTransport:
        """What dials a member over these relays."""
        return RelayTransport(self, target, relays)

    def stats(self) -> RelayingStats:
        return RelayingStats(
            connections=len(self._connections),
            inbound=len(self._inbound),
            relayed=self._n_relayed,
            unrelayed=self._n_unrelayed,
            lost=self._n_lost,
            malformed=self._n_malformed,
        )

    def close(self) -> None:
        """Drop everything that waits. Idempotent."""
        for hop in self._hops.values():
            hop.close()
        self._hops.clear()

    def on_hop_lost(self, node: str, channel: Channel) -> None:
        """A direct link was lost: what was under way on it to relays is lost too."""
        for connection in [each for each in self._connections.values() if each.channel is channel]:
            if connection.relays[0] == node:
                self._lose(connection, f"the {channel} link to the relay {node} was lost")

    def on_gone(self, node: str) -> None:
        """A member is dead, has left or is forgotten."""
        for connection in [each for each in self._connections.values() if node in (each.target, *each.relays)]:
            self._lose(connection, f"node {node} is gone")
        for source in [source for source, each in self._inbound.items() if each.origin == node]:
            del self._inbound[source]
        for channel in Channel:
            hop = self._hops.pop((node, channel), None)
            if hop is not None:
                hop.close()

    # -- for our own connections

    def hop(self, node: str, channel: Channel) -> Hop:
        """See `Ways.hop`."""
        hop = self._hops.get((node, channel))
        if hop is None:
            settings = self._settings
            hop = self._hops[node, channel] = Hop(
                lambda: self._plane.direct_link(node, channel),
                settings.queue_messages_max,
                settings.queue_bytes_max,
                self.loop,
            )
        return hop

    def opened(self, connection: RelayConnection) -> int:
        """See `Ways.opened`."""
        self._next_number = number = (self._next_number + 1) & _ID_MASK
        self._connections[number] = connection
        return number

    def over(self, connection: RelayConnection) -> None:
        """See `Ways.over`."""
        self._connections.pop(connection.number, None)

    async def wait_open(self, node: str, channel: Channel) -> None:
        """See `Ways.wait_open`."""
        await self._plane.direct_link(node, channel).wait_open()

    # -- what comes in

    def on_relay(self, sender: Sender, envelope: Envelope, ticket: object) -> None:
        """A RELAY came in."""
        meta: dict[int, Any] = envelope.meta or {}
        origin, dest, ttl = meta.get(MetaKey.ORIGIN), meta.get(MetaKey.DEST), meta.get(MetaKey.TTL)
        sequence, path = meta.get(MetaKey.SEQUENCE), meta.get(MetaKey.PATH)
        if (
            not (isinstance(origin, str) and isinstance(dest, str) and isinstance(sequence, int))
            or not (isinstance(path, list) and all(isinstance(node, str) for node in path))
            or not (isinstance(ttl, int) and (envelope.to == LOST or path) and len(path) <= RELAYS_MAX)
            or len({origin, dest, *path}) != len(path) + 2
            or envelope.to not in (DIAL, BACK, LOST)
            or sender.is_client
        ):
            self._n_malformed += 1
            return
        relays = tuple(path)
        nodes = (origin, *relays, dest)
        if self.node not in nodes[1:]:
            self._n_malformed += 1
            return
        place = nodes.index(self.node)
        if sender.peer != nodes[place - 1] or not all(
            self._plane.is_member(node) for node in nodes if node != self.node
        ):
            self._n_unrelayed += 1
            return
        if place <= len(relays):
            self._pass_on(sender.channel, envelope, nodes, place, ttl)
        elif envelope.to == DIAL:
            self._on_dial(sender.channel, envelope, origin, relays, sequence)
        else:
            self._on_answer(envelope, origin, relays, sender.peer, sequence)

    def _pass_on(self, channel: Channel, envelope: Envelope, nodes: Relays, place: int, ttl: int) -> None:
        origin, before = nodes[0], nodes[1:place]

        def unsent(reason: str) -> None:
            self._n_unrelayed += 1
            if envelope.to == DIAL:
                self._tell_lost(channel, envelope.id, origin, before, f"relay {self.node}: {reason}")

        if ttl < 1 or not self._settings.enabled:
            unsent("it relays no more of this" if ttl < 1 else "it does not relay (relay.enabled)")
            return
        self._n_relayed += 1
        meta = {**(envelope.meta or {}), int(MetaKey.TTL): ttl - 1}
        onward = Envelope(Kind.RELAY, envelope.to, envelope.id, 0, meta, envelope.body)
        self.hop(nodes[place + 1], channel).send(onward, origin, unsent)

    def _on_dial(self, channel: Channel, envelope: Envelope, origin: str, relays: Relays, sequence: int) -> None:
        source = f"{origin} {envelope.id}".encode()
        inbound = self._inbound.get(source)
        if inbound is None and sequence == 1 and self._settings.enabled:
            inbound = self._admit(source, channel, envelope.id, origin, relays)
        if inbound is None or sequence != inbound.heard + 1 or inbound.relays != relays:
            self._inbound.pop(source, None)
            why = "a frame was lost on the way" if self._settings.enabled else "it takes nothing that is relayed"
            self._tell_lost(channel, envelope.id, origin, relays, f"node {self.node}: {why}")
            return
        inbound.heard = sequence
        self._inbound.move_to_end(source)
        try:
            frame = frame_of(envelope)
        except (ValueError, TypeError):
            self._n_malformed += 1
            return
        inbound.intake.take(source, frame)

    def _admit(self, source: bytes, channel: Channel, number: int, origin: str, relays: Relays) -> _Inbound:
        listener = self._listeners[channel]

        def receive(batch: Batch) -> None:
            first = batch.envelopes[0]
            if first.kind == Kind.HELLO and not _is_from(first, origin):
                self._n_malformed += 1  # a session is believed to be who its HELLO says: the path must say the same
                del self._inbound[source]
                return
            self._plane.on_relayed_batch(channel, listener, batch)

        inbound = _Inbound(
            origin, number, relays, channel, Intake(f"{channel} over {relays[-1]}", receive, self.limits)
        )
        self._inbound[source] = inbound
        if len(self._inbound) > self._inbound_max:
            self._inbound.popitem(last=False)
        self._on_reached(origin, relays[::-1])
        return inbound

    def _on_answer(self, envelope: Envelope, origin: str, relays: Relays, last: str, sequence: int) -> None:
        """Something for one of our own connections; a relay may only say that it is lost."""
        connection = self._connections.get(envelope.id)
        if connection is None:
            self._n_unrelayed += 1  # it is over already
            return
        if last != connection.relays[0] or origin not in (connection.target, *connection.relays):
            self._n_malformed += 1
            return
        try:
            if envelope.to == LOST:
                self._lose(connection, _reason_decoder.decode(whole_body(envelope))[:500])
            elif origin == connection.target and relays == connection.relays[::-1]:
                connection.on_back(sequence, frame_of(envelope))
            else:
                self._n_malformed += 1
        except (ValueError, TypeError):
            self._n_malformed += 1

    # -- what goes out

    def _send_back(self, source: bytes, frame: bytes) -> bool:
        inbound = self._inbound.get(source)
        if inbound is None:
            return False
        inbound.said += 1
        back = inbound.relays[::-1]
        envelope = relay_envelope(BACK, inbound.number, self.node, inbound.origin, back, inbound.said, frame)
        self.hop(back[0], inbound.channel).send(envelope, self.node, self._count_unsent)
        return True

    def _tell_lost(self, channel: Channel, number: int, origin: str, before: Relays, reason: str) -> None:
        back = before[::-1]
        body = msgspec.Raw(msgspec.msgpack.encode(reason))
        envelope = relay_envelope(LOST, number, self.node, origin, back, 0, body)
        self.hop(back[0] if back else origin, channel).send(envelope, self.node, self._count_unsent)

    def _count_unsent(self, reason: str) -> None:
        self._n_unrelayed += 1

    def _lose(self, connection: RelayConnection, reason: str) -> None:
        self._n_lost += 1
        connection.lost(reason)
        self._on_undeliverable(connection.target, connection.relays)


def _is_from(envelope: Envelope, origin: str) -> bool:
    """Whether a HELLO is that of this node, and of no client."""
    try:
        hello = _hello_decoder.decode(envelope.body)
    except (ValueError, TypeError, RecursionError):
        return False
    return hello.identity.node == origin and hello.role is Role.NODE
