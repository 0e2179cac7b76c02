"""Processes that die, stop, come back, or hold their own loop, as the others see it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import fdn
from fdn.testing import NodeProcess, ProcessCluster, eventually

APP = "tests.integration.apps:app"


def seen_as(status: str, node: NodeProcess, by: list[NodeProcess]) -> bool:
    return all(viewer.statuses().get(node.name) == status for viewer in by)


def test_a_killed_node_is_dead_in_every_view_and_others_calls_go_on(cluster: ProcessCluster) -> None:
    one, two, three = cluster.start(3, app=APP)
    three.kill()
    with one.client() as client:
        for _ in range(50):  # before, while and after it is found dead
            assert client.call("math.add", [2, 3]) == 5
    eventually("dead in both views", lambda: seen_as("dead", three, [one, two]))
    assert "refused" in one.members()[three.name]["reason"]


@pytest.mark.parametrize("paused_for", ["until dead", "until suspect"])
def test_a_stopped_node_is_suspect_then_dead_and_comes_back(cluster: ProcessCluster, paused_for: str) -> None:
    # Short of the heartbeats' timeout: the connections outlive the pause, and so must whatever they are good for.
    one, two, three = cluster.start(3, app=APP)
    three.pause()
    eventually("suspect somewhere", lambda: "suspect" in (one.statuses()[three.name], two.statuses()[three.name]))
    if paused_for == "until dead":
        eventually("dead in both views", lambda: seen_as("dead", three, [one, two]))
    three.resume()
    cluster.settle()
    suspicions = sum(node_stats(node)["swim"]["suspicions"] for node in (one, two))
    probed = node_stats(one)["swim"]["probes"]
    eventually("it is probed some more", lambda: node_stats(one)["swim"]["probes"] > probed + 5)
    assert seen_as("alive", three, [one, two])
    assert sum(node_stats(node)["swim"]["suspicions"] for node in (one, two)) == suspicions
    assert {call_who(one) for _ in range(12)} == {"n1", "n2", "n3"}


def test_a_killed_node_that_starts_again_is_the_same_member(cluster: ProcessCluster) -> None:
    one, two = cluster.start(2, app=APP)
    former = two.id
    two.kill()
    eventually("dead", lambda: seen_as("dead", two, [one]))
    two.start()
    cluster.settle()
    assert two.id == former
    members = one.members()
    assert set(members) == {"n1", "n2"}
    assert members["n2"]["incarnation"][0] == 2
    assert members["n2"]["endpoints"]["coordination"] == two.endpoint


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_a_blocked_loop_is_avoided_and_not_suspected(cluster: ProcessCluster, how: str) -> None:
    one, two, three = cluster.start(3, app=APP)
    before = {node.name: node_stats(node)["swim"]["suspicions"] for node in (one, two, three)}
    with in_background(three, f"block.{how}@n3", 3.0):
        eventually("stalled in both views", lambda: all(v.members()["n3"]["state"] == "stalled" for v in (one, two)))
        for _ in range(12):
            assert call_who(one) in ("n1", "n2")
        # The stuck node itself still answers for itself.
        assert three.members()["n3"]["state"] == "stalled"
        assert seen_as("alive", three, [one, two])
    eventually("serving again", lambda: all(viewer.members()["n3"]["state"] == "serving" for viewer in (one, two)))
    assert {call_who(one) for _ in range(12)} == {"n1", "n2", "n3"}
    assert {node.name: node_stats(node)["swim"]["suspicions"] for node in (one, two, three)} == before


def test_a_loop_that_stays_blocked_makes_the_node_unreachable(cluster: ProcessCluster) -> None:
    (cluster.folder / "fdn.toml").write_text("[data]\nbeat_interval_s = 0.05\nstall_warn_s = 0.1\nstall_max_s = 0.5\n")
    one, two = cluster.start(2, app=APP)
    with in_background(two, "block.sleep@n2", 3.0):
        eventually("wedged", lambda: one.members()["n2"]["state"] == "wedged")
        assert one.members()["n2"]["status"] == "alive"
        assert not one.members()["n2"]["reachable"]
    eventually("back", lambda: one.members()["n2"]["reachable"])


def test_a_call_under_way_to_a_killed_node_fails_soon_and_a_retry_goes_elsewhere(cluster: ProcessCluster) -> None:
    one, two = cluster.start(2, app=APP)

    async def scenario() -> None:
        async with fdn.Node(name="caller", cluster=cluster.name, join=[one.endpoint]) as node:
            lost = asyncio.create_task(node.call("slow@n2", 30.0, timeout=60))
            retried = asyncio.create_task(node.call("slow", 0.2, timeout=60, retry=fdn.Retry(2)))
            await node.call("math.add@n2", [1, 1])  # behind the others on the same link: they are there by now
            two.kill()
            with pytest.raises(fdn.Unreachable, match="was lost while a call") as raised:
                await lost
            assert raised.value.facts["maybe_carried_out"] is True
            assert await retried == "done"

    asyncio.run(scenario())


def test_a_dead_callers_work_is_cancelled(cluster: ProcessCluster) -> None:
    one, two = cluster.start(2, app=APP)
    with in_background(two, "slow@n1", 60.0, fails=True):
        eventually("it runs", lambda: data_running(one) == 1)
        two.kill()
        eventually("it is cancelled", lambda: data_running(one) == 0)


def node_stats(node: NodeProcess) -> dict[str, Any]:
    with node.client() as client:
        stats: dict[str, Any] = client.call("fdn.node.stats", channel="coordination")
    return stats


def call_who(node: NodeProcess) -> str:
    with node.client() as client:
        return str(client.call("who"))


def data_running(node: NodeProcess) -> int:
    with node.client() as client:
        return int(client.call(f"running@{node.name}"))


@contextmanager
def in_background(node: NodeProcess, target: str, argument: object, fails: bool = False) -> Iterator[None]:
    """Call through `node` while the block runs; the call must end well, unless it is to fail."""
    failures: list[fdn.Error] = []

    def call() -> None:
        try:
            with node.client() as client:
                client.call(target, argument, timeout=60.0)
        except fdn.Error as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    assert bool(failures) == fails, failures
