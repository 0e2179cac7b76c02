"""`fdn channel`: the channels of a node, and what goes over them."""

from collections.abc import Sequence
from typing import Any, Final

import click

from fdn.cli.completing import complete_channels, complete_members
from fdn.cli.connection import ask, node_client
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column, note
from fdn.cli.watching import watch_option, watch_rows
from fdn.units import format_size
from transports.channel import Channel

__all__ = ("command",)

_COUNTERS: Final = (
    Column("messages_sent", "SENT"),
    Column("bytes_sent", "SENT BYTES", show=format_size),
    Column("queued_messages", "QUEUED"),
    Column("queued_bytes", wide=True, show=format_size),
    Column("credit_stalls", "STALLS"),
    Column("hwm_hits", "HWM HITS", wide=True),
    Column("dropped"),
    Column("expired", wide=True),
)
_CHANNELS: Final = (
    Column("channel"),
    Column("endpoint"),
    Column("links", show=lambda links: str(len(links))),
    *_COUNTERS,
    Column("messages_received", "RECEIVED"),
    Column("bytes_received", "RECEIVED BYTES", show=format_size),
    Column("malformed", wide=True),
    Column("refused"),
)
_LINKS: Final = (
    Column("name", "TO", show=lambda name: name or "?"),
    Column("lane"),
    Column("via", show=lambda names: ", ".join(names) or "-"),
    *_COUNTERS,
    Column("superseded", wide=True),
    Column("credit_messages", "CREDIT"),
    Column("window_messages", "WINDOW"),
    Column("rtt_us", "RTT", show=lambda rtt: f"{rtt / 1000:.1f}ms"),
    Column("node", "NODE ID", wide=True),
)
_WHY: Final = (Column("name", "TO", show=lambda name: name or "?"), Column("lane"), Column("why"))

_node_option = click.option(
    "--node",
    metavar="NAME",
    shell_complete=complete_members,
    help="The member to ask, in place of the one that answers.",
)


@examples("fdn channel ls", "fdn channel stat data --watch")
@click.group("channel")
def command() -> None:
    """Show the channels of a node, and what goes over them."""


@examples(
    "fdn channel ls",
    "fdn channel ls --node n2 -o wide",
    "fdn channel ls --watch --json   # a line for each channel whose counters moved",
)
@command.command("ls")
@output_options
@target_options
@watch_option
@_node_option
@click.pass_obj
def ls(invocation: Invocation, /, node: str | None, watch: bool) -> None:
    """List the channels of the node that answers.

    What was sent counts since each of its open links was made, what was received since the node started. STALLS are
    sends that waited for credit, REFUSED those of answers to a peer that was gone or full. A channel without numbers
    belongs to a loop that does not turn.
    """
    _print(invocation, node, _CHANNELS, watch, _channels, ("channel",))


@examples(
    "fdn channel stat data",
    "fdn channel stat coordination --node n2 --json",
    "fdn channel stat events --watch",
    "fdn channel stat data --explain",
)
@command.command("stat")
@output_options
@target_options
@watch_option
@_node_option
@click.option("--explain", is_flag=True, help="Say of each link why this window, this batch size, and so many lanes.")
@click.argument("channel", type=click.Choice([channel.value for channel in Channel]), shell_complete=complete_channels)
@click.pass_obj
def stat(invocation: Invocation, /, channel: str, node: str | None, watch: bool, explain: bool) -> None:
    """List the open links of one channel, with their counters: to whom, on which lane, since each was made.

    CREDIT is what may be sent before the peer grants more, WINDOW what of it may be under way, RTT the round trip of
    probes; links that carry little are not probed.
    """

    def links(client: Any) -> Sequence[dict[str, Any]]:
        (row,) = [row for row in _channels(client) if row["channel"] == channel]
        rows: Sequence[dict[str, Any]] = row.get("links", ())
        return rows

    def reasons(client: Any) -> Sequence[dict[str, Any]]:
        shown = ("node", "name", "lane")
        return [{**{key: link[key] for key in shown}, "why": why} for link in links(client) for why in _reasons(link)]

    if explain:
        _print(invocation, node, _WHY, watch, reasons, ("node", "lane", "why"))
    else:
        _print(invocation, node, _LINKS, watch, links, ("node", "lane"))


def _reasons(link: dict[str, Any]) -> Sequence[str]:
    reasons: Sequence[str] = link.get("explain", ("the control plane's own traffic is not governed",))
    return reasons


def _channels(client: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask(client, "fdn.node.channels")
    if not all(row["answered"] for row in rows):
        note(f"note: the loop of {client.node['name']}'s own user code does not turn; its channels are left out")
    return rows


def _print(
    invocation: Invocation, node: str | None, columns: Sequence[Column], go_on: bool, fetch: Any, key: Sequence[str]
) -> None:
    if go_on:
        watch_rows(invocation, columns, lambda: node_client(invocation, node), fetch, key)
    with node_client(invocation, node) as client:
        rows = fetch(client)
    invocation.emit(rows, *columns)
