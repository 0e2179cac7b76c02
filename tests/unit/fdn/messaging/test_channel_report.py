import dataclasses
from typing import Any

from fdn.messaging.channel_report import channel_report
from fdn.runtime.governor import FlowStats
from fdn.runtime.view import Member
from transports.transport import ConnectionStats, ListenerStats


@dataclasses.dataclass
class Stats:
    """As much of a plane's counters as is looked at."""

    listeners: dict[str, ListenerStats]
    links: dict[str, ConnectionStats]
    flows: dict[str, FlowStats] = dataclasses.field(default_factory=dict)


def numbers(cls: type, **given: int) -> Any:
    return cls(**{field.name: given.get(field.name, 0) for field in dataclasses.fields(cls)})


def listener(**given: int) -> ListenerStats:
    stats: ListenerStats = numbers(ListenerStats, **given)
    return stats


def link(**given: int) -> ConnectionStats:
    stats: ConnectionStats = numbers(ConnectionStats, **given)
    return stats


MEMBERS = {"b-id": Member("b-id", "b", "alive", (1, 0), {}, {})}
CONTROL: Any = Stats({"coordination": listener(messages_received=3), "gossip": listener()}, {"b-id gossip": link()})


def test_links_are_summed_by_channel():
    data: Any = Stats(
        {"data": listener(refused_sends=2), "events": listener()},
        {"b-id data": link(messages_sent=5, dropped=1), "x-id data": link(messages_sent=7), "b-id events": link()},
    )
    rows = {row["channel"]: row for row in channel_report(CONTROL, data, {"data": "tcp://h:1"}, MEMBERS)}
    assert rows["coordination"]["messages_received"] == 3
    assert (rows["data"]["endpoint"], rows["data"]["messages_sent"], rows["data"]["dropped"]) == ("tcp://h:1", 12, 1)
    assert rows["data"]["refused"] == 2
    assert [(peer["name"], peer["node"]) for peer in rows["data"]["links"]] == [("", "x-id"), ("b", "b-id")]
    assert len(rows["gossip"]["links"]) == len(rows["events"]["links"]) == 1


def test_a_plane_that_did_not_answer_has_no_counters():
    rows = channel_report(CONTROL, None, {}, MEMBERS)
    assert [(row["channel"], row["answered"], "links" in row) for row in rows] == [
        ("coordination", True, True),
        ("gossip", True, True),
        ("data", False, False),
        ("events", False, False),
    ]


def test_lanes_are_links_of_their_own_with_what_is_made_of_them():
    why = ("window: all", "batch: as set")
    flows = {"b-id data 2": FlowStats(1500, 900, 0.5, 4096, 65536, 3, True, why)}
    links = {"b-id data 2": link(messages_sent=5, credit_messages=-7), "b-id data": link(credit_messages=-1)}
    data: Any = Stats({"data": listener()}, links, flows)
    (row,) = [row for row in channel_report(CONTROL, data, {}, MEMBERS) if row["channel"] == "data"]
    first, third = row["links"]
    assert (first["lane"], first["credit_messages"], "explain" in first) == (0, None, False)
    assert (third["lane"], third["name"], third["messages_sent"], third["credit_messages"]) == (2, "b", 5, 0)
    assert (third["rtt_us"], third["window_messages"], third["congested"], third["explain"]) == (
        1500,
        4096,
        True,
        list(why),
    )


def test_relays_to_a_peer_are_named_where_messages_go_over_them():
    members = MEMBERS | {"c-id": Member("c-id", "c", "alive", (1, 0), {}, {}, via=("b-id", "gone-id"))}
    data: Any = Stats({"data": listener()}, {"b-id data": link(), "c-id data": link()})
    control: Any = Stats({"gossip": listener()}, {"c-id gossip": link()})
    rows = {row["channel"]: row for row in channel_report(control, data, {}, members)}
    assert [row["via"] for row in rows["data"]["links"]] == [[], ["b", "gone-id"]]
    assert [row["via"] for row in rows["gossip"]["links"]] == [[]]
