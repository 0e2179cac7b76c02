"""`fdn reply`: serve a name from the command line, for as long as the command runs."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import click

from fdn.cli.calling import read_body
from fdn.cli.connection import connected
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, output_options, target_options
from fdn.cli.output import Output, Printer, note
from fdn.client.handlers import ClientContext
from fdn.errors import DeadlineExceeded, Error

__all__ = ("Command", "command")

_Answer = Callable[[Any, ClientContext], Any]
_INTERVAL_S: Final = 0.01
_RUN_S_MAX: Final = 24 * 3600.0  # a caller that awaits a stream may give a year, which is more than poll() takes
_ERROR_SHOWN_MAX: Final = 1000  # characters of a command's standard error that its caller is told


@examples(
    "fdn reply greeting '\"hello\"'",
    "fdn reply echo --echo --count 10",
    "fdn reply text.upper --command 'tr a-z A-Z' --concurrency 4",
    "fdn reply host.load --command uptime --json   # each request on standard output",
)
@click.command("reply")
@output_options
@target_options
@click.argument("name")
@click.argument("body", required=False)
@click.option("--echo", is_flag=True, help="Reply with the payload.")
@click.option("--command", "line", metavar="CMD", help="Reply with what CMD prints; it is run for each request.")
@click.option("--count", type=click.IntRange(1), help="End after so many requests.")
@click.option("--concurrency", type=click.IntRange(1, 1024), default=1, show_default=True, help="Requests at once.")
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    name: str,
    body: str | None,
    echo: bool,
    line: str | None,
    count: int | None,
    concurrency: int,
) -> None:
    """Serve NAME (a service.method, or a plain name) until Ctrl-C.

    The node that answers offers it in our stead, to the whole cluster. The reply is BODY (JSON; @FILE and - as for
    `fdn request`), the payload itself, or what a command prints. CMD is run without a shell. It finds the payload as
    JSON on standard input, the name in FDN_TARGET, the caller in FDN_CALLER and each header in FDN_HEADER_NAME. It
    prints JSON, or anything else for text; an exit status other than 0 is an error to the caller. Requests are printed
    on standard output.
    """
    if [body is not None, echo, line is not None].count(True) != 1:
        raise click.UsageError("say what to reply: BODY, --echo or --command")
    answer = Command(line).answer if line is not None else _constant(read_body(body)) if body is not None else _echo
    desk = _Desk(invocation, answer, count)
    with (
        connected(invocation, reconnect=True) as client,
        client.serve(name, desk.handle, concurrency=concurrency) as service,
    ):
        note(f"serving {name} at {client.node['name']}")
        desk.wait(service)


def _constant(value: Any) -> _Answer:
    return lambda payload, context: value


def _echo(payload: Any, context: ClientContext) -> Any:
    return payload


class Command:
    """A program that answers.

    Args:
        line: The program and its arguments, with quotes as in a shell.
    """

    def __init__(self, line: str) -> None:
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise click.BadParameter(f"{line!r}: {error}", param_hint="--command") from None
        if not self._words:
            raise click.BadParameter("it names no program", param_hint="--command")

    def answer(self, payload: Any, context: ClientContext) -> Any:
        """What the program prints: as JSON if it is, else as text without the last line's end.

        Raises:
            Error: It cannot be started, or ended with a status other than 0; with what it said on standard error.
            DeadlineExceeded: It had not ended when the caller's time was up; it is killed.
        """
        program = self._words[0]
        left_s = _RUN_S_MAX
        if context.deadline_at:
            left_s = min(max(context.deadline_at - time.monotonic(), 0.001), _RUN_S_MAX)
        try:
            done = subprocess.run(
                self._words,
                input=json.dumps(payload, default=repr).encode(),
                capture_output=True,
                env=_environment(context),
                timeout=left_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{program} had not ended when the caller's time was up") from None
        except OSError as error:
            raise Error(f"{program} cannot be run: {error.strerror or error}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-_ERROR_SHOWN_MAX:]
            raise Error(f"{program} ended with status {done.returncode}{': ' if said else ''}{said}")
        try:
            return json.loads(done.stdout)
        except (ValueError, RecursionError):
            return done.stdout.decode("utf-8", "replace").removesuffix("\n")


def _environment(context: ClientContext) -> dict[str, str]:
    # A header's value reaches the program as text only: no shell ever reads it. NUL would end it.
    headers = {
        f"FDN_HEADER_{name.upper().replace('-', '_')}": value.replace("\0", "")
        for name, value in context.headers.items()
        if name.replace("-", "_").isidentifier()
    }
    return {**os.environ, **headers, "FDN_TARGET": context.target, "FDN_CALLER": context.caller}


class _Desk:
    """Takes requests, tells of them, and knows when it has been enough."""

    def __init__(self, invocation: Invocation, answer: _Answer, count: int | None) -> None:
        self._invocation = invocation
        self._answer = answer
        self._count = count
        self._answered = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._error: Error | None = None

    def handle(self, payload: Any, context: ClientContext) -> Any:
        """One request; on any thread."""
        with self._lock:
            self._tell(payload, context)
        try:
            return self._answer(payload, context)
        finally:
            with self._lock:
                self._answered += 1
                if self._answered == self._count:
                    self._ended.set()

    def wait(self, service: Any) -> None:
        """Return when it has been enough, and all is answered.

        Raises:
            Error: The node has ended the service.
        """
        threading.Thread(target=self._watch, args=(service,), daemon=True).start()
        self._ended.wait()
        if self._error is not None:
            raise self._error
        # What is under way when a name is withdrawn fails.
        give_up_at = time.monotonic() + self._invocation.timeout_s
        while service.running and time.monotonic() < give_up_at:
            time.sleep(_INTERVAL_S)

    def _watch(self, service: Any) -> None:
        try:
            service.wait()
        except Error as error:
            self._error = error
        self._ended.set()

    def _tell(self, payload: Any, context: ClientContext) -> None:
        if self._invocation.is_json:
            told = {**context._asdict(), "payload": payload}
            del told["deadline_at"]
            Printer(Output.NDJSON).emit(told)
            return
        shown = json.dumps(payload, default=repr, ensure_ascii=False)
        # What a caller says must not drive the terminal.
        sys.stdout.write("".join(c if c.isprintable() else "\ufffd" for c in f"{context.target}  {shown}") + "\n")
        sys.stdout.flush()
