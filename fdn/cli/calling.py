"""`fdn service call` and `fdn request`: one call from the command line, its argument as JSON, a file or raw bytes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fdn.cli.connection import connected
from fdn.cli.options import Invocation
from fdn.cli.output import Output, Printer

__all__ = ("call", "call_options", "read_body")

_Command = TypeVar("_Command", bound=Callable[..., Any])
_STDIN: Final = "-"


def call_options(command: _Command) -> _Command:
    """Add TARGET, BODY and `--bytes`."""
    for option in (
        click.argument("body", required=False),
        click.argument("target"),
        click.option("--bytes", "raw", is_flag=True, help="BODY and the result are bytes as they are, not JSON."),
    ):
        command = option(command)
    return command


def call(invocation: Invocation, target: str, body: str | None, raw: bool) -> None:
    """Make the call and print what comes back, always as JSON (or raw), for it may be any value."""
    payload = read_body(body, raw)
    with connected(invocation) as client:
        result = client.call(target, payload, timeout=invocation.timeout_s)
    if raw and isinstance(result, bytes):
        sys.stdout.buffer.write(result)
        sys.stdout.flush()
        return
    Printer(Output.NDJSON if invocation.output is Output.NDJSON else Output.JSON).emit(result)


def read_body(body: str | None, raw: bool = False) -> Any:
    """The argument of the call.

    Args:
        body: JSON; `@FILE` to read it from a file, `-` from standard input; None for no argument.
        raw: Take the bytes as they are.

    Raises:
        click.BadParameter: It cannot be read, or is not JSON.
    """
    if body is None:
        return None
    content, where = _read(body)
    if raw:
        return content
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        hint = " (a string needs quotes of its own: '\"text\"')" if where == "BODY" else ""
        raise click.BadParameter(f"{where} is not JSON: {error}{hint}", param_hint="BODY") from None


def _read(body: str) -> tuple[bytes, str]:
    if body == _STDIN:
        return sys.stdin.buffer.read(), "standard input"
    if not body.startswith("@"):
        return body.encode("utf-8", "surrogateescape"), "BODY"
    path = Path(body[1:])
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror or error}", param_hint="BODY") from None
