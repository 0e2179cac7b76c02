"""What `fdn node run` and `fdn run` share: the options of a node, and serving apps with it in this process."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fdn.cli.options import Invocation
from fdn.cli.output import note
from fdn.config_file import Loaded
from fdn.errors import Error

if TYPE_CHECKING:
    from fdn.node import Node
    from fdn.settings import Settings

__all__ = ("NodeOptions", "node_options", "serve")

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class NodeOptions:
    """The options of a node as they were given.

    Attributes:
        config: The only file of settings to read.
        context: The context whose cluster to join.
        flags: Settings by their full keys; None counts as not given.
    """

    config: Path | None
    context: str | None
    flags: Mapping[str, object]

    @classmethod
    def of(
        cls,
        *,
        config: Path | None,
        context: str | None,
        join: tuple[str, ...],
        alone: bool,
        insecure: bool,
        **flags: str | None,
    ) -> "NodeOptions":
        """From what click hands over.

        Raises:
            click.UsageError: They contradict one another.
        """
        if alone and join:
            raise click.UsageError("--alone joins nobody, and --join names somebody: leave one of them out")
        given: dict[str, object] = {**flags, "insecure": insecure or None}
        if alone or join:
            given["join"] = join
        return cls(config, context, given)

    def load(self, invocation: Invocation) -> Loaded:
        """The settings in force; reads the files anew."""
        invocation.context = self.context or invocation.context
        return invocation.load(self.flags, self.config)

    def arguments(self, **instead: str) -> list[str]:
        """The same options on a command line, but for whom to join; `instead` replaces some, and drops empty ones."""
        given = {key: value for key, value in self.flags.items() if key not in ("join", "insecure") and value} | instead
        words = [f"--{key.replace('_', '-')}={value}" for key, value in given.items() if value]
        words += ["--insecure"] if self.flags.get("insecure") else []
        words += [f"--config={self.config}"] if self.config is not None else []
        return words + ([f"--context={self.context}"] if self.context else [])


def node_options(command: _Command) -> _Command:
    """Add the options of a node; the command hands what it gets by keyword to `NodeOptions.of`."""
    options = (
        click.option("--config", type=click.Path(path_type=Path), help="The only file of settings to read."),
        click.option("--context", metavar="NAME", help="The context whose cluster to join."),
        click.option(
            "-j", "--join", multiple=True, metavar="HOST:PORT", help="A node of the cluster; may be repeated."
        ),
        click.option("--alone", is_flag=True, help="Join nobody, whatever the context or a file says."),
        click.option("--name", help="The node's name, unique in the cluster."),
        click.option("--bind", metavar="ENDPOINT", help="Where to listen: tcp://HOST:PORT; port 0 for any."),
        click.option("--advertise", metavar="HOST", help="Where others find it, when that is not where it listens."),
        click.option("--cluster", metavar="NAME", help="The cluster's name."),
        click.option("--data-dir", metavar="DIR", help="Keeps the node's identity over restarts."),
        click.option("--preset", type=click.Choice(["local", "lan", "wan"]), help="How fast failures are noticed."),
        click.option("--insecure", is_flag=True, help="Listen beyond this machine without keys."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def serve(invocation: Invocation, options: NodeOptions, apps: Sequence[str], loaded: Loaded) -> int:
    """Run one node with these apps until it is told to end.

    Raises:
        BadRequest: One of them is no app.
        Error: The node could not start.
    """
    # Everything heavy is imported only now that the settings are known to be in order.
    from fdn.cli import log_setup
    from fdn.loading import load_app
    from fdn.node import Node
    from fdn.running import SWITCH_INTERVAL_S, run_node

    log_setup.configure(loaded.settings.log)
    for name in apps:  # what they log is wanted as much as what fdn does
        logging.getLogger(name.partition(":")[0].partition(".")[0]).setLevel(loaded.settings.log.level.upper())
    for name in loaded.ignored:
        note(f"note: {name} is no setting; ignored")
    services = [load_app(name) for name in apps]
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # ours to choose: this process is the node's
    node = Node(*services, settings=loaded.settings)
    return run_node(
        node,
        on_ready=lambda node: _ready(invocation, node),
        on_hangup=lambda: note(_hangup(lambda: options.load(invocation), loaded.settings)),
        say=note,
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
