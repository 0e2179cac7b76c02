"""`import fdn` notices another project's package in the place of one of its rooms, and costs next to nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(code: str, *path: Path, cwd: Path | None = None, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(["-P"] if isolated else []), "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A folder with another project's `transports`."""
    (tmp_path / "transports").mkdir()
    (tmp_path / "transports" / "__init__.py").write_text("raise RuntimeError('the guard imports nothing')\n")
    return tmp_path


def assert_refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: fdn would import packages that are not its own")
    for part in expected:
        assert part in message


def test_own_rooms_are_accepted():
    done = python("import fdn; print(fdn.__file__)", ROOT, isolated=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(ROOT / "fdn" / "__init__.py")), done.stderr


def test_stranger_first_on_the_path(stranger: Path):
    done = python("import fdn", stranger, ROOT, isolated=True)
    assert_refused(done, f"'transports' is found at {stranger / 'transports'}", f"Expected it in {ROOT}", "Rename")


def test_stranger_later_on_the_path_is_harmless(stranger: Path):
    assert python("import fdn", ROOT, stranger, isolated=True).returncode == 0


def test_stranger_in_the_folder_of_the_program(stranger: Path):
    assert_refused(python("import fdn", ROOT, cwd=stranger), f"'transports' is found at {stranger / 'transports'}")


def test_stranger_that_is_a_plain_file(tmp_path: Path):
    (tmp_path / "consensus.py").write_text("")
    done = python("import fdn", tmp_path, ROOT, isolated=True)
    assert_refused(done, f"'consensus' is found at {tmp_path / 'consensus.py'}")


def test_stranger_that_was_imported_before():
    made_by_hand = "import sys, types; sys.modules['topologies'] = types.ModuleType('topologies'); import fdn"
    assert_refused(python(made_by_hand, ROOT, isolated=True), "'topologies' is found at a module made by hand")


def test_missing_rooms(tmp_path: Path):
    shutil.copytree(ROOT / "fdn", tmp_path / "fdn", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "consensus").mkdir()  # an empty folder is no room
    # Without site, so that an installed fdn cannot lend its rooms.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fdn"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert_refused(
        done, "'transports' is found at nowhere", "a folder without __init__.py", "install fdn-cluster again"
    )


def test_a_link_to_the_rooms_is_no_stranger(tmp_path: Path):
    for room in ("fdn", "transports", "topologies", "consensus"):
        (tmp_path / room).symlink_to(ROOT / room)
    assert python("import fdn", tmp_path, isolated=True).returncode == 0


def test_import_brings_nothing_heavy():
    code = "import sys, json, fdn; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(python(code, ROOT, isolated=True).stdout))
    heavy = {"asyncio", "blake3", "click", "msgpack", "msgspec", "numpy", "psutil", "structlog", "zmq"}
    assert not loaded & (heavy | {"transports", "topologies", "consensus", "fdn.node", "fdn.cli"})


def test_public_names_bring_neither_numpy_nor_the_terminal():
    code = "import sys, json, fdn; [getattr(fdn, name) for name in fdn.__all__]; print(json.dumps(sorted(sys.modules)))"
    done = python(code, ROOT, isolated=True)
    assert done.returncode == 0, done.stderr
    assert not set(json.loads(done.stdout)) & {"click", "numpy", "structlog", "fdn.cli"}
