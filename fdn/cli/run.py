"""`fdn run`: serve apps, in this process, or in several that are kept alive, or replaced when their source changes."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options
from fdn.cli.output import note
from fdn.cli.serving import NodeOptions, node_options, serve
from fdn.config_file import Loaded
from fdn.settings import Settings

__all__ = ("command",)

_WORKERS_MAX: Final = 64
_KILL_AFTER_S: Final = 5.0  # beyond what a node itself takes to drain and stop


@examples(
    "fdn run shop.app:app",
    "fdn run shop.app:app --reload  # while you write it",
    "fdn run shop.app:app --workers 4 --join 127.0.0.1:7400",
    "fdn run shop.app:make_app  # a function without arguments that makes one",
)
@click.command("run")
@output_options
@node_options
@click.option("--reload", is_flag=True, help="Start anew whenever the source of the app changes.")
@click.option(
    "--workers",
    type=click.IntRange(1, _WORKERS_MAX),
    default=1,
    show_default=True,
    help="Processes, each a node with ports of its own.",
)
@click.argument("apps", metavar="MODULE:APP...", nargs=-1, required=True)
@click.pass_obj
def command(invocation: Invocation, /, apps: tuple[str, ...], reload: bool, workers: int, **given: Any) -> int:
    """Serve an app until Ctrl-C; the first drains, the second ends at once.

    MODULE:APP names an fdn.App, or a function without arguments that makes one; modules are found from the current
    directory too. With --workers, each process is a node of its own, named NAME-1, NAME-2 and so on; one that dies is
    started again, and none outlives this command. With --reload, they are replaced when the app's source changes.
    """
    options = NodeOptions.of(**given)
    loaded = options.load(invocation)
    if workers == 1 and not reload:
        return serve(invocation, options, apps, loaded)
    if workers > 1 and "=" in loaded.settings.advertise:
        raise click.UsageError("--workers: a map of ports in --advertise is for one node; give it a host")
    # Everything heavy is imported only now that the settings are known to be in order.
    from fdn.loading import source_folders
    from fdn.local.workers import Order, Voice, supervise

    folders = source_folders(apps)  # which also says what is wrong with a name, before anything is started
    order = Order(
        plans=_plans(options, loaded, apps, workers),
        seeds=loaded.settings.join,
        end_s=loaded.settings.drain_timeout_s + loaded.settings.stop_timeout_s + _KILL_AFTER_S,
        watch=_watched(folders) if reload else None,
    )
    for name in loaded.ignored:
        note(f"note: {name} is no setting; ignored")
    return asyncio.run(supervise(order, Voice(lambda rows: _ready(invocation, rows), note)))


def _plans(options: NodeOptions, loaded: Loaded, apps: Sequence[str], count: int) -> "list[Any]":
    from fdn.local.workers import WorkerPlan
    from fdn.runtime.identity import default_name

    settings = loaded.settings
    base = settings.name or default_name()  # made here, so that a worker keeps its name when it is started again
    plans = []
    for number in range(count):
        name = f"{base}-{number + 1}" if count > 1 else base
        folder = settings.data_dir and (os.path.join(settings.data_dir, name) if count > 1 else settings.data_dir)
        arguments = options.arguments(name=name, bind=_bind(settings, number), data_dir=folder)
        plans.append(WorkerPlan(name, ("node", "run", *arguments, *apps)))
    return plans


def _bind(settings: Settings, number: int) -> str:
    """Where a worker listens: the base ports follow in steps of one node's ports."""
    from transports.channel import Channel

    bind = settings.bind_address
    if bind.port == 0 or number == 0:
        return settings.bind
    stem = settings.bind.removesuffix("+").rpartition(":")[0]
    return f"{stem}:{bind.port + number * len(Channel)}{'+' * bind.search}"


def _watched(folders: Sequence[Path]) -> list[Path]:
    """Where to look for changes: here, where the source is here or below, for `fdn.toml` lies here too; else there."""
    here = Path.cwd().resolve()
    if any(folder == here or here in folder.parents for folder in folders):
        return [here]
    return [*folders]


def _ready(invocation: Invocation, rows: Sequence[Mapping[str, Any]]) -> None:
    if invocation.is_json:
        line = {
            "event": "ready",
            "pid": os.getpid(),
            "workers": [{key: row[key] for key in row if key != "event"} for row in rows],
        }
        sys.stdout.write(json.dumps(line) + "\n")  # one line, whatever the form: whoever starts us reads just that
    else:
        for row in rows:
            sys.stdout.write(f"worker {row['name']} is ready at {row['endpoint']} (pid {row['pid']})\n")
    sys.stdout.flush()
