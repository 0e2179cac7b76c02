"""The Tab key in real shells, on a terminal of their own."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdn.testing import ProcessCluster

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with `fdn` on it, installed or not."""
    (tmp_path / "bin").mkdir()
    fdn = tmp_path / "bin" / "fdn"
    fdn.write_text(f'#!/bin/sh\nexec {sys.executable} -m fdn.cli "$@"\n')
    fdn.chmod(0o755)
    return f"{fdn.parent}:{os.environ['PATH']}"


# What makes each shell read no file of its user, and how it is told to load the script.
STARTS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], 'eval "$(fdn completion bash)"; PS1="ready> "\n'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(fdn completion zsh)"; PS1="ready> "\n'),
    "fish": (
        ["fish", "--no-config", "-i"],
        "fdn completion fish | source; function fish_prompt; echo 'ready> '; end\n",
    ),
}


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
        for name in SHELLS
    ],
)
def test_a_real_shell_completes(shell: str, path: str, tmp_path: Path) -> None:
    command, load = STARTS[shell]
    terminal, theirs = pty.openpty()
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "HISTFILE": ""}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(terminal, load.encode())
        read_until(terminal, "ready> ")
        os.write(terminal, b"fdn channel st\t")
        read_until(terminal, "channel stat")
        os.write(terminal, b"coor\t")
        read_until(terminal, "coordination")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        os.close(terminal)


def read_until(terminal: int, text: str, timeout_s: float = 30.0) -> str:
    seen = ""
    give_up_at = time.monotonic() + timeout_s
    while text not in seen.replace('PS1="ready> "', ""):
        assert select.select([terminal], [], [], max(give_up_at - time.monotonic(), 0))[0], f"no {text!r} in {seen!r}"
        seen += os.read(terminal, 4096).decode("utf-8", "replace")
    return seen
