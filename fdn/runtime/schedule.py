"""When a timer is due. Pure: the clock's reading is handed in. See `fdn.runtime.cron` for the other form."""

import math
from typing import Final, Protocol

from fdn.errors import ConfigError
from fdn.units import parse_duration

__all__ = ("Interval", "Schedule", "seconds")

_PERIOD_S_MIN: Final = 0.001
_PERIOD_S_MAX: Final = 86_400.0 * 366


class Schedule(Protocol):
    """When something is due.

    Attributes:
        by_wall_clock: Whether times are seconds since 1970, which somebody may set, or a monotonic clock's.
    """

    by_wall_clock: bool

    def first(self, now: float) -> float:
        """When it is due for the first time after `now`."""
        ...

    def after(self, due: float, now: float) -> tuple[float, int]:
        """When it is due next, later than both `due` and `now`, and how often it was due in between."""
        ...


class Interval:
    """Every `period_s` seconds, on the grid that begins with the first: a late run does not move the later ones."""

    by_wall_clock = False

    def __init__(self, period_s: float) -> None:
        if not _PERIOD_S_MIN <= period_s <= _PERIOD_S_MAX:
            raise ConfigError(
                f"a period of {period_s:g} s; expected {_PERIOD_S_MIN:g} to {_PERIOD_S_MAX:.0f}",
                hint='such as 30, "30s" or "1h30m"',
            )
        self.period_s = period_s

    def first(self, now: float) -> float:
        return now + self.period_s

    def after(self, due: float, now: float) -> tuple[float, int]:
        missed = max(0, math.floor((now - due) / self.period_s))
        return due + (missed + 1) * self.period_s, missed


def seconds(name: str, value: float | str) -> float:
    """A duration as an argument gives it: seconds, or text such as "1m30s".

    Raises:
        ConfigError: It is not a duration.
    """
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ConfigError(f"{name}={value!r}: {error}") from None
    try:
        number = float(value)
    except (TypeError, ValueError):  # whatever an unchecked program gives
        number = math.nan
    if math.isfinite(number):
        return number
    raise ConfigError(f"{name}={value!r}: expected seconds as a number, or text such as '1m30s'")
