"""`fdn doctor`: is this machine fit for a node, and are the settings in order?"""

import click

from fdn.cli.checks import Verdict, examine
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Column

__all__ = ("command",)


@examples("fdn doctor", "fdn doctor --json")
@click.command("doctor")
@output_options
@target_options
@click.pass_obj
def command(invocation: Invocation) -> int:
    """Check this machine and its settings for what fdn needs.

    Exit status 9 when a check fails; a warning alone does not count.
    """
    checks = examine(invocation)
    invocation.emit(checks, Column("verdict"), Column("name", "CHECK"), Column("detail", "FOUND"))
    if not invocation.is_json:
        for check in checks:
            if check.hint:
                click.echo(f"{check.name}: {check.hint}", err=True)
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    return ExitCode.DEGRADED if failed else ExitCode.OK
