import datetime
import zoneinfo

import pytest

from fdn.errors import ConfigError
from fdn.runtime.cron import Cron


def at(text: str, zone: str = "UTC") -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


def test_every_five_minutes():
    cron = Cron("*/5 * * * *")
    assert cron.first(at("2026-01-01T12:01:30")) == at("2026-01-01T12:05:00")
    assert cron.first(at("2026-01-01T12:05:00")) == at("2026-01-01T12:10:00")
    assert cron.after(at("2026-01-01T12:05:00"), at("2026-01-01T12:05:03")) == (at("2026-01-01T12:10:00"), 0)


def test_what_fell_due_meanwhile_is_counted():
    cron = Cron("*/5 * * * *")
    assert cron.after(at("2026-01-01T12:05:00"), at("2026-01-01T12:17:00")) == (at("2026-01-01T12:20:00"), 2)


def test_a_clock_that_goes_back_a_little_repeats_nothing():
    cron = Cron("0 12 * * *")
    assert cron.after(at("2026-01-01T12:00:00"), at("2026-01-01T11:59:58")) == (at("2026-01-02T12:00:00"), 0)


def test_a_long_sleep_is_not_walked_through():
    now = at("2030-01-01T00:00:00")
    due, missed = Cron("* * * * * *").after(at("2026-01-01T00:00:00"), now)
    assert (due, missed) == (now + 1.0, 1000)


def test_hours_are_those_of_the_time_zone():
    assert Cron("30 9 * * *", "Europe/Berlin").first(at("2026-07-01T00:00:00")) == at("2026-07-01T07:30:00")
    assert Cron("30 9 * * *", "Europe/Berlin").first(at("2026-01-01T00:00:00")) == at("2026-01-01T08:30:00")


def test_an_hour_that_is_leapt_over_is_not_a_run_lost():
    # At 2:00 on 29 March 2026 the clocks of Berlin go to 3:00.
    cron = Cron("30 2 * * *", "Europe/Berlin")
    assert cron.first(at("2026-03-28T12:00:00")) == at("2026-03-29T03:00:00", "Europe/Berlin")


def test_an_hour_that_comes_twice_is_one_run():
    cron = Cron("30 2 * * *", "Europe/Berlin")
    first = cron.first(at("2026-10-24T12:00:00"))
    assert cron.after(first, first)[0] == at("2026-10-26T02:30:00", "Europe/Berlin")


@pytest.mark.parametrize("expression", ["", "x", "* * * *", "61 * * * *", "0 0 30 2 *", "@daily"])
def test_what_is_no_expression(expression: str):
    with pytest.raises(ConfigError, match="cron="):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", ""])
def test_what_is_no_time_zone(zone: str):
    with pytest.raises(ConfigError, match="time zone"):
        Cron("* * * * *", zone)
