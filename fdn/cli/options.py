"""Options that commands share, and what they add up to: an `Invocation`.

They may stand before or after the command's name (`fdn --json members`, `fdn members --json`); the later one wins.
A command takes the invocation with `@click.pass_obj`.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fdn.cli.contexts import ContextStore
from fdn.cli.output import Column, Output, Printer, note
from fdn.config_file import Loaded, load
from fdn.errors import ConfigError, Unreachable
from fdn.units import parse_duration

__all__ = ("DEFAULT_TARGET", "Invocation", "duration", "output_options", "target_options")

DEFAULT_TARGET: Final = "tcp://127.0.0.1:7400"

_Command = TypeVar("_Command", bound=Callable[..., Any])


def duration(text: str) -> float:
    """The type of an option that takes a duration, in seconds or with a unit."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@dataclasses.dataclass(slots=True)
class Invocation:
    """One run of the command: what the shared options say, and what follows from them.

    Attributes:
        output: The form of the result.
        color: Whether colour is allowed at all.
        context: The context named by a flag, or empty.
        join: Addresses named by flags.
        timeout_s: How long a command may wait for the cluster.
        env: The environment.
    """

    output: Output = Output.TABLE
    color: bool = True
    context: str = ""
    join: tuple[str, ...] = ()
    timeout_s: float = 5.0
    env: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)
    _noted: bool = False

    @property
    def is_json(self) -> bool:
        """Whether a program reads the result."""
        return self.output in (Output.JSON, Output.NDJSON)

    @property
    def printer(self) -> Printer:
        """Where the result goes."""
        colored = self.color and not self.env.get("NO_COLOR") and sys.stdout.isatty()
        return Printer(self.output, colored)

    def emit(self, data: object, *columns: Column) -> None:
        """Print the result; see `Printer.emit`."""
        self.printer.emit(data, columns)

    @property
    def contexts(self) -> ContextStore:
        """The user's contexts."""
        return ContextStore.of_user(self.env)

    def context_file(self) -> Path | None:
        """The file of the context in use: named by flag or `FDN_CONTEXT`, or the current one; None without any.

        Raises:
            NotFound: The one that was named is not there.
            Unreachable: The one that was named belongs to a cluster that has ended.
        """
        store = self.contexts
        named = self.context or self.env.get("FDN_CONTEXT", "")
        name = named or store.current()
        if not name or (not named and name not in store.names()):
            return None
        context = store.read(name)
        if context.ended:
            text = f'context "{name}" belongs to process {context.pid}, which has ended'
            if named:
                raise Unreachable(text, hint="start the cluster again (fdn up), or name a node: --join HOST:PORT")
            # Nobody asked for it: it is what a killed `fdn up` has left behind.
            if not self._noted:
                self._noted = True
                note(f"note: {text}; it is ignored")
            return None
        return store.path(name)

    def load(self, flags: Mapping[str, object] | None = None, config: Path | None = None) -> Loaded:
        """The settings in force for this run.

        Args:
            flags: The command's own flags, by the settings' full keys; None counts as not given.
            config: The one file to read in place of the usual ones.
        """
        given = {"join": self.join or None, **(flags or {})}
        return load(given, self.env, self.context_file(), None if config is None else [config])

    def targets(self) -> tuple[str, ...]:
        """Base addresses of nodes to talk to, in the order to try."""
        return self.load().settings.join or (DEFAULT_TARGET,)


def output_options(command: _Command) -> _Command:
    """Add `--json`, `--output` and `--no-color`; for every command."""
    options = (
        click.option(
            "-o",
            "--output",
            type=click.Choice([output.value for output in Output]),
            help="The form of the result.",
            is_eager=True,
            expose_value=False,
            callback=_store(lambda invocation, value: setattr(invocation, "output", Output(value))),
        ),
        click.option(
            "--json",
            is_flag=True,
            help="The result as JSON, the same as --output json.",
            is_eager=True,
            expose_value=False,
            callback=_store(lambda invocation, value: setattr(invocation, "output", Output.JSON)),
        ),
        click.option(
            "--no-color",
            is_flag=True,
            help="No colour; NO_COLOR=1 says the same.",
            is_eager=True,
            expose_value=False,
            callback=_store(lambda invocation, value: setattr(invocation, "color", False)),
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def target_options(command: _Command) -> _Command:
    """Add `--join`, `--context` and `--timeout`; for every command that talks to a running node."""
    options = (
        click.option(
            "-j",
            "--join",
            multiple=True,
            metavar="HOST:PORT",
            help="A node to talk to; may be repeated.",
            expose_value=False,
            callback=_store(lambda invocation, value: setattr(invocation, "join", tuple(value))),
        ),
        click.option(
            "--context",
            metavar="NAME",
            help="The context that says which cluster to talk to.",
            expose_value=False,
            callback=_store(lambda invocation, value: setattr(invocation, "context", value)),
        ),
        click.option(
            "--timeout",
            type=duration,
            help="How long to wait for the cluster (default 5s).",
            expose_value=False,
            callback=_store(_set_timeout),
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _set_timeout(invocation: Invocation, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"--timeout = {value:g}: expected more than 0", hint='such as "250ms" or "5s"', key="timeout")
    invocation.timeout_s = value


def _store(apply: Callable[[Invocation, Any], None]) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that notes an option which was given, and leaves alone what an earlier one said when it was not."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False and value != ():
            apply(ctx.ensure_object(Invocation), value)

    return callback
