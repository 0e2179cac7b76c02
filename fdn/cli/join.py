"""`fdn join`: make a running node find further ones."""

import click

from fdn.addresses import parse_join
from fdn.cli.connection import ask, connected, members_of
from fdn.cli.options import Invocation, output_options, target_options

__all__ = ("command",)


@click.command("join")
@output_options
@target_options
@click.argument("seeds", nargs=-1, required=True, metavar="HOST:PORT...")
@click.pass_obj
def command(invocation: Invocation, /, seeds: tuple[str, ...]) -> None:
    """Make the node that answers join the cluster of other nodes.

    Any one of them that answers is enough. Which node is told to join: --join and the rest, as everywhere.
    """
    try:
        endpoints = [parse_join(seed) for seed in seeds]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST:PORT") from None
    with connected(invocation) as client:
        ask(client, "fdn.node.join", endpoints)
        living = [member["name"] for member in members_of(client) if member["status"] == "alive"]
        invocation.emit(
            {"node": client.node["node"], "name": client.node["name"], "joined": endpoints, "alive": living}
        )
