"""`fdn leave`: a node finishes its work, says goodbye, and ends."""

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import click

from fdn.cli.completing import complete_members
from fdn.cli.confirmation import confirm
from fdn.cli.connection import ask, connected, find_member, member_client, members_of
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import note
from fdn.errors import Conflict, DeadlineExceeded, Unreachable

if TYPE_CHECKING:
    from fdn.sync import Client

__all__ = ("command",)

_INTERVAL_S: Final = 0.05


@examples("fdn leave n2", "fdn leave n2 --yes --timeout 30s")
@click.command("leave")
@output_options
@target_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say which node would leave.")
@click.argument("node", required=False, shell_complete=complete_members)
@click.pass_obj
def command(invocation: Invocation, /, yes: bool, dry_run: bool, node: str | None) -> None:
    """Make a node leave the cluster, and end.

    The node that answers, or the member named NODE. It takes no new work, finishes what it has begun, and is not held
    dead. The command returns when it has left, or when --timeout has passed; the node then still drains.
    """
    with connected(invocation) as client:
        members = members_of(client)
        leaver = find_member(members, client.node["node"] if node is None else node)
        if leaver["status"] in ("dead", "left"):
            raise Conflict(
                f"node {leaver['name']} is {leaver['status']} already", hint="`fdn members` shows who is there"
            )
        result = {"node": leaver["node"], "name": leaver["name"], "status": leaver["status"]}
        if dry_run:
            note(f"node {leaver['name']} would leave")
            invocation.emit(result)
            return
        confirm(f"Node {leaver['name']} ({leaver['endpoints'].get('coordination', '?')}) will leave, and end.", yes)
        _ask_to_leave(client, leaver)
        result["status"] = _await_end(client, members, leaver, time.monotonic() + invocation.timeout_s)
    if result["status"] != "left":
        note(f"node {leaver['name']} still drains")
    invocation.emit(result)


def _ask_to_leave(client: "Client", leaver: dict[str, Any]) -> None:
    with contextlib.nullcontext(client) if leaver["me"] else member_client(client, leaver) as asked:
        try:
            ask(asked, "fdn.node.leave")
        except Unreachable:
            # A node with nothing to finish may be gone before its answer is; whether it is, is looked at next.
            pass


def _await_end(client: "Client", members: list[dict[str, Any]], leaver: dict[str, Any], give_up_at: float) -> str:
    """`left` when a member that stays has seen it leave, or nobody stays and it is gone; else `draining`."""
    if not leaver["me"]:
        return _await_left(client, leaver["node"], give_up_at)
    staying = [member for member in members if member["reachable"] and not member["me"]]
    if staying:
        with member_client(client, staying[0]) as witness:
            return _await_left(witness, leaver["node"], give_up_at)
    while time.monotonic() < give_up_at:
        try:
            ask(client, "fdn.node.ping")
        except (Unreachable, DeadlineExceeded):
            return "left"
        time.sleep(_INTERVAL_S)
    return "draining"


def _await_left(witness: "Client", node: str, give_up_at: float) -> str:
    while time.monotonic() < give_up_at:
        found = [member for member in members_of(witness) if member["node"] == node]
        if not found or found[0]["status"] in ("left", "dead"):
            return "left"
        time.sleep(_INTERVAL_S)
    return "draining"
