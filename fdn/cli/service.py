"""`fdn service`: what the cluster offers, and calls to it."""

import click

from fdn.cli.calling import call, call_options
from fdn.cli.connection import ask, connected
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column

__all__ = ("command",)


@click.group("service")
def command() -> None:
    """List the services of the cluster, and call them."""


@command.command("ls")
@output_options
@target_options
@click.argument("name", required=False)
@click.pass_obj
def ls(invocation: Invocation, /, name: str | None) -> None:
    """List who offers what: one line for each service on each node. NAME shows one service."""
    with connected(invocation) as client:
        rows = ask(client, "fdn.node.services")
    rows = [row for row in rows if name in (None, row["service"])]
    rows.sort(key=lambda row: (row["service"], row["node"]))
    invocation.emit(
        rows,
        Column("service"),
        Column("node"),
        Column("state"),
        Column("version", show=lambda version: version or "-"),
        Column("methods"),
        Column("capabilities", wide=True),
    )


@command.command("call")
@output_options
@target_options
@call_options
@click.pass_obj
def service_call(invocation: Invocation, /, target: str, body: str | None, raw: bool) -> None:
    """Call TARGET (service.method, or service.method@node) on one of the nodes that offer it.

    BODY is the argument as JSON; @FILE reads it from a file, - from standard input. The result is printed as JSON, and
    an error of the handler with its traceback over there, on standard error.
    """
    call(invocation, target, body, raw)
