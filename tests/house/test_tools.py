"""The door for chores: its verbs, and what it does about `.venv`."""

import ast
import dataclasses
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bench, checks, door, environment, progress
from tools.environment import Plan, Stamp

ROOT = Path(__file__).parents[2]

WANTED = Stamp(root="/somewhere/fdn", python="3.11.7", digest="new", extras=("dev",), ready=True)


def test_usage_names_every_verb(capsys: pytest.CaptureFixture[str]):
    assert door.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(door.VERBS)


def test_no_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert door.main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_unknown_verb_lists_the_known(capsys: pytest.CaptureFixture[str]):
    assert door.main(["tset"]) == 2
    error = capsys.readouterr().err
    assert "no verb 'tset'" in error
    assert all(name in error for name in door.VERBS)


def test_starts_from_anywhere(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, door.usage() + "\n"), done.stderr


def test_entry_is_readable_by_an_old_python():
    # It has to be parsed before it can say which Python it wants.
    ast.parse((ROOT / "tools" / "__main__.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_standard_library_only():
    # All of these are imported before .venv exists; what makes the reference pages and plays scenarios is not, its verb
    # imports it.
    inside = {ROOT / "tools" / name for name in ("reference.py", "api_reference.py", "sim.py")}
    for path in sorted({*(ROOT / "tools").glob("*.py")} - inside):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [it.name for it in node.names])
        }
        assert imported <= {*sys.stdlib_module_names, "tools"}, path


@pytest.mark.parametrize(
    ("held", "exists", "works", "expected"),
    [
        (None, False, False, Plan.MAKE),
        (WANTED, True, True, Plan.KEEP),
        (dataclasses.replace(WANTED, extras=("dev", "http")), True, True, Plan.KEEP),
        (dataclasses.replace(WANTED, extras=()), True, True, Plan.INSTALL),
        (dataclasses.replace(WANTED, digest="old"), True, True, Plan.INSTALL),
        (dataclasses.replace(WANTED, ready=False), True, True, Plan.MAKE),  # interrupted
        (dataclasses.replace(WANTED, python="3.12.1"), True, True, Plan.MAKE),
        (dataclasses.replace(WANTED, root="/before/it/moved"), True, True, Plan.MAKE),
        (WANTED, True, False, Plan.MAKE),  # its Python is gone
        (None, True, True, Plan.INSTALL),  # somebody's own
        (None, True, False, Plan.REFUSE),
        (dataclasses.replace(WANTED, ours=False), True, True, Plan.KEEP),
        (dataclasses.replace(WANTED, ours=False, ready=False), True, True, Plan.INSTALL),
        (dataclasses.replace(WANTED, ours=False, python="3.12.1"), True, True, Plan.KEEP),
    ],
)
def test_plan(held: Stamp | None, exists: bool, works: bool, expected: Plan):
    assert environment.plan(held, WANTED, exists=exists, works=works) is expected


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("digest", ["old", "new"])
def test_what_is_not_ours_is_never_deleted(digest: str, ready: bool, works: bool):
    theirs = Stamp("/before/it/moved", "3.12.1", digest, ours=False, ready=ready)
    for held in (None, theirs):
        assert environment.plan(held, WANTED, exists=True, works=works) is not Plan.MAKE


def test_stamp_survives_the_disk(tmp_path: Path):
    WANTED.write(tmp_path)
    assert Stamp.read(tmp_path) == WANTED


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"extras": 1}', '{"extras": [], "colour": "red"}'])
def test_spoilt_stamp_is_no_stamp(text: str, tmp_path: Path):
    tmp_path.joinpath("fdn-tools.json").write_text(text)
    assert Stamp.read(tmp_path) is None


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("setup.cfg", "pyproject.toml"):
        tmp_path.joinpath(name).write_text(name)
    return tmp_path


