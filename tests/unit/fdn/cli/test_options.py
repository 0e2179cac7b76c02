import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fdn.cli.contexts import ClusterContext
from fdn.cli.options import DEFAULT_TARGET, Invocation, duration, output_options, target_options
from fdn.cli.output import Output
from fdn.errors import ConfigError, NotFound, Unreachable


@click.group()
@output_options
@target_options
def outer() -> None:
    """A root with the shared options."""


@outer.command()
@output_options
@target_options
@click.pass_obj
def inner(invocation: Invocation) -> None:
    """A command with the same."""


def invoked(*args: str) -> Invocation:
    invocation = Invocation(env=dict(os.environ))
    with outer.make_context("fdn", list(args), obj=invocation) as ctx:
        outer.invoke(ctx)
    return invocation


@pytest.fixture
def ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=30)
    return process.pid


def test_without_options_it_is_a_table_within_five_seconds() -> None:
    found = invoked("inner")
    assert (found.output, found.color, found.join, found.timeout_s) == (Output.TABLE, True, (), 5.0)
    assert not found.is_json


@pytest.mark.parametrize(
    "args", [("--json", "inner"), ("inner", "--json"), ("inner", "-o", "json"), ("-o", "json", "inner")]
)
def test_options_stand_before_or_after_the_command(args: tuple[str, ...]) -> None:
    assert invoked(*args).output is Output.JSON


def test_the_later_one_wins() -> None:
    found = invoked(
        "--json",
        "--timeout",
        "1s",
        "-j",
        "a:1",
        "inner",
        "-o",
        "ndjson",
        "--timeout",
        "250ms",
        "-j",
        "b:2",
        "-j",
        "c:3",
    )
    assert (found.output, found.timeout_s, found.join) == (Output.NDJSON, 0.25, ("b:2", "c:3"))
    assert found.is_json


def test_what_stands_before_stays_when_nothing_stands_after() -> None:
    found = invoked("--no-color", "--context", "up", "--timeout", "2", "inner")
    assert (found.color, found.context, found.timeout_s) == (False, "up", 2.0)


def test_durations_are_read_with_their_units() -> None:
    assert duration("1m30s") == 90.0
    with pytest.raises(click.BadParameter, match="1m30s"):
        duration("soon")
    with pytest.raises(click.BadParameter) as caught:
        invoked("inner", "--timeout", "soon")
    assert "--timeout" in caught.value.format_message()
    with pytest.raises(ConfigError, match="expected more than 0"):
        invoked("inner", "--timeout", "0")


def test_which_node_it_talks_to() -> None:
    """Flag > variable > context > file > the default port, taken away one by one."""
    Path("fdn.toml").write_text('join = ["file:1"]')
    found = Invocation(env={**os.environ, "FDN_JOIN": "env:1"}, join=("flag:1", "flag:2"))
    found.contexts.write("up", ClusterContext(join=("context:1",), pid=os.getpid()))
    found.contexts.use("up")
    assert found.targets() == ("tcp://flag:1", "tcp://flag:2")
    found.join = ()
    assert found.targets() == ("tcp://env:1",)
    found.env = dict(os.environ)
    assert found.targets() == ("tcp://context:1",)
    found.contexts.use("")
    assert found.targets() == ("tcp://file:1",)
    Path("fdn.toml").unlink()
    assert found.targets() == (DEFAULT_TARGET,)


def test_a_context_may_be_named_by_flag_or_variable() -> None:
    found = Invocation(env={**os.environ, "FDN_CONTEXT": "a"})
    found.contexts.write("a", ClusterContext(join=("a:1",)))
    found.contexts.write("b", ClusterContext(join=("b:1",)))
    assert found.targets() == ("tcp://a:1",)
    found.context = "b"
    assert found.targets() == ("tcp://b:1",)
    found.context = "c"
    with pytest.raises(NotFound, match='no context "c"; there are: a, b'):
        found.targets()


def test_a_context_in_use_whose_cluster_has_ended_is_left_aside(
    ended_pid: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Invocation()
    found.contexts.write("up", ClusterContext(join=("h:1",), pid=ended_pid))
    found.contexts.use("up")
    assert found.targets() == found.targets() == (DEFAULT_TARGET,)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"process {ended_pid}, which has ended" in err
    found.context = "up"
    with pytest.raises(Unreachable, match="has ended; start the cluster again"):
        found.targets()


def test_a_context_in_use_that_is_gone_is_none() -> None:
    found = Invocation()
    found.contexts.use("gone")
    assert found.context_file() is None


def test_flags_of_the_command_are_settings_too() -> None:
    Path("mine.toml").write_text('cluster = "blue"')
    loaded = Invocation().load({"name": "n1", "bind": None}, Path("mine.toml"))
    assert (loaded.settings.name, loaded.settings.cluster) == ("n1", "blue")
    assert (loaded.origins["name"], loaded.origins["bind"]) == ("flag", "default")


def test_colour_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Invocation().emit([{"state": "alive"}])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env", "color", "colored"), [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({}, False, False)]
)
def test_colour_can_be_refused(
    env: dict[str, str], color: bool, colored: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Invocation(env=env, color=color).emit([{"state": "alive"}])
    assert ("\x1b" in capsys.readouterr().out) == colored
