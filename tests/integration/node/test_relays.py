"""Three processes on real sockets, and a proxy between them that cuts or slows the way between two."""

from fdn.testing import ProcessCluster
from fdn.testing.node_process import NodeProcess, eventually

APP = "tests.integration.apps:app"


def way(one: NodeProcess, other: NodeProcess) -> list[str]:
    """Over whom `one` sends to `other`, after a call that makes it one that is talked to."""
    with one.client() as client:
        try:
            client.call(f"who@{other.name}", None, timeout=1.0)
        except Exception:
            pass  # no answer: it is about to find another way
    via: list[str] = one.members()[other.name]["via"]
    return via


def test_members_talk_over_a_third_while_the_way_between_them_is_cut(cluster: ProcessCluster):
    n1, n2, n3 = cluster.start(3, app=APP, faults=True)
    assert way(n1, n3) == []
    cluster.cut([n1], [n3])
    eventually("n1 sends to n3 over n2", lambda: way(n1, n3) == [n2.id], 30.0)
    with n1.client() as client:
        for _ in range(20):
            assert client.call("who@n3") == "n3"
        assert client.call("echo@n3", bytes(200_000)) == bytes(200_000)
    with n3.client() as client:
        eventually("n3 answers, and asks, over n2", lambda: way(n3, n1) == [n2.id], 30.0)
        assert client.call("who@n1") == "n1"
    cluster.environment |= {"FDN_CLUSTER": cluster.name, "FDN_JOIN": n1.endpoint}
    rows = cluster.command("reachability", "--json")
    assert '"n3 over n2"' in rows.stdout, rows.stdout + rows.stderr
    cluster.heal()
    eventually("n1 sends to n3 directly", lambda: way(n1, n3) == [], 30.0)


def test_a_slow_way_is_left_and_taken_again(cluster: ProcessCluster):
    n1, n2, n3 = cluster.start(3, app=APP, faults=True)
    assert way(n1, n3) == []
    cluster.slow(n1, n3, delay="200ms")
    eventually("n1 sends to n3 over n2", lambda: way(n1, n3) == [n2.id], 30.0)
    with n1.client() as client:
        for _ in range(20):
            assert client.call("who@n3") == "n3"
    cluster.heal()
    eventually("n1 sends to n3 directly", lambda: way(n1, n3) == [], 30.0)


def test_a_way_that_is_cut_in_one_direction_is_gone_round_in_both(cluster: ProcessCluster):
    n1, n2, n3 = cluster.start(3, app=APP, faults=True)
    cluster._faults().change("n1", "n3", cut=True)  # what n3 sends still arrives
    eventually("n1 sends to n3 over n2", lambda: way(n1, n3) == [n2.id], 30.0)
    eventually("n3 sends to n1 over n2", lambda: way(n3, n1) == [n2.id], 30.0)
    with n1.client() as client, n3.client() as other:
        for _ in range(10):
            assert client.call("who@n3") == "n3"
            assert other.call("who@n1") == "n1"
