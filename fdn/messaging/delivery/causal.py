"""What has happened before, by label: the dependency clocks of causal delivery.

Schiper, Eggli and Sandoz, "A New Algorithm to Implement Causal Ordering" (1989): a message carries, for each
destination, which messages to it come before; it is handed over there when those were. Partisan's causality backend
does the same. A destination is here one stream of one sender, and what comes before is one number in it: that message
was itself handed over only behind those before it. So nobody waits for a message that was not sent to it, and a label
costs nothing where it is not used.

The table of one label would grow with the square of the nodes that use it. It is kept small: what we know to be
acknowledged leaves, as does what concerns nodes that are gone; and beyond `dependencies_max` the oldest leaves. Order
is not kept towards what has left at the bound, which is counted; by then it has most likely been handed over.
"""

import collections
from collections.abc import Callable, Iterable

from fdn.messaging.delivery.frames import Dependency

__all__ = ("CausalPast",)

_Stream = tuple[str, str, int]  # origin, dest, and the number that names it


class CausalPast:
    """Everything that this node has sent or been handed, by label.

    Args:
        me: Our own node id.
        labels_max: Beyond it the label that was not used for longest is forgotten, and what is sent with it next begins
            a new past.
        dependencies_max: Of one label.

    Attributes:
        forgotten: Dependencies that left because of a bound.
    """

    def __init__(self, me: str, labels_max: int, dependencies_max: int) -> None:
        self._me = me
        self._labels_max = labels_max
        self._dependencies_max = dependencies_max
        self._labels: collections.OrderedDict[str, collections.OrderedDict[_Stream, int]] = collections.OrderedDict()
        self.forgotten = 0

    def before(self, label: str, is_open: Callable[[Dependency], bool]) -> list[Dependency]:
        """What comes before a message of this label that is sent now.

        Args:
            is_open: Whether one that we have sent ourselves is not acknowledged yet.
        """
        table = self._labels.get(label)
        if table is None:
            return []
        for stream, number in list(table.items()):
            if stream[0] == self._me and not is_open(Dependency(*stream, number)):
                del table[stream]
        return [Dependency(*stream, number) for stream, number in table.items()]

    def on_sent(self, label: str, copies: Iterable[Dependency]) -> None:
        """A message was sent: these are its copies, one for each node. They come before whatever is sent next."""
        self._note(label, copies)

    def on_delivered(self, label: str, past: Iterable[Dependency]) -> None:
        """A message that carried this was handed over here."""
        self._note(label, (each for each in past if each.dest != self._me))

    def on_gone(self, node: str) -> None:
        """A node is dead, or has left: nothing waits for it, or at it, any more."""
        for label in list(self._labels):
            table = self._labels[label]
            for stream in [stream for stream in table if node in stream[:2]]:
                del table[stream]
            if not table:
                del self._labels[label]

    def __len__(self) -> int:
        return sum(map(len, self._labels.values()))

    def _note(self, label: str, dependencies: Iterable[Dependency]) -> None:
        table = self._labels.setdefault(label, collections.OrderedDict())
        self._labels.move_to_end(label)
        if len(self._labels) > self._labels_max:
            _, lost = self._labels.popitem(last=False)
            self.forgotten += len(lost)
        for dependency in dependencies:
            stream = dependency[:3]
            if dependency.sequence > table.get(stream, 0):
                table[stream] = dependency.sequence
                table.move_to_end(stream)
        while len(table) > self._dependencies_max:
            table.popitem(last=False)
            self.forgotten += 1
        if not table:
            del self._labels[label]
