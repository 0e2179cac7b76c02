"""`fdn reachability`: does every member reach every other?"""

from collections.abc import Sequence
from typing import Any, Final

import click

from fdn.cli.connection import connected, member_client, members_of
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column, note
from fdn.errors import Error

__all__ = ("command",)

_LIVING: Final = ("alive", "suspect")
_COLUMNS: Final = (
    Column("name"),
    Column("answers"),
    Column("reaches"),
    Column("of"),
    Column("missing", show=lambda names: ", ".join(names) or "-"),
    Column("relayed", show=lambda ways: ", ".join(ways) or "-"),
    Column("error", show=lambda error: error or "-"),
    Column("node", "NODE ID", wide=True),
)


@examples("fdn reachability", "fdn reachability --timeout 2s --json")
@click.command("reachability")
@output_options
@target_options
@click.pass_obj
def command(invocation: Invocation) -> int:
    """Ask every living member whom it reaches.

    One member may see what another does not: a row with names in MISSING shows a link that is broken one way. RELAYED
    tells to whom its messages go over others. Exit status 9 when somebody does not reach somebody, or does not answer.
    """
    with connected(invocation) as client:
        asked = [member for member in members_of(client) if member["status"] in _LIVING]
        rows = [_ask_one(client, member, asked) for member in asked]
    invocation.emit(rows, *_COLUMNS)
    broken = [row for row in rows if row["missing"] or not row["answers"]]
    if broken:
        note(f"{len(broken)} of {len(rows)} members do not reach every other, or did not answer")
    return ExitCode.DEGRADED if broken else ExitCode.OK


def _ask_one(client: Any, member: dict[str, Any], asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"node": member["node"], "name": member["name"], "of": len(asked)}
    try:
        if member["me"]:
            view = members_of(client)
        else:
            with member_client(client, member) as other:
                view = members_of(other)
    except Error as error:
        return {**row, "answers": False, "reaches": None, "missing": [], "relayed": [], "error": error.message}
    reached = {seen["node"] for seen in view if seen["reachable"]}
    missing = [other["name"] for other in asked if other["node"] not in reached]
    names = {seen["node"]: seen["name"] for seen in view}
    relayed = [
        f"{seen['name']} over {', '.join(names.get(via, via) for via in seen['via'])}"
        for seen in view
        if seen.get("via")
    ]
    return {
        **row,
        "answers": True,
        "reaches": len(asked) - len(missing),
        "missing": missing,
        "relayed": relayed,
        "error": "",
    }
