import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdn.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("1d2h", 93600.0),
        ("40us", 40e-6),
        ("1.5s", 1.5),
        ("2", 2.0),
        ("0.25", 0.25),
        ("0", 0.0),
        (" 5s ", 5.0),
    ],
)
def test_durations_that_are_read(text: str, seconds: float) -> None:
    assert math.isclose(parse_duration(text), seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "5 s", "-1s", "-1", "nan", "inf", "1e999", "30s1m", "1s1s", "5sec", "5S", "1m30", "٣s", "9" * 400],
)
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="250ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("8MiB", 8 << 20),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("100", 100),
        ("100B", 100),
        ("1 MiB", 1 << 20),
    ],
)
def test_sizes_that_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "B", "-1", "1.5", "1.1B", "5kib", "5Mi", "8 M iB", "1e3", "9" * 400])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64KiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["8MB", "8M", "8mb", "8Mb"])
def test_a_size_that_may_mean_two_things_is_refused_with_the_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match='"8MiB"'):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (40e-6, "40us"),
        (5, "5s"),
        (90, "90s"),
        (150, "2m30s"),
        (93600, "1d2h"),
        (0.0999, "99.9ms"),
    ],
)
def test_durations_as_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1000, "1000B"), (65536, "64KiB"), (1_500_000, "1.4MiB"), (1 << 50, "1024TiB")]
)
def test_sizes_as_shown(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_duration_shown_is_read_back_to_three_digits(seconds: float) -> None:
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=0.006)


@given(st.text(max_size=40))
def test_no_text_makes_the_readers_fail_in_another_way(text: str) -> None:
    for read in (parse_duration, parse_size):
        try:
            assert read(text) >= 0
        except ValueError:
            pass  # what a reader may raise, and nothing else
