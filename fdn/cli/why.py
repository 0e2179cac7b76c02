"""`fdn why`: the evidence behind what a node believes of another."""

from typing import Any, Final

import click

from fdn.cli.completing import complete_members
from fdn.cli.connection import ask, find_member, members_of, node_client
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column, note

__all__ = ("command",)

_COLUMNS: Final = (
    Column("age_ms", "AGO", show=lambda ms: f"{ms / 1000:.1f} s"),
    Column("said"),
    Column("by_name", "BY"),
    Column("reason", show=lambda reason: reason or "-"),
    Column("from_name", "HEARD FROM"),
    Column("incarnation", show=lambda pair: ".".join(map(str, pair))),
    Column("by", "BY ID", wide=True),
)


@examples(
    "fdn why n2",
    "fdn why n2 --from n3",
    "fdn why n2 --json",
)
@click.command("why")
@output_options
@target_options
@click.option(
    "--from",
    "origin",
    metavar="NAME",
    shell_complete=complete_members,
    help="The member whose evidence is wanted, in place of the one that answers.",
)
@click.argument("node", shell_complete=complete_members)
@click.pass_obj
def command(invocation: Invocation, /, node: str, origin: str | None) -> None:
    """Show who accused a member that is held suspect or dead, and why.

    Each line is something that was said of NODE (a name or id) and believed, oldest first: who accused it, who
    confirmed that, when it refuted. It is the evidence of one member; others may have heard from somebody else. The
    last few are kept.
    """
    with node_client(invocation, origin) as client:
        member = find_member(members_of(client), node)
        rows: list[dict[str, Any]] = ask(client, "fdn.node.why", member["node"])
        told_by = client.node["name"]
    note(f"{member['name']} is {member['status']} to {told_by}" + (f": {member['reason']}" if member["reason"] else ""))
    if not rows:
        note(f"nothing was ever said against it to {told_by}")
    invocation.emit([row | {"said": _said(row)} for row in rows], *_COLUMNS)


def _said(row: dict[str, Any]) -> str:
    return f"{row['status']}, confirmed" if row["confirms"] else str(row["status"])
