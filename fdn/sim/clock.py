"""The clock of one simulated machine: it may run too fast or too slow, and jump ahead.

It is monotonic, as what a core is handed must be: it never goes back.
"""

import math

from fdn.sim.world import World

__all__ = ("Clock",)


class Clock:
    """What one machine takes for the time.

    Args:
        world: Holds the true time.
        offset_s: How far ahead it starts. Clocks of two machines have no common zero.
    """

    def __init__(self, world: World, offset_s: float = 0.0) -> None:
        self._world = world
        self._rate = 1.0
        self._true = world.now  # when this stretch of even running began
        self._shown = world.now + offset_s  # and what the clock said then

    @property
    def now(self) -> float:
        return self._at(self._world.now)

    def run_at(self, rate: float) -> None:
        """From now on let so many seconds pass in one true second.

        Raises:
            ValueError: The clock would stand still or go back.
        """
        if not 0.0 < rate < math.inf:
            raise ValueError(f"a clock cannot run at {rate} seconds a second; 1.0 is true, and above 0 is possible")
        self._shown, self._true = self.now, self._world.now
        self._rate = rate

    def jump(self, seconds: float) -> None:
        """Jump ahead.

        Raises:
            ValueError: Back.
        """
        if seconds < 0.0:
            raise ValueError(f"a jump of {seconds} s; a monotonic clock only jumps ahead")
        self._shown, self._true = self.now + seconds, self._world.now

    def when(self, shown: float) -> float:
        """The true time at which the clock will show at least this, now at the earliest."""
        if shown <= self.now:
            return self._world.now
        true = self._true + (shown - self._shown) / self._rate
        while self._at(true) < shown:  # rounding: a timer that fires a hair early would fire for ever
            true = math.nextafter(true, math.inf)
        return max(true, self._world.now)

    def _at(self, true: float) -> float:
        return self._shown + (true - self._true) * self._rate
