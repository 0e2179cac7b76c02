"""An earlier run's figures beside those of this one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fdn.errors import ConfigError

__all__ = ("compare", "load", "rates")

_LISTS: Final = frozenset({"rounds", "rows"})  # what the medians were made of


def load(path: Path) -> dict[str, Any]:
    """A result that was saved.

    Raises:
        ConfigError: There is none, or it is something else.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="make one with --save") from error
    if not isinstance(result, dict) or not rates(result):
        raise ConfigError(f"{path} is no result of `fdn bench`", hint="make one with --save")
    return result


def rates(result: Mapping[str, Any]) -> dict[str, float]:
    """All that is better when it is higher: by path, everything named `…_per_s`."""
    return dict(_rates(result, ""))


def compare(result: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each figure that both have: what it was, what it is, and their ratio."""
    now = rates(result)
    return [
        {"figure": figure, "before": before, "now": now[figure], "ratio": round(now[figure] / before, 3)}
        for figure, before in rates(baseline).items()
        if figure in now and before
    ]


def _rates(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _LISTS:
                yield from _rates(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, int | float) and "_per_s" in path:
        yield path, value
