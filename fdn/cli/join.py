"""`fdn join`: make a running node find further ones."""

import click

from fdn.addresses import parse_join
from fdn.cli.connection import ask, connected, members_of
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import note

__all__ = ("command",)


@examples("fdn join 10.0.0.1:7400", "fdn join 10.0.0.1:7400 10.0.0.2:7400 --dry-run")
@click.command("join")
@output_options
@target_options
@click.option("--dry-run", is_flag=True, help="Only say which node would join.")
@click.argument("seeds", nargs=-1, required=True, metavar="HOST:PORT...")
@click.pass_obj
def command(invocation: Invocation, /, seeds: tuple[str, ...], dry_run: bool) -> None:
    """Make the node that answers join the cluster of other nodes.

    Any one of them that answers is enough. Which node is told to join: --join and the rest, as everywhere.
    """
    try:
        endpoints = [parse_join(seed) for seed in seeds]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST:PORT") from None
    with connected(invocation) as client:
        if dry_run:
            note(f"node {client.node['name']} would join")
        else:
            ask(client, "fdn.node.join", endpoints)
        living = [member["name"] for member in members_of(client) if member["status"] == "alive"]
        invocation.emit(
            {
                "node": client.node["node"],
                "name": client.node["name"],
                "joined": [] if dry_run else endpoints,
                "alive": living,
            }
        )
