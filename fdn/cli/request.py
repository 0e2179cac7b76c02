"""`fdn request`: the short form of `fdn service call`."""

from typing import Any

import click

from fdn.cli.calling import call, call_options
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options

__all__ = ("command",)


@examples(
    "fdn request math.add '[2, 3]'",
    "fdn request math.add@n2 @sum.json -H tenant:blue --timeout 500ms",
    "fdn request logs.tail '{\"lines\": 10}'   # a streamed reply: a line for each item, as it comes",
    "fdn request stats.mean --items numbers.ndjson",
)
@click.command("request")
@output_options
@target_options
@call_options
@click.pass_obj
def command(invocation: Invocation, /, **options: Any) -> None:
    """Call a service; short for `fdn service call`.

    TARGET is service.method, or service.method@node. BODY is the argument as JSON; @FILE reads it from a file, - from
    standard input. The result is a line of JSON, a streamed reply one for each item; --timeout is then how long it may
    be silent.
    """
    call(invocation, **options)
