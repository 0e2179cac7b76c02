"""The pace of looking for neighbours: whom was asked in vain, and when to ask again."""

import random

from topologies.hyparview.settings import HyParViewSettings
from topologies.identity import NodeId

__all__ = ("Search",)


class Search:
    """Rounds of asking, with pauses between them that grow while nothing comes of it.

    Attributes:
        tried: Who has been asked in this round.
        retry_at: When the next round begins, None while one is on.
    """

    __slots__ = ("_pause_s", "_refusals", "_rng", "_settings", "retry_at", "tried")

    def __init__(self, settings: HyParViewSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._refusals = 0
        self._pause_s = settings.retry_min_s
        self.tried: set[NodeId] = set()
        self.retry_at: float | None = None

    @property
    def is_refused_enough(self) -> bool:
        """Whether those asked in this round had no room so often that others will not either."""
        return self._refusals >= self._settings.refusals_max

    def refused(self) -> None:
        self._refusals += 1

    def succeeded(self) -> None:
        """The next pause is short again."""
        self._pause_s = self._settings.retry_min_s

    def pause(self, now: float) -> None:
        """This round found too little: wait, longer each time."""
        self.retry_at = now + self._pause_s * self._rng.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, self._settings.retry_max_s)

    def wait_a_moment(self, now: float) -> None:
        """Somebody may be about to ask us."""
        self.retry_at = now + self._settings.retry_min_s * self._rng.uniform(0.5, 1.0)

    def restart(self) -> None:
        """There is news: ask everybody again, at once."""
        self.succeeded()
        self._next_round()

    def tick(self, now: float) -> None:
        if self.retry_at is not None and self.retry_at <= now:
            self._next_round()

    def _next_round(self) -> None:
        self.retry_at = None
        self._refusals = 0
        self.tried.clear()
