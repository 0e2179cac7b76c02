"""When a timer is due by a cron expression. Pure: the clock's reading is handed in.

In a module of its own, so that apps without such a timer do not pay for its imports.
"""

import datetime
import zoneinfo
from typing import Final

import cronsim

from fdn.errors import ConfigError

__all__ = ("Cron",)

_MISSED_MAX: Final = 1000  # a machine that slept for a month is not walked through second by second


class Cron:
    """By a cron expression of five fields (minute, hour, day of month, month, day of week), or six with seconds first.

    What it means is what Debian's cron makes of it, also when the clocks change: a job at a fixed time that the change
    leaps over runs right after it, and one in the hour that comes twice runs once.

    Args:
        expression: Such as `*/5 * * * *`.
        timezone: A name of the IANA database, such as `Europe/Berlin`.

    Raises:
        ConfigError: The expression is none, it is never due, or the time zone is not known.
    """

    by_wall_clock = True

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._expression = expression
        try:
            self._zone = datetime.UTC if timezone == "UTC" else zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"time zone {timezone!r} is not known on this machine",
                hint='expected a name such as "Europe/Berlin"; the package tzdata brings them all',
            ) from error
        try:
            self.first(0.0)
        except (cronsim.CronSimError, StopIteration) as error:
            why = str(error) or "it is never due"
            raise ConfigError(
                f"cron={expression!r}: {why}",
                hint='expected minute, hour, day of month, month and day of week: "*/5 * * * *"',
            ) from error

    def first(self, now: float) -> float:
        return next(self._ticks(now)).timestamp()

    def after(self, due: float, now: float) -> tuple[float, int]:
        missed = 0
        for tick in self._ticks(due):
            at = tick.timestamp()
            if at > now:
                return at, missed
            missed += 1
            if missed == _MISSED_MAX:
                break
        return self.first(max(due, now)), missed

    def _ticks(self, now: float) -> cronsim.CronSim:
        return cronsim.CronSim(self._expression, datetime.datetime.fromtimestamp(now, self._zone))
