"""`fdn agent`: another name of `fdn node run`."""

import click

from fdn.cli.examples import examples, examples_of
from fdn.cli.node import run

__all__ = ("command",)

command = examples(*(line.replace("fdn node run", "fdn agent") for line in examples_of(run)))(
    click.Command("agent", callback=run.callback, params=run.params, help=f"The same as `fdn node run`.\n\n{run.help}")
)
