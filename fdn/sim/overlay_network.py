"""Bare overlays on a virtual clock: links that are dialled, lose what is in flight when they close, and fail when used.

Only the overlay's core runs on each node, which is what the papers measure, and ten thousand of them fit into one
process. Membership is what `tell`, `bury` and `start_member` say it is. Whole members are in `fdn.sim.membership`.
"""

import copy
import dataclasses
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from fdn.sim.graphs import Graph
from fdn.sim.world import World
from topologies.hyparview import HyParView, HyParViewSettings, Peer
from topologies.identity import NodeId
from topologies.overlay import (
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    Overlay,
    OverlayInput,
    OverlayReceived,
    OverlaySend,
    Pinned,
)
from topologies.swim import Claim, MemberChanged, Status, Tick

__all__ = ("Flood", "Host", "Link", "OverlayNetwork", "claim_of", "is_server", "peer_of", "pin")

_REDIAL_S: Final = 0.5


def claim_of(node: str, status: Status = Status.ALIVE, generation: int = 1, reason: str = "") -> Claim:
    """What membership says of a node."""
    endpoints = {"gossip": f"tcp://{node}:{generation}"}
    tags = {"server": ""} if is_server(node) else {}
    return Claim(NodeId(node), (generation, 0), status, node, endpoints, tags, NodeId(node), reason)


def is_server(node: str) -> bool:
    """Every fourth one, for overlays to which that means something."""
    return node[1:].isdigit() and int(node[1:]) % 4 == 0


def peer_of(node: str, generation: int = 1) -> Peer:
    """A node as it stands in the views of HyParView."""
    claim = claim_of(node, generation=generation)
    return Peer(claim.subject, claim.incarnation, claim.endpoints)


class Link:
    """One direction of what joins two nodes."""

    __slots__ = ("closed", "last_arrival", "open", "pending")

    def __init__(self) -> None:
        self.open = self.closed = False
        self.pending: list[Any] = []
        self.last_arrival = 0.0


class Host:
    """A node: its overlay, its links, and what applications sent it."""

    __slots__ = ("dials", "due", "generation", "id", "inbox", "links", "overlay", "sent", "up")

    def __init__(self, node: NodeId, overlay: Overlay, generation: int) -> None:
        self.id = node
        self.overlay = overlay
        self.generation = generation
        self.links: dict[NodeId, Link] = {}
        self.due: float | None = None
        self.up = True
        self.inbox: Any = None
        self.dials: dict[NodeId, int] = {}
        self.sent = 0


@dataclasses.dataclass(slots=True)
class Flood:
    """One message on its way through all active views."""

    hops: dict[NodeId, int] = dataclasses.field(default_factory=dict)


