"""`check`, a line for each kind, and `test`, which begins with it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from tools.progress import run_quietly

__all__ = ("CHECKS", "become_pytest", "check", "test")

_BIN: Final = Path(sys.executable).parent

CHECKS: Final = {
    "format (ruff)": (sys.executable, "-m", "ruff", "format", "--check", "--output-format", "concise", "."),
    "lint (ruff)": (sys.executable, "-m", "ruff", "check", "--output-format", "concise", "."),
    "types (mypy, strict)": (sys.executable, "-m", "mypy"),
    "import contracts (import-linter)": (str(_BIN / "lint-imports"), "--no-logo"),
    "layout (every module: __all__, docstring, test)": (
        *(sys.executable, "-m", "pytest", "-q", "--no-header", "tests/house/test_layout.py"),
    ),
}


def check(root: Path, arguments: Sequence[str] = ()) -> int:
    """Run every check, also after one has failed. Returns 1 when any did."""
    if arguments:
        print(f"tools: check takes no arguments, got {' '.join(arguments)!r}", file=sys.stderr)
        return 2
    failed = 0
    for title, command in CHECKS.items():
        good, output = run_quietly(title, command, root, sys.stdout)
        if not good:
            failed += 1
            print(output)
    if failed:
        print(f"{failed} of {len(CHECKS)} checks failed; what ruff can mend by itself:")
        print("    .venv/bin/ruff check --fix . && .venv/bin/ruff format .")
    return 1 if failed else 0


def test(root: Path, arguments: Sequence[str]) -> int:
    """Check, then become pytest, so that its closing line is the last one and its exit status ours."""
    arguments = list(arguments)
    if "--no-check" in arguments:
        arguments.remove("--no-check")
    elif check(root):
        print("the tests were not run; `python3 -m tools test --no-check` runs them all the same")
        return 1
    return become_pytest(root, arguments)


def become_pytest(root: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by pytest, started in `root`."""
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
