"""`fdn bench mixed`, `overload`, `large`, `shared`, `blob`, `load`: large things, and what a load does to the rest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fdn.cli.benching import Keep, number, own_processes_only, progress, save_option, size
from fdn.cli.examples import examples
from fdn.cli.options import Invocation, duration, output_options, target_options
from fdn.cli.output import Column, note
from fdn.units import format_size

__all__ = ("COMMANDS",)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_HANDLERS: Final = {"def": ("def",), "async": ("async",), "both": ("def", "async")}
_DURATION_S_MAX: Final = 600.0
_SIZE_MAX: Final = 1024 * 1024 * 1024


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(size(part) for part in text.split(","))
    if not all(1 <= each <= _SIZE_MAX for each in sizes):
        raise click.BadParameter(f"{text!r}: expected sizes from 1 to {format_size(_SIZE_MAX)}")
    return sizes


def _options(command: _Command) -> _Command:
    duration_option = click.option(
        "--duration", type=duration, default="6s", show_default=True, help="For each figure, over all rounds."
    )
    for option in (save_option, duration_option, target_options, output_options):
        command = option(command)
    return command


@examples("fdn bench mixed", "fdn bench mixed --peers erlang --json")
@click.command("mixed")
@_options
@click.option(
    "--rate",
    type=click.FloatRange(1, 10_000),
    default=500,
    show_default=True,
    help="Round trips that are due in a second.",
)
@click.option("--size", type=size, default="8MiB", show_default=True, help="Bytes of an object on data.")
@click.option(
    "--senders", type=click.IntRange(1, 64), default=4, show_default=True, help="How many send objects at once."
)
@click.option("--peers", type=click.Choice(["erlang"]), multiple=True, help="Measure this one too, where it is.")
@click.pass_obj
def _mixed(invocation: Invocation, /, duration: float, peers: tuple[str, ...], save: Path | None, **load: Any) -> int:
    """Make round trips on coordination while large objects saturate data.

    Round trips are due on a fixed schedule, and each counts from when it was due. The same is done over one connection
    that carries everything (b0), in turns. incidents are those more than 10 ms later than the idle 99th percentile.
    Then a consumer stops reading, user code holds its loop, and a member is stopped (SIGSTOP).
    """
    from fdn.bench.mixed import MixedPlan, measure_mixed

    plan: Any = MixedPlan(duration_s=_seconds(invocation, duration), peers=("b0", *peers), say=progress(), **load)
    result = measure_mixed(plan)
    status = Keep(save, None, 0.0).emit(invocation, result, lambda: _show_mixed(invocation, result))
    if not invocation.is_json:
        for name, reason in result["skipped"].items():
            note(f"{name} was not measured: {reason}")
    return status


def _show_mixed(invocation: Invocation, result: Mapping[str, Any]) -> None:
    rows = []
    for name in ("fdn", "b0", "erlang"):
        part = result if name == "fdn" else result.get(name)
        if part is not None:
            rows.append({"what": f"{name}, idle", **part["idle"]})
            rows.append(
                {"what": f"{name}, saturated", "mb_s": part["bulk_mb_s"], "incidents": part["incidents"]}
                | part["saturated"]
            )
            rows += [
                {"what": f"{name}, {scenario.replace('_', ' ')}", **figures}
                for scenario, figures in part["scenarios"].items()
            ]
    keys = ("count", "p50_us", "p99_us", "p999_us", "max_us", "mb_s", "incidents")
    invocation.emit(rows, Column("what", " "), *(Column(key, show=_figure) for key in keys))


@examples("fdn bench overload", "fdn bench overload --factor 4 --handler def --json")
@click.command("overload")
@_options
@click.option(
    "--factor",
    type=click.FloatRange(0.1, 10),
    default=2.0,
    show_default=True,
    help="How many times the capacity is asked for.",
)
@click.option(
    "--work", type=duration, default="200us", show_default=True, help="Processor time that one request costs."
)
@click.option("--deadline", type=duration, default="1s", show_default=True, help="Deadline of each call.")
@click.option("--clients", type=click.IntRange(1, 64), default=2, show_default=True, help="How many processes ask.")
@click.option("--handler", type=click.Choice(list(_HANDLERS)), default="both", show_default=True)
@click.pass_obj
def _overload(
    invocation: Invocation,
    /,
    duration: float,
    work: float,
    deadline: float,
    handler: str,
    save: Path | None,
    **load: Any,
) -> int:
    """Ask more of a node than it can do, and see what it still does.

    Its capacity is measured first, with as many calls under way as it takes. Then calls are offered at a multiple of
    that on a fixed schedule: goodput is what was answered before its deadline. Then casts: what was accepted and not
    handled is lost. The memory of all processes is watched.
    """
    from fdn.bench.overload import OverloadPlan, measure_overload

    if not 1e-6 <= work <= 1.0:
        raise click.BadParameter(f"{work:g} s: expected 1us to 1s", param_hint="--work")
    if not 0.01 <= deadline <= 60.0:
        raise click.BadParameter(f"{deadline:g} s: expected 10ms to 60s", param_hint="--deadline")
    plan: Any = OverloadPlan(
        duration_s=_seconds(invocation, duration),
        work_s=work,
        deadline_s=deadline,
        handlers=_HANDLERS[handler],
        say=progress(),
        **load,
    )
    result = measure_overload(plan)
    return Keep(save, None, 0.0).emit(invocation, result, lambda: _show_overload(invocation, result))


def _show_overload(invocation: Invocation, result: Mapping[str, Any]) -> None:
    rows = [result, *([{"handler": "async", **result["async"]}] if "async" in result else [])]
    keys = ("capacity_per_s", "offered_per_s", "goodput_per_s", "goodput_to_capacity", "p50_us", "p99_us", "wasted")
    invocation.emit(rows, Column("handler"), *(Column(key, show=_figure) for key in keys))
    for row in rows:
        casts = row["casts"]
        memory = {**row["memory"], **{f"{name}, casts": of for name, of in casts["memory"].items()}}
        worst = max(memory, key=lambda name: memory[name]["slope_kib_s"])
        note(
            f"{row['handler']}: of {casts['accepted']:,} casts accepted {casts['lost']:,} lost; memory grew most in "
            f"{worst}: {memory[worst]['slope_kib_s']:,.0f} KiB/s, to {memory[worst]['end_mib']:,.0f} MiB"
        )


@examples("fdn bench large", "fdn bench large --sizes 1MiB,8MiB --transport ipc --json")
@click.command("large")
@_options
@click.option(
    "--sizes", type=_sizes, default="64KiB,1MiB,4MiB,16MiB", show_default=True, metavar="SIZE,SIZE", help="Of a body."
)
@click.option("--in-flight", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls at once.")
@click.option("--count", type=click.IntRange(1), help="Messages for each figure, in place of a duration.")
@click.option("--transport", type=click.Choice(["tcp", "ipc"]), default="tcp", show_default=True)
@click.pass_obj
def _large(invocation: Invocation, /, duration: float, save: Path | None, **load: Any) -> int:
    """Send large bodies, by casts and by calls, beside bare pyzmq without copies.

    A cast counts when its handler has run; a call is answered with the length. pyzmq sends frames of the same size from
    one buffer. All take turns in five rounds, and medians are reported.
    """
    from fdn.bench.large import LargePlan, measure_large

    plan: Any = LargePlan(duration_s=_seconds(invocation, duration), say=progress(), **load)
    result = measure_large(plan)
    keys = ("mb_s", "lowest", "highest", "to_raw", "sent", "received")
    columns = (Column("size", show=format_size), Column("kind"), *(Column(key, show=_figure) for key in keys))
    return Keep(save, None, 0.0).emit(invocation, result, lambda: invocation.emit(result["rows"], *columns))


@examples("fdn bench shared", "fdn bench shared --sizes 1MiB --handles 1MiB,256MiB --json")
@click.command("shared")
@_options
@click.option(
    "--sizes", type=_sizes, default="1MiB,4MiB,16MiB", show_default=True, metavar="SIZE,SIZE", help="Written and read."
)
@click.option(
    "--handles",
    "handle_sizes",
    type=_sizes,
    default="1MiB,32MiB,1023MiB",
    show_default=True,
    metavar="SIZE,SIZE",
    help="Passed, and not looked at.",
)
@click.pass_obj
def _shared(invocation: Invocation, /, duration: float, save: Path | None, **load: Any) -> int:
    """Pass shared memory between two processes, beside bare pyzmq over ipc.

    At both the sender fills memory with fresh bytes, and the receiver reads every one: again fills the same memory anew
    once it was read, fresh takes new memory each time. Then memory of several sizes is passed that nobody looks at.
    """
    from fdn.bench.shared import SharedPlan, measure_shared

    if any(each % 8 for each in load["sizes"]):
        raise click.BadParameter("expected multiples of 8: what is read is added up by eights", param_hint="--sizes")
    plan: Any = SharedPlan(duration_s=_seconds(invocation, duration), say=progress(), **load)
    result = measure_shared(plan)
    rows = [*result["rows"], *({"kind": "handle", **row} for row in result["handles"])]
    keys = ("mb_s", "lowest", "highest", "to_raw", "sent", "received", "p50_us", "p99_us")
    columns = (Column("size", show=format_size), Column("kind"), *(Column(key, show=_figure) for key in keys))
    return Keep(save, None, 0.0).emit(invocation, result, lambda: invocation.emit(rows, *columns))


@examples("fdn bench blob", "fdn bench blob --size 64MiB --times 1 --json")
@click.command("blob")
@save_option
@target_options
@output_options
@click.option("--size", type=size, default="1GiB", show_default=True, help="Bytes of the object.")
@click.option("--times", type=click.IntRange(1, 100), default=3, show_default=True, help="How often it is fetched.")
@click.pass_obj
def _blob(invocation: Invocation, /, save: Path | None, **load: Any) -> int:
    """Fetch a large object from another process, in frames and by shared memory, every piece checked.

    The rate is that of the quickest time. extra is by how much each process grew meanwhile; what it maps of shared
    memory counts.
    """
    from fdn.bench.blob import BlobPlan, measure_blob

    own_processes_only(invocation)
    plan: Any = BlobPlan(say=progress(), **load)
    result = measure_blob(plan)
    rows = [
        {"way": way, "mb_s": of["mb_s"]} | {f"{name}_extra_mib": extra for name, extra in of["extra_mib"].items()}
        for way, of in result.items()
        if isinstance(of, dict)
    ]
    keys = ("mb_s", "holder_extra_mib", "taker_extra_mib")
    columns = (Column("way"), *(Column(key, show=_figure) for key in keys))
    return Keep(save, None, 0.0).emit(invocation, result, lambda: invocation.emit(rows, *columns))


@examples("fdn bench load", "fdn bench load --nodes 3 --load 0.8 --json")
@click.command("load")
@_options
@click.option("--nodes", type=click.IntRange(2, 64), default=5, show_default=True, help="How many, a process each.")
@click.option(
    "--load", type=click.FloatRange(0.01, 1.0), default=0.5, show_default=True, help="Which part of the capacity."
)
@click.option("--size", type=size, default="64", show_default=True, help="Bytes of data, there and back.")
@click.option("--bulk-size", type=size, default="8MiB", show_default=True, help="Bytes of an object beside the calls.")
@click.option(
    "--bulk-mb-s",
    type=click.FloatRange(1),
    default=200.0,
    show_default=True,
    help="How much of them, in 10**6 bytes a second.",
)
@click.pass_obj
def _load(invocation: Invocation, /, duration: float, save: Path | None, **load: Any) -> int:
    """Make calls among nodes at a part of what they can do, with and without bulk traffic.

    All nodes serve, and all call the others. Capacity is the highest rate at which they keep up; then calls are due at
    random times at a part of it, and each latency counts from when the call was due.
    """
    from fdn.bench.load import LoadPlan, measure_load

    plan: Any = LoadPlan(duration_s=_seconds(invocation, duration), say=progress(), **load)
    result = measure_load(plan)
    rows = [{"beside": state, **result[state]} for state in ("quiet", "bulk")]
    keys = ("offered_per_s", "p50_us", "p99_us", "p999_us", "max_us", "bulk_mb_s")
    columns = (Column("beside"), *(Column(key, show=_figure) for key in keys))
    status = Keep(save, None, 0.0).emit(invocation, result, lambda: invocation.emit(rows, *columns))
    if not invocation.is_json:
        capacity = result["capacity_per_s"]
        note(f"{plan.nodes} nodes keep up with {capacity:,} calls a second; {plan.load:.0%} of that was offered")
    return status


def _seconds(invocation: Invocation, seconds: float) -> float:
    own_processes_only(invocation)
    if not 0.05 <= seconds <= _DURATION_S_MAX:
        raise click.BadParameter(f"{seconds:g} s: expected 50ms to {_DURATION_S_MAX:g}s", param_hint="--duration")
    return seconds


def _figure(value: Any) -> str:
    return "-" if value is None else number(value)


COMMANDS: Final = (_mixed, _overload, _large, _shared, _blob, _load)
