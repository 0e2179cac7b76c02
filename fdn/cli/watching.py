"""`--watch`: show a list again whenever it has changed, and go on with another node when the one that told is gone."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NoReturn

import click

from fdn.cli.options import Invocation
from fdn.cli.output import Column, Output, Printer, note
from fdn.errors import DeadlineExceeded, Unreachable

__all__ = ("watch_option", "watch_rows")

_INTERVAL_S: Final = 0.5
_CLEAR: Final = "\x1b[2J\x1b[H"
_Row = Mapping[str, Any]

watch_option = click.option(
    "--watch", is_flag=True, help="Go on, and show each change; as JSON, one changed row a line."
)


def watch_rows(
    invocation: Invocation,
    columns: Sequence[Column],
    connect: Callable[[], AbstractContextManager[Any]],
    fetch: Callable[[Any], Sequence[_Row]],
    key: Sequence[str],
    passing: Sequence[str] = (),
) -> NoReturn:
    """Until Ctrl-C, or until no target answers any more.

    Args:
        invocation: The form of the output.
        columns: Of the table.
        connect: A client, anew after each loss.
        fetch: The rows, by that client.
        key: The fields that tell one row from another.
        passing: Fields whose change alone is not worth showing.

    Raises:
        Unreachable: Nobody answers at the first attempt, or when looking for another node.
    """
    shown: dict[tuple[Any, ...], _Row] = {}
    first = True
    while True:
        try:
            with connect() as client:
                while True:
                    rows = {tuple(row[name] for name in key): row for row in fetch(client)}
                    lasting = {of: _without(row, passing) for of, row in rows.items()}
                    if first or lasting != shown:
                        changed = [row for of, row in rows.items() if shown.get(of) != lasting[of]]
                        gone = [{**row, "gone": True} for of, row in shown.items() if of not in rows]
                        _show(invocation, [*rows.values()], [*changed, *gone], columns)
                    shown, first = lasting, False
                    time.sleep(_INTERVAL_S)
        except (Unreachable, DeadlineExceeded) as error:
            if first:
                raise
            note(f"note: {error.message}; looking for another node")
            shown, first = {}, True  # the next view is another node's, or a later one


def _without(row: _Row, keys: Sequence[str]) -> _Row:
    return {key: value for key, value in row.items() if key not in keys}


def _show(invocation: Invocation, rows: Sequence[_Row], changed: Sequence[_Row], columns: Sequence[Column]) -> None:
    if invocation.is_json:
        Printer(Output.NDJSON).emit(changed)
        return
    if sys.stdout.isatty():
        click.echo(_CLEAR, nl=False)
    invocation.emit(rows, *columns)
