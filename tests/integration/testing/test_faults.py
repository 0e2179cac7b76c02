"""Real nodes on a bad network: cut off, far apart, on a lossy line."""

import pytest

from fdn.testing import NodeProcess, ProcessCluster, eventually

pytestmark = pytest.mark.slow

APP = "tests.integration.apps:app"


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    return cluster(3, app=APP, faults=True)


def swim(node: NodeProcess) -> dict[str, int]:
    with node.client() as client:
        counted: dict[str, int] = client.call("fdn.node.stats", channel="coordination")["swim"]
    return counted


@pytest.mark.parametrize("reset", [False, True])
def test_both_sides_of_a_cut_hold_the_other_dead_and_find_it_again(
    cluster: ProcessCluster, nodes: list[NodeProcess], reset: bool
) -> None:
    one, two, three = nodes
    ids = [node.id for node in nodes]
    cluster.cut({0}, {1, 2}, reset=reset)
    eventually("one is alone", lambda: one.statuses() == {"n1": "alive", "n2": "dead", "n3": "dead"})
    for node in (two, three):
        eventually("two are left", lambda node=node: node.statuses() == {"n1": "dead", "n2": "alive", "n3": "alive"})  # type: ignore[misc]
    with one.client() as client:
        assert {client.call("who") for _ in range(3)} == {"n1"}
    with two.client() as client:
        assert {client.call("who") for _ in range(4)} == {"n2", "n3"}
    cluster.heal()
    cluster.settle()
    with one.client() as client:
        assert {client.call("who") for _ in range(6)} == {"n1", "n2", "n3"}
    assert [node.id for node in nodes] == ids


def test_one_cut_cable_is_gone_around_and_nobody_dies(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    cluster.cut({0}, {1})
    probed = swim(nodes[0])["probes"]
    eventually("they are probed some more", lambda: swim(nodes[0])["probes"] > probed + 10)
    assert all("dead" not in node.statuses().values() for node in nodes)
    cluster.heal()
    cluster.settle()


def test_a_long_way_shows_in_the_round_trip(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    cluster.slow(0, 1, delay="20ms", jitter="2ms")

    def far() -> bool:
        return bool((nodes[0].members()["n2"]["rtt_us"] or 0) >= 40_000)

    eventually("40 ms there and back", far)


def test_a_narrow_way_still_carries_everything(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    cluster.slow(0, 1, rate="2MiB/s", channel="data")
    with nodes[0].client(30) as client:
        assert client.call("echo@n2", b"x" * 500_000) == b"x" * 500_000
    assert cluster.traffic()["n1", "n2", "data"].bytes > 500_000


def test_gossip_that_gets_lost_kills_nobody(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    for one, other in ((0, 1), (0, 2), (1, 2)):
        cluster.lossy(one, other, loss=0.05, channel="gossip")

    def dropped() -> int:
        return sum(pair.dropped for pair in cluster.traffic().values())

    eventually("a good many are lost", lambda: dropped() >= 20, 50)
    assert sum(swim(node)["deaths"] for node in nodes) == 0
    cluster.heal()
    cluster.settle()


def test_a_node_behind_the_proxy_is_killed_and_comes_back(cluster: ProcessCluster, nodes: list[NodeProcess]) -> None:
    one, two, three = nodes
    endpoint = three.endpoint
    three.kill()
    for node in (one, two):
        eventually("dead", lambda node=node: node.statuses()["n3"] == "dead")  # type: ignore[misc]
    three.start()
    cluster.settle()
    assert three.endpoint == endpoint
    assert two.members()["n3"]["incarnation"][0] == 2
