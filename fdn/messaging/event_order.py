"""Order by key among events that are handled at once: those of one key begin one after the other has ended.

What comes for a key whose event is still being handled is held back, so that events of other keys overtake it. How much
is held back is bounded: beyond that, one slow key holds up the others as well.

No clock and no task: whoever runs the events asks.
"""

import collections
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ("KeyOrder",)

T = TypeVar("T")


class KeyOrder(Generic[T]):
    """See the module.

    Args:
        held_max: How many are held back.

    Attributes:
        held: How many are held back now.
    """

    def __init__(self, held_max: int) -> None:
        self._held_max = held_max
        self._behind: dict[Hashable, collections.deque[T]] = {}  # by each key that is being handled
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether no more should be held back."""
        return self.held >= self._held_max

    def begin(self, key: Hashable) -> bool:
        """Whether an event of this key may begin now, which it then has; else `hold` it back.

        Raises:
            TypeError: The key cannot be hashed.
        """
        if key in self._behind:
            return False
        self._behind[key] = collections.deque()
        return True

    def hold(self, key: Hashable, item: T) -> None:
        """Keep one until all before it of the same key have ended."""
        self._behind[key].append(item)
        self.held += 1

    def done(self, key: Hashable) -> T | None:
        """One of this key has ended; the next of the same key, which may begin now, or None."""
        behind = self._behind[key]
        if behind:
            self.held -= 1
            return behind.popleft()
        del self._behind[key]
        return None

    def clear(self) -> int:
        """Drop what is held back; returns how many that were."""
        dropped, self.held = self.held, 0
        for behind in self._behind.values():
            behind.clear()
        return dropped
