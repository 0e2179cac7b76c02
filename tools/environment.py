"""The `.venv` of the checkout: made when missing, completed when out of date, remade when its making was broken off.

A stamp inside it says what it holds. It is written as "not ready" before anything is done and as "ready" after all is
done, so that an installation that was interrupted never looks finished. A `.venv` without a stamp is somebody's own:
we install into it, and never delete it.
"""

import contextlib
import dataclasses
import enum
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from tools.progress import StepFailedError, describe, run_quietly

__all__ = ("Plan", "Stamp", "ensure", "is_current", "plan")

_STAMP_NAME: Final = "fdn-tools.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Stamp:
    """What a `.venv` holds, or is about to hold."""

    root: str  # a checkout that was moved has a .venv whose scripts point nowhere
    python: str  # "3.11.7"
    digest: str  # of setup.cfg and pyproject.toml
    extras: tuple[str, ...] = ()
    ours: bool = True  # we made it, so we may remake it
    ready: bool = False

    @classmethod
    def wanted(cls, root: Path, extras: Collection[str]) -> "Stamp":
        """The stamp that a complete `.venv` of this checkout and this Python would carry."""
        digest = hashlib.sha256()
        for name in ("setup.cfg", "pyproject.toml"):
            digest.update((root / name).read_bytes() + b"\0")
        return cls(str(root), platform.python_version(), digest.hexdigest(), tuple(sorted(extras)), ready=True)

    @classmethod
    def read(cls, venv: Path) -> "Stamp | None":
        """The stamp of a `.venv`; None when it carries none that can be read."""
        try:
            held = json.loads((venv / _STAMP_NAME).read_text(encoding="utf-8"))
            return cls(**{**held, "extras": tuple(held["extras"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, venv: Path) -> None:
        """Put the stamp in place, whole or not at all."""
        draft = venv / f"{_STAMP_NAME}.new"
        draft.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")
        draft.replace(venv / _STAMP_NAME)


class Plan(enum.Enum):
    """What has to be done about a `.venv`."""

    KEEP = "keep"  # complete as it is
    INSTALL = "install"  # install into it
    MAKE = "make"  # delete what may be left, then make it
    REFUSE = "refuse"  # somebody's own, and broken


def plan(held: Stamp | None, wanted: Stamp, *, exists: bool, works: bool) -> Plan:
    """Decide what to do about `.venv`.

    Args:
        held: Its stamp, if it has one.
        wanted: The stamp it should have.
        exists: Something is there.
        works: It has an interpreter (the Python it was made from may have gone).
    """
    if not exists:
        return Plan.MAKE
    if held is None or not held.ours:
        if not works:
            return Plan.REFUSE
    elif not (works and held.ready and held.root == wanted.root and held.python == wanted.python):
        return Plan.MAKE
    if held is None or not held.ready or held.digest != wanted.digest or not {*wanted.extras} <= {*held.extras}:
        return Plan.INSTALL
    return Plan.KEEP


def is_current(root: Path) -> bool:
    """Whether this very process runs in the `.venv` of the checkout."""
    return Path(sys.prefix).resolve() == (root / ".venv").resolve()


def ensure(root: Path, extras: Collection[str]) -> Path:
    """See to it that `.venv` holds fdn with these extras.

    Returns:
        Its interpreter.

    Raises:
        StepFailedError: It could not be made, or is somebody's own and broken.
    """
    venv = root / ".venv"
    python = venv / "bin" / "python"
    with _alone(root):
        held = Stamp.read(venv)
        wanted = Stamp.wanted(root, extras)
        match plan(held, wanted, exists=venv.exists(), works=python.exists()):
            case Plan.KEEP:
                return python
            case Plan.REFUSE:
                raise StepFailedError(
                    f"{venv} was not made by this command and has no working bin/python; remove it, and one is made"
                )
            case Plan.MAKE:
                wanted = dataclasses.replace(wanted, ours=True)
                _make(root, venv, wanted)
            case Plan.INSTALL:
                wanted = dataclasses.replace(
                    wanted,
                    ours=held is not None and held.ours,
                    extras=tuple(sorted({*wanted.extras, *(held.extras if held else ())})),
                )
        dataclasses.replace(wanted, ready=False).write(venv)
        _install(root, python, wanted)
        wanted.write(venv)
    return python


def _make(root: Path, venv: Path, wanted: Stamp) -> None:
    if venv.exists():
        shutil.rmtree(venv)
    venv.mkdir()
    dataclasses.replace(wanted, ready=False).write(venv)  # first of all: from now on a broken-off making shows
    # Inside the .venv just deleted, sys.executable is gone; the one it was made from is not.
    base = getattr(sys, "_base_executable", None) or sys.executable
    version = platform.python_version()
    _must(f"making .venv (Python {version})", [base, "-m", "venv", str(venv)], root)


def _install(root: Path, python: Path, wanted: Stamp) -> None:
    extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--editable", f".{extras}"]
    _must(f"installing fdn{extras} and its libraries", command, root)


def _must(title: str, command: list[str], root: Path) -> None:
    good, output = run_quietly(title, command, root)
    if not good:
        raise StepFailedError(f"{title}: failed. The command was\n    {describe(command)}\nand it said\n{output}")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second terminal out while this one installs. The lock is on the folder itself and leaves no file."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another `python3 -m tools` that is at work on .venv", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
