"""The built wheel holds the four packages and the `fdn` command, and works where nothing else is installed.

`python3 -m tools release` names the wheel to test in WHEEL_UNDER_TEST; otherwise one is built here.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import release
from tools.progress import StepFailedError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
ROOMS = ("fdn", "transports", "topologies", "consensus")

# What pip says when no package index answers, as against when one answers that our metadata is wrong.
_NO_INDEX = re.compile(
    r"from versions: none|NewConnectionError|ConnectTimeout|ProxyError|SSLError|Temporary failure in name resolution"
)


def skip_without_index(output: str) -> None:
    found = _NO_INDEX.search(output)
    if found:
        pytest.skip(f"pip reaches no package index here: {found.group()}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("WHEEL_UNDER_TEST")
    if given:
        return Path(given)
    try:
        files = release.build(ROOT, tmp_path_factory.mktemp("dist"))
    except StepFailedError as error:
        skip_without_index(str(error))
        raise
    (built,) = (file for file in files if file.suffix == ".whl")
    return built


class Environment:
    """An empty virtual environment, and what is run in it: elsewhere than in the checkout, so that nothing is lent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True, timeout=120)

    def run(self, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FDN_"))}
        command = [self.bin / name, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=200, check=False
        )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def bare(empty: Environment, wheel: Path) -> tuple[Environment, set[str], set[str]]:
    """The environment with the wheel alone: what that added to bin/ and to site-packages."""
    (site,) = empty.folder.glob("env/lib/python3*/site-packages")
    before = [{path.name for path in folder.iterdir()} for folder in (empty.bin, site)]
    done = empty.run("python", "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    scripts, packages = (
        {path.name for path in folder.iterdir()} - old for folder, old in zip((empty.bin, site), before, strict=True)
    )
    return empty, scripts, packages


@pytest.fixture(scope="module")
def installed(bare: tuple[Environment, set[str], set[str]], wheel: Path) -> Environment:
    environment = bare[0]
    done = environment.run("python", "-m", "pip", "install", "--disable-pip-version-check", wheel)
    if done.returncode:
        skip_without_index(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr
    return environment


def test_wheel_adds_four_packages_and_one_command(bare: tuple[Environment, set[str], set[str]]):
    _, scripts, packages = bare
    assert scripts == {"fdn"}
    assert {name for name in packages if not name.endswith(".dist-info")} == set(ROOMS)


PROGRAMS = {"fdn/bench/erlang_peer.escript"}  # in other languages, to be measured beside


def test_wheel_holds_every_module_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert held == modules | {f"{room}/py.typed" for room in ROOMS} | PROGRAMS


def test_wheel_carries_its_licence(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_public_names_work_when_installed(installed: Environment):
    code = "import fdn; print([getattr(fdn, name).__name__ for name in fdn.__all__] == list(fdn.__all__), fdn.__file__)"
    done = installed.run("python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    whole, file = done.stdout.split()
    assert whole == "True"
    assert Path(file).is_relative_to(installed.folder)


def test_command_works_when_installed(installed: Environment):
    assert installed.run("fdn", "--help").returncode == 0
    done = installed.run("fdn", "version", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fdn"] in str(installed.run("python", "-m", "pip", "show", "fdn-cluster").stdout)


def test_pytest_finds_the_plugin_when_installed(installed: Environment):
    code = "from importlib.metadata import entry_points; print(*entry_points(group='pytest11').names)"
    assert installed.run("python", "-c", code).stdout == "fdn.testing.plugin\n"


def test_installed_libraries_agree(installed: Environment):
    done = installed.run("python", "-m", "pip", "check")
    assert done.returncode == 0, done.stdout
