"""The passive view: peers that are no neighbours, for when neighbours fail. HyParView sections 4.1 and 4.4."""

import random
from collections.abc import Collection, Iterable, Iterator

from topologies.hyparview.messages import Peer
from topologies.identity import NodeId

__all__ = ("PassiveView",)


class PassiveView:
    """A bounded random sample of the others.

    Args:
        peers_max: Past it somebody is forgotten for each new peer.
        rng: Decides who.
    """

    # Two lists in step instead of a map: a third of its size, and at this length no slower to search.
    __slots__ = ("_max", "_nodes", "_peers", "_rng")

    def __init__(self, peers_max: int, rng: random.Random) -> None:
        self._max = peers_max
        self._rng = rng
        self._nodes: list[NodeId] = []
        self._peers: list[Peer] = []

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._nodes)

    def __contains__(self, node: NodeId) -> bool:
        return node in self._nodes

    @property
    def is_full(self) -> bool:
        return len(self._nodes) >= self._max

    def add(self, peer: Peer, rather_forget: Iterable[NodeId] = ()) -> None:
        """Remember a peer; of one that is known, the later life.

        Args:
            rather_forget: Who goes first if somebody must: what we sent to a peer in a shuffle is in its view now, so
                that the exchange keeps both views different (section 4.4).
        """
        if peer.node in self._nodes:
            at = self._nodes.index(peer.node)
            if peer.incarnation > self._peers[at].incarnation:
                self._peers[at] = peer
        elif self.is_full:
            at = self._least_wanted(rather_forget)
            self._nodes[at], self._peers[at] = peer.node, peer
        else:
            self._nodes.append(peer.node)
            self._peers.append(peer)

    def discard(self, node: NodeId) -> Peer | None:
        """Forget a peer; returns what was known of it."""
        if node not in self._nodes:
            return None
        at = self._nodes.index(node)
        del self._nodes[at]
        return self._peers.pop(at)

    def sample(self, count: int) -> list[Peer]:
        """Up to `count` peers at random."""
        return list(self._peers) if count >= len(self._peers) else self._rng.sample(self._peers, count)

    def choose(self, but: Collection[NodeId]) -> Peer | None:
        """One peer at random that is not in `but`, None if there is none."""
        candidates = [peer for peer in self._peers if peer.node not in but]
        return self._rng.choice(candidates) if candidates else None

    def _least_wanted(self, rather_forget: Iterable[NodeId]) -> int:
        for node in rather_forget:
            if node in self._nodes:
                return self._nodes.index(node)
        return self._rng.randrange(len(self._nodes))
