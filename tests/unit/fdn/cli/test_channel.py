import json
from typing import Any

import pytest

from fdn.cli.root import run
from tests.unit.fdn.cli.fakes import FakeCluster

COUNTERS = {
    "messages_sent": 3,
    "bytes_sent": 2048,
    "queued_messages": 1,
    "queued_bytes": 10,
    "credit_stalls": 0,
    "hwm_hits": 0,
    "dropped": 0,
    "expired": 0,
}
RECEIVED = {"messages_received": 5, "bytes_received": 100, "malformed": 0, "refused": 0}


def channel(name: str, **changes: Any) -> dict[str, Any]:
    flow = {"credit_messages": 5, "window_messages": 2, "rtt_us": 1500, "explain": ["window: 2 of 8", "batch: small"]}
    links = [
        {
            "node": "n2-id",
            "name": "n2",
            "lane": 3,
            "via": ["n4"],
            **COUNTERS,
            **({} if name == "coordination" else flow),
        }
    ]
    return {
        "channel": name,
        "endpoint": f"tcp://h:{name}",
        "answered": True,
        "links": links,
        **COUNTERS,
        **RECEIVED,
        **changes,
    }


@pytest.fixture
def two(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    world.add("n2", 7410)
    stuck = {"channel": "events", "endpoint": "tcp://h:events", "answered": False}
    world.answers["fdn.node.channels"] = lambda me, payload: [channel("coordination"), channel("data"), stuck]
    return world


@pytest.mark.usefixtures("two")
def test_a_table_of_channels(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["channel", "ls"]) == 0
    out, err = capsys.readouterr()
    head, _, data, events = (line.split("  ") for line in out.splitlines())
    assert head[0] == "CHANNEL"
    row = [cell.strip() for cell in data if cell.strip()]
    assert row == ["data", "tcp://h:data", "1", "3", "2KiB", "1", "0", "0", "5", "100B", "0"]
    assert [cell.strip() for cell in events if cell.strip()][2:] == ["-"] * 9
    assert "does not turn" in err


def test_another_node_is_asked(two: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["channel", "ls", "--node", "n2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["channel"] for row in rows] == ["coordination", "data", "events"]
    assert two.asked[-1][:2] == ("n2", "fdn.node.channels")
    assert run(["channel", "ls", "--node", "n9"]) == 4


@pytest.mark.usefixtures("two")
def test_the_links_of_one_channel(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["channel", "stat", "data"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["TO", "LANE", "VIA", "SENT", "SENT", "BYTES", "QUEUED", "STALLS", "DROPPED", "CREDIT", "WINDOW", "RTT"],
        ["n2", "3", "n4", "3", "2KiB", "1", "0", "0", "5", "2", "1.5ms"],
    ]
    assert run(["channel", "stat", "events", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["channel", "stat", "post"]) == 2


@pytest.mark.usefixtures("two")
def test_a_link_shows_its_lane_credit_window_and_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["channel", "stat", "data"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["TO", "LANE"]
    assert row.split()[:2] == ["n2", "3"]
    assert row.split()[-3:] == ["5", "2", "1.5ms"]


@pytest.mark.usefixtures("two")
def test_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["channel", "stat", "data", "--explain"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2) for line in out[1:]] == [["n2", "3", "window: 2 of 8"], ["n2", "3", "batch: small"]]
    assert run(["channel", "stat", "coordination", "--explain", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["why"] == "the control plane's own traffic is not governed"
