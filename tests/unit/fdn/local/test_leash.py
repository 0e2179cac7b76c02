import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fdn
from fdn.local import leash

ROOT = Path(fdn.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
# A process that starts another on a leash, and passes its pid on; the other says when it runs, and stays.
PARENT = """
import subprocess, sys
from fdn.local import leash
child = subprocess.Popen(leash.command("child"), stdin=subprocess.PIPE, stdout=sys.stdout)
print(child.pid, flush=True)
child.wait()
"""
CHILD = "import signal, sys\nprint(sys.argv, __name__, flush=True)\nsignal.pause()\n"
PIPED = """
import os, signal
from fdn.local.leash import die_with_pipe
die_with_pipe(0)
print("tied", flush=True)
signal.pause()
"""


def lines_until_end(stream: "subprocess.Popen[str]") -> list[str]:
    assert stream.stdout is not None
    return stream.stdout.read().splitlines()  # the end comes when the last process that holds the pipe is gone


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's end on Linux only")
def test_a_child_ends_with_a_parent_that_is_killed_even_when_it_is_stopped(tmp_path: Path):
    (tmp_path / "child.py").write_text(CHILD)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=tmp_path,
    )
    assert parent.stdout is not None
    with parent:
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        pid = next(int(line) for line in said if line.isdigit())
        assert said == {str(pid), f"{[str(tmp_path / 'child.py')]} __main__"}
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        assert lines_until_end(parent) == []


def test_a_child_ends_with_the_last_writer_of_its_pipe():
    child = subprocess.Popen(
        [sys.executable, "-c", PIPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "tied\n"
        child.stdin.close()
        assert child.wait(20) == -signal.SIGKILL


def test_a_parent_that_is_gone_already_is_noticed():
    ran = subprocess.run(
        [sys.executable, "-m", "fdn.local.leash", "1" if os.getpid() != 1 else "2", "this"],
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        timeout=20,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL


def test_the_command_names_this_process_as_the_parent():
    assert leash.command("fdn.cli", "version")[2:] == ["fdn.local.leash", str(os.getpid()), "fdn.cli", "version"]
