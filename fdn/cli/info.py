"""`fdn info`: one node, as it describes itself."""

import click

from fdn.cli.connection import ask, connected, find_member, member_client, members_of
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column

__all__ = ("command",)

_SHOWN = ("name", "node", "cluster", "version", "python", "pid", "preset", "members", "reachable", "endpoints")


@click.command("info")
@output_options
@target_options
@click.argument("node", required=False)
@click.pass_obj
def command(invocation: Invocation, /, node: str | None) -> None:
    """Describe the node that answers, or the member named NODE.

    As JSON with the counters of its control plane, under `stats`.
    """
    with connected(invocation) as client:
        if node is None:
            info, stats = ask(client, "fdn.node.info"), ask(client, "fdn.node.stats")
        else:
            with member_client(client, find_member(members_of(client), node)) as other:
                info, stats = ask(other, "fdn.node.info"), ask(other, "fdn.node.stats")
    invocation.emit({**info, "stats": stats}, *(Column(key, key) for key in _SHOWN))