class OverlayNetwork:
    """Hosts, links between them, and a clock.

    Args:
        seed: Of all chance.
        make: Makes the overlay of a node.
        settings: Of HyParView, which is made if `make` is None.
        latency: Of one message in seconds, uniformly drawn; a constant if both are equal.
        own_rng: Each node has a generator of its own, as in production; else all share one, which saves memory.

    Attributes:
        world: Time and chance.
        hosts: By id, dead ones included.
        cut: Whether nothing gets from one node to another.
        drop: Whether the network loses this message.
        is_frozen: No node hears of links that are lost, so that none repairs anything.
        messages: Of overlays, by all hosts.
        app_lost: Messages of applications on links that were closed or absent while both ends lived.
        on_neighbours: Told of every change of a host's neighbours, with those before and after.
    """

    def __init__(
        self,
        seed: int,
        make: Callable[[Peer, random.Random], Overlay] | None = None,
        *,
        settings: HyParViewSettings | None = None,
        latency: tuple[float, float] = (0.0001, 0.0001),
        own_rng: bool = False,
    ) -> None:
        self.world = World(seed)
        self.rng = self.world.rng("overlays")
        chosen = settings or HyParViewSettings()
        self.make = make or (lambda me, rng: HyParView(me, chosen, rng))
        self.latency = latency
        self.own_rng = own_rng
        self.hosts: dict[NodeId, Host] = {}
        self.cut: Callable[[NodeId, NodeId], bool] | None = None
        self.drop: Callable[[NodeId, NodeId, Any], bool] | None = None  # messages that the network loses
        self.messages = 0  # of overlays, all hosts
        self.app_lost = 0  # of applications, on links that were closed or absent while both ends lived
        self.on_neighbours: Callable[[Host, frozenset[NodeId], frozenset[NodeId]], None] | None = None
        self.is_frozen = False
        self._in_flight = 0  # what is under way, timers excluded

    @property
    def now(self) -> float:
        return self.world.now

    def copy(self) -> "OverlayNetwork":
        """The same once more, to try out another future.

        Raises:
            ValueError: Somebody watches its neighbours, and would watch one of the two only.
        """
        if self.on_neighbours is not None:
            raise ValueError("on_neighbours is set; copy a network before anybody watches it")
        return copy.deepcopy(self)

    # -- what happens

    def start(self, name: str, contacts: Sequence[str] = (), generation: int = 1) -> Host:
        """A new node, which is told of its contacts and joins through one of them."""
        me = peer_of(name, generation)
        rng = random.Random(self.rng.getrandbits(64)) if self.own_rng else self.rng
        host = self.hosts[me.node] = Host(me.node, self.make(me, rng), generation)
        for contact in contacts:
            self.tell(host, contact)
        return host

    def start_member(self, name: str, generation: int = 1) -> Host:
        """A new node; membership tells it of everybody, and everybody of it."""
        former = self.hosts.get(NodeId(name))
        before = None if former is None else Status.DEAD
        others = [host for host in self.living() if host.id != name]
        host = self.start(name, [other.id for other in others], generation)
        for other in others:
            self.tell(other, name, before=before)
        return host

    def bury(self, names: Iterable[NodeId], status: Status = Status.DEAD) -> None:
        """Membership tells everybody that these are gone."""
        for node in names:
            for host in self.living():
                self.tell(host, node, status, before=Status.ALIVE)

    def tell(self, host: Host, about: str, status: Status = Status.ALIVE, before: Status | None = None) -> None:
        """What membership says to a host about another."""
        subject = NodeId(about)
        other = self.hosts.get(subject)
        generation = other.generation if other is not None else 1
        former = None if before is None else claim_of(about, before, generation)
        self.feed(host, MemberChanged(subject, former, claim_of(about, status, generation), self.now))

    def kill(self, names: Iterable[NodeId], notice: bool = False) -> None:
        """Some die at once. Without notice their peers find out when they use a link."""
        dead = set(names)
        for node in dead:
            self.hosts[node].up = False
        if notice:
            for host in self.living():
                for peer, link in host.links.items():
                    if peer in dead and link.open:
                        self._after(self._delay(), self._lost, host, peer, link, "closed")

    def living(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.up]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    def settle(self) -> None:
        """Run until nothing is under way but timers."""
        self.world.run(math.inf, lambda: not self._in_flight)

    def flood(self, origin: NodeId) -> Flood:
        """Start a broadcast; `settle` or `run` carries it."""
        flood = Flood({origin: 0})
        self._forward(self.hosts[origin], flood, None, 1)
        return flood

    def send_app(self, host: Host, peer: NodeId, payload: Any) -> None:
        """An application's message, over the link that there is."""
        link = host.links.get(peer)
        if link is None:
            self.app_lost += 1
        else:
            self._enqueue(host, peer, link, payload)

    def feed(self, host: Host, input: OverlayInput) -> None:
        """Hand a host's overlay one input and carry out what it returns."""
        if not host.up:
            return
        overlay = host.overlay
        before = overlay.neighbours() if self.on_neighbours is not None else None
        self._carry_out(host, overlay.handle(input, self.now))
        self._set_timer(host)
        if before is not None and self.on_neighbours is not None:
            after = overlay.neighbours()
            if after != before:
                self.on_neighbours(host, before, after)

    def _after(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        self._in_flight += 1
        self.world.after(delay, self._do, act, args)

    def timer(self, at: float, act: Callable[..., None], *args: Any) -> None:
        """As `at`, at a point in time; `settle` does not wait for it."""
        self.world.at(max(at, self.now), act, *args)

    # -- what can be seen

    def graph(self) -> Graph:
        """The neighbours of each living node that live."""
        hosts = self.hosts
        return {
            host.id: tuple(sorted(peer for peer in host.overlay.neighbours() if hosts[peer].up))
            for host in self.living()
        }

    def asymmetric(self) -> list[tuple[NodeId, NodeId]]:
        """Who takes a living node for its neighbour without being its neighbour."""
        neighbours = {host.id: host.overlay.neighbours() for host in self.living()}
        return [
            (node, peer) for node, peers in neighbours.items() for peer in peers if node not in neighbours.get(peer, ())
        ]

    # -- the network

    def _do(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._in_flight -= 1
        act(*args)

    def _delay(self) -> float:
        low, high = self.latency
        return low if low == high else self.rng.uniform(low, high)

    def _carry_out(self, host: Host, effects: Iterable[Any]) -> None:
        for effect in effects:
            match effect:
                case OverlaySend(peer, message):
                    self.messages += 1
                    host.sent += 1
                    link = host.links.get(peer)
                    if link is not None:
                        self._enqueue(host, peer, link, message)
                    else:
                        self._after(3 * self._delay(), self._arrive, host, peer, None, message)
                case Connect(peer):
                    assert peer not in host.links, "connected twice"
                    assert peer != host.id
                    link = host.links[peer] = Link()
                    self._dial(host, peer, link)
                case Disconnect(peer):
                    link = host.links.pop(peer)
                    link.open = False
                    link.closed = True

    def _set_timer(self, host: Host) -> None:
        due = host.overlay.next_deadline()
        if due is not None and (host.due is None or due < host.due):
            host.due = due
            self.timer(due, self._timer, host, due)

    def _timer(self, host: Host, due: float) -> None:
        if host.due != due or not host.up:
            return
        host.due = None
        wanted = host.overlay.next_deadline()
        if wanted is not None and wanted <= self.now:
            self.feed(host, Tick())
        else:
            self._set_timer(host)

    def _dial(self, host: Host, peer: NodeId, link: Link) -> None:
        if not link.closed and host.up:
            host.dials[peer] = host.dials.get(peer, 0) + 1
            self._after(2 * self._delay(), self._dialled, host, peer, link)

    def _dialled(self, host: Host, peer: NodeId, link: Link) -> None:
        if link.closed or not host.up:
            return
        if not self._reaches(host.id, peer):
            self._lost(host, peer, link, "refused")
            return
        link.open = True
        pending, link.pending = link.pending, []
        for message in pending:
            self._enqueue(host, peer, link, message)
        self.feed(host, LinkUp(peer))

    def _enqueue(self, host: Host, peer: NodeId, link: Link, message: Any) -> None:
        if not link.open:
            link.pending.append(message)
            return
        delay = self._delay()
        arrival = max(self.now + delay, link.last_arrival)  # one after the other
        link.last_arrival = arrival
        self._after(arrival - self.now, self._arrive, host, peer, link, message)

    def _arrive(self, host: Host, peer: NodeId, link: Link | None, message: Any) -> None:
        if link is not None and (link.closed or not link.open):
            if self._is_app(message) and host.up and self.hosts[peer].up:
                self.app_lost += 1
            return
        if not self._reaches(host.id, peer):
            if link is not None:
                self._lost(host, peer, link, "closed")
            return
        if self.drop is not None and self.drop(host.id, peer, message):
            return
        target = self.hosts[peer]
        if self._is_app(message):
            self._on_app(target, host.id, message)
        else:
            self.feed(target, OverlayReceived(host.id, message))

    def _is_app(self, message: Any) -> bool:
        return isinstance(message, tuple)

    def _on_app(self, host: Host, sender: NodeId, message: Any) -> None:
        if isinstance(message[0], Flood):
            flood, hop = message
            if host.id not in flood.hops:
                flood.hops[host.id] = hop
                self._forward(host, flood, sender, hop + 1)
        elif host.inbox is not None:
            host.inbox(sender, message)

    def _forward(self, host: Host, flood: Flood, sender: NodeId | None, hop: int) -> None:
        for peer in sorted(host.overlay.neighbours()):
            link = host.links.get(peer)
            if peer != sender and link is not None:
                self._enqueue(host, peer, link, (flood, hop))

    def _reaches(self, one: NodeId, other: NodeId) -> bool:
        target = self.hosts.get(other)
        return target is not None and target.up and not (self.cut is not None and self.cut(one, other))

    def _lost(self, host: Host, peer: NodeId, link: Link, why: str) -> None:
        if link.closed or not host.up or self.is_frozen:
            return
        link.open = False
        link.pending = []
        self.feed(host, LinkDown(peer, why))
        if not link.closed:
            self.timer(self.now + _REDIAL_S, self._dial, host, peer, link)


def pin(network: OverlayNetwork, names: Collection[str]) -> None:
    """Pin these to one another."""
    for name in names:
        peers = {NodeId(other): claim_of(other).endpoints for other in names}
        network.feed(network.hosts[NodeId(name)], Pinned(peers))
