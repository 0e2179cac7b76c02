import re
import shlex
from collections.abc import Iterator

import click
import pytest

from fdn.cli.cheat import TOPICS
from fdn.cli.examples import examples, examples_of
from fdn.cli.options import Invocation
from fdn.cli.root import root


def tree(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command and group, by its path."""
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from tree(inner, click.Context(inner, info_name=name, parent=context))


ALL = dict(tree(root, click.Context(root, info_name="fdn")))
LINES = [
    pytest.param(line, id=line)
    for line in dict.fromkeys(
        [line for command in ALL.values() for line in examples_of(command)]
        + [recipe.line for recipes in TOPICS.values() for recipe in recipes]
    )
]


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_examples_of_itself(path: str) -> None:
    lines = examples_of(ALL[path])
    assert any(f"{path} " in f"{line.split('#')[0]} " for line in lines)


@pytest.mark.parametrize("line", [line for line in LINES if "fdn" in str(line.values)])
def test_every_example_parses(line: str) -> None:
    parse(line)


def parse(line: str) -> None:
    """Give the arguments of each `fdn` in a line of shell to click, which must find nothing wrong with them."""
    tokens = list(shlex.split(re.sub(r'"\$\((.*)\)"', r"| \1 |", line), comments=True))
    commands: list[list[str]] = [[]]
    for token in tokens:
        if token in ("|", ">"):
            commands.append([])
        else:
            commands[-1].append(token)
    ours = [words[1:] for words in commands if words[:1] == ["fdn"]]
    assert ours, "there is no fdn in it"
    for words in ours:
        command: click.Command = root
        context = click.Context(root, info_name="fdn", obj=Invocation(env={}))
        while isinstance(command, click.Group) and words:
            name, *words = words
            found = command.get_command(context, name)
            assert found is not None, f"there is no {name!r} in {context.command_path!r}"
            if isinstance(found, click.Group):
                context = click.Context(found, info_name=name, parent=context)
            command = found
        assert not isinstance(command, click.Group), "it ends before the command does"
        command.make_context(command.name, words, parent=context).close()


def test_the_rule_itself() -> None:
    parse('eval "$(fdn completion bash)"   # a comment')
    parse("seq 3 | fdn pub a.b -")
    with pytest.raises(click.UsageError):
        parse("fdn members --no-such")
    with pytest.raises(AssertionError, match="nonsense"):
        parse("fdn nonsense")


def test_the_block_ends_the_help_and_is_read_back() -> None:
    @examples("fdn x", "fdn x --long-option-that-would-be-wrapped-if-click-filled-the-lines   # why it is there")
    @click.command("x")
    def command() -> None:
        """Do it."""

    shown = command.get_help(click.Context(command))
    assert shown.endswith(
        "Examples:\n    fdn x\n"
        "    fdn x --long-option-that-would-be-wrapped-if-click-filled-the-lines   # why it is there"
    )
    assert examples_of(command)[0] == "fdn x"
    assert examples_of(click.Command("y")) == []
