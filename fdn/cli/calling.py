"""What the commands that talk to services and subjects share: arguments as JSON, headers, streams of items, results.

A result is printed as one line of JSON, so that a streamed reply is NDJSON, item by item as they come. Only a person
at a terminal gets it spread over lines.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fdn.cli.completing import complete_targets
from fdn.cli.connection import connected
from fdn.cli.options import Invocation
from fdn.cli.output import Output, Printer
from fdn.errors import Error

__all__ = ("call", "call_options", "header_option", "items_of", "items_option", "read_body", "write_value")

_Command = TypeVar("_Command", bound=Callable[..., Any])
_STDIN: Final = "-"


def _headers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    headers = {}
    for value in values:
        name, colon, text = value.partition(":")
        if not (colon and name.strip()):
            raise click.BadParameter(f'"{value}": expected NAME:VALUE')
        headers[name.strip()] = text.strip()
    return headers or None


header_option = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=_headers,
    help="A header that travels along, over all hops; may be repeated.",
)
items_option = click.option(
    "--items", metavar="FILE", help="NDJSON: one item a line, sent as they are read; - reads standard input."
)


def call_options(command: _Command) -> _Command:
    """Add TARGET, BODY and what says how they are sent, and the result printed."""
    for option in (
        click.argument("body", required=False),
        click.argument("target", shell_complete=complete_targets),
        header_option,
        items_option,
        click.option("--count", type=click.IntRange(1), default=1, help="Call so many times, one after the other."),
        click.option("--bytes", "as_bytes", is_flag=True, help="BODY is bytes as they are, not JSON."),
        click.option("--raw", is_flag=True, help="Print text without quotes, and bytes as they are."),
    ):
        command = option(command)
    return command


def call(
    invocation: Invocation,
    *,
    target: str,
    body: str | None,
    headers: dict[str, str] | None,
    items: str | None,
    count: int,
    as_bytes: bool,
    raw: bool,
) -> None:
    """Make the call, or several, and print each item that comes back."""
    if items == body == _STDIN:
        raise click.UsageError("standard input is either BODY or the items, not both")
    if items is not None and count > 1:
        raise click.UsageError("--items is for one call: leave --count out")
    payload = read_body(body, as_bytes)
    with connected(invocation) as client:
        for _ in range(count):
            sent = None if items is None else _Kept(items_of(items))
            try:
                with client.stream(
                    target, payload, items=sent, headers=headers, timeout=invocation.timeout_s
                ) as results:
                    for result in results:
                        write_value(invocation, result, raw or as_bytes)
            except Error:
                if sent is not None and sent.error is not None:
                    raise sent.error from None
                raise


class _Kept:
    """Items, and the error that ended them: for the client it is one of many reasons why a call may fail."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.error: click.ClickException | None = None

    def __iter__(self) -> "_Kept":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._items)
        except click.ClickException as error:
            self.error = error
            raise


def write_value(invocation: Invocation, value: Any, raw: bool = False) -> None:
    """Print one value, whatever it is, on standard output.

    Args:
        invocation: The form of the output: spread over lines only for a person at a terminal.
        value: Plain values.
        raw: Bytes as they are, and text without quotes; with a line's end behind the text.
    """
    if raw and isinstance(value, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    elif raw and isinstance(value, str):
        sys.stdout.write(value + "\n")
        sys.stdout.flush()
    else:
        # In a list of its own: a list that is the result is one line like any other.
        spread = not invocation.is_json and sys.stdout.isatty()
        Printer(Output.JSON if spread else Output.NDJSON).emit(value if spread else [value])


def items_of(source: str) -> Iterator[Any]:
    """The values of NDJSON in a file, or on standard input, each as soon as it is read. Empty lines do not count.

    Raises:
        click.BadParameter: The file cannot be read, or a line is not JSON.
    """
    with contextlib.ExitStack() as held:
        if source == _STDIN:
            lines = sys.stdin.buffer
        else:
            try:
                lines = held.enter_context(Path(source).open("rb"))
            except OSError as error:
                reason = error.strerror or error
                raise click.BadParameter(f"{source} cannot be read: {reason}", param_hint="--items") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _json(line, f"line {number} of the items", "--items")


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
    return content if raw else _json(content, where, "BODY")


def _json(content: bytes, where: str, hint: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        quotes = " (a string needs quotes of its own: '\"text\"')" if where == "BODY" else ""
        raise click.BadParameter(f"{where} is not JSON: {error}{quotes}", param_hint=hint) from None


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
