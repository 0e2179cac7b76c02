"""`fdn node run`: one node, in this process, until it is told to end."""

from typing import Any

import click

from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.serving import NodeOptions, node_options, serve

__all__ = ("command", "run")


@examples("fdn node run --name n1 --alone")
@click.group("node")
def command() -> None:
    """Run a node in this process."""


@examples(
    "fdn node run --name n1 --alone",
    "fdn node run --name n2 --bind tcp://127.0.0.1:7410 --join 127.0.0.1:7400",
    "fdn node run calc:app --config fdn.toml --data-dir /var/lib/fdn",
)
@command.command("run")
@output_options
@node_options
@click.argument("apps", metavar="[MODULE:APP]...", nargs=-1)
@click.pass_obj
def run(invocation: Invocation, /, apps: tuple[str, ...], **given: Any) -> int:
    """Run one node until Ctrl-C; the first drains, the second ends at once.

    Each MODULE:APP names an fdn.App to serve; modules are found from the current directory too. A line on standard
    output says when the node is ready; the log goes to standard error. SIGHUP checks the configuration anew, SIGUSR1
    writes members and counters to the log.
    """
    options = NodeOptions.of(**given)
    return serve(invocation, options, apps, options.load(invocation))
