"""`fdn sub`: print events as they come."""

import itertools
import json
import sys
from typing import Any

import click

from fdn.cli.connection import connected
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Output, Printer, note

__all__ = ("command",)


@click.command("sub")
@output_options
@target_options
@click.argument("subject")
@click.option("--queue", default="", metavar="GROUP", help="Join a queue group: one of its members gets each event.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.pass_obj
def command(invocation: Invocation, /, subject: str, queue: str, count: int | None) -> None:
    """Print the events of a subject or pattern, as they come.

    In SUBJECT, * stands for one token and > at the end for the rest. With --json each event is one line of JSON. It
    runs until Ctrl-C, or until --count events have come; events that come faster than they are read are dropped, and
    counted in `missed`.
    """
    with connected(invocation) as client:
        subscription = client.subscribe(subject, queue=queue)
        note(f"subscribed to {subject} at {client.node['name']}")
        if subscription.unaware:
            note(f"these do not know of it yet: {', '.join(subscription.unaware)}")
        # Not closed at the end: leaving the client ends it too, and a lost node must not be asked once more.
        for event in itertools.islice(subscription, count):
            _show(invocation, event._asdict())


def _show(invocation: Invocation, event: dict[str, Any]) -> None:
    if invocation.output in (Output.JSON, Output.NDJSON):
        Printer(Output.NDJSON).emit(event)
        return
    if event["missed"]:
        note(f"{event['missed']} events were missed here")
    payload = json.dumps(event["payload"], default=repr, ensure_ascii=False)
    sys.stdout.write(f"{event['subject']}  {payload}\n")
    sys.stdout.flush()
