"""`fdn up`: a cluster of processes on this machine, for as long as the command runs."""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fdn.cli.contexts import ClusterContext, ContextStore
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.output import Column, Output, Printer, note
from fdn.config_file import load
from fdn.errors import ConfigError

__all__ = ("command", "state_folder")

_DEFAULT_PORT = 7400
_BASE_PORT_MAX = 65500


@examples(
    "fdn up",
    "fdn up 3 --demo",
    "fdn up 5 --app calc:app --restart --name calc",
)
@click.command("up")
@output_options
@click.argument("count", metavar="[N]", type=click.IntRange(1, 64), default=3)
@click.option("--demo", is_flag=True, help="Put the nodes to work, kill one of them, and check that nothing is lost.")
@click.option("--exit", "end", is_flag=True, help="With --demo: end afterwards; 10 when a promise was missed.")
@click.option(
    "--app", "apps", multiple=True, metavar="MODULE:APP", help="An fdn.App that every node serves; may be repeated."
)
@click.option(
    "--base-port",
    type=click.IntRange(0, _BASE_PORT_MAX),
    help="First port, 0 for any (default: 7400, or the next free).",
)
@click.option("--restart", is_flag=True, help="Start a node again when it dies.")
@click.option("--name", default="up", show_default=True, help="The context that leads other commands here.")
@click.pass_obj
def command(
    invocation: Invocation,
    count: int,
    demo: bool,
    end: bool,
    apps: tuple[str, ...],
    base_port: int | None,
    restart: bool,
    name: str,
) -> int:
    """Run a cluster of N nodes on this machine, until Ctrl-C.

    Each is a process of its own. Other commands find them without flags, by the context that is written here. The
    first Ctrl-C drains the nodes, the second ends them at once; none outlives this command, however it ends.
    """
    if end and not demo:
        raise click.UsageError("--exit ends after the demonstration: say --demo too")
    if demo and count < 2:
        raise click.UsageError("--demo kills one of the nodes: it needs at least 2")
    store = invocation.contexts
    store.check_free(name, os.getpid())
    loaded = load({}, invocation.env)
    # Everything heavy is imported only now that the settings are known to be in order.
    from fdn.demo.up import Order, Voice, up
    from fdn.local.cluster import ClusterPlan

    plan = ClusterPlan(
        folder=state_folder(invocation.env, name),
        cluster=loaded.settings.cluster,
        base_port=_DEFAULT_PORT if base_port is None else base_port,
        search=base_port is None,
        apps=apps,
    )
    order = Order(plan, count, demo=demo, stay=not end, restart=restart, settings=loaded.settings)
    with contextlib.ExitStack() as held:
        face = _Face(invocation, store, name, plan.cluster, demo, held)
        return asyncio.run(up(order, Voice(face.ready, face.fact, note, face.result)))


def state_folder(env: Mapping[str, str], name: str) -> Path:
    """Where the nodes of a cluster of that name keep their identities and logs.

    Raises:
        ConfigError: It cannot be made.
    """
    base = env.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path(env.get("HOME") or Path.home()) / ".local" / "state"
    folder = root / "fdn" / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror or error}",
            hint="set XDG_STATE_HOME to a directory that this user may write to",
        ) from error
    return folder


class _Face:
    """What of it reaches the terminal, and the context that other commands go by."""

    def __init__(
        self,
        invocation: Invocation,
        store: ContextStore,
        name: str,
        cluster: str,
        demo: bool,
        held: contextlib.ExitStack,
    ) -> None:
        self._invocation = invocation
        self._store = store
        self._name = name
        self._cluster = cluster
        self._demo = demo
        self._held = held

    def ready(self, rows: Sequence[dict[str, Any]], form_s: float) -> None:
        addresses = tuple(row["endpoint"] for row in rows)
        context = ClusterContext(join=addresses, cluster=self._cluster, pid=os.getpid())
        self._held.enter_context(self._store.temporary(self._name, context))
        if self._invocation.is_json:
            if not self._demo:  # whose one object is its result
                self._line(
                    {
                        "event": "ready",
                        "pid": os.getpid(),
                        "cluster": self._cluster,
                        "context": self._name,
                        "form_s": form_s,
                        "nodes": rows,
                    }
                )
            return
        columns = [Column("name"), Column("pid"), Column("endpoint"), Column("node", "NODE ID"), Column("log")]
        self._invocation.emit(rows, *columns)
        note(f"{len(rows)} nodes see each other after {form_s:.2f} s")
        note(f'other commands find them (context "{self._name}"), such as: fdn members')

    def fact(self, text: str) -> None:
        click.echo(text, err=self._invocation.is_json)

    def result(self, result: dict[str, Any]) -> None:
        if self._invocation.is_json:
            self._line(result)

    def _line(self, data: dict[str, Any]) -> None:
        # One line, whatever the form of JSON: whoever started us reads a line and goes on, while we stay.
        Printer(Output.NDJSON).emit(data)
