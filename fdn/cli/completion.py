"""`fdn completion`: what a shell needs so that the Tab key knows the command, and the cluster's names."""

import sys
from collections.abc import Mapping
from typing import Final

import click
from click.shell_completion import get_completion_class, shell_complete

from fdn.cli.completing import COMPLETE_VARIABLE
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options

__all__ = ("command", "complete")

_SHELLS: Final = ("bash", "zsh", "fish")


@examples(
    'eval "$(fdn completion bash)"   # for this shell; in ~/.bashrc for every one',
    'eval "$(fdn completion zsh)"',
    "fdn completion fish > ~/.config/fish/completions/fdn.fish",
)
@click.command("completion")
@output_options
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_obj
def command(invocation: Invocation, /, shell: str) -> None:
    """Print what makes the Tab key complete commands.

    It completes the names of members, services and the like too: they come from the cluster in use, if that answers
    within a moment.
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(click.Command("fdn"), {}, "fdn", COMPLETE_VARIABLE)
    # Not `script.source()`, which starts a bash to see how old it is, and complains on standard error.
    source = script.source_template % script.source_vars()
    if invocation.is_json:
        invocation.emit({"shell": shell, "script": source})
    else:
        sys.stdout.write(source + "\n")


def complete(root: click.Command, environment: Mapping[str, str]) -> int:
    """Answer a shell that asks for words; returns the exit status."""
    return shell_complete(root, {}, "fdn", COMPLETE_VARIABLE, environment.get(COMPLETE_VARIABLE, ""))
