"""The plugin in a pytest run of its own: the fixture is there, costs nothing, and says what failed."""

import os
import subprocess
import sys
from pathlib import Path

import fdn

ROOT = Path(fdn.__file__).parents[1]


def run(folder: Path, text: str, *options: str) -> str:
    (folder / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "fdn.testing.plugin", "-p", "no:cacheprovider", *options, "test_it.py"],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "FDN"))}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_fixture_is_documented(tmp_path: Path):
    assert "none of which outlives the test" in run(tmp_path, "", "--fixtures")


def test_nothing_is_imported_before_a_test_asks(tmp_path: Path):
    said = run(
        tmp_path,
        "import sys\n\ndef test_it():\n    assert not {'fdn.node', 'zmq', 'msgspec'} & set(sys.modules)\n",
    )
    assert "1 passed" in said


def test_the_logs_of_a_failed_test_are_shown(tmp_path: Path):
    said = run(
        tmp_path,
        "def test_it(cluster):\n    (one,) = cluster(1)\n    print('pid', one.pid)\n    assert one.log == ''\n\n"
        "def test_good(cluster):\n    (one,) = cluster(1)\n",
    )
    assert "1 failed, 1 passed" in said, said
    assert said.count("log of <node n1, pid ") == 1
    assert "node n1 runs at tcp://127.0.0.1:" in said.partition("log of <node n1")[2]
    pid = int(said.partition("pid ")[2].split()[0].rstrip(","))
    assert not Path(f"/proc/{pid}").exists()


def test_a_node_that_does_not_start_fails_with_its_words(tmp_path: Path):
    said = run(tmp_path, "def test_it(cluster):\n    cluster(1, app='nowhere:app')\n")
    assert "AssertionError: node n1 ended with status 2" in said, said
    assert "there is no module" in said
