"""The client-server overlay: servers hold links to one another, and every client to one or two of them.

For clusters in which few members are meant to carry the traffic, and many only use it: n clients cost n links, and a
client knows two machines. Members with the server tag are servers. There may be several, come and go; clients are
spread over them by rendezvous hashing, and go to the next one when theirs is lost, refuses them, or is silent.

Invariants: servers are a full mesh. A client has at most `homes` neighbours at rest, all of them servers, and a server
at most `clients_max` clients. At rest A is B's neighbour where B is A's.

A client moves in two steps. It is let in at the new server first; then it tells the old one that it goes (`Detach`),
the last message that it sends there as a client, and closes the link when the old server has confirmed that everything
before has arrived (`Detached`). A place that a server gave up by itself, since it held the client dead, say, is found
out when the client renews it.

The driver's duties are those of every overlay (`topologies.overlay`).
"""

import dataclasses
import math
import random
from collections.abc import Mapping
from typing import assert_never

from topologies.client_server.guests import Guests
from topologies.client_server.homes import Homes
from topologies.client_server.messages import Attach, Attached, Detach, Detached, Refused, is_sane
from topologies.client_server.settings import ClientServerSettings
from topologies.held_links import HeldLinks
from topologies.identity import NodeId
from topologies.overlay import (
    LinkDown,
    LinkUp,
    OverlayEffect,
    OverlayInput,
    OverlayMessage,
    OverlayReceived,
    OverlaySend,
    Pinned,
)
from topologies.swim.interface import MemberChanged, Tick
from topologies.swim.messages import Claim, Status

__all__ = ("ClientServer", "ClientServerStats")

_LIVE = (Status.ALIVE, Status.SUSPECT)


@dataclasses.dataclass(frozen=True, slots=True)
class ClientServerStats:
    """Sizes now, and counters since the start."""

    servers: int  # that live, ourselves excluded
    homes: int  # at which we are
    clients: int  # that are with us
    links: int
    moves: int  # to servers that suit better
    failed: int  # servers that were lost, silent or full
    refused: int  # clients for whom we had no room
    stale: int  # messages about a stay that is over
    ignored: int  # absurd, or of another overlay


