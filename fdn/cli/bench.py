"""`fdn bench`: what this machine carries, beside bare pyzmq in the same run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fdn.cli import bench_loads
from fdn.cli.benching import Keep, number, own_processes_only, progress, save_option, size
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, duration, output_options, target_options
from fdn.cli.output import Column, note

__all__ = ("command",)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_HANDLERS: Final = {"def": ("def",), "async": ("async",), "both": ("def", "async")}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise click.BadParameter(f"{text!r}: expected numbers from 1 to 1000, as in 1,5,50")
    return numbers


def _options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--floor",
            type=click.FloatRange(0.0),
            default=0.8,
            show_default=True,
            help="The ratio to --baseline below which a rate is too low.",
        ),
        click.option(
            "--baseline",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Compare the rates with those that --save wrote; exit 10 if one is too low.",
        ),
        save_option,
        click.option("--transport", type=click.Choice(["tcp", "ipc"]), default="tcp", show_default=True),
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


_handler_option = click.option("--handler", type=click.Choice(list(_HANDLERS)), default="both", show_default=True)


@examples("fdn bench cast", "fdn bench call --json")
@click.group("bench")
def command() -> None:
    """Measure casts and calls beside bare pyzmq, events, streams, and what load of one kind does to the others."""


for _command in bench_loads.COMMANDS:
    command.add_command(_command)


@examples("fdn bench cast", "fdn bench cast --size 1KiB --duration 10s --json")
@command.command("cast")
@_options
@_handler_option
@click.option("--size", type=size, default="100", show_default=True, help="Bytes of data in each message.")
@click.pass_obj
def cast(invocation: Invocation, /, **options: Any) -> int:
    """Send one-way messages, each awaited singly and counted in the receiver's handler.

    A `def` handler takes bytes, an `async def` one a Struct; bare pyzmq sends the same size from PUSH to PULL. All take
    turns in five rounds, and medians are reported.
    """
    from fdn.bench.cast import measure_cast

    keep = Keep.out_of(options)
    result = measure_cast(_plan(invocation, **options))
    return keep.emit(
        invocation, result, lambda: _report(invocation, result, ("messages_per_s", "sent", "lost", "wire_bytes"))
    )


@examples("fdn bench call", "fdn bench call --transport ipc --handler async")
@command.command("call")
@_options
@_handler_option
@click.option("--size", type=size, default="64", show_default=True, help="Bytes of data, there and back.")
@click.option("--in-flight", type=click.IntRange(1, 65536), default=256, show_default=True, help="Calls at once.")
@click.pass_obj
def call(invocation: Invocation, /, **options: Any) -> int:
    """Make calls: one at a time for the latency, many at once for the rate.

    A `def` handler echoes bytes, an `async def` one a Struct; bare pyzmq echoes the same size between two blocking
    DEALERs. All take turns in five rounds, and medians are reported.
    """
    from fdn.bench.call import measure_call

    keep = Keep.out_of(options)
    result = measure_call(_plan(invocation, **options))
    return keep.emit(invocation, result, lambda: _report(invocation, result, ("calls_per_s", "p50_us", "p99_us")))


@examples("fdn bench events", "fdn bench events --subscribers 1,10 --form iterator --json")
@command.command("events")
@_options
@click.option(
    "--subscribers", type=_numbers, default="1,5,50", show_default=True, metavar="N,N", help="Subscriptions, in turn."
)
@click.option(
    "--form",
    type=click.Choice(["iterator", "callback", "function", "all"]),
    default="all",
    show_default=True,
    help="How they read: async for, an async def handler, a plain def.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Over how many processes, a node each, the subscriptions are spread.",
)
@click.option("--size", type=size, default="100", show_default=True, help="Bytes of data in each event.")
@click.pass_obj
def events(invocation: Invocation, /, form: str, **options: Any) -> int:
    """Publish from one node to subscriptions on others, and count what arrives in them.

    events_per_s is over all subscriptions, from the first publish to the last arrival. All numbers and forms take turns
    in five rounds, and medians are reported; with --json, every round.
    """
    from fdn.bench.event_nodes import FORMS
    from fdn.bench.events import EventPlan, measure_events

    keep = Keep.out_of(options)
    forms = FORMS if form == "all" else (form,)
    plan = _plan(invocation, EventPlan, forms=forms, **options)
    result = measure_events(plan)
    keys = ("events_per_s", "lowest", "highest", "publisher_us", "subscriber_us", "lost")
    columns = (Column("subscribers"), Column("form"), *(Column(key, show=number) for key in keys))
    status = keep.emit(invocation, result, lambda: invocation.emit(result["rows"], *columns))
    if not invocation.is_json:
        note(
            f"{plan.size} bytes over {plan.transport}, subscriptions on {plan.processes} node(s) of their own; "
            "medians of 5 interleaved rounds; us: processor time for an event published, or received"
        )
    return status


@examples("fdn bench stream", "fdn bench stream --size 1KiB --save stream.json")
@command.command("stream")
@_options
@click.option("--size", type=size, default="100", show_default=True, help="Bytes of data in each item.")
@click.pass_obj
def stream(invocation: Invocation, /, **options: Any) -> int:
    """Read a streamed reply by `async for` and in two forms of a callback, and send a request stream.

    The callbacks are there to compare with: an async function that is awaited for each item, and a plain one that is
    run where it arrives. All take turns in fifteen rounds, and medians are reported.
    """
    from fdn.bench.stream import measure_stream

    keep = Keep.out_of(options)
    result = measure_stream(_plan(invocation, **options))
    kinds = ("callback", "function", "request")
    rows = [{"what": "iterator", **result}, *({"what": kind, **result[kind]} for kind in kinds)]
    keys = ("items_per_s", "lowest", "highest", "client_us")
    columns = (Column("what", " "), *(Column(key, show=number) for key in keys))
    status = keep.emit(invocation, result, lambda: invocation.emit(rows, *columns))
    if not invocation.is_json:
        callback, function = result["iterator_to_callback"], result["iterator_to_function"]
        note(
            f"the iterator's rate is {callback:.2f} of a callback's and {function:.2f} of a function's; "
            "client us: processor time of the client for an item"
        )
    return status


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

    own_processes_only(invocation)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise click.BadParameter(f'"{unknown[0]}" is none of {", ".join(SCENARIOS)}', param_hint="--scenario")
    with tempfile.TemporaryDirectory(prefix="fdn-bench-") as folder:
        outcomes = asyncio.run(measure(Path(folder), names or tuple(SCENARIOS), progress()))
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


def _plan(invocation: Invocation, kind: Any = None, *, duration: float, handler: str = "both", **options: Any) -> Any:
    from fdn.bench.plan import ANSWER_S, Plan

    own_processes_only(invocation)
    if not 0.05 <= duration <= ANSWER_S:
        raise click.BadParameter(f"{duration:g} s: expected 50ms to {ANSWER_S:g}s", param_hint="--duration")
    if not 1 <= options["size"] <= 1024 * 1024:
        raise click.BadParameter(f"{options['size']} bytes: expected 1 to 1MiB", param_hint="--size")
    return (kind or Plan)(duration_s=duration, handlers=_HANDLERS[handler], say=progress(), **options)


def _report(invocation: Invocation, result: dict[str, Any], keys: tuple[str, ...]) -> None:
    rows = [{"what": f"fdn, {result['handler']} handler", **result}]
    rows += [{"what": "fdn, async handler", **result["async"]}] if "async" in result else []
    rows += [{"what": "bare pyzmq", **result["raw"]}]
    invocation.emit(rows, Column("what", " "), *(Column(key, show=lambda value: f"{value:,.0f}") for key in keys))
    note(f"{result['size']} bytes over {result['transport']}; medians of {len(result['rounds'])} interleaved rounds")
