"""`fdn debug`: what a running node is doing, and what wire bytes mean."""

import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from fdn.cli.calling import read_body
from fdn.cli.completing import complete_members
from fdn.cli.connection import ask, node_client
from fdn.cli.examples import examples
from fdn.cli.exit_codes import ExitCode
from fdn.cli.options import Invocation, output_options, target_options
from fdn.errors import NotFound

__all__ = ("command",)

_node_argument = click.argument("node", required=False, shell_complete=complete_members)
_SHOWN_MAX: Final = 400  # characters of a value, for people


@examples("fdn debug stacks n2", "fdn debug loop n2", "fdn debug frames 01919605a00000c0c0")
@click.group("debug")
def command() -> None:
    """Look into a running node, and at what goes over the wire."""


@examples("fdn debug stacks", "fdn debug stacks n2 --json")
@command.command("stacks")
@output_options
@target_options
@_node_argument
@click.pass_obj
def stacks(invocation: Invocation, /, node: str | None) -> None:
    """Show where every Python thread of a node is: the one that answers, or the member named NODE.

    The innermost frame stands last. The node's control plane answers, so also while user code is stuck; only C code
    that keeps the interpreter to itself delays it.
    """
    with node_client(invocation, node) as client:
        rows = ask(client, "fdn.node.stacks")
    if invocation.is_json:
        invocation.emit(rows)
        return
    for row in rows:
        _print(f"thread {row['thread'] or '?'} ({row['ident']}{', daemon' if row['daemon'] else ''})")
        for frame in row["frames"]:
            _print(f"  {_place(frame)}", f"      {frame['code']}" if frame["code"] else "")


@examples("fdn debug loop", "fdn debug loop n2 --json")
@command.command("loop")
@output_options
@target_options
@_node_argument
@click.pass_obj
def loop(invocation: Invocation, /, node: str | None) -> None:
    """Show what the loop of a node's user code is doing: its lag, timers, and where its tasks wait.

    It is looked at from outside, so also while it is stuck; its code is then the last line of WHERE.
    """
    with node_client(invocation, node) as client:
        told = ask(client, "fdn.node.loop")
    if invocation.is_json:
        invocation.emit(told)
        return
    _print(
        f"state   {told['state']}",
        f"lag     {told['lag_ms']:g} ms now, {told['lag_worst_ms']:g} ms at worst",
        f"where   {told['where']}",
        f"ready   {_or_unknown(told['ready'])}",
        f"timers  {_or_unknown(told['timers'])}",
        f"tasks   {told['tasks']}",
    )
    for task in told["shown"]:
        waits = f", waits for {task['waits_for']}" if task["waits_for"] else ""
        _print(f"task {task['name']}: {task['coroutine']}{waits}", *(f"  {_place(frame)}" for frame in task["frames"]))


@examples(
    "fdn debug frames 01919605a00000c0c0",
    "fdn debug frames @capture.hex --json",
    "fdn debug frames @tests/interop/vectors.json --vector 'hello client'",
)
@command.command("frames")
@output_options
@click.option("--bytes", "raw", is_flag=True, help="FRAMES is one frame as it is, not hex digits.")
@click.option(
    "--vector", "name", metavar="NAME", help="FRAMES is a file of golden vectors: decode the one of this name."
)
@click.argument("frames")
@click.pass_obj
def frames(invocation: Invocation, /, frames: str, raw: bool, name: str | None) -> int:
    """Decode wire bytes, and say what is wrong where.

    FRAMES are batch frames in hex, one a line; white space and colons inside one do not matter. @FILE reads them from
    a file, - from standard input. Exit status 9 when something is wrong with one.
    """
    from fdn.cli.frames import explain_frame

    content = read_body(frames, raw=True)
    told = [explain_frame(frame) for frame in ([content] if raw else _frames(content.decode("utf-8", "replace"), name))]
    if invocation.is_json:
        invocation.emit([_plain(frame) for frame in told])
    else:
        for frame in told:
            _print(*_frame_lines(frame))
    good = all(not part["problems"] for frame in told for part in (frame, *frame["envelopes"]))
    return ExitCode.OK if good else ExitCode.DEGRADED


def _frames(text: str, name: str | None) -> Iterator[bytes]:
    if name is not None:
        yield from _vector(text, name)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise click.BadParameter("no frame is in it", param_hint="FRAMES")
    for number, line in enumerate(lines, start=1):
        digits = re.sub(r"[\s:]|\\x|0x", "", line)
        try:
            yield binascii.unhexlify(digits)
        except ValueError as error:
            raise click.BadParameter(f"line {number} is no frame in hex: {error}", param_hint="FRAMES") from None


def _vector(text: str, name: str) -> Iterator[bytes]:
    try:
        tree = json.loads(text)
        vectors = {vector["name"]: vector["hex"] for vector in (*tree["batches"], *tree["refused"])}
    except (ValueError, LookupError, TypeError) as error:
        raise click.BadParameter(f"it is no file of golden vectors: {error}", param_hint="FRAMES") from None
    if name not in vectors:
        raise NotFound(f'there is no vector "{name}"', hint=f"there are {', '.join(vectors)}")
    yield bytes.fromhex(vectors[name])


def _frame_lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"frame of {told['bytes']} bytes, {len(told['envelopes'])} envelopes read"
    for envelope in told["envelopes"]:
        kind = f"{envelope.get('kind_name', '?')} ({envelope.get('kind', '?')})"
        yield f"  at {envelope['at']}, {envelope['bytes']} bytes: {kind}"
        for key in ("to", "id", "deadline_ms", "meta", "body"):
            if envelope.get(key) not in ("", 0, None):
                shown = repr(envelope[key])
                yield f"    {key:<11}  {shown if len(shown) <= _SHOWN_MAX else shown[:_SHOWN_MAX] + '...'}"
        yield from _problem_lines(envelope["problems"], "    ")
    yield from _problem_lines(told["problems"], "  ")


def _problem_lines(problems: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for problem in problems:
        yield f"{indent}wrong at {problem['at']}: {problem['what']}"


def _plain(value: Any) -> Any:
    """Bytes as hex, and keys as text: what JSON can hold."""
    match value:
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str():
            return value.encode("utf-8", "replace").decode()  # without the marks of what is not UTF-8
        case None | bool() | int() | float():
            return value
    return repr(value)


def _place(frame: Mapping[str, Any]) -> str:
    return f"{frame['function']}  {frame['file']}:{frame['line']}"


def _or_unknown(count: int | None) -> str:
    return "not told" if count is None else str(count)


def _print(*lines: str) -> None:
    for line in filter(None, lines):
        # What a node or a frame says must not drive the terminal.
        click.echo("".join(c if c.isprintable() else "\ufffd" for c in line))
