"""Durations ("250ms", "1m30s") and sizes ("64KiB") as people write them, in settings and on the command line."""

import math
import re
from typing import Final

__all__ = ("format_duration", "format_size", "parse_duration", "parse_size")

_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)")
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
# More digits than a double holds exactly are a slip of the hand, or hostile: both deserve a message, not a number.
_CHARACTERS_MAX: Final = 32


def parse_duration(text: str) -> float:
    """Seconds. A bare number is in seconds; parts go from the largest unit to the smallest, each at most once.

    Raises:
        ValueError: It is not a duration; the text says what one looks like.
    """
    stripped = text.strip()
    if len(stripped) <= _CHARACTERS_MAX and stripped.isascii():
        try:
            seconds = float(stripped)
        except ValueError:
            pass
        else:
            if math.isfinite(seconds) and seconds >= 0:
                return seconds
        parts = _DURATION_PART.findall(stripped)
        units = [_SECONDS[unit] for _, unit in parts]
        if (
            parts
            and "".join(number + unit for number, unit in parts) == stripped
            and units == sorted(set(units), reverse=True)
        ):
            return math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise ValueError('expected seconds as a number, or a duration such as "250ms", "5s" or "1m30s"')


def parse_size(text: str) -> int:
    """Bytes. A bare number is in bytes; the units are powers of 1024.

    Raises:
        ValueError: It is not a size; the text says what one looks like.
    """
    expected = 'expected a whole number of bytes, or a size such as "64KiB" or "8MiB"'
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _CHARACTERS_MAX else None
    if match is None:
        raise ValueError(expected)
    number, unit = match[1], match[2] or "B"
    if unit not in _BYTES:
        if unit.lower() in {"k", "kb", "m", "mb", "g", "gb", "t", "tb"}:
            # 8MB may mean 8 000 000 or 8 388 608 bytes; a guess here would surprise half of the readers.
            raise ValueError(f'{expected}; units are powers of 1024 and written so: "{number}{unit[0].upper()}iB"')
        raise ValueError(expected)
    size = float(number) * _BYTES[unit]
    if not size.is_integer():
        raise ValueError(expected)
    return int(number) * _BYTES[unit] if number.isdigit() else int(size)


def format_duration(seconds: float) -> str:
    """A duration that `parse_duration` reads back: the unit that suits its size, three significant digits."""
    if seconds == 0:
        return "0s"
    if seconds >= 120:
        whole = round(seconds)
        parts = []
        for unit in ("d", "h", "m", "s"):
            count, whole = divmod(whole, int(_SECONDS[unit]))
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts)
    unit = "s" if seconds >= 1 else "ms" if seconds >= 1e-3 else "us"
    return f"{float(f'{seconds / _SECONDS[unit]:.3g}'):g}{unit}"


def format_size(size: int) -> str:
    """A size for people, exact where it can be: 65536 is "64KiB", 1000 is "1000B", 1500000 is "1.4MiB"."""
    unit = max((unit for unit in _BYTES if _BYTES[unit] <= max(size, 1)), key=_BYTES.__getitem__)
    value = size / _BYTES[unit]
    return f"{int(value)}{unit}" if value.is_integer() else f"{value:.1f}{unit}"
