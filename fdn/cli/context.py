"""`fdn context`: which cluster the other commands talk to."""

import dataclasses
from typing import Any, Final

import click

from fdn.addresses import parse_join
from fdn.cli.completing import complete_contexts
from fdn.cli.confirmation import confirm
from fdn.cli.contexts import ClusterContext, ContextStore
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.output import Column, note
from fdn.errors import Conflict, NotFound

__all__ = ("command",)

_COLUMNS: Final = (
    Column("context"),
    Column("in_use"),
    Column("cluster", show=lambda cluster: cluster or "-"),
    Column("join"),
    Column("pid", wide=True, show=lambda pid: str(pid or "-")),
    Column("ended", wide=True),
)


@examples("fdn context add shop 10.0.0.1:7400 10.0.0.2:7400 --use", "fdn context ls", "fdn context use shop")
@click.group("context")
def command() -> None:
    """Name clusters, and choose which one commands talk to.

    A context is a small file that holds a cluster's addresses; --context NAME or FDN_CONTEXT names one for a single
    command.
    """


@examples(
    "fdn context add shop 10.0.0.1:7400 10.0.0.2:7400 --use",
    "fdn context add lab lab.example:7400 --cluster lab",
)
@command.command("add")
@output_options
@click.option("--cluster", default="", metavar="NAME", help="The cluster's name; the settings' own by default.")
@click.option("--use", "use_it", is_flag=True, help="Use it from now on.")
@click.option("--replace", is_flag=True, help="Replace one of that name.")
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
@click.argument("name")
@click.argument("addresses", nargs=-1, required=True, metavar="HOST:PORT...")
@click.pass_obj
def add(
    invocation: Invocation,
    /,
    name: str,
    addresses: tuple[str, ...],
    cluster: str,
    use_it: bool,
    replace: bool,
    dry_run: bool,
) -> None:
    """Make a context NAME of a cluster's addresses.

    Any one of them that answers is enough, so name several.
    """
    try:
        join = tuple(parse_join(address) for address in addresses)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST:PORT") from None
    store = invocation.contexts
    store.path(name)  # refuses what could not be a name
    if name in store.names() and not replace:
        raise Conflict(f'there is a context "{name}" already', hint="say --replace, or take another name")
    made = ClusterContext(join=join, cluster=cluster)
    if not dry_run:
        store.write(name, made)
        if use_it:
            store.use(name)
    row = _row(name, made, (name if use_it else store.current()))
    invocation.emit(row, *(Column(key, key) for key in ("context", "in_use", "cluster", "join")))


@examples("fdn context ls", "fdn context ls --json")
@command.command("ls")
@output_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the contexts."""
    store = invocation.contexts
    current = _in_use(invocation, store)
    rows = [_row(name, store.read(name), current) for name in store.names()]
    if not rows:
        note("there is no context; `fdn up` makes one, and `fdn context add`")
    invocation.emit(rows, *_COLUMNS)


@examples("fdn context use shop", "fdn context use --none   # back to the settings")
@command.command("use")
@output_options
@click.option("--none", "nothing", is_flag=True, help="Use no context.")
@click.argument("name", required=False, shell_complete=complete_contexts)
@click.pass_obj
def use(invocation: Invocation, /, name: str | None, nothing: bool) -> None:
    """Talk to the cluster of context NAME from now on."""
    if (name is None) is not nothing:
        raise click.UsageError("name one context, or say --none")
    store = invocation.contexts
    if name is not None and store.read(name).ended:
        note(f'note: the cluster of context "{name}" has ended')
    store.use(name or "")
    invocation.emit({"context": name})


@examples("fdn context show", "fdn context show shop --json")
@command.command("show")
@output_options
@click.argument("name", required=False, shell_complete=complete_contexts)
@click.pass_obj
def show(invocation: Invocation, /, name: str | None) -> None:
    """Show the context in use, or the one named NAME."""
    store = invocation.contexts
    current = _in_use(invocation, store)
    if not (name or current):
        raise NotFound("no context is in use", hint="`fdn context ls` lists them, `fdn context use` chooses one")
    shown = name or current
    row = _row(shown, store.read(shown), current) | {"file": str(store.path(shown))}
    invocation.emit(row, *(Column(key, key) for key in row))


@examples("fdn context rm shop", "fdn context rm shop --yes")
@command.command("rm")
@output_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.argument("name", shell_complete=complete_contexts)
@click.pass_obj
def rm(invocation: Invocation, /, name: str, yes: bool, dry_run: bool) -> None:
    """Remove context NAME. The cluster itself is not touched."""
    store = invocation.contexts
    row = _row(name, store.read(name), _in_use(invocation, store))
    if row["pid"] and not row["ended"]:
        raise Conflict(
            f'context "{name}" belongs to process {row["pid"]}, which still runs',
            hint="it goes when that process ends",
        )
    if dry_run:
        note(f'context "{name}" would be removed')
    else:
        confirm(f'Context "{name}" ({", ".join(row["join"]) or "no address"}) will be removed.', yes)
        store.remove(name)
    invocation.emit(row, *(Column(key, key) for key in ("context", "join")))


def _in_use(invocation: Invocation, store: ContextStore) -> str:
    return invocation.context or invocation.env.get("FDN_CONTEXT", "") or store.current()


def _row(name: str, context: ClusterContext, current: str) -> dict[str, Any]:
    fields = dataclasses.asdict(context)
    return {"context": name, "in_use": name == current, **fields, "ended": context.ended}
