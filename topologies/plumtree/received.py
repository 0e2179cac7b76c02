"""Which broadcasts have been seen: of each root a floor and what was seen above it, not a list of everything."""

from collections import OrderedDict

from topologies.identity import NodeId
from topologies.plumtree.messages import MessageId

__all__ = ("Received",)


class _Seen:
    __slots__ = ("above", "floor", "generation")

    def __init__(self, generation: int, floor: int) -> None:
        self.generation = generation
        self.floor = floor  # all up to this one count as seen
        self.above: set[int] = set()


class Received:
    """A set of message ids in bounded memory.

    Args:
        window: Numbers of one root that are told apart below its highest.
        roots_max: Past it the root that was silent for longest is forgotten.
    """

    __slots__ = ("_roots", "_roots_max", "_window")

    def __init__(self, window: int, roots_max: int) -> None:
        self._window = window
        self._roots_max = roots_max
        self._roots: OrderedDict[NodeId, _Seen] = OrderedDict()

    def __contains__(self, id: MessageId) -> bool:
        seen = self._roots.get(id.root)
        if seen is None or id.generation > seen.generation:
            return False
        return id.generation < seen.generation or id.number <= seen.floor or id.number in seen.above

    def add(self, id: MessageId) -> bool:
        """Whether this is new; from now on it is not. What an earlier life of a root sent is never new."""
        if id in self:
            return False
        seen = self._roots.get(id.root)
        if seen is None or id.generation > seen.generation:
            if seen is None and len(self._roots) >= self._roots_max:
                self._roots.popitem(last=False)
            # A root that is new to us may have messages on their way that this one has overtaken.
            seen = self._roots[id.root] = _Seen(id.generation, max(0, id.number - self._window))
        self._roots.move_to_end(id.root)
        seen.above.add(id.number)
        self._raise_floor(seen, id.number - self._window)
        return True

    def _raise_floor(self, seen: _Seen, least: int) -> None:
        if least > seen.floor:
            seen.floor = least
            seen.above = {number for number in seen.above if number > least}
        while seen.floor + 1 in seen.above:
            seen.floor += 1
            seen.above.remove(seen.floor)
