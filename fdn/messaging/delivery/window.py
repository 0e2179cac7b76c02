"""What has been accepted already: of one stream exactly, of one origin as far back as a bound reaches.

A stream is numbered without gaps, so what was accepted is one number and the few above it, and nothing is forgotten.
The messages of an origin come to a node over several ways and with gaps; of those the last so many are remembered.
"""

import collections
from typing import Final

from fdn.messaging.delivery.frames import ACK_RANGES_MAX, MessageId

__all__ = ("DedupWindow", "Progress")

_FIRST: Final = 1


class Progress:
    """The numbers of one stream that are settled here.

    Attributes:
        upto: This one and all below.
    """

    __slots__ = ("_above", "upto")

    def __init__(self, floor: int = _FIRST) -> None:
        self.upto = floor - 1
        self._above: set[int] = set()

    def has(self, number: int) -> bool:
        """Whether it is settled."""
        return number <= self.upto or number in self._above

    def settle(self, number: int) -> None:
        """It was accepted, or refused for good."""
        if number > self.upto:
            self._above.add(number)
            self._close_up()

    def raise_floor(self, floor: int) -> bool:
        """Nothing below is sent any more. Returns whether that settles any number."""
        if floor - 1 <= self.upto:
            return False
        self.upto = floor - 1
        self._above = {number for number in self._above if number > self.upto}
        self._close_up()
        return True

    def ranges(self) -> list[tuple[int, int]]:
        """First and last number of what is settled above `upto`, the lowest first; at most `ACK_RANGES_MAX`."""
        found: list[tuple[int, int]] = []
        for number in sorted(self._above):
            if found and found[-1][1] == number - 1:
                found[-1] = found[-1][0], number
            elif len(found) == ACK_RANGES_MAX:
                break
            else:
                found.append((number, number))
        return found

    def _close_up(self) -> None:
        above = self._above
        while self.upto + 1 in above:
            self.upto += 1
            above.remove(self.upto)


class DedupWindow:
    """The messages that were accepted here, by origin and sequence: the last `messages_max` of the last `origins_max`.

    Args:
        messages_max: Of one origin.
        origins_max: Beyond it the origin that was silent for longest is forgotten.
    """

    def __init__(self, messages_max: int, origins_max: int) -> None:
        self._messages_max = messages_max
        self._origins_max = origins_max
        self._seen: collections.OrderedDict[str, collections.OrderedDict[MessageId, None]] = collections.OrderedDict()

    def has(self, message: MessageId) -> bool:
        """Whether it was accepted here, as far as is remembered."""
        return message in self._seen.get(message.origin, ())

    def add(self, message: MessageId) -> None:
        """It is accepted."""
        seen = self._seen.setdefault(message.origin, collections.OrderedDict())
        self._seen.move_to_end(message.origin)
        if len(self._seen) > self._origins_max:
            self._seen.popitem(last=False)
        seen[message] = None
        if len(seen) > self._messages_max:
            seen.popitem(last=False)

    def __len__(self) -> int:
        return sum(len(seen) for seen in self._seen.values())
