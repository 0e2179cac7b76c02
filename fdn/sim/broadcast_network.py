"""Plumtree over overlays, on the virtual clock of `overlay_network`; counts what the paper counts."""

from collections import Counter

from fdn.sim.overlay_network import Host, OverlayNetwork
from topologies.identity import NodeId
from topologies.plumtree import (
    Broadcast,
    Delivered,
    MessageId,
    Missed,
    NeighborDown,
    NeighborUp,
    Plumtree,
    PlumtreeInput,
    PlumtreeReceived,
    PlumtreeSend,
    PlumtreeSettings,
)
from topologies.swim import Tick

__all__ = ("BroadcastNetwork",)


class BroadcastNetwork:
    """A Plumtree for each host of a network.

    Args:
        network: With its hosts.
        settings: Of all.

    Attributes:
        trees: By host.
        hops: Of each broadcast, who delivered it after how many hops.
        missed: Which host missed what.
        twice: Deliveries that were not the first.
        sent: Messages by kind; clear it at will.
    """

    def __init__(self, network: OverlayNetwork, settings: PlumtreeSettings) -> None:
        self.network = network
        self.trees: dict[NodeId, Plumtree] = {}
        self.hops: dict[MessageId, dict[NodeId, int]] = {}
        self.missed: list[tuple[NodeId, Missed]] = []
        self.twice = 0
        self.sent: Counter[str] = Counter()
        self._settings = settings
        self._due: dict[NodeId, float] = {}
        network.on_neighbours = self._on_neighbours
        for host in network.living():
            self.adopt(host)

    def adopt(self, host: Host) -> None:
        """Let a host that has started take part."""
        self.trees[host.id] = Plumtree(host.id, host.generation, self._settings)
        host.inbox = lambda sender, message: self.feed(host, PlumtreeReceived(sender, message[0]))
        for peer in sorted(host.overlay.neighbours()):
            self.feed(host, NeighborUp(peer))

    def broadcast(self, node: NodeId, payload: bytes = b"") -> MessageId:
        """Send one; `network.settle` or `run` carries it."""
        before = len(self.hops)
        self.feed(self.network.hosts[node], Broadcast(payload))
        assert len(self.hops) == before + 1
        return next(reversed(self.hops))

    def feed(self, host: Host, input: PlumtreeInput) -> None:
        """Hand a host's Plumtree one input and carry out what it returns."""
        if not host.up:
            return
        tree = self.trees[host.id]
        for effect in tree.handle(input, self.network.now):
            match effect:
                case PlumtreeSend(peer, message):
                    self.sent[type(message).__name__] += 1
                    self.network.send_app(host, peer, (message,))
                case Delivered(id, _, round):
                    self._delivered(host, id, round)
                case Missed():
                    self.missed.append((host.id, effect))
        self._set_timer(host)

    def reliability(self, id: MessageId) -> float:
        """Which share of those who live have delivered it."""
        living = self.network.living()
        return sum(host.id in self.hops[id] for host in living) / len(living)

    def _delivered(self, host: Host, id: MessageId, round: int) -> None:
        hops = self.hops.setdefault(id, {})
        self.twice += host.id in hops
        hops[host.id] = round

    def _on_neighbours(self, host: Host, before: frozenset[NodeId], after: frozenset[NodeId]) -> None:
        if host.id not in self.trees or host.inbox is None:
            return
        for peer in sorted(before - after):
            self.feed(host, NeighborDown(peer))
        for peer in sorted(after - before):
            self.feed(host, NeighborUp(peer))

    def _set_timer(self, host: Host) -> None:
        due = self.trees[host.id].next_deadline()
        if due is not None and due < self._due.get(host.id, float("inf")):
            self._due[host.id] = due
            self.network.timer(due, self._timer, host, due)

    def _timer(self, host: Host, due: float) -> None:
        if self._due.get(host.id) != due:
            return
        del self._due[host.id]
        wanted = self.trees[host.id].next_deadline()
        if wanted is not None and wanted <= self.network.now:
            self.feed(host, Tick())
        elif host.up:
            self._set_timer(host)
