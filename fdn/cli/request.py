"""`fdn request`: the short form of `fdn service call`."""

import click

from fdn.cli.calling import call, call_options
from fdn.cli.options import Invocation, output_options, target_options

__all__ = ("command",)


@click.command("request")
@output_options
@target_options
@call_options
@click.pass_obj
def command(invocation: Invocation, /, target: str, body: str | None, raw: bool) -> None:
    """Call a service; short for `fdn service call`.

    TARGET is service.method, or service.method@node. BODY is the argument as JSON; @FILE reads it from a file, - from
    standard input.
    """
    call(invocation, target, body, raw)
