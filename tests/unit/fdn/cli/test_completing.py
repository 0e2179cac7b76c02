import click
import pytest

from fdn.cli import completing
from fdn.cli.contexts import ClusterContext
from fdn.cli.options import Invocation
from tests.unit.fdn.cli.fakes import FakeCluster

NOTHING = click.Argument(["x"])


def words(complete: completing.Complete, begun: str = "", invocation: Invocation | None = None) -> list[str]:
    return complete(click.Context(click.Command("x"), obj=invocation or Invocation()), NOTHING, begun)


@pytest.fixture
def running(world: FakeCluster) -> FakeCluster:
    world.add("n1", 7400)
    world.add("n2", 7410)
    world.add("old", 7420, status="dead")
    world.answers["fdn.node.services"] = lambda me, payload: [
        {"service": "math", "methods": ["add", "sub"]},
        {"service": "math", "methods": ["add", "sub"]},
        {"service": "echo", "methods": []},
        {"service": "a b;rm\x1b", "methods": []},
    ]
    return world


@pytest.mark.usefixtures("running")
def test_names_of_the_cluster() -> None:
    assert words(completing.complete_members) == ["n1", "n2"]
    assert words(completing.complete_members, "n2") == ["n2"]
    assert words(completing.complete_services) == ["echo", "math"]
    assert words(completing.complete_targets, "m") == ["math.add", "math.sub"]


def test_what_needs_no_cluster() -> None:
    assert words(completing.complete_channels, "c") == ["coordination"]
    assert "calls.timeout_s" in words(completing.complete_settings, "calls.")
    invocation = Invocation()
    invocation.contexts.write("shop", ClusterContext(join=("tcp://h:1",)))
    assert words(completing.complete_contexts, invocation=invocation) == ["shop"]


def test_silence_when_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    invocation = Invocation(join=("127.0.0.1:1",))
    # A context whose process is gone would be noted on standard error elsewhere.
    invocation.contexts.write("up", ClusterContext(join=("tcp://127.0.0.1:1",), pid=2**22 + 1))
    invocation.contexts.use("up")
    assert words(completing.complete_members, invocation=invocation) == []
    assert words(completing.complete_members, invocation=Invocation(context="none")) == []
    assert capsys.readouterr() == ("", "")
