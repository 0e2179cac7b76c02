"""The root of the `fdn` command: finds commands, and turns whatever ends them into an exit status.

A command is a module with a click command named `command`; it is imported when it is called, so that `fdn --help`
costs the same however many there are.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

import fdn
from fdn.cli.completing import COMPLETE_VARIABLE
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode, report
from fdn.cli.options import Invocation, output_options, target_options
from fdn.errors import Error

__all__ = ("COMMANDS", "main", "root", "run")

# Name -> (module, one line of help). A test holds the lines and the commands' own help together.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "up": ("fdn.cli.up", "Run a cluster of N nodes on this machine, until Ctrl-C."),
    "run": ("fdn.cli.run", "Serve an app until Ctrl-C; the first drains, the second ends at once."),
    "node": ("fdn.cli.node", "Run a node in this process."),
    "agent": ("fdn.cli.agent", "The same as `fdn node run`."),
    "members": ("fdn.cli.members", "List the members of the cluster, as one node sees them."),
    "why": ("fdn.cli.why", "Show who accused a member that is held suspect or dead, and why."),
    "info": ("fdn.cli.info", "Describe the node that answers, or the member named NODE."),
    "join": ("fdn.cli.join", "Make the node that answers join the cluster of other nodes."),
    "leave": ("fdn.cli.leave", "Make a node leave the cluster, and end."),
    "service": ("fdn.cli.service", "List the services of the cluster, and call them."),
    "request": ("fdn.cli.request", "Call a service; short for `fdn service call`."),
    "pub": ("fdn.cli.pub", "Publish events."),
    "sub": ("fdn.cli.sub", "Print the events of a subject or pattern, as they come."),
    "reply": ("fdn.cli.reply", "Serve NAME (a service.method, or a plain name) until Ctrl-C."),
    "channel": ("fdn.cli.channel", "Show the channels of a node, and what goes over them."),
    "rtt": ("fdn.cli.rtt", "Measure round trips to the other nodes, by channel."),
    "reachability": ("fdn.cli.reachability", "Ask every living member whom it reaches."),
    "config": ("fdn.cli.config", "Show the settings in force here, and where each came from."),
    "bench": (
        "fdn.cli.bench",
        "Measure casts and calls beside bare pyzmq, events, streams, and what load of one kind does to the others.",
    ),
    "doctor": ("fdn.cli.doctor", "Check this machine and its settings for what fdn needs."),
    "debug": ("fdn.cli.debug", "Look into a running node, and at what goes over the wire."),
    "context": ("fdn.cli.context", "Name clusters, and choose which one commands talk to."),
    "completion": ("fdn.cli.completion", "Print what makes the Tab key complete commands."),
    "cheat": ("fdn.cli.cheat", "Show worked examples, by topic."),
    "new": ("fdn.cli.new", "Begin an app, or add a service to one."),
    "version": ("fdn.cli.version", "Show the versions of fdn and of what it runs on."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.6)
            raise click.UsageError(
                f'there is no command "{args[0]}"' + (f'; did you mean "{near[0]}"?' if near else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@examples("fdn up 3", "fdn members", "fdn service call math.add '[2, 3]'", "fdn cheat")
@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fdn.__version__, message="fdn %(version)s")
@output_options
@target_options
@click.pass_context
def root(ctx: click.Context) -> None:
    """Start nodes, and talk to those that run.

    Which node a command talks to: --join, else FDN_JOIN, else the context in use (`fdn up` sets one), else fdn.toml,
    else 127.0.0.1:7400.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitCode.USAGE)


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit status. What goes wrong is said on standard error.

    A command that returns a whole number chooses its status; one that returns nothing has succeeded.
    """
    invocation = Invocation()
    try:
        # Not `root.main`: how it treats interrupts and broken pipes differs between releases of click.
        with root.make_context("fdn", list(args), obj=invocation) as ctx:
            status = root.invoke(ctx)
        sys.stdout.flush()
        return status if isinstance(status, int) else ExitCode.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        sys.stderr.write("aborted; nothing was done\n")
        return ExitCode.FAILED
    except (Error, click.ClickException) as error:
        # A mistake in the options may have kept --json from being read.
        return report(error, invocation.is_json or "--json" in args)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. What is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def main() -> None:
    """The `fdn` command."""
    if COMPLETE_VARIABLE in os.environ:
        from fdn.cli.completion import complete

        sys.exit(complete(root, os.environ))
    sys.exit(run(sys.argv[1:]))
