"""What the bench commands share: they measure processes of their own, and keep the result."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation
from fdn.cli.output import note
from fdn.units import parse_size

__all__ = ("Keep", "number", "own_processes_only", "progress", "save_option", "size")

save_option = click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the result there as JSON."
)


def size(text: str) -> int:
    """An option's type: bytes, with a unit or without."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def own_processes_only(invocation: Invocation) -> None:
    """Refuse to be pointed at a running cluster.

    Raises:
        UsageError: It was.
    """
    if invocation.join or invocation.context:
        raise click.UsageError(
            "this version measures processes of its own, not a running cluster: leave out --join and --context"
        )


class Keep:
    """What becomes of a result besides being printed."""

    def __init__(self, save: Path | None, baseline: dict[str, Any] | None, floor: float) -> None:
        self._save = save
        self._baseline = baseline
        self._floor = floor

    @classmethod
    def out_of(cls, options: dict[str, Any]) -> "Keep":
        """Take the options of `_options` that are not the plan's out of all of them."""
        from fdn.bench.baseline import load

        save, baseline, floor = (options.pop(name) for name in ("save", "baseline", "floor"))
        if save is not None and not save.parent.is_dir():
            raise click.BadParameter(f"there is no folder {save.parent}", param_hint="--save")
        return cls(save, None if baseline is None else load(baseline), floor)

    def emit(self, invocation: Invocation, result: dict[str, Any], show: Callable[[], None]) -> int:
        """Print, save and compare; returns the exit status."""
        from fdn.bench.baseline import compare

        if self._save is not None:
            self._save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        rows = [] if self._baseline is None else compare(result, self._baseline)
        if invocation.is_json:
            invocation.emit(result if self._baseline is None else {**result, "baseline": rows})
        else:
            show()
        for row in rows:
            if not invocation.is_json:
                note(f"{row['figure']}: {row['before']:,.0f} before, {row['now']:,.0f} now ({row['ratio']:.2f})")
        return ExitCode.TARGET_MISSED if any(row["ratio"] < self._floor for row in rows) else ExitCode.OK


def number(value: Any) -> str:
    """A figure in a table."""
    return f"{value:,.2f}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}"


def progress() -> Callable[[str], None]:
    """Tells what begins, on a terminal."""
    return note if sys.stderr.isatty() else lambda text: None
