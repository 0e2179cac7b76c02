"""What tests of other languages need besides Python: found, or installed, or missing with the reason.

Nothing fails for want of it: the tests that need it are skipped, and say why.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tools.progress import run_quietly

__all__ = ("NODE_FOLDER", "ensure", "missing_c", "missing_node")

NODE_FOLDER: Final = Path("tests", "interop", "node")
_PROBE: Final = "#include <zmq.h>\nint main(void) { return zmq_errno(); }\n"
_DEBIAN_PACKAGES: Final = {"cc": "gcc", "make": "make", "zmq.h": "libzmq3-dev"}


def missing_node(root: Path) -> str:
    """What the Node.js program lacks; nothing when it can run."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    folder = root / NODE_FOLDER
    for name, wanted in json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"].items():
        try:
            held = json.loads((folder / "node_modules" / name / "package.json").read_text(encoding="utf-8"))["version"]
        except OSError:
            return f"{name} {wanted} of {NODE_FOLDER}/package.json is not installed (npm ci, in that folder)"
        if held != wanted:
            return f"{name} is {held}, {NODE_FOLDER}/package.json wants {wanted} (npm ci, in that folder)"
    good, output = _run(["node", "-e", "require('zeromq')"], folder)
    return "" if good else f"zeromq of {NODE_FOLDER} cannot be loaded: {_last_line(output)}"


def missing_c(root: Path) -> str:
    """What the C program lacks; nothing when it can be built."""
    lacking = _lacking_for_c(root)
    return f"not installed: {', '.join(lacking)} (Debian: {' '.join(_debian(lacking))})" if lacking else ""


def ensure(root: Path) -> str:
    """Install what is missing and can be installed here, and say in one line what there is."""
    node, c = missing_node(root), missing_c(root)
    states = {"Node.js with zeromq": "found", "C with libzmq": "found"}
    if node:
        _install_node(root)
        states["Node.js with zeromq"] = _outcome(missing_node(root))
    if c:
        _install_c(root)
        states["C with libzmq"] = _outcome(missing_c(root))
    return "components: " + "; ".join(f"{name} {state}" for name, state in states.items())


def _outcome(missing: str) -> str:
    return f"MISSING, its tests are skipped: {missing}" if missing else "installed"


def _install_node(root: Path) -> None:
    if shutil.which("npm") is None:
        return
    # The addon comes ready made inside its package, so nothing of a package has to be run.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"]
    run_quietly("npm packages of tests/interop/node", ["npm", "ci", *options], root / NODE_FOLDER)


def _install_c(root: Path) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    packages = _debian(_lacking_for_c(root))
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    title = f"Debian packages {' '.join(packages)}"
    if run_quietly(title, install, root)[0]:
        return
    # A machine that never asked for the list of packages, or long ago.
    if run_quietly("list of Debian packages", ["apt-get", "update"], root)[0]:
        run_quietly(title, install, root)


def _lacking_for_c(root: Path) -> list[str]:
    lacking = [program for program in ("cc", "make") if shutil.which(program) is None]
    if "cc" in lacking:
        return [*lacking, "zmq.h"]
    good, _ = _run(["cc", "-x", "c", "-", "-lzmq", "-o", os.devnull], root, _PROBE)
    return lacking if good else [*lacking, "zmq.h"]


def _debian(lacking: list[str]) -> list[str]:
    return [_DEBIAN_PACKAGES[name] for name in lacking]


def _run(command: list[str], cwd: Path, given: str = "") -> tuple[bool, str]:
    done = subprocess.run(
        command, cwd=cwd, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode == 0, done.stdout


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1]
