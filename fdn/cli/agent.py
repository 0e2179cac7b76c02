"""`fdn agent`: another name of `fdn node run`."""

import click

from fdn.cli.node import run

__all__ = ("command",)

command = click.Command(
    "agent", callback=run.callback, params=run.params, help=f"The same as `fdn node run`.\n\n{run.help}"
)
