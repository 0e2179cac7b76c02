"""What the README promises in its first five minutes: the demo's facts, and calls that go on when a node is killed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.conftest import Stage
from tests.docs.snippets import ROOT, blocks

README = ROOT / "README.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def files() -> dict[str, str]:
    return {block.name: block.text for block in blocks(README) if block.mark == "file"}


def test_service_is_short():
    lines = [line for line in files()["hello.py"].splitlines() if line]
    assert len(lines) <= 15


def test_same_file_twice_and_one_is_killed(stage: Stage):
    for name, text in files().items():
        stage.write(name, text)
    first, second = stage.start("python hello.py"), stage.start("python hello.py")
    stage.write(
        "call.py", files()["call.py"].replace("range(60)", "range(10_000)").replace("sleep(0.5)", "sleep(0.01)")
    )
    caller = stage.popen("python call.py")
    assert caller.stdout is not None
    answered: set[int] = set()
    while answered != {first.pid, second.pid}:
        answered.add(process_of(caller.stdout.readline()))
    for _ in range(3):  # whichever it is that everybody has joined through
        first.kill()
        first.wait()
        in_a_row = 0  # answers of the killed process may have been printed before, and be read after its end
        while in_a_row < 20:
            in_a_row = in_a_row + 1 if process_of(caller.stdout.readline()) == second.pid else 0
        first, second = second, stage.start("python hello.py")
        while process_of(caller.stdout.readline()) != second.pid:
            pass


def process_of(line: str) -> int:
    found = re.fullmatch(r"hello Ada, from \S+, process (\d+)\n", line)
    assert found, f"the caller printed {line!r}"
    return int(found[1])


def test_demo_prints_the_facts_of_the_readme(tmp_path: Path):
    shown = README.read_text(encoding="utf-8").partition("<!-- demo output: begin -->")[2].partition("<!-- demo")[0]
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "fdn.cli", "up", "3", "--demo", "--exit"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 10), done.stdout  # 10: too slow, which a busy machine may be; the names are the same
    assert facts(shown) == facts(done.stdout)


def facts(printed: str) -> set[str]:
    """The names of the facts: the beginning of each line, up to its first value."""
    names = set()
    for line in printed.splitlines():
        general = re.sub(r"^(ok|FAIL) ", "promise ", re.sub(r"\bn\d\b", "node", " ".join(line.split())))
        name = re.split(r"[\d:,(/']", general)[0].strip()
        # A fast death is told before anybody had time to suspect.
        if name and not name.startswith(("node is suspected", "```", "tcp")):
            names.add(name)
    return names
