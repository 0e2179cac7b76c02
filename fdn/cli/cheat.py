"""`fdn cheat`: short worked examples, by topic."""

import dataclasses
from collections.abc import Mapping
from typing import Final

import click

from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.errors import NotFound

__all__ = ("TOPICS", "Recipe", "command")


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """One example: what it is for, and the line to type."""

    about: str
    line: str


TOPICS: Final[Mapping[str, tuple[Recipe, ...]]] = {
    "cluster": (
        Recipe("three nodes on this machine, until Ctrl-C", "fdn up 3"),
        Recipe("the same with a demonstration that kills one of them", "fdn up 3 --demo"),
        Recipe("a node of its own, and another one that joins it", "fdn node run --name n1 --alone"),
        Recipe("", "fdn node run --name n2 --bind tcp://127.0.0.1:7410 --join 127.0.0.1:7400"),
        Recipe("who is there, and each change from now on", "fdn members"),
        Recipe("", "fdn members --watch"),
        Recipe("one node, with its counters", "fdn info n2 --json"),
        Recipe("let a node finish its work and leave", "fdn leave n2 --yes"),
    ),
    "services": (
        Recipe("what is offered, and by whom", "fdn service ls"),
        Recipe("call it; the argument is JSON", "fdn request math.add '[2, 3]'"),
        Recipe("call it on one node, with half a second to answer", "fdn request math.add@n2 '[2, 3]' --timeout 500ms"),
        Recipe("send a header along, over all hops", "fdn request math.add '[2, 3]' -H tenant:blue"),
        Recipe(
            "stream items into a call; a streamed reply is printed item by item",
            "fdn request sum --items numbers.ndjson",
        ),
        Recipe("serve a name from the shell", "fdn reply text.upper --command 'tr a-z A-Z'"),
        Recipe("which nodes of a service answer, and how fast", "fdn service ping math"),
        Recipe("what each has been asked", "fdn service stats math"),
    ),
    "events": (
        Recipe("print all events below a subject", "fdn sub 'orders.>'"),
        Recipe("publish one", """fdn pub orders.eu.created '{"id": 7}'"""),
        Recipe("publish each line of a file", "fdn pub orders.eu.created --items orders.ndjson"),
        Recipe("share the work: one member of the group gets each", "fdn sub 'orders.>' --queue billing"),
        Recipe("the next two as JSON, one a line, and end", "fdn sub 'orders.*.created' --count 2 --json"),
    ),
    "trouble": (
        Recipe("is this machine fit for a node?", "fdn doctor"),
        Recipe("does everybody reach everybody?", "fdn reachability"),
        Recipe("why a member is held dead, and by whom", "fdn why n2"),
        Recipe("how long a message takes on each channel", "fdn rtt"),
        Recipe("what waits, what was dropped", "fdn channel ls"),
        Recipe("", "fdn channel stat data --watch"),
        Recipe("what a node is doing, even while its code is stuck", "fdn debug stacks n2"),
        Recipe("", "fdn debug loop n2"),
        Recipe("where a setting came from", "fdn config explain calls.timeout_s"),
    ),
    "scripts": (
        Recipe("the same data as JSON", "fdn members --json"),
        Recipe("one object a line", "fdn service ls -o ndjson"),
        Recipe(
            "fail soon, and tell by the exit status: 3 nobody is there, 4 not found, 5 too late",
            "fdn request math.add '[2, 3]' --timeout 1s",
        ),
        Recipe("remember a cluster's addresses under a name", "fdn context add shop 10.0.0.1:7400 10.0.0.2:7400 --use"),
        Recipe("and use them for one command", "fdn members --context shop"),
        Recipe("let the Tab key know it all", 'eval "$(fdn completion bash)"'),
    ),
}


@examples("fdn cheat", "fdn cheat events", "fdn cheat trouble --json")
@click.command("cheat")
@output_options
@click.argument("topic", required=False, metavar="[TOPIC]", shell_complete=lambda ctx, param, begun: _begun(begun))
@click.pass_obj
def command(invocation: Invocation, /, topic: str | None) -> None:
    """Show worked examples, by topic.

    Without TOPIC all of them. `fdn COMMAND --help` has more of one command.
    """
    if topic is not None and topic not in TOPICS:
        raise NotFound(f'there is no topic "{topic}"', hint=f"there are {', '.join(TOPICS)}")
    chosen = TOPICS if topic is None else {topic: TOPICS[topic]}
    if invocation.is_json:
        invocation.emit(
            [{"topic": name, "about": r.about, "line": r.line} for name, recipes in chosen.items() for r in recipes]
        )
        return
    for number, (name, recipes) in enumerate(chosen.items()):
        click.echo(f"{chr(10) if number else ''}{click.style(name, bold=True) if _colored(invocation) else name}")
        for recipe in recipes:
            for line in (f"# {recipe.about}" if recipe.about else "", recipe.line):
                if line:
                    click.echo(f"  {line}")


def _begun(begun: str) -> list[str]:
    return [topic for topic in TOPICS if topic.startswith(begun)]


def _colored(invocation: Invocation) -> bool:
    return invocation.color and not invocation.env.get("NO_COLOR")
