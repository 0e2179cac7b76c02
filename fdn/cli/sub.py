"""`fdn sub`: print events as they come."""

import itertools
import json
import sys
from typing import Any

import click

from fdn.cli.calling import write_value
from fdn.cli.connection import connected
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Output, Printer, note

__all__ = ("command",)


@examples(
    "fdn sub 'orders.>'",
    "fdn sub 'orders.*.created' --queue billing --json",
    "fdn sub 'orders.>' --headers-only",
    "fdn sub images.new --raw --count 1 > image.png",
)
@click.command("sub")
@output_options
@target_options
@click.argument("subject")
@click.option("--queue", default="", metavar="GROUP", help="Join a queue group: one of its members gets each event.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--headers-only", is_flag=True, help="Print subject and headers, not the payload.")
@click.option("--raw", is_flag=True, help="Print only the payload: text without quotes, bytes as they are.")
@click.pass_obj
def command(
    invocation: Invocation, /, subject: str, queue: str, count: int | None, headers_only: bool, raw: bool
) -> None:
    """Print the events of a subject or pattern, as they come.

    In SUBJECT, * stands for one token and > at the end for the rest. With --json each event is one line of JSON. It
    runs until Ctrl-C, or until --count events have come; events that come faster than they are read are dropped, and
    counted in `missed`.
    """
    if headers_only and raw:
        raise click.UsageError("--raw prints the payload alone, and --headers-only all but it: leave one out")
    with connected(invocation, reconnect=True) as client:
        subscription = client.subscribe(subject, queue=queue)
        note(f"subscribed to {subject} at {client.node['name']}")
        if subscription.unaware:
            note(f"these do not know of it yet: {', '.join(subscription.unaware)}")
        # Not closed at the end: leaving the client ends it too, and a lost node must not be asked once more.
        for event in itertools.islice(subscription, count):
            told = {**event._asdict(), "headers": dict(event.headers)}
            if headers_only:
                del told["payload"]
            _show(invocation, told, raw)


def _show(invocation: Invocation, event: dict[str, Any], raw: bool) -> None:
    if invocation.is_json and not raw:
        Printer(Output.NDJSON).emit(event)
        return
    if event["missed"]:
        note(f"{event['missed'] if event['missed'] > 0 else 'an unknown number of'} events were missed here")
    if raw:
        write_value(invocation, event["payload"], raw=True)
        return
    headers = " ".join(f"{name}:{value}" for name, value in sorted(event["headers"].items()))
    payload = json.dumps(event["payload"], default=repr, ensure_ascii=False) if "payload" in event else ""
    line = "  ".join(filter(None, (event["subject"], headers, payload)))
    sys.stdout.write("".join(c if c.isprintable() else "\ufffd" for c in line) + "\n")
    sys.stdout.flush()
