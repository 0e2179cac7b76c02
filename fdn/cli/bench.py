"""`fdn bench`: what this machine carries, beside bare pyzmq in the same run."""

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from fdn.cli.examples import examples
from fdn.cli.options import Invocation, duration, output_options, target_options
from fdn.cli.output import Column, note
from fdn.units import parse_size

__all__ = ("command",)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_HANDLERS: Final = {"def": ("def",), "async": ("async",), "both": ("def", "async")}


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _options(command: _Command) -> _Command:
    for option in (
        click.option("--transport", type=click.Choice(["tcp", "ipc"]), default="tcp", show_default=True),
        click.option("--handler", type=click.Choice(list(_HANDLERS)), default="both", show_default=True),
        click.option(
            "--count", type=click.IntRange(1), help="Messages for each figure, over all rounds, in place of a duration."
        ),
        click.option(
            "--duration", type=duration, default="3s", show_default=True, help="For each figure, over all rounds."
        ),
        target_options,
        output_options,
    ):
        command = option(command)
    return command


@examples("fdn bench cast", "fdn bench call --json")
@click.group("bench")
def command() -> None:
    """Measure casts and calls, beside bare pyzmq."""


@examples("fdn bench cast", "fdn bench cast --size 1KiB --duration 10s --json")
@command.command("cast")
@_options
@click.option("--size", type=_size, default="100", show_default=True, help="Bytes of data in each message.")
@click.pass_obj
def cast(invocation: Invocation, /, **options: Any) -> None:
    """Send one-way messages, each awaited singly and counted in the receiver's handler.

    A `def` handler takes bytes, an `async def` one a Struct; bare pyzmq sends the same size from PUSH to PULL. All take
    turns in five rounds, and medians are reported.
    """
    from fdn.bench.cast import measure_cast

    _report(invocation, measure_cast(_plan(invocation, **options)), ("messages_per_s", "sent", "lost", "wire_bytes"))


@examples("fdn bench call", "fdn bench call --transport ipc --handler async")
@command.command("call")
@_options
@click.option("--size", type=_size, default="64", show_default=True, help="Bytes of data, there and back.")
@click.option("--in-flight", type=click.IntRange(1, 65536), default=256, show_default=True, help="Calls at once.")
@click.pass_obj
def call(invocation: Invocation, /, **options: Any) -> None:
    """Make calls: one at a time for the latency, many at once for the rate.

    A `def` handler echoes bytes, an `async def` one a Struct; bare pyzmq echoes the same size between two blocking
    DEALERs. All take turns in five rounds, and medians are reported.
    """
    from fdn.bench.call import measure_call

    _report(invocation, measure_call(_plan(invocation, **options)), ("calls_per_s", "p50_us", "p99_us"))


@examples("fdn bench stall", "fdn bench stall --json")
@command.command("stall")
@output_options
@target_options
@click.option(
    "--scenario", "names", multiple=True, metavar="NAME", help="Only this one; may be repeated. By default all of them."
)
@click.pass_obj
def stall(invocation: Invocation, /, names: tuple[str, ...]) -> None:
    """Make a node's code hold its loop, or the GIL, and see what the others notice.

    Scenarios: idle (nothing, to compare with), sleep and python_loop (5 s each), c_sort (C code that keeps the GIL),
    gc_collect (the garbage collector over millions of objects). Two processes and this one form a cluster of their own.
    """
    import asyncio
    import tempfile
    from pathlib import Path

    from fdn.bench.stall import SCENARIOS, measure

    _own_processes_only(invocation)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise click.BadParameter(f'"{unknown[0]}" is none of {", ".join(SCENARIOS)}', param_hint="--scenario")
    say = note if sys.stderr.isatty() else lambda text: None
    with tempfile.TemporaryDirectory(prefix="fdn-bench-") as folder:
        outcomes = asyncio.run(measure(Path(folder), names or tuple(SCENARIOS), say))
    if invocation.is_json:
        invocation.emit(outcomes)
        return
    rows = [{"scenario": name, **outcome} for name, outcome in outcomes.items()]
    keys = ("blocked_s", "suspicions", "deaths", "avoided_after_ms", "calls", "calls_failed", "calls_to_victim")
    invocation.emit(
        rows,
        Column("scenario"),
        *(Column(key, show=_figure) for key in (*keys, "call_p99_ms", "control_p50_ms", "control_p99_ms")),
    )


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _own_processes_only(invocation: Invocation) -> None:
    if invocation.join or invocation.context:
        raise click.UsageError(
            "this version measures processes of its own, not a running cluster: leave out --join and --context"
        )


def _plan(invocation: Invocation, *, duration: float, handler: str, **options: Any) -> Any:
    from fdn.bench.plan import ANSWER_S, Plan

    _own_processes_only(invocation)
    if not 0.05 <= duration <= ANSWER_S:
        raise click.BadParameter(f"{duration:g} s: expected 50ms to {ANSWER_S:g}s", param_hint="--duration")
    if not 1 <= options["size"] <= 1024 * 1024:
        raise click.BadParameter(f"{options['size']} bytes: expected 1 to 1MiB", param_hint="--size")
    say = note if sys.stderr.isatty() else lambda text: None
    return Plan(duration_s=duration, handlers=_HANDLERS[handler], say=say, **options)


def _report(invocation: Invocation, result: dict[str, Any], keys: tuple[str, ...]) -> None:
    if invocation.is_json:
        invocation.emit(result)
        return
    rows = [{"what": f"fdn, {result['handler']} handler", **result}]
    rows += [{"what": "fdn, async handler", **result["async"]}] if "async" in result else []
    rows += [{"what": "bare pyzmq", **result["raw"]}]
    invocation.emit(rows, Column("what", " "), *(Column(key, show=lambda value: f"{value:,.0f}") for key in keys))
    note(f"{result['size']} bytes over {result['transport']}; medians of {len(result['rounds'])} interleaved rounds")
