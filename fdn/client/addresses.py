"""Whom to dial: the seeds, then whoever the node tells of, and how long to wait before trying all of them again."""

from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ("Addresses",)

_REMEMBERED_MAX: Final = 16
_PAUSE_S: Final = 0.05
_PAUSE_S_MAX: Final = 2.0


class Addresses:
    """Coordination endpoints.

    Args:
        seeds: Those that the user gave.
        chance: A random number from 0 to 1; where everybody's node dies, not everybody goes to the same next one.
    """

    def __init__(self, seeds: Sequence[str], chance: Callable[[], float]) -> None:
        self._seeds = tuple(dict.fromkeys(seeds))
        self._chance = chance
        self._remembered: tuple[str, ...] = ()
        self._lost = ""
        self._failed_rounds = 0

    @property
    def remembered(self) -> tuple[str, ...]:
        """Members that the last node told of."""
        return self._remembered

    def beside(self, endpoint: str) -> bool:
        """Whether there is another than this one."""
        return any(each != endpoint for each in (*self._remembered, *self._seeds))

    def on_members(self, rows: Any) -> None:
        """The answer to `fdn.node.members`: remember those that can be talked to."""
        found = [_endpoint(row) for row in rows] if isinstance(rows, list) else []
        usable = sorted((endpoint for endpoint in found if endpoint), key=lambda _: self._chance())
        if usable:
            self._remembered = tuple(usable[:_REMEMBERED_MAX])

    def on_lost(self, endpoint: str) -> None:
        """The node there was lost: it comes last."""
        self._lost = endpoint

    def on_connected(self) -> None:
        """A round has succeeded."""
        self._failed_rounds = 0

    def round(self) -> list[str]:
        """Whom to try, in this order: the seeds as given; once something was lost, the other members first."""
        if not self._lost:
            return list(self._seeds)
        others = [each for each in dict.fromkeys((*self._shuffled(), *self._seeds)) if each != self._lost]
        return [*others, self._lost]

    def pause_s(self) -> float:
        """Seconds to wait after a round in which nobody answered; doubles with each, with full jitter."""
        self._failed_rounds += 1
        return self._chance() * min(_PAUSE_S_MAX, _PAUSE_S * 2.0 ** min(self._failed_rounds - 1, 10))

    def _shuffled(self) -> list[str]:
        return sorted(self._remembered, key=lambda _: self._chance())


def _endpoint(row: Any) -> str:
    """The coordination endpoint of a member that can be used, or nothing."""
    match row:
        case {"endpoints": {"coordination": str(endpoint)}, "reachable": True, "state": state} if state != "draining":
            return endpoint
    return ""
