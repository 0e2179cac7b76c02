"""What holds for every command alike."""

import importlib
import json

import click
import pytest

from fdn.cli.root import COMMANDS, run

# Commands that talk to a running node, with arguments that are in order.
TALKING = (
    ("members",),
    ("members", "n1"),
    ("info",),
    ("info", "n1"),
    ("join", "127.0.0.1:1"),
    ("leave", "--yes"),
    ("service", "ls"),
    ("service", "call", "math.add", "[1, 2]"),
    ("request", "math.add", "[1, 2]"),
    ("pub", "orders.eu", "1"),
    ("sub", "orders.>"),
)


def leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, (*path, name))]


def all_commands() -> list[tuple[str, ...]]:
    return [
        leaf
        for name, (module, _) in COMMANDS.items()
        for leaf in leaves(importlib.import_module(module).command, (name,))
    ]


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_help_goes_to_standard_output(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: fdn {' '.join(path)}")
    assert err == ""


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_a_wrong_option_is_a_usage_error(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--no-such-option", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "usage"


@pytest.mark.parametrize("arguments", TALKING, ids=" ".join)
def test_no_cluster_is_unreachable(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 belongs to a service that nobody runs: the connection is refused.
    assert run([*arguments, "-j", "127.0.0.1:1", "--timeout", "2s"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "tcp://127.0.0.1:1" in err
    assert "hint: start a cluster (fdn up), or name a node that runs: --join HOST:PORT" in err
    assert run([*arguments, "-j", "127.0.0.1:1", "--timeout", "2s", "--json"]) == 3
    assert json.loads(capsys.readouterr().err)["error"]["exit"] == 3
