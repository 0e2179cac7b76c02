"""What tests of other languages need: found, installed, or missing with the reason."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tools import components

ROOT = Path(__file__).parents[2]


class Machine:
    """Stands in for the machine: which programs there are, and what commands do."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.programs = {"node", "npm", "cc", "make", "apt-get"}
        self.libzmq = True
        self.online = True
        self.listed = True  # the list of Debian's packages is there
        self.installs: list[list[str]] = []
        monkeypatch.setattr(shutil, "which", lambda name: name if name in self.programs else None)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(components, "run_quietly", self.install)

    def run(self, command: Sequence[str], **how: object) -> "subprocess.CompletedProcess[str]":
        good = self.libzmq if command[0] == "cc" else True
        return subprocess.CompletedProcess(command, 0 if good else 1, stdout="" if good else "zmq.h: not found\n")

    def install(self, title: str, command: list[str], cwd: Path) -> tuple[bool, str]:
        self.installs.append(command)
        if command[0] == "npm" and self.online:
            self.put_zeromq("6.8.0")
        elif command[:2] == ["apt-get", "install"] and self.listed:
            self.libzmq = True
            self.programs |= {"cc", "make"}
        elif command[:2] == ["apt-get", "update"] and self.online:
            self.listed = True
        else:
            return False, "no network"
        return True, ""

    def put_zeromq(self, version: str) -> None:
        package = self.root / components.NODE_FOLDER / "node_modules" / "zeromq" / "package.json"
        package.parent.mkdir(parents=True, exist_ok=True)
        package.write_text(json.dumps({"version": version}))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder = tmp_path / components.NODE_FOLDER
    folder.mkdir(parents=True)
    folder.joinpath("package.json").write_text(json.dumps({"dependencies": {"zeromq": "6.8.0"}}))
    fresh = Machine(tmp_path, monkeypatch)
    fresh.put_zeromq("6.8.0")
    return fresh


def test_what_is_there_is_not_installed(machine: Machine) -> None:
    assert components.ensure(machine.root) == "components: Node.js with zeromq found; C with libzmq found"
    assert machine.installs == []


def test_what_is_missing_is_installed(machine: Machine) -> None:
    machine.libzmq = False
    machine.programs.remove("make")
    machine.put_zeromq("6.0.0")
    assert components.ensure(machine.root) == "components: Node.js with zeromq installed; C with libzmq installed"
    npm, apt = machine.installs
    assert npm[:2] == ["npm", "ci"]
    assert "--ignore-scripts" in npm
    assert apt[-2:] == ["make", "libzmq3-dev"]


def test_list_of_packages_is_fetched_when_there_is_none(machine: Machine) -> None:
    machine.libzmq = machine.listed = False
    assert components.ensure(machine.root).endswith("C with libzmq installed")
    assert [command[1] for command in machine.installs] == ["install", "update", "install"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda it: it.programs.discard("node"), "Node.js is not installed"),
        (lambda it: it.put_zeromq("5.0.0"), "zeromq is 5.0.0, tests/interop/node/package.json wants 6.8.0"),
        (lambda it: setattr(it, "libzmq", False), "not installed: zmq.h (Debian: libzmq3-dev)"),
        (lambda it: it.programs.discard("cc"), "not installed: cc, zmq.h (Debian: gcc libzmq3-dev)"),
    ],
)
def test_without_network_the_reason_is_named(
    machine: Machine, spoil: Callable[[Machine], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.online = machine.listed = False
    spoil(machine)
    said = components.ensure(machine.root)
    assert f"MISSING, its tests are skipped: {reason}" in said
    assert said.count("found") == 1


def test_nothing_is_installed_by_somebody_who_may_not(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.libzmq = False
    assert "MISSING" in components.ensure(machine.root)
    assert machine.installs == []


def test_packages_are_pinned_and_no_registry_is_named() -> None:
    folder = ROOT / components.NODE_FOLDER
    package, lock = (json.loads((folder / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    for name, locked in lock["packages"].items():
        assert "resolved" not in locked, name
        assert name == "" or locked["integrity"].startswith("sha512-")
