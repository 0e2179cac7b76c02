import importlib
import json
import os
import signal
import subprocess
import sys

import click
import pytest

import fdn
from fdn.cli import root as root_module
from fdn.cli.exit_codes import ExitCode
from fdn.cli.root import COMMANDS, run
from fdn.errors import NotFound


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> click.Group:
    """A command `x` whose subcommands end in every way that a command may end in."""
    group = click.Group("x")

    def add(name: str, error: BaseException | None = None, status: object = None) -> None:
        @group.command(name)
        def ending() -> object:
            if error is not None:
                raise error
            return status

    add("well")
    add("degraded", status=ExitCode.DEGRADED)
    add("missed", status=10)
    add("data", status={"not": "a status"})
    add("error", NotFound("no such member", hint="see fdn members"))
    add("interrupt", KeyboardInterrupt())
    add("decline", click.Abort())
    add("exit", click.exceptions.Exit(7))
    add("usage", click.UsageError("half a question"))
    monkeypatch.setattr(root_module.root, "get_command", lambda ctx, name: group if name == "x" else None)
    monkeypatch.setattr(root_module, "COMMANDS", {**COMMANDS, "x": ("planted", "A test.")})
    return group


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("well", 0),
        ("degraded", 9),
        ("missed", 10),
        ("data", 0),
        ("error", 4),
        ("interrupt", 130),
        ("decline", 1),
        ("exit", 7),
        ("usage", 2),
        ("unknown", 2),
    ],
)
def test_every_ending_has_its_status(ending: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["x", ending]) == status
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("planted")
def test_errors_go_to_standard_error_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run(["x", "error"])
    assert capsys.readouterr().err == "error: no such member\nhint: see fdn members\n"
    run(["--json", "x", "error"])
    assert json.loads(capsys.readouterr().err)["error"]["exit"] == 4
    # Where a slip keeps the options from being read, --json counts all the same.
    run(["x", "error", "--jason", "--json"])
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_a_mistake_of_our_own_is_not_hidden(planted: click.Group) -> None:
    @planted.command("bug")
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(["x", "bug"])


def test_every_command_is_there_and_says_what_the_list_says() -> None:
    for name, (module, line) in COMMANDS.items():
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)
        assert (command.help or "").splitlines()[0] == line, name


def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, f"{path} {name}")]


def test_every_command_takes_json() -> None:
    for name, (module, _) in COMMANDS.items():
        for path, command in leaves(importlib.import_module(module).command, name):
            options = {option for parameter in command.params for option in parameter.opts}
            assert {"--json", "--output", "--no-color"} <= options, path


def test_help_lists_the_commands_without_importing_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    shown = " ".join(out.split())  # long lines are wrapped
    assert all(f" {name} {line}" in shown for name, (_, line) in COMMANDS.items())
    heavy = ("fdn.node", "fdn.cli.doctor", "zmq", "numpy", "structlog", "asyncio", "msgspec")
    script = (
        "import sys, fdn.cli.root\n"
        "fdn.cli.root.run(['--help'])\n"
        f"sys.stderr.write(str([name for name in {heavy!r} if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[]"


def test_without_a_command_the_help_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Commands:" in err


def test_of_a_group_without_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    # An older click calls it a success, and prints to standard output.
    status = run(["context"])
    out, err = capsys.readouterr()
    assert (status, bool(out)) in ((2, False), (0, True))
    assert (out + err).startswith("Usage: fdn context")
    assert "error" not in out + err


def test_a_command_that_is_not_there_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vresion"]) == 2
    assert 'error: there is no command "vresion"; did you mean "version"?' in capsys.readouterr().err
    assert run(["--jsn"]) == 2


def test_the_version_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"fdn {fdn.__version__}\n"


@pytest.mark.parametrize(
    "when", ["import sys; run", "import sys, signal; signal.signal(signal.SIGPIPE, signal.SIG_IGN); run"]
)
def test_a_reader_that_has_seen_enough_is_no_error(when: str) -> None:
    """`fdn version | true`: nothing on standard error, neither from us nor from the interpreter's own flush."""
    reading, writing = os.pipe()
    os.close(reading)
    script = f"from fdn.cli.root import run; {when}; sys.exit(run(['version']))"
    with open(writing, "wb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=stream, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, b"")


def test_an_interrupt_ends_with_130_and_no_traceback() -> None:
    script = (
        "import os, signal, sys, click\n"
        "from fdn.cli import root\n"
        "command = click.Command('x', callback=lambda: os.kill(os.getpid(), signal.SIGINT) or signal.pause())\n"
        "root.root.get_command = lambda ctx, name: command\n"
        "root.COMMANDS = {'x': ('planted', '')}\n"
        "sys.exit(root.run(['x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=30,
        check=False,
        # A test run that ignores SIGINT would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, b"")


def test_it_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fdn.cli", "version", "--json"], capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout)["fdn"] == fdn.__version__
