"""The Tab key in real shells, with the names of a running cluster."""

import shutil
import sys
from pathlib import Path

import pytest

from fdn.testing import ProcessCluster
from tests.integration.cli.terminal import Terminal

# What makes each shell read no file of its user, and how it is told to load the script.
STARTS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], 'eval "$(fdn completion bash)"; PS1="re""ady> "\n'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -u -D; eval "$(fdn completion zsh)"; PS1="re""ady> "\n',
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "fdn completion fish | source; function fish_prompt; echo 're''ady> '; end\n",
    ),
}


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
        for name in STARTS
    ],
)
def test_a_real_shell_completes(shell: str, cluster: ProcessCluster, tmp_path: Path) -> None:
    (node,) = cluster.start(1, app="tests.integration.apps:app", names=["ferdinand"])
    (tmp_path / "bin").mkdir()
    fdn = tmp_path / "bin" / "fdn"
    fdn.write_text(f'#!/bin/sh\nexec {sys.executable} -m fdn.cli "$@"\n')
    fdn.chmod(0o755)
    environment = cluster.environment | {
        "PATH": f"{fdn.parent}:{cluster.environment['PATH']}",
        "FDN_JOIN": node.endpoint,
        "FDN_CLUSTER": "test",
        "HISTFILE": "",
    }
    command, load = STARTS[shell]
    with Terminal(command, tmp_path, environment) as terminal:
        terminal.type(load)
        terminal.wait_for("ready> ")
        terminal.type("fdn channel st\t")
        terminal.wait_for("channel stat")
        terminal.type("coor\t")
        terminal.wait_for("coordination")
        # From the cluster: a member, and a method.
        terminal.type("--node ferd\t")
        terminal.wait_for("ferdinand")
        terminal.type("\x15fdn request math.div\t")
        terminal.wait_for("math.divide")
        # A command that does not exist yet is left to the person.
        terminal.type("\x15fdn info nobody\t\x15fdn version --js\t")
        terminal.wait_for("--json")
