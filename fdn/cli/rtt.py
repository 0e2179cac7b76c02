"""`fdn rtt`: how long a message takes from one node to the others and back, on each channel."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from fdn.cli.completing import complete_channels, complete_members
from fdn.cli.connection import ask, node_client
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column, note
from transports.channel import Channel

__all__ = ("command", "summary")

_PINGS_SILENT_MAX: Final = 8  # how many silent ones the timeout has room for, one after the other


def _milliseconds(us: float) -> str:
    return f"{us / 1000:.2f} ms"


_COLUMNS: Final = (
    Column("name"),
    Column("channel"),
    Column("count"),
    *(Column(f"{what}_us", what.upper(), show=_milliseconds) for what in ("min", "p50", "p99", "max")),
    Column("error", show=lambda error: error or "-"),
    Column("node", "NODE ID", wide=True),
)


@examples(
    "fdn rtt",
    "fdn rtt n2 --count 100",
    "fdn rtt --from n1 --channel data --json",
)
@click.command("rtt")
@output_options
@target_options
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Round trips on each.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice([channel.value for channel in Channel]),
    shell_complete=complete_channels,
    help="Only this channel; may be repeated.",
)
@click.option(
    "--from",
    "origin",
    metavar="NAME",
    shell_complete=complete_members,
    help="The member that measures, in place of the one that answers.",
)
@click.argument("node", required=False, shell_complete=complete_members)
@click.pass_obj
def command(
    invocation: Invocation, /, node: str | None, count: int, channels: tuple[str, ...], origin: str | None
) -> int:
    """Measure round trips to the other nodes, by channel.

    Coordination and gossip are answered by the other node's control plane; data and events wait for its user's loop,
    and for that of the node that measures. Exit status 9 when somebody did not answer.
    """
    wish = {
        "nodes": [] if node is None else [node],
        "channels": list(channels),
        "count": count,
        "timeout_ms": max(1, min(60_000, int(invocation.timeout_s * 1000 / _PINGS_SILENT_MAX))),
    }
    with node_client(invocation, origin) as client:
        answers = ask(client, "fdn.node.rtt", wish)
        measured_by = client.node["name"]
    rows = [summary(row) for row in answers]
    if not rows:
        note(f"{measured_by} knows no other member")
    invocation.emit(rows, *_COLUMNS)
    return ExitCode.DEGRADED if any(row["error"] for row in rows) else ExitCode.OK


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """One series as its numbers of interest, in microseconds; those are None without any sample."""
    samples: Sequence[float] = row["samples_us"]
    if not samples:
        figures = dict.fromkeys(("min_us", "p50_us", "p99_us", "max_us"))
    else:
        # The smallest sample with 99 % of all at or below it: of a hundred the second largest, of few the largest.
        p99 = samples[-(-len(samples) * 99 // 100) - 1]
        figures = {"min_us": samples[0], "p50_us": statistics.median(samples), "p99_us": p99, "max_us": samples[-1]}
    return {
        "node": row["node"],
        "name": row["name"],
        "channel": row["channel"],
        "count": len(samples),
        **figures,
        "error": row["error"],
    }
