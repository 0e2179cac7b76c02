"""`fdn members`: who is in the cluster, as one node sees it."""

from collections.abc import Sequence
from typing import Any, Final

import click

from fdn.cli.completing import complete_members
from fdn.cli.connection import connected, find_member, members_of
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column
from fdn.cli.watching import watch_option, watch_rows

__all__ = ("command",)

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


@examples(
    "fdn members",
    "fdn members --status dead -o wide",
    "fdn members --watch --json   # one line for each change",
)
@click.command("members")
@output_options
@target_options
@click.option("--status", type=click.Choice(["alive", "suspect", "dead", "left"]), help="Only members of this status.")
@watch_option
@click.argument("name", required=False, shell_complete=complete_members)
@click.pass_obj
def command(invocation: Invocation, /, status: str | None, watch: bool, name: str | None) -> None:
    """List the members of the cluster, as one node sees them.

    The dead and those who left are listed for as long as they are remembered. NAME shows one member, by name or id.
    """

    def fetch(client: Any) -> Sequence[dict[str, Any]]:
        rows = members_of(client)
        chosen = rows if name is None else [find_member(rows, name)]
        return [row for row in chosen if status in (None, row["status"])]

    if watch:
        # A round trip changes with every probe.
        watch_rows(
            invocation, _COLUMNS, lambda: connected(invocation), fetch, key=("node",), passing=("rtt_us", "lag_ms")
        )
    with connected(invocation) as client:
        rows = fetch(client)
    invocation.emit(rows, *_COLUMNS)
