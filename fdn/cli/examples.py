"""The "Examples:" block that ends the help of every command. A test parses each line, and the reference shows them."""

from collections.abc import Callable
from typing import Final, TypeVar

import click

__all__ = ("examples", "examples_of")

_Command = TypeVar("_Command", bound=click.Command)
_HEAD: Final = "Examples:"


def examples(*lines: str) -> Callable[[_Command], _Command]:
    """Add examples to a command's help: whole command lines, each with a comment behind # if it needs one."""

    def add(command: _Command) -> _Command:
        # \b keeps click from filling the lines.
        command.epilog = "\n".join(("\b", _HEAD, *(f"  {line}" for line in lines)))
        return command

    return add


def examples_of(command: click.Command) -> list[str]:
    """The examples of a command, as they were given."""
    _, _, block = (command.epilog or "").partition(f"{_HEAD}\n")
    return [line.strip() for line in block.splitlines()]
