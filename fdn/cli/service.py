"""`fdn service`: what the cluster offers, who offers it, and calls to it."""

import difflib
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from fdn.cli.calling import call, call_options
from fdn.cli.completing import complete_services
from fdn.cli.connection import ask, connected, member_client, members_of
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column
from fdn.cli.watching import watch_option, watch_rows
from fdn.errors import Error, NotFound

__all__ = ("command",)

_OFFERS: Final = (
    Column("service"),
    Column("node"),
    Column("state"),
    Column("version", show=lambda version: version or "-"),
    Column("methods"),
    Column("capabilities", wide=True),
)
_INFO: Final = ("service", "targets", "nodes", "versions", "capabilities")
_COUNTERS: Final = ("calls", "casts", "failed", "expired", "cancelled", "overloaded", "queued", "running")

_service_argument = click.argument("name", shell_complete=complete_services)


@examples("fdn service ls", "fdn service info math", "fdn service call math.add '[2, 3]'")
@click.group("service")
def command() -> None:
    """List the services of the cluster, and call them."""


@examples("fdn service ls", "fdn service ls math -o wide", "fdn service ls --watch --json")
@command.command("ls")
@output_options
@target_options
@watch_option
@click.argument("name", required=False, shell_complete=complete_services)
@click.pass_obj
def ls(invocation: Invocation, /, name: str | None, watch: bool) -> None:
    """List who offers what: one line for each service on each node. NAME shows one service."""

    def fetch(client: Any) -> list[dict[str, Any]]:
        rows = [row for row in ask(client, "fdn.node.services") if name in (None, row["service"])]
        return sorted(rows, key=lambda row: (row["service"], row["node"]))

    if watch:
        watch_rows(invocation, _OFFERS, lambda: connected(invocation), fetch, key=("service", "node"))
    with connected(invocation) as client:
        rows = fetch(client)
    invocation.emit(rows, *_OFFERS)


@examples("fdn service info math", "fdn service info math --json")
@command.command("info")
@output_options
@target_options
@_service_argument
@click.pass_obj
def info(invocation: Invocation, /, name: str) -> None:
    """Describe service NAME: what can be called, on which nodes, in which versions."""
    with connected(invocation) as client:
        offers = _offers(client, name)
    targets = {f"{name}.{method}" for offer in offers for method in offer["methods"]}
    row = {
        "service": name,
        "targets": sorted(targets) or [name],
        "nodes": [offer["node"] for offer in offers],
        "versions": sorted({offer["version"] for offer in offers if offer["version"]}),
        "capabilities": sorted({label for offer in offers for label in offer["capabilities"]}),
        "offers": offers,
    }
    invocation.emit(row, *(Column(key, key) for key in _INFO))


@examples("fdn service ping math", "fdn service ping math --timeout 500ms --json")
@command.command("ping")
@output_options
@target_options
@_service_argument
@click.pass_obj
def ping(invocation: Invocation, /, name: str) -> int:
    """Ask the loop of each node that offers service NAME for a sign of life, and say how long that took.

    It takes the way of a call, but runs no code of the service. Exit status 9 when one does not answer.
    """
    with connected(invocation) as client:
        serving = {offer["node"] for offer in _offers(client, name)}
        members = [
            row for row in members_of(client) if row["name"] in serving and row["status"] in ("alive", "suspect")
        ]
        rows = [_ping_one(client, member, name) for member in members]
    invocation.emit(
        rows,
        Column("service"),
        Column("name", "NODE"),
        Column("state"),
        Column("answers"),
        Column("rtt_us", "RTT", show=lambda us: f"{us / 1000:.2f} ms"),
        Column("error", show=lambda error: error or "-"),
    )
    return ExitCode.OK if all(row["answers"] for row in rows) else ExitCode.DEGRADED


def _ping_one(client: Any, member: dict[str, Any], service: str) -> dict[str, Any]:
    row = {"service": service, "node": member["node"], "name": member["name"], "state": member["state"]}
    try:
        with member_client(client, member) as other:
            other.call("fdn.node.ping")  # opens the connection, and is not counted
            started = time.perf_counter()
            other.call("fdn.node.ping")
            rtt_us = round((time.perf_counter() - started) * 1e6, 1)
    except Error as error:
        return {**row, "answers": False, "rtt_us": None, "error": error.message}
    return {**row, "answers": True, "rtt_us": rtt_us, "error": ""}


@examples("fdn service stats", "fdn service stats math --json")
@command.command("stats")
@output_options
@target_options
@click.argument("name", required=False, shell_complete=complete_services)
@click.pass_obj
def stats(invocation: Invocation, /, name: str | None) -> int:
    """Count what the nodes that offer service NAME, or any, have been asked.

    The counters are of a whole node, all of its services together, since its start. Exit status 9 when a node did not
    answer, or the loop of its user code does not turn.
    """
    with connected(invocation) as client:
        offers = _offers(client, name) if name else ask(client, "fdn.node.services")
        services = {
            node: sorted(o["service"] for o in offers if o["node"] == node) for node in {o["node"] for o in offers}
        }
        rows = [
            _stats_of(client, member, sorted(services[member["name"]]))
            for member in _living(client)
            if member["name"] in services
        ]
    invocation.emit(
        rows,
        Column("name", "NODE"),
        *(Column(key) for key in _COUNTERS),
        Column("services", wide=True),
        Column("error", show=lambda error: error or "-"),
    )
    return ExitCode.DEGRADED if any(row["error"] for row in rows) else ExitCode.OK


def _stats_of(client: Any, member: dict[str, Any], services: Sequence[str]) -> dict[str, Any]:
    row = {"node": member["node"], "name": member["name"], "services": services}
    nothing = dict.fromkeys(_COUNTERS)
    try:
        with member_client(client, member) as other:
            work = ask(other, "fdn.node.work")
    except Error as error:
        return {**row, **nothing, "error": error.message}
    if work is None:
        return {**row, **nothing, "error": "the loop of its user code does not turn"}
    return {**row, **{key: work["dispatch"][key] for key in _COUNTERS}, "error": ""}


@examples(
    "fdn service call math.add '[2, 3]'",
    'fdn service call math.add@n2 \'{"a": 2, "b": 3}\' --timeout 500ms',
)
@command.command("call")
@output_options
@target_options
@call_options
@click.pass_obj
def service_call(invocation: Invocation, /, **options: Any) -> None:
    """Call TARGET (service.method, or service.method@node) on one of the nodes that offer it.

    BODY is the argument as JSON; @FILE reads it from a file, - from standard input. The result is printed as JSON, and
    an error of the handler with its traceback over there, on standard error.
    """
    call(invocation, **options)


def _living(client: Any) -> list[dict[str, Any]]:
    return [row for row in members_of(client) if row["status"] in ("alive", "suspect")]


def _offers(client: Any, name: str) -> list[dict[str, Any]]:
    rows = ask(client, "fdn.node.services")
    found = sorted((row for row in rows if row["service"] == name), key=lambda row: str(row["node"]))
    if not found:
        names = sorted({row["service"] for row in rows})
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = f'did you mean "{near[0]}"?' if near else "`fdn service ls` shows what is offered"
        raise NotFound(f'no node offers a service "{name}"', hint=hint, service=name)
    return found
