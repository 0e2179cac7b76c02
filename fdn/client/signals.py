"""What a verb waits for: something may have changed, look again."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ("Signal", "Wait")


class Signal:
    """Wakes everybody who waits, once. A driver adds a callback; nobody is told twice."""

    __slots__ = ("_wakes",)

    def __init__(self) -> None:
        self._wakes: dict[Callable[[], object], None] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._wakes)

    def add(self, wake: Callable[[], object]) -> None:
        """Call it at the next `fire`. It must not raise."""
        self._wakes[wake] = None

    def discard(self, wake: Callable[[], object]) -> None:
        """Do not, after all."""
        self._wakes.pop(wake, None)

    def fire(self) -> None:
        """Something has changed."""
        if self._wakes:
            wakes, self._wakes = self._wakes, {}
            for wake in wakes:
                wake()


class Wait(NamedTuple):
    """What a verb yields: go on when `signal` fires, or at `until` by the driver's clock."""

    signal: Signal
    until: float
