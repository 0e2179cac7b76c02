"""`fdn info`: one node, as it describes itself."""

import click

from fdn.cli.completing import complete_members
from fdn.cli.connection import ask, node_client
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column

__all__ = ("command",)

_SHOWN = ("name", "node", "cluster", "version", "python", "pid", "preset", "members", "reachable", "endpoints")


@examples("fdn info", "fdn info n2 --json")
@click.command("info")
@output_options
@target_options
@click.argument("node", required=False, shell_complete=complete_members)
@click.pass_obj
def command(invocation: Invocation, /, node: str | None) -> None:
    """Describe the node that answers, or the member named NODE.

    As JSON with the counters of its control plane, under `stats`.
    """
    with node_client(invocation, node) as client:
        info, stats = ask(client, "fdn.node.info"), ask(client, "fdn.node.stats")
    invocation.emit({**info, "stats": stats}, *(Column(key, key) for key in _SHOWN))