class ClientServer:
    """One node's overlay core. An `Overlay`.

    Args:
        me: Our node id.
        endpoints: Of ourselves, channel name to endpoint.
        is_server: Whether we carry the server tag.
        settings: See there.
        rng: Seeded by the driver; the only source of chance.
    """

    def __init__(
        self,
        me: NodeId,
        endpoints: Mapping[str, str],
        is_server: bool,
        settings: ClientServerSettings,
        rng: random.Random,
    ) -> None:
        self._me = me
        self._endpoints = endpoints
        self._is_server = is_server
        self._settings = settings
        self._members: dict[NodeId, Claim] = {}  # those that live
        self._servers: dict[NodeId, None] = {}  # those of them that are servers
        self._homes = Homes(me, settings, rng)
        self._guests = Guests(settings)
        self._pinned: dict[NodeId, Mapping[str, str] | None] = {}  # None while it is dead
        self._draining: dict[NodeId, tuple[int, float]] = {}  # the place that was given up, and when its link closes
        self._links = HeldLinks()
        self._now = -math.inf
        self._out: list[OverlayEffect | OverlaySend] = []
        self._move_count = self._failed_count = self._refused_count = self._stale_count = self._ignored_count = 0

    def handle(self, input: OverlayInput, now: float) -> list[OverlayEffect | OverlaySend]:
        """Take in one input; see `topologies.overlay` for what the effects ask."""
        self._now = now
        match input:
            case MemberChanged():
                self._on_member_changed(input)
            case LinkDown(peer, why):
                self._on_link_down(peer, why)
            case OverlayReceived(sender, message):
                self._on_message(sender, message)
            case Pinned(peers):
                self._on_pinned(peers)
            case Tick():
                self._on_tick()
            case LinkUp():
                pass  # what we have to say there has waited for it
            case _:
                assert_never(input)
        if not self._is_server:
            for server in self._homes.to_ask(now):
                self._attach(server)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        due = min((at for _, at in self._draining.values()), default=math.inf)
        due = min(due, self._guests.next_deadline() if self._is_server else self._homes.next_deadline(self._now))
        return None if due == math.inf else due

    def neighbours(self) -> frozenset[NodeId]:
        """The other servers and our clients, or our homes; and the pinned peers that live."""
        pinned = (peer for peer, endpoints in self._pinned.items() if endpoints is not None)
        if self._is_server:
            return frozenset((*self._servers, *self._guests, *pinned))
        return frozenset((*self._homes.current, *pinned))

    def stats(self) -> ClientServerStats:
        return ClientServerStats(
            servers=len(self._servers),
            homes=len(self._homes.current),
            clients=len(self._guests),
            links=len(self._links),
            moves=self._move_count,
            failed=self._failed_count,
            refused=self._refused_count,
            stale=self._stale_count,
            ignored=self._ignored_count,
        )

    # -- members and links

    def _on_member_changed(self, change: MemberChanged) -> None:
        peer, before, after = change.subject, change.before, change.after
        if peer == self._me:
            return
        if after is None or after.status not in _LIVE:
            self._forget(peer, "forgotten" if after is None else f"{after.status.value}: {after.reason}")
            return
        has_restarted = before is not None and before.incarnation[0] < after.incarnation[0]
        was_server = peer in self._servers
        is_server = self._settings.server_tag in after.tags
        if has_restarted or was_server != is_server:
            self._forget(peer, "it has restarted" if has_restarted else "it has another part now")
        known = peer in self._members
        self._members[peer] = after
        if peer in self._pinned:
            self._pinned[peer] = after.endpoints
        if is_server and not known:
            self._servers[peer] = None
            self._homes.add(peer, self._now)
        self._follow(peer, "it is no neighbour")

    def _forget(self, peer: NodeId, why: str) -> None:
        self._members.pop(peer, None)
        self._servers.pop(peer, None)
        if self._pinned.get(peer) is not None:
            self._pinned[peer] = None
        self._homes.remove(peer)
        self._guests.remove(peer)
        self._draining.pop(peer, None)
        self._follow(peer, why)

    def _on_link_down(self, peer: NodeId, why: str) -> None:
        if peer not in self._links:
            return
        if self._is_server:
            place = self._guests.remove(peer)
            if place is not None:
                self._send(peer, Detached(place))  # only our way there may be broken
        elif self._homes.failed(peer, self._now):
            self._failed_count += 1
        self._draining.pop(peer, None)
        self._follow(peer, why)

    def _on_pinned(self, peers: Mapping[NodeId, Mapping[str, str]]) -> None:
        former, self._pinned = self._pinned, {peer: it for peer, it in peers.items() if peer != self._me}
        for peer in (*self._pinned, *former):
            self._follow(peer, "no longer pinned")

    def _on_tick(self) -> None:
        now = self._now
        for peer in [peer for peer, (_, close_at) in self._draining.items() if close_at <= now]:
            del self._draining[peer]
            self._follow(peer, "drained for long enough")
        if self._is_server:
            for client in self._guests.silent(now):
                self._guests.remove(client)
                self._follow(client, "not heard of for too long")
            return
        for server in self._homes.late(now):
            self._let_down_by(server, "no answer")
        for server in self._homes.to_renew(now):
            self._attach(server)

    # -- messages

    def _on_message(self, sender: NodeId, message: OverlayMessage) -> None:
        match message:
            case Attach(place, endpoints):
                self._on_attach(sender, place, endpoints)
            case Attached(place):
                self._on_attached(sender, place)
            case Refused(place) | Detached(place) if self._homes.place(sender) == place:
                self._let_down_by(sender, "it let us go")
            case Detached(place) if self._draining.get(sender, (None, 0.0))[0] == place:
                del self._draining[sender]
                self._follow(sender, "drained")
            case Detach(place):
                if self._guests.left(sender, place):
                    self._send(sender, Detached(place))
                    self._drain(sender, place)  # until that has gone out
                else:
                    self._stale_count += 1
            case Refused() | Detached():
                self._stale_count += 1
            case _:
                self._ignored_count += 1  # another overlay's: we are being switched, or the peer is

    def _on_attach(self, client: NodeId, place: int, endpoints: Mapping[str, str]) -> None:
        if client == self._me or not is_sane(endpoints):
            self._ignored_count += 1
            return
        if not self._is_server or client in self._servers or not self._guests.let_in(client, place, self._now):
            self._refused_count += 1
            self._out.append(OverlaySend(client, Refused(place), endpoints))
            return
        self._draining.pop(client, None)
        self._out += self._links.hold(client, endpoints)
        self._send(client, Attached(place))

    def _on_attached(self, server: NodeId, place: int) -> None:
        leaving = self._homes.let_in(server, place, self._now)
        if leaving is None:
            self._stale_count += 1
            if server not in self._draining:
                self._send(server, Detach(place))  # it came too late: there must not be a neighbour on one side only
            return
        for other in leaving:
            self._move_count += 1
            place = self._homes.leave(other)
            self._drain(other, place)
            self._send(other, Detach(place))

    # -- what follows

    def _attach(self, server: NodeId) -> None:
        place = self._homes.place(server)
        assert place is not None
        self._draining.pop(server, None)
        self._follow(server, "")
        self._send(server, Attach(place, self._endpoints))

    def _let_down_by(self, server: NodeId, why: str) -> None:
        self._failed_count += 1
        self._homes.failed(server, self._now)
        self._follow(server, why)

    def _drain(self, peer: NodeId, place: int) -> None:
        self._draining[peer] = (place, self._now + self._settings.drain_timeout_s)

    def _follow(self, peer: NodeId, why: str) -> None:
        """Hold the link to this peer if there is a reason for it, else give it up."""
        member = self._members.get(peer)
        wanted = (
            (self._is_server and peer in self._servers)
            or peer in self._guests
            or peer in self._draining
            or self._homes.place(peer) is not None
        )
        endpoints = self._pinned.get(peer)
        if wanted:
            endpoints = member.endpoints if member is not None else self._links.endpoints(peer)
        self._out += self._links.release(peer, why) if endpoints is None else self._links.hold(peer, endpoints)

    def _send(self, peer: NodeId, message: OverlayMessage) -> None:
        member = self._members.get(peer)
        endpoints = member.endpoints if member is not None else self._links.endpoints(peer)
        self._out.append(OverlaySend(peer, message, endpoints))
