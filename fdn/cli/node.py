"""`fdn node run`: one node, in this process, until it is told to end."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fdn.cli.options import Invocation, output_options
from fdn.cli.output import note
from fdn.config_file import Loaded
from fdn.errors import BadRequest, Error

if TYPE_CHECKING:
    from fdn.app import App
    from fdn.node import Node
    from fdn.settings import Settings

__all__ = ("command", "import_app", "run")


@click.group("node")
def command() -> None:
    """Run a node in this process."""


@command.command("run")
@output_options
@click.option("--config", type=click.Path(path_type=Path), help="The only file of settings to read.")
@click.option("--context", metavar="NAME", help="The context whose cluster to join.")
@click.option("-j", "--join", multiple=True, metavar="HOST:PORT", help="A node of the cluster; may be repeated.")
@click.option("--alone", is_flag=True, help="Join nobody, whatever the context or a file says.")
@click.option("--name", help="The node's name, unique in the cluster.")
@click.option("--bind", metavar="ENDPOINT", help="Where to listen: tcp://HOST:PORT; port 0 for any.")
@click.option("--advertise", metavar="HOST", help="Where others find it, when that is not where it listens.")
@click.option("--cluster", metavar="NAME", help="The cluster's name.")
@click.option("--data-dir", metavar="DIR", help="Keeps the node's identity over restarts.")
@click.option("--preset", type=click.Choice(["local", "lan", "wan"]), help="How fast failures are noticed.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without keys.")
@click.argument("apps", metavar="[MODULE:APP]...", nargs=-1)
@click.pass_obj
def run(
    invocation: Invocation,
    /,
    apps: tuple[str, ...],
    config: Path | None,
    context: str | None,
    join: tuple[str, ...],
    alone: bool,
    insecure: bool,
    **flags: str | None,
) -> int:
    """Run one node until Ctrl-C; the first drains, the second ends at once.

    Each MODULE:APP names an fdn.App to serve; modules are found from the current directory too. A line on standard
    output says when the node is ready; the log goes to standard error. SIGHUP checks the configuration anew, SIGUSR1
    writes members and counters to the log.
    """
    if alone and join:
        raise click.UsageError("--alone joins nobody, and --join names somebody: leave one of them out")
    invocation.context = context or invocation.context
    given: dict[str, object] = {**flags, "insecure": insecure or None}
    if alone or join:
        given["join"] = join

    def load() -> Loaded:
        return invocation.load(given, config)

    loaded = load()
    # Everything heavy is imported only now that the settings are known to be in order.
    from fdn.cli import log_setup
    from fdn.node import Node
    from fdn.running import SWITCH_INTERVAL_S, run_node

    log_setup.configure(loaded.settings.log)
    for name in loaded.ignored:
        note(f"note: {name} is no setting; ignored")
    services = [import_app(name) for name in apps]
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # ours to choose: this process is the node's
    node = Node(*services, settings=loaded.settings)
    return run_node(
        node,
        on_ready=lambda node: _ready(invocation, node),
        on_hangup=lambda: note(_hangup(load, loaded.settings)),
        say=note,
    )


def import_app(name: str) -> "App":
    """The `fdn.App` that `module:attribute` names.

    Raises:
        BadRequest: There is none; says what was found instead.
    """
    from fdn.app import App

    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise BadRequest(f'"{name}" names no app', hint="expected MODULE:APP: calc:app is `app = fdn.App()` in calc.py")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # found, and something that it imports is not: the traceback says where
        raise BadRequest(
            f'there is no module "{error.name}" for "{name}"', hint=f"it is looked for in {here} and where Python looks"
        ) from None
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, App):
        return found
    there = [key for key, value in vars(module).items() if isinstance(value, App)]
    what = "nothing of that name" if found is None else f"{type(found).__name__}, not an fdn.App"
    raise BadRequest(
        f'"{name}": {module_name} holds {what}',
        hint=f"it has {', '.join(there)}" if there else "it has no fdn.App",
    )


def _ready(invocation: Invocation, node: "Node") -> None:
    if invocation.is_json:
        line = {
            "event": "ready",
            "node": node.id,
            "name": node.name,
            "endpoint": node.endpoint,
            "endpoints": dict(node.endpoints),
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(line) + "\n")  # one line, whatever the form: whoever starts us reads just that
    else:
        others = sum(member.reachable for member in node.members()) - 1
        sys.stdout.write(
            f"node {node.name} is ready at {node.endpoint} (cluster {node.settings.cluster}, "
            f"{others} other member{'s' * (others != 1)}, pid {os.getpid()})\n"
        )
    sys.stdout.flush()


def _hangup(load: Callable[[], Loaded], running: "Settings") -> str:
    """Read the configuration again, and say honestly what that changes: a running node takes no new settings."""
    from fdn.settings import setting_fields

    try:
        settings = load().settings
    except Error as error:
        return f"SIGHUP: the configuration is not in order, and the node keeps what it has: {error}"
    changed = [key for key, _ in setting_fields() if _get(settings, key) != _get(running, key)]
    if not changed:
        return "SIGHUP: the configuration is in order, and unchanged"
    return f"SIGHUP: the configuration is in order; changed, from the next start on: {', '.join(changed)}"


def _get(settings: "Settings", key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value
