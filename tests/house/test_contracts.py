"""The import contracts of setup.cfg hold, and each of them catches a violation planted in a copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROOMS = ("fdn", "transports", "topologies", "consensus")

POINT_DOWN = "Imports point down"
LOWER_ROOMS = "The lower rooms do not know fdn"
PURE = "The cores are pure"
ZEROMQ = "Only transports.zmq talks ZeroMQ"
CLIENT = "The client's core is pure and light"
TERMINAL = "Only the command line draws on the terminal"

# (package, what is imported there, the contracts that forbid it)
PLANTS = [
    ("topologies", "zmq", {PURE, ZEROMQ}),
    ("topologies", "time", {PURE}),  # of the standard library
    ("topologies", "asyncio", {PURE}),
    ("consensus", "socket", {PURE}),
    ("consensus", "threading", {PURE}),
    ("transports", "fdn", {LOWER_ROOMS}),
    ("topologies", "transports", {POINT_DOWN}),
    ("transports", "consensus", {POINT_DOWN}),
    ("fdn.runtime", "fdn.messaging", {POINT_DOWN}),
    ("fdn.messaging", "zmq", {ZEROMQ}),
    ("fdn.client", "asyncio", {CLIENT}),
    ("fdn.client", "msgspec", {CLIENT}),
    ("fdn.client", "zmq", {CLIENT, ZEROMQ}),
    ("fdn.messaging", "click", {TERMINAL}),
    ("fdn.runtime", "structlog", {TERMINAL}),
]


def copy_rooms(into: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, into / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "setup.cfg", into)


def lint_imports(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=root,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout


def plant_name(imported: str) -> str:
    return f"planted_{imported.replace('.', '_')}"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of a copy that holds all the plants: the section of each broken contract, by name."""
    root = tmp_path_factory.mktemp("planted")
    copy_rooms(root)
    for package, imported, _ in PLANTS:
        file = root.joinpath(*package.split("."), f"{plant_name(imported)}.py")
        # Inside a function: an import that runs late is an import all the same.
        file.write_text(f"def late() -> None:\n    import {imported}\n", encoding="utf-8")
    status, output = lint_imports(root)
    assert status == 1, output
    sections: dict[str, str] = {}
    names = {POINT_DOWN, LOWER_ROOMS, PURE, ZEROMQ, CLIENT, TERMINAL}
    current = ""
    for line in output.partition("Broken contracts")[2].splitlines():
        current = line if line in names else current
        sections[current] = sections.get(current, "") + line + "\n"
    return sections


def test_contracts_hold(tmp_path: Path):
    copy_rooms(tmp_path)
    status, output = lint_imports(tmp_path)
    assert status == 0, output


@pytest.mark.parametrize(("package", "imported", "contracts"), PLANTS, ids=lambda value: str(value))
def test_planted_violation_is_caught(package: str, imported: str, contracts: set[str], findings: dict[str, str]):
    edge = f"{package}.{plant_name(imported)} -> {imported} "
    assert {name for name, section in findings.items() if edge in section} == contracts
