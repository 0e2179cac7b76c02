"""Whole cores together on a virtual clock: SWIM, full mesh, healer and records. A case's name ends with its seed."""

import pytest

from topologies.records import Publish
from topologies.swim import Leave, Status

SEEDS = range(5)


def others_declared_dead(cluster, *guilty):
    return [change for change in cluster.verdicts(Status.DEAD) if change.subject not in guilty]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_all_find_each_other_through_one_seed(make_cluster, count, seed):
    cluster = make_cluster(count, seed)
    cluster.converge(2.0)
    cluster.run(10.0)
    assert cluster.agreed()
    assert cluster.verdicts(Status.SUSPECT) == []


def test_fifty_find_each_other_and_miss_one_that_is_killed(make_cluster):
    cluster = make_cluster(50, 1)
    cluster.converge(2.0)
    cluster.kill("n7")
    assert cluster.run(2.0, lambda: cluster.held("n7", "dead")) is not None
    assert others_declared_dead(cluster, "n7") == []


def test_a_late_joiner_learns_of_all_and_all_of_it(make_cluster):
    cluster = make_cluster(5, 1)
    cluster.converge()
    cluster.run(20.0)
    cluster.start("late", seeds=["tcp://n3"])
    cluster.converge(2.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_node_is_dead_in_every_view_within_a_second(make_cluster, seed):
    cluster = make_cluster(3, seed)
    cluster.converge()
    cluster.run(3.0 + seed / 10)
    cluster.kill("n1")
    took = cluster.run(10.0, lambda: cluster.held("n1", "dead"))
    assert took is not None
    assert took < 1.0  # virtual time
    assert others_declared_dead(cluster, "n1") == []
    assert all("n1" not in node.offers for node in cluster.nodes.values() if node.up)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stopped_node_is_suspect_then_dead_and_comes_back(make_cluster, seed):
    cluster = make_cluster(3, seed)
    cluster.converge()
    cluster.run(3.0 + seed / 10)
    stopped = cluster.pause("n1")
    to_suspect = cluster.run(10.0, lambda: cluster.held("n1", "suspect"))
    assert to_suspect is not None
    assert to_suspect < 1.0
    to_dead = cluster.run(10.0, lambda: cluster.held("n1", "dead"))
    assert to_dead is not None
    assert to_suspect + to_dead < 3.0
    cluster.run(20.0)
    cluster.resume("n1")
    cluster.converge(5.0)
    assert stopped.swim.me.incarnation > (1, 0)
    assert stopped.swim.stats().pauses == 1
    assert others_declared_dead(cluster, "n1") == []  # who slept blames nobody


def test_a_short_stop_is_refuted_in_time(make_cluster):
    cluster = make_cluster(3, 1)
    cluster.converge()
    cluster.run(3.0)
    cluster.pause("n1")
    assert cluster.run(5.0, lambda: cluster.held("n1", "suspect")) is not None
    cluster.resume("n1")
    cluster.converge(2.0)
    cluster.run(10.0)
    assert cluster.verdicts(Status.DEAD) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("count", "lasting"), [(2, 10.0), (4, 30.0), (7, 1.2), (10, 20.0)])
def test_a_partition_heals_within_seconds_however_long_it_was(make_cluster, count, lasting, seed):
    cluster = make_cluster(count, seed)
    cluster.converge()
    half = {f"n{index}" for index in range(count // 2)}
    cluster.cut = lambda one, other: (one in half) != (other in half)
    cluster.run(lasting)
    if lasting >= 10.0:
        for node in cluster.nodes.values():
            mine, theirs = (half, set(cluster.nodes) - half) if node.id in half else (set(cluster.nodes) - half, half)
            assert all(node.view()[peer] == "alive" for peer in mine)
            assert all(node.view()[peer] == "dead" for peer in theirs)
    cluster.cut = lambda one, other: False
    cluster.converge(6.0)
    cluster.run(10.0)
    assert cluster.agreed()


@pytest.mark.parametrize("seed", SEEDS)
def test_one_broken_path_kills_nobody(make_cluster, seed):
    cluster = make_cluster(4, seed)
    cluster.converge()
    cluster.cut = lambda one, other: {one, other} == {"n1", "n2"}
    cluster.run(30.0)
    assert cluster.verdicts(Status.DEAD) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [3, 5])
def test_losing_one_message_in_twenty_kills_nobody(make_cluster, count, seed):
    cluster = make_cluster(count, seed, loss=0.05)
    cluster.converge(20.0)
    cluster.run(60.0)
    assert cluster.verdicts(Status.DEAD) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_restarted_with_a_new_generation_is_the_same_member(make_cluster, seed):
    cluster = make_cluster(3, seed)
    cluster.converge()
    cluster.kill("n1")
    cluster.run([0.1, 0.3, 5.0][seed % 3])
    cluster.start("n1", seeds=["tcp://n0", "tcp://n2"], generation=2)
    cluster.converge(5.0)
    for node in cluster.nodes.values():
        assert node.swim.members()["n1"].incarnation[0] == 2
        assert node.id == "n1" or node.offers["n1"] == b"offers of n1 in its life 2"


def test_a_seed_restarted_alone_is_found_by_the_others(make_cluster):
    cluster = make_cluster(3, 1)
    cluster.converge()
    cluster.kill("n0")
    cluster.run(5.0)
    cluster.start("n0", seeds=[], generation=2)
    cluster.converge(5.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_left_never_comes_back(make_cluster, seed):
    cluster = make_cluster(5, seed)
    cluster.converge()
    leaver = cluster.nodes["n1"]
    leaver.feed_swim(Leave("done"))
    cluster.run(0.2)
    cluster.kill("n1")
    assert cluster.held("n1", "left")
    cluster.start("late", seeds=["tcp://n3"])
    cluster.run(40.0)  # push-pulls included
    assert cluster.held("n1", "left")
    assert cluster.verdicts(Status.DEAD) == cluster.verdicts(Status.SUSPECT) == []


def test_a_publication_reaches_all_even_where_messages_are_lost(make_cluster):
    cluster = make_cluster(5, 3, loss=0.3)
    cluster.run(10.0)
    for node in cluster.nodes.values():
        node.feed_records(Publish(f"news of {node.id}".encode()))
    wanted = {node_id: f"news of {node_id}".encode() for node_id in cluster.nodes}

    def known() -> bool:
        return all(
            node.offers == {owner: news for owner, news in wanted.items() if owner != node.id}
            for node in cluster.nodes.values()
        )

    assert cluster.run(60.0, known) is not None


def test_a_seed_number_replays_a_run_exactly(make_cluster):
    def run():
        cluster = make_cluster(4, 42, loss=0.1)
        cluster.run(5.0)
        cluster.kill("n2")
        cluster.run(5.0)
        return {node.id: node.history for node in cluster.nodes.values()}

    assert run() == run()
