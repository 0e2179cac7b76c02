"""Delivery classes over real sockets between real processes, through a proxy that loses, doubles and reorders."""

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

import fdn
import fdn.sync
from fdn.testing import NodeProcess, ProcessCluster, eventually

pytestmark = pytest.mark.slow

APP = "tests.integration.delivery.apps:app"


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    """Three nodes behind a proxy; n1 is the publisher."""
    (cluster.folder / "fdn.toml").write_text("[delivery]\nretransmit_min_s = 0.05\nretransmit_max_s = 0.5\n")
    return cluster.start(3, app=APP, faults=True)


def spoil(cluster: ProcessCluster) -> None:
    for one, other in itertools.combinations(("n1", "n2", "n3"), 2):
        cluster.lossy(one, other, loss=0.1, duplication=0.1, reordering=0.1, channel="events")


def ask(node: NodeProcess, target: str, payload: Any = None) -> Any:
    with node.client() as client:
        return client.call(f"publisher.{target}@{node.name}", payload, timeout=60)


def lines(node: NodeProcess, cluster: ProcessCluster, what: str) -> list[str]:
    path = Path(cluster.folder, f"{node.name}.{what}")
    return path.read_text().splitlines() if path.exists() else []


def numbers(node: NodeProcess, cluster: ProcessCluster, what: str = "news") -> list[int]:
    return [int(line) for line in lines(node, cluster, what)]


def flood(node: NodeProcess, **wanted: Any) -> None:
    """A little at a time, so that it is many messages of ZeroMQ, each of which may go wrong."""
    for first in range(0, wanted["count"], 5):
        ask(node, "flood", wanted | {"first": first, "count": 5})


def test_at_least_once_to_all_on_a_bad_line_that_is_cut(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    spoil(cluster)
    flood(nodes[0], subject="news.a", count=100)
    cluster.cut(["n1"], reset=True)  # every connection ends, and none can be made
    cluster.heal()
    spoil(cluster)
    ask(nodes[0], "flood", {"subject": "news.a", "first": 100, "count": 100})
    assert ask(nodes[0], "flush", 30.0) == 0
    for node in nodes:
        eventually("all are handled", lambda node=node: len(numbers(node, cluster)) >= 200)  # type: ignore[misc]
        assert sorted(numbers(node, cluster)) == list(range(200))
    stats = ask(nodes[0], "stats")
    assert stats["sender"]["retransmitted"] > 0
    assert stats["sender"]["unacked"] == stats["sender"]["given_up"] == 0
    assert ask(nodes[1], "stats")["receiver"]["duplicates"] > 0


def test_at_most_once_loses_there(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    """The control: or the line would not be bad enough to see anything."""
    spoil(cluster)
    flood(nodes[0], subject="news.a", count=200, delivery="at_most_once")
    cluster.heal()
    ask(nodes[0], "flood", {"subject": "news.a", "first": 1000, "count": 1})
    for node in nodes[1:]:
        eventually("the last is handled", lambda node=node: 1000 in numbers(node, cluster))  # type: ignore[misc]
        got = [number for number in numbers(node, cluster) if number < 1000]
        assert len(set(got)) < 200


def test_a_group_takes_over_from_a_killed_member(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    spoil(cluster)
    publisher, _, victim = nodes
    flooding = threading.Thread(target=flood, args=(publisher,), kwargs={"subject": "jobs.a", "count": 300})
    flooding.start()
    eventually("it has taken some", lambda: len(lines(victim, cluster, "jobs")) > 10)
    victim.kill()
    flooding.join(60)
    assert ask(publisher, "flush", 30.0) == 0
    taken = [[int(field) for field in line.split()] for node in nodes for line in lines(node, cluster, "jobs")]

    def all_taken() -> bool:
        taken[:] = [[int(field) for field in line.split()] for node in nodes for line in lines(node, cluster, "jobs")]
        return {number for number, _ in taken} == set(range(300))

    eventually("every job is taken", all_taken)
    times: dict[int, list[int]] = {}
    for number, redelivered in taken:
        times.setdefault(number, []).append(redelivered)
    again = [told for told in times.values() if len(told) > 1]
    assert all(len(told) == 2 and 1 in told for told in again)  # who took it over was told


def test_keys_keep_their_order(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    spoil(cluster)
    flood(nodes[0], subject="news.a", count=200, keys=3)
    assert ask(nodes[0], "flush", 30.0) == 0
    for node in nodes[1:]:
        eventually("all are handled", lambda node=node: len(numbers(node, cluster)) == 200)  # type: ignore[misc]
        got = numbers(node, cluster)
        for remainder in range(3):
            assert [number for number in got if number % 3 == remainder] == list(range(remainder, 200, 3))
    assert ask(nodes[1], "stats")["receiver"]["accepted"] == 200


def test_a_client_publishes_effectively_once_though_its_node_is_killed(
    cluster: ProcessCluster, nodes: list[NodeProcess]
) -> None:
    spoil(cluster)
    with fdn.sync.Client(*(node.endpoint for node in nodes), cluster="test", timeout=20) as client:
        client.connect()
        victim = cluster[client.node["name"]]
        for number in range(60):
            client.publish("news.a", number, delivery="effectively_once")
            if number == 30:
                victim.kill()
        assert client.node["name"] != victim.name
    for node in nodes:
        if node is not victim:
            eventually("the last are handled", lambda node=node: set(range(31, 60)) <= set(numbers(node, cluster)))  # type: ignore[misc]
            got = numbers(node, cluster)
            # What the victim had taken over, and nobody had acknowledged yet, may have died with it.
            assert len(got) == len(set(got))


def test_an_answer_comes_behind_its_question(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    cluster.slow("n1", "n3", delay=0.3, channel="events")
    for number in range(5):
        for subject, label in (("talk.causal", "talk"), ("talk.plain", "")):
            ask(nodes[0], "say", {"subject": subject, "text": f"question {number}", "causal": label})
    for subject, in_order in (("talk.causal", True), ("talk.plain", False)):
        eventually("all is heard", lambda subject=subject: len(lines(nodes[2], cluster, subject)) == 10)  # type: ignore[misc]
        heard = lines(nodes[2], cluster, subject)
        behind = [heard.index(f"question {n}") < heard.index(f"answer {n}") for n in range(5)]
        assert all(behind) is in_order, heard
