"""`fdn pub`: publish events from the command line."""

import click

from fdn.cli.calling import read_body
from fdn.cli.connection import connected
from fdn.cli.options import Invocation, output_options, target_options

__all__ = ("command",)


@click.command("pub")
@output_options
@target_options
@click.argument("subject")
@click.argument("body", required=False)
@click.option("--count", default=1, type=click.IntRange(min=1), help="Publish it so many times.")
@click.option("--bytes", "raw", is_flag=True, help="BODY is bytes as they are, not JSON.")
@click.pass_obj
def command(invocation: Invocation, /, subject: str, body: str | None, count: int, raw: bool) -> None:
    """Publish events.

    SUBJECT is tokens joined by dots. BODY is the payload as JSON; @FILE reads it from a file, - from standard input.
    Everybody in the cluster who wants the subject gets it, at most once; that nobody does is no error.
    """
    payload = read_body(body, raw)
    with connected(invocation) as client:
        for _ in range(count):
            client.publish(subject, payload)
        client.flush()
    invocation.emit({"subject": subject, "published": count})
