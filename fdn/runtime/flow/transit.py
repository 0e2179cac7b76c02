"""How long messages of one peer have been on their way, although its clock is not ours.

A deadline travels as the time that is left, and nobody counts the time on the way: not our sockets, not those of the
peer, not the network. While all is well that is no matter. When we cannot keep up it is seconds, and we would work for
callers who have long given up. The peer says now and then what its clock shows. What our clock shows then differs from
that by an unknown offset, by the shortest way there is, and by the time that was lost in queues; the least difference
of the last minutes is the first two.

After the one-way delays of LEDBAT (RFC 6817, section 3.4.2): least of minutes, so that clocks that drift do no harm.
"""

from typing import Final

__all__ = ("Transit",)

_SPAN_S: Final = 30.0
_SPANS: Final = 10


class Transit:
    """One connection.

    Attributes:
        age_s: How old its messages were when they came in lately, beyond the shortest way; seconds.
    """

    __slots__ = ("_floors", "age_s")

    def __init__(self) -> None:
        self.age_s = 0.0
        self._floors: list[tuple[float, float]] = []  # (begin, least difference) of each span, the oldest first

    def on_clock(self, theirs_s: float, now: float) -> None:
        """Messages came in that left when the peer's clock showed `theirs_s`."""
        difference = now - theirs_s
        if not self._floors or now - self._floors[-1][0] >= _SPAN_S:
            self._floors.append((now, difference))
            del self._floors[:-_SPANS]
        elif difference < self._floors[-1][1]:
            self._floors[-1] = self._floors[-1][0], difference
        self.age_s = difference - min(least for _, least in self._floors)
