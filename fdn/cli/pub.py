"""`fdn pub`: publish events from the command line."""

import click

from fdn.cli.calling import header_option, items_of, items_option, read_body
from fdn.cli.connection import connected
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options

__all__ = ("command",)


@examples(
    "fdn pub orders.eu.created '{\"id\": 7}'",
    "fdn pub orders.eu.created @order.json -H tenant:blue",
    "fdn pub load.test --count 1000",
    "fdn pub orders.eu.created @order.json --delivery at_least_once",
    "tail -f orders.ndjson | fdn pub orders.eu.created --items -",
)
@click.command("pub")
@output_options
@target_options
@click.argument("subject")
@click.argument("body", required=False)
@header_option
@items_option
@click.option("--count", default=1, type=click.IntRange(min=1), help="Publish it so many times.")
@click.option("--bytes", "as_bytes", is_flag=True, help="BODY is bytes as they are, not JSON.")
@click.option(
    "--delivery",
    type=click.Choice(["at_least_once", "effectively_once"]),
    help="Return when the node has taken each event over, and sees to it from then on.",
)
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    subject: str,
    body: str | None,
    headers: dict[str, str] | None,
    items: str | None,
    count: int,
    as_bytes: bool,
    delivery: str | None,
) -> None:
    """Publish events.

    SUBJECT is tokens joined by dots. BODY is the payload as JSON; @FILE reads it from a file, - from standard input.
    With --items each line is the payload of one event. Everybody in the cluster who wants the subject gets it, at most
    once unless --delivery says more; that nobody does is no error.
    """
    if items is not None and (body is not None or count > 1 or as_bytes):
        raise click.UsageError("--items gives the payloads: leave BODY, --count and --bytes out")
    payload = read_body(body, as_bytes)
    published = 0
    with connected(invocation) as client:
        for each in [payload] * count if items is None else items_of(items):
            client.publish(subject, each, headers=headers, delivery=delivery)
            published += 1
        client.flush()
    invocation.emit({"subject": subject, "published": published})
