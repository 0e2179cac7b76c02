"""`release`: build wheel and source archive, test the wheel where nothing else is installed, put both into dist/."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.progress import StepFailedError, run_quietly

__all__ = ("SOURCES", "build", "release")

# All that the build reads. It works on a copy: setuptools leaves build/ behind, and would pack stale files from it.
SOURCES: Final = ("fdn", "transports", "topologies", "consensus", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def build(root: Path, into: Path) -> list[Path]:
    """Build the wheel and the source archive of the checkout at `root`.

    Args:
        root: The checkout.
        into: An existing folder that takes both files.

    Raises:
        StepFailedError: The build failed; its output is in the text.
    """
    with tempfile.TemporaryDirectory(prefix="fdn-build-") as scratch:
        for name in SOURCES:
            source, target = root / name, Path(scratch, name)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        good, output = run_quietly(
            "building wheel and source archive", [sys.executable, "-m", "build", "--outdir", str(into)], Path(scratch)
        )
    if not good:
        raise StepFailedError(f"the build failed and said\n{output}")
    return sorted(into.iterdir())


def release(root: Path, arguments: Sequence[str]) -> int:
    """Build, test the wheel, and only then fill dist/."""
    if arguments:
        print(f"tools: release takes no arguments, got {' '.join(arguments)!r}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="fdn-release-") as scratch:
        files = build(root, Path(scratch))
        (wheel,) = (file for file in files if file.suffix == ".whl")
        tested = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/house/test_wheel.py"],
            cwd=root,
            env={**os.environ, "WHEEL_UNDER_TEST": str(wheel)},
            check=False,
        )
        if tested.returncode:
            return tested.returncode
        dist = root / "dist"
        dist.mkdir(exist_ok=True)
        for file in files:
            shutil.copy2(file, dist / file.name)
            print(dist / file.name)
    return 0
