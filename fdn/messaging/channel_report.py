"""The request `fdn.node.channels`: one node's four channels and the links on them, with their counters."""

from collections.abc import Mapping
from typing import Any, Final

from fdn.runtime.control_plane import ControlPlaneStats
from fdn.runtime.data_plane import DataPlaneStats
from fdn.runtime.governor import FlowStats
from fdn.runtime.view import Member
from transports.channel import Channel
from transports.transport import ConnectionStats, ListenerStats

__all__ = ("CHANNELS", "channel_report")

CHANNELS: Final = "fdn.node.channels"
_RELAYED: Final = (Channel.DATA.value, Channel.EVENTS.value)
# What is summed over a channel's links.
_OF_LINKS: Final = (
    "messages_sent",
    "bytes_sent",
    "queued_messages",
    "queued_bytes",
    "credit_stalls",
    "hwm_hits",
    "dropped",
    "expired",
    "superseded",
    "shed",
    "packed_bytes_in",
    "packed_bytes_out",
)
_NO_FLOWS: Final[Mapping[str, FlowStats]] = {}  # of the control plane, whose traffic nobody governs


def channel_report(
    control: ControlPlaneStats,
    data: DataPlaneStats | None,
    endpoints: Mapping[str, str],
    members: Mapping[str, Member],
) -> list[dict[str, Any]]:
    """A map for each channel: its endpoint, sums over its open links, its listener's counters, and `links`.

    Each of `links` is one lane to one peer: its counters, the credit that is left (None is no limit), and what the
    governor makes of it: round trip, window, and `explain`, why it is so.

    Args:
        control: Counters of the control plane.
        data: Those of the data plane; None when its loop did not answer: its channels then have `answered` false, and
            no counters.
        endpoints: By channel.
        members: By node id, for the names of peers.
    """
    rows = []
    for channel in Channel:
        stats = control if channel.value in control.listeners else data
        row: dict[str, Any] = {
            "channel": channel.value,
            "endpoint": endpoints.get(channel.value, ""),
            "answered": stats is not None,
        }
        if stats is not None:
            flows = data.flows if stats is data and data is not None else _NO_FLOWS
            row |= _counted(stats.links, flows, stats.listeners.get(channel.value), channel.value, members)
        rows.append(row)
    return rows


def _counted(
    links: Mapping[str, ConnectionStats],
    flows: Mapping[str, FlowStats],
    listener: ListenerStats | None,
    channel: str,
    members: Mapping[str, Member],
) -> dict[str, Any]:
    open_links: list[dict[str, Any]] = []
    for key, link in links.items():
        node, of, *lane = key.split(" ")
        if of == channel:
            counts = {count: getattr(link, count) for count in _OF_LINKS}
            open_links.append(
                {
                    "node": node,
                    "name": members[node].name if node in members else "",
                    "lane": int(lane[0]) if lane else 0,
                    "via": _relays_to(node, members) if channel in _RELAYED else [],
                    **counts,
                    "credit_messages": None if link.credit_messages == -1 else max(0, link.credit_messages),
                    **_governed(flows.get(key)),
                }
            )
    received = {
        "messages_received": 0 if listener is None else listener.messages_received,
        "bytes_received": 0 if listener is None else listener.bytes_received,
        "malformed": 0 if listener is None else listener.malformed,
        "refused": 0 if listener is None else listener.refused_sends,
    }
    sums = {key: sum(link[key] for link in open_links) for key in _OF_LINKS}
    return {
        **sums,
        **received,
        "links": sorted(open_links, key=lambda link: (link["name"], link["node"], link["lane"])),
    }


def _relays_to(node: str, members: Mapping[str, Member]) -> list[str]:
    """The names of the members over which messages to one go."""
    via = members[node].via if node in members else ()
    return [members[relay].name if relay in members else relay for relay in via]


def _governed(flow: FlowStats | None) -> dict[str, Any]:
    if flow is None:
        return {}
    return {
        "rtt_us": flow.rtt_us or None,
        "rtt_min_us": flow.rtt_min_us or None,
        "window_messages": flow.window_messages or None,
        "share": flow.share,
        "batch_bytes": flow.batch_bytes,
        "congested": flow.congested,
        "explain": list(flow.explain),
    }
