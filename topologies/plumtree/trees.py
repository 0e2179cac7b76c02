"""Which neighbours are pushed to, on each tree: all but those that were pruned. Plumtree section 3.4."""

from collections import OrderedDict

from topologies.identity import NodeId
from topologies.plumtree.messages import SHARED

__all__ = ("Trees",)


class Trees:
    """The neighbours, and which of them are lazy on the shared tree and on those of single roots.

    Args:
        trees_max: Trees of single roots; past it the one that was unused for longest is forgotten, and begins anew
            as the shared tree, which reaches everybody.
    """

    __slots__ = ("_lazy", "_max", "_neighbors", "_shared")

    def __init__(self, trees_max: int) -> None:
        self._max = trees_max
        self._neighbors: dict[NodeId, None] = {}  # in the order in which they came: sets of strings have none
        self._shared: set[NodeId] = set()
        self._lazy: OrderedDict[NodeId, set[NodeId]] = OrderedDict()

    def __contains__(self, peer: NodeId) -> bool:
        """Whether a peer is a neighbour."""
        return peer in self._neighbors

    @property
    def neighbor_count(self) -> int:
        return len(self._neighbors)

    @property
    def root_count(self) -> int:
        """Trees of single roots."""
        return len(self._lazy)

    def add(self, peer: NodeId) -> None:
        """A new neighbour is eager everywhere, until it turns out that it need not be."""
        self._neighbors[peer] = None

    def remove(self, peer: NodeId) -> None:
        self._neighbors.pop(peer, None)
        self._shared.discard(peer)
        for lazy in self._lazy.values():
            lazy.discard(peer)

    def eager_push_peers(self, tree: NodeId) -> list[NodeId]:
        lazy = self._tree(tree)
        return [peer for peer in self._neighbors if peer not in lazy]

    def lazy_push_peers(self, tree: NodeId) -> list[NodeId]:
        lazy = self._tree(tree)
        return [peer for peer in self._neighbors if peer in lazy]

    def is_eager(self, tree: NodeId, peer: NodeId) -> bool:
        return peer in self._neighbors and peer not in self._tree(tree)

    def make_eager(self, tree: NodeId, peer: NodeId) -> None:
        """A peer that is no neighbour changes nothing, here as below."""
        if peer in self._neighbors:
            self._tree(tree).discard(peer)

    def make_lazy(self, tree: NodeId, peer: NodeId) -> None:
        if peer in self._neighbors:
            self._tree(tree).add(peer)

    def _tree(self, tree: NodeId) -> set[NodeId]:
        if tree == SHARED:
            return self._shared
        lazy = self._lazy.get(tree)
        if lazy is None:
            if len(self._lazy) >= self._max:
                self._lazy.popitem(last=False)
            lazy = self._lazy[tree] = set(self._shared)
        self._lazy.move_to_end(tree)
        return lazy
