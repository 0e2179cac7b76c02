import pytest

from fdn.cli.connection import ask, connected, find_member, member_client, members_of
from fdn.cli.options import Invocation
from fdn.errors import ConfigError, NotFound, Unreachable
from tests.unit.fdn.cli.fakes import FakeCluster, member


def invocation(*join: str) -> Invocation:
    return Invocation(join=join, env={})


def test_the_first_that_answers_is_taken(world: FakeCluster) -> None:
    world.add("n2", 7410)
    with connected(invocation("127.0.0.1:7400", "127.0.0.1:7410", "127.0.0.1:7420")) as client:
        assert client.node["name"] == "n2"
        assert client.timeout == 5.0
    assert [endpoint for endpoint, _ in world.dialled] == ["tcp://127.0.0.1:7400", "tcp://127.0.0.1:7410"]


def test_without_targets_the_usual_port_is_tried(world: FakeCluster) -> None:
    world.add("n1", 7400)
    with connected(invocation()) as client:
        assert ask(client, "fdn.node.info")["name"] == "n1"


def test_the_cluster_is_the_settings(world: FakeCluster) -> None:
    world.add("n1", 7400)
    with connected(Invocation(env={"FDN_CLUSTER": "prod"})):
        pass
    assert world.dialled == [("tcp://127.0.0.1:7400", "prod")]


def test_a_silent_target_leaves_time_for_the_others(world: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def client(endpoint: str, *, cluster: str, timeout: float, reconnect: bool) -> object:
        shares.append(timeout)
        return world.client(endpoint, cluster=cluster, timeout=timeout, reconnect=reconnect)

    monkeypatch.setattr("fdn.sync.Client", client)
    with pytest.raises(Unreachable), connected(Invocation(join=("h:1", "h:2", "h:3"), timeout_s=3.0, env={})):
        pass
    # Nobody used any time, so each may take an equal part of what is left: a third, a half, all.
    assert [round(share, 1) for share in shares] == [1.0, 1.5, 3.0]


@pytest.mark.usefixtures("world")
def test_the_error_names_every_target() -> None:
    with pytest.raises(Unreachable, match=r"tcp://h:1.*tcp://h:2") as caught, connected(invocation("h:1", "h:2")):
        pass
    assert "fdn up" in caught.value.hint


def test_a_wrong_cluster_is_no_missing_node(world: FakeCluster) -> None:
    world.refusals = {f"tcp://h:{port}": ConfigError(f"h:{port} refused this client: wrong cluster") for port in (1, 2)}
    with pytest.raises(ConfigError, match=r"h:1.*h:2"), connected(invocation("h:1", "h:2")):
        pass
    with pytest.raises(ConfigError, match="h:1"), connected(invocation("h:1")):
        pass
    with pytest.raises(Unreachable, match=r"h:1.*h:3"), connected(invocation("h:1", "h:3")):
        pass


def test_an_error_of_the_command_is_not_mistaken_for_a_lost_target(world: FakeCluster) -> None:
    world.add("n1", 7400)
    world.add("n2", 7410)
    with pytest.raises(Unreachable, match="lost"), connected(invocation("127.0.0.1:7400", "127.0.0.1:7410")):
        raise Unreachable("lost later")
    assert len(world.dialled) == 1


def test_members_are_sorted_by_name(world: FakeCluster) -> None:
    world.add("n2", 7410)
    world.add("n1", 7400)
    with connected(invocation()) as client:
        assert [row["name"] for row in members_of(client)] == ["n1", "n2"]


def test_the_living_win_a_name() -> None:
    rows = [member("n1", 1, node="n1-old", status="dead"), member("n1", 2, node="n1-new")]
    assert find_member(rows, "n1")["node"] == "n1-new"
    assert find_member(rows, "n1-old")["status"] == "dead"
    with pytest.raises(NotFound) as caught:
        find_member([member("alpha", 1)], "alpa")
    assert caught.value.hint == 'did you mean "alpha"?'


def test_any_member_can_be_reached_through_another(world: FakeCluster) -> None:
    world.add("n1", 7400)
    row = world.add("n2", 7410)
    with connected(invocation()) as client, member_client(client, row) as other:
        assert ask(other, "fdn.node.info")["name"] == "n2"
        with pytest.raises(Unreachable, match="no address"):
            member_client(client, row | {"endpoints": {}})
