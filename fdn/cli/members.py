"""`fdn members`: who is in the cluster, as one node sees it."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from fdn.cli.connection import connected, find_member, members_of
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column, Output, Printer, note
from fdn.errors import DeadlineExceeded, Unreachable

__all__ = ("command",)

_WATCH_INTERVAL_S: Final = 0.5
_CLEAR: Final = "\x1b[2J\x1b[H"

_COLUMNS: Final = (
    Column("name"),
    Column("status"),
    Column("state"),
    Column("reachable"),
    Column("rtt_us", "RTT", show=lambda us: f"{us / 1000:.2f} ms"),
    Column("incarnation", show=lambda pair: ".".join(map(str, pair))),
    Column("endpoints", "ENDPOINT", show=lambda endpoints: endpoints.get("coordination", "-")),
    Column("reason", show=lambda reason: reason or "-"),
    Column("node", "NODE ID", wide=True),
    Column("lag_ms", "LAG", wide=True, show=lambda ms: f"{ms} ms"),
)


@click.command("members")
@output_options
@target_options
@click.option("--status", type=click.Choice(["alive", "suspect", "dead", "left"]), help="Only members of this status.")
@click.option("--watch", is_flag=True, help="Go on, and show each change; as JSON, one changed member a line.")
@click.argument("name", required=False)
@click.pass_obj
def command(invocation: Invocation, /, status: str | None, watch: bool, name: str | None) -> None:
    """List the members of the cluster, as one node sees them.

    The dead and those who left are listed for as long as they are remembered. NAME shows one member, by name or id.
    """
    if watch:
        _watch(invocation, status, name)
    with connected(invocation) as client:
        rows = _chosen(members_of(client), status, name)
    invocation.emit(rows, *_COLUMNS)


def _chosen(rows: Sequence[dict[str, Any]], status: str | None, name: str | None) -> list[dict[str, Any]]:
    chosen = list(rows) if name is None else [find_member(rows, name)]
    return [row for row in chosen if status in (None, row["status"])]


def _watch(invocation: Invocation, status: str | None, name: str | None) -> None:
    """Until Ctrl-C, or until no target answers any more."""
    shown: dict[str, dict[str, Any]] = {}
    while True:
        try:
            with connected(invocation) as client:
                while True:
                    rows = _chosen(members_of(client), status, name)
                    now = {row["node"]: _lasting(row) for row in rows}
                    if now != shown:
                        _show(invocation, rows, [row for row in rows if shown.get(row["node"]) != now[row["node"]]])
                    shown = now
                    time.sleep(_WATCH_INTERVAL_S)
        except (Unreachable, DeadlineExceeded) as error:
            if not shown:
                raise
            note(f"note: {error.message}; looking for another node")
            shown = {}  # the next view is another node's, or a later one


def _lasting(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what changes with every probe."""
    return {key: value for key, value in row.items() if key not in ("rtt_us", "lag_ms")}


def _show(invocation: Invocation, rows: Sequence[Any], changed: Sequence[Any]) -> None:
    if invocation.is_json:
        Printer(Output.NDJSON).emit(changed)
        return
    if sys.stdout.isatty():
        click.echo(_CLEAR, nl=False)
    invocation.emit(rows, *_COLUMNS)