class Commands:
    """Stands in for `run_quietly`: makes the interpreter, and ends the n-th command as told."""

    def __init__(self, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.venv = venv
        self.seen: list[str] = []
        self.outcomes: dict[str, BaseException | bool] = {}
        monkeypatch.setattr(environment, "run_quietly", self)

    def __call__(self, title: str, command: list[str], cwd: Path) -> tuple[bool, str]:
        step = command[2]
        self.seen.append(step)
        outcome = self.outcomes.pop(step, True)
        if isinstance(outcome, BaseException):
            raise outcome
        if step == "venv":
            self.venv.joinpath("bin").mkdir()
            self.venv.joinpath("bin/python").touch()
        return outcome, "what the command said"


@pytest.fixture
def commands(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(checkout / ".venv", monkeypatch)


def test_environment_is_made_once(checkout: Path, commands: Commands):
    for _ in range(2):
        assert environment.ensure(checkout, ()) == checkout / ".venv/bin/python"
        assert commands.seen == ["venv", "pip"]


def test_extras_are_added_and_kept(checkout: Path, commands: Commands):
    environment.ensure(checkout, ())
    environment.ensure(checkout, {"dev"})
    assert commands.seen == ["venv", "pip", "pip"]
    (checkout / "setup.cfg").write_text("changed")
    environment.ensure(checkout, ())
    assert commands.seen == ["venv", "pip", "pip", "pip"]
    held = Stamp.read(checkout / ".venv")
    assert held is not None
    assert held.extras == ("dev",)


@pytest.mark.parametrize("step", ["venv", "pip"])
def test_interrupted_making_never_looks_finished(step: str, checkout: Path, commands: Commands):
    commands.outcomes[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        environment.ensure(checkout, ())
    (checkout / ".venv" / "half-written").touch()
    commands.seen.clear()
    environment.ensure(checkout, ())
    assert commands.seen == ["venv", "pip"]
    assert not (checkout / ".venv" / "half-written").exists()


def test_failed_step_says_what_the_command_said(checkout: Path, commands: Commands):
    commands.outcomes["pip"] = False
    with pytest.raises(progress.StepFailedError, match=r"(?s)-m pip install .* said\nwhat the command said"):
        environment.ensure(checkout, {"dev"})


def test_somebodys_own_environment_is_kept(checkout: Path, commands: Commands):
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").touch()
    (checkout / ".venv/theirs").touch()
    commands.outcomes["pip"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        environment.ensure(checkout, ())
    environment.ensure(checkout, ())
    assert commands.seen == ["pip", "pip"]
    assert (checkout / ".venv/theirs").exists()


def test_broken_environment_of_somebody_is_refused(checkout: Path, commands: Commands):
    (checkout / ".venv").mkdir()
    with pytest.raises(progress.StepFailedError, match="remove it, and one is made"):
        environment.ensure(checkout, ())
    assert not commands.seen


def test_step_that_succeeds_is_one_line():
    stream = io.StringIO()
    good, output = progress.run_quietly("counting", [sys.executable, "-c", "print(1); print(2)"], ROOT, stream)
    assert (good, output) == (True, "1\n2\n")
    (line,) = stream.getvalue().splitlines()
    assert line.split()[:2] == ["counting", "ok"]


def test_step_that_fails_hands_back_its_output():
    stream = io.StringIO()
    code = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    assert progress.run_quietly("failing", [sys.executable, "-c", code], ROOT, stream) == (False, "why\n")
    assert stream.getvalue().split()[:2] == ["failing", "FAILED"]


def test_check_runs_all_though_one_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    bad, good = ((sys.executable, "-c", f"import sys; print('said'); sys.exit({status})") for status in (1, 0))
    monkeypatch.setattr(checks, "CHECKS", {"one": bad, "two": good})
    assert checks.check(ROOT) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if " s" in line and line[0] in "ot"] == [
        ["one", "FAILED"],
        ["two", "ok"],
    ]
    assert lines.count("said") == 1
    monkeypatch.setattr(checks, "CHECKS", {"two": good})
    assert checks.check(ROOT) == 0


@pytest.mark.parametrize("verb", ["check", "release"])
def test_verb_without_arguments_refuses_them(verb: str, capsys: pytest.CaptureFixture[str]):
    assert door.VERBS[verb].run(ROOT, ["--fast"]) == 2
    assert "takes no arguments" in capsys.readouterr().err


def test_termination_ends_the_command_too(tmp_path: Path):
    pid_file = tmp_path / "pid"
    inner = (
        f"import os, signal; open({str(pid_file)!r}, 'w').write(str(os.getpid())); print(flush=True); signal.pause()"
    )
    outer = f"""
import signal, sys, pathlib
from tools import door, progress
signal.signal(signal.SIGTERM, door._end)
class Stream:
    isatty = lambda self: True
    write = lambda self, text: None
    def flush(self):
        # After its first line the command is known to run.
        if pathlib.Path({str(pid_file)!r}).exists(): signal.raise_signal(signal.SIGTERM)
progress.run_quietly("waiting", [sys.executable, "-c", {inner!r}], pathlib.Path("."), Stream())
"""
    done = subprocess.run([sys.executable, "-c", outer], cwd=ROOT, timeout=50, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_interruption_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(root: Path, extras: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "ensure", interrupted)
    assert door.main(["check"]) == 130
    assert capsys.readouterr().err == "\ntools: interrupted\n"


def test_door_becomes_the_interpreter_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    class BecameError(Exception):
        pass

    def become(path: str, command: list[str]) -> None:
        raise BecameError(str(path), command)

    monkeypatch.setattr(environment, "ensure", lambda root, extras: root / ".venv/bin/python")
    monkeypatch.setattr(environment, "is_current", lambda root: False)
    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(BecameError) as became:
        door.main(["test", "-k", "swim"])
    python = str(ROOT / ".venv/bin/python")
    assert became.value.args == (python, [python, str(ROOT / "tools"), "test", "-k", "swim"])


def test_bench_table_puts_raw_beside():
    result = {"messages_per_s": 1_500_000.0, "lost": 0, "transport": "tcp", "raw": {"messages_per_s": 300_000.0}}
    assert [line.split() for line in bench.table("cast", result)] == [
        ["cast", "fdn", "bare", "pyzmq", "ratio"],
        ["messages_per_s", "1,500,000", "300,000", "5.00"],
        ["lost", "0"],
        [],
    ]
