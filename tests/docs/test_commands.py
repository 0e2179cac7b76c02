"""Every command line in the documents exists: parsed against the command tree, not run."""

import re
import shlex
from pathlib import Path

import click
import pytest

from fdn.cli.options import Invocation
from fdn.cli.root import root
from tests.docs.snippets import DOCUMENTS, blocks, commands, name_of
from tools import door

# What else a reader is told to type.
SHELL = re.compile(r"source \.venv/bin/activate|kill -9 \d+|pip install /path/to/the/clone")

LINES = [
    pytest.param(document, command, id=f"{name_of(document)}: {command}")
    for document in DOCUMENTS
    for block in blocks(document)
    if block.language in ("console", "sh")
    for command, _ in commands(block)
]
INLINE = [
    pytest.param(found[1].split(), id=f"{name_of(document)}: fdn {found[1]}")
    for document in DOCUMENTS
    for found in re.finditer(r"`fdn ([a-z][^`\n]*)`", document.read_text(encoding="utf-8"))
]


def resolve(arguments: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that these arguments name, its parent's context, and its own arguments."""
    command: click.Command = root
    context = click.Context(root, info_name="fdn", obj=Invocation(env={}))
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r} in {context.command_path!r}"
        if isinstance(found, click.Group):
            context = click.Context(found, info_name=name, parent=context)
        command = found
    return command, context, arguments


@pytest.mark.parametrize(("document", "line"), LINES)
def test_command_exists(document: Path, line: str):
    program, *arguments = shlex.split(line, comments=True)
    if program == "fdn":
        command, parent, rest = resolve(arguments)
        assert not isinstance(command, click.Group), f"{line} is not a whole command"
        command.make_context(command.name, rest, parent=parent).close()
    elif (program, *arguments[:2]) == ("python3", "-m", "tools"):
        assert arguments[2] in door.VERBS
    elif program == "python":
        assert arguments[-1 if arguments[:2] == ["-m", "pytest"] else 0] in {block.name for block in blocks(document)}
    else:
        assert SHELL.fullmatch(line), f"{line}: a reader is told to type what no test knows"


@pytest.mark.parametrize("arguments", INLINE)
def test_command_in_prose_exists(arguments: list[str]):
    resolve(arguments)
