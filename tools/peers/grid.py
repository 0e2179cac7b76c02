"""`python3 -m tools bench --grid`: the grid of Partisan's paper, through a proxy that makes the way longer.

Meiklejohn, Miller and Alvaro, "PARTISAN: Scaling the Distributed Actor Runtime" (USENIX ATC 2019), section 5: many
senders, each with one message under way, a payload there and a short answer back, at 1 and 20 ms of round trip. Here
between two processes on one machine; every cell is published, those where fdn is behind too.
"""

import contextlib
import dataclasses
import json
import math
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.bench import erlang
from fdn.bench.plan import ANSWER_S, in_turn
from fdn.bench.worker import Worker
from tools.peers import environment, machine
from tools.progress import StepFailedError

__all__ = ("GridPlan", "measure", "run", "summary", "table")

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_HOST: Final = "127.0.0.1"
_WARM_UP_S: Final = 0.2
_LANES: Final = 4
_TICKS: Final = 1.0  # round trips a second that B0's worker makes besides
_CHANNELS: Final = ("coordination", "gossip", "data", "events")

Puts = Callable[[int, int, float], dict[str, Any]]  # size, senders, seconds -> received, elapsed_s


@dataclasses.dataclass(frozen=True, slots=True)
class GridPlan:
    """One run.

    Attributes:
        round_trips_s: By how much the way is longer, there and back.
        sizes: Bytes of a payload.
        senders: How many send at once.
        seconds: How long each cell begins new messages; it ends with the last answer.
        rounds: How many of each cell.
        say: Told what begins.
    """

    round_trips_s: tuple[float, ...] = (0.001, 0.020)
    sizes: tuple[int, ...] = (_KIB, 512 * _KIB, 8 * _MIB)
    senders: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 0.8
    rounds: int = 2
    say: Callable[[str], None] = lambda text: None

    @classmethod
    def quick(cls, **fields: Any) -> "GridPlan":
        """Its corners, roughly."""
        return cls(**{"senders": (1, 128), "seconds": 0.3, "rounds": 1, **fields})


def run(root: Path, plan: GridPlan, out: Path | None) -> int:
    """Install Erlang where possible, measure, print the grid, and write it as JSON."""
    if out is not None and not out.resolve().parent.is_dir():
        raise StepFailedError(f"there is no folder {out.resolve().parent} for {out}")
    _, skipped = environment.ensure_all(root, ["erlang"])
    with machine.watched() as found:
        result = measure(plan, skipped)
    result = {"measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": found, **result}
    print("\n".join(table(result)))
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(plan: GridPlan, skipped: Mapping[str, str]) -> dict[str, Any]:
    """Every cell, all contestants in turn.

    Returns:
        `cells`: for each `round_trip_ms`, `size`, `senders` and `who` the median `per_s`, `lowest`, `highest`, `mb_s`.
    """
    cells: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        program = (sys.executable, "-m", "tools.peers.delay_proxy")
        proxy = stack.enter_context(Worker("proxy", program))
        who: dict[str, Puts] = {
            "fdn": stack.enter_context(_fdn(proxy, 1)),
            f"fdn, {_LANES} lanes": stack.enter_context(_fdn(proxy, _LANES)),
            "b0": stack.enter_context(_b0(proxy)),
        }
        if "erlang" not in skipped:
            who["erlang"] = stack.enter_context(_erlang(proxy))
        for round_trip_s in plan.round_trips_s:
            proxy.ask("delay", ANSWER_S, seconds=round_trip_s / 2)
            for size in plan.sizes:
                for senders in plan.senders:
                    plan.say(f"grid: {round_trip_s * 1000:g} ms, {_size(size)}, {senders} senders")
                    rates = _cell(who, plan, size, senders)
                    at = {"round_trip_ms": round_trip_s * 1000, "size": size, "senders": senders}
                    cells += [{**at, "who": name, **_figures(of, size)} for name, of in rates.items()]
    return {
        "plan": {"seconds": plan.seconds, "rounds": plan.rounds},
        "skipped": dict(skipped),
        "cells": cells,
    }


def _cell(who: Mapping[str, Puts], plan: GridPlan, size: int, senders: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in who}
    for puts in who.values():
        puts(size, senders, min(_WARM_UP_S, plan.seconds))
    for number in range(plan.rounds):
        for name in in_turn(who, number):
            one = who[name](size, senders, plan.seconds)
            rates[name].append(one["received"] / one["elapsed_s"])
    return rates


def _figures(rates: Sequence[float], size: int) -> dict[str, float]:
    middle = statistics.median(rates)
    figures = {"per_s": middle, "lowest": min(rates), "highest": max(rates), "mb_s": middle * size / 1e6}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def table(result: Mapping[str, Any]) -> list[str]:
    """The grid for people: messages a second, and fdn's best beside each of the others."""
    cells = {(cell["round_trip_ms"], cell["size"], cell["senders"], cell["who"]): cell for cell in result["cells"]}
    names = list(dict.fromkeys(cell["who"] for cell in result["cells"]))
    others = [name for name in names if not name.startswith("fdn")]
    lines = [
        f"{'round trip':<12}{'payload':<10}{'senders':<9}"
        + "".join(f"{name:>14}" for name in names)
        + "".join(f"{'to ' + name:>11}" for name in others)
    ]
    for at in dict.fromkeys(key[:3] for key in cells):
        of = {name: cells[*at, name]["per_s"] for name in names}
        best = max(rate for name, rate in of.items() if name.startswith("fdn"))
        lines.append(
            f"{f'{at[0]:g} ms':<12}{_size(at[1]):<10}{at[2]:<9}"
            + "".join(f"{rate:>14,.1f}" for rate in of.values())
            + "".join(f"{best / of[name]:>10.2f}x" for name in others)
        )
    lines += [f"{name} was not measured: {reason}" for name, reason in result["skipped"].items()]
    return lines


def summary(result: Mapping[str, Any], other: str) -> dict[str, float]:
    """Fdn's best beside another one over the whole grid: `lowest`, `mean` (geometric) and `highest` ratio, and `below`,
    the cells in which fdn is behind, of `cells`.
    """
    rates: dict[tuple[Any, ...], dict[str, float]] = {}
    for cell in result["cells"]:
        rates.setdefault((cell["round_trip_ms"], cell["size"], cell["senders"]), {})[cell["who"]] = cell["per_s"]
    ratios = [
        max(rate for name, rate in of.items() if name.startswith("fdn")) / of[other]
        for of in rates.values()
        if other in of
    ]
    return {
        "cells": len(ratios),
        "below": sum(ratio < 1 for ratio in ratios),
        "lowest": round(min(ratios), 2),
        "mean": round(math.exp(statistics.mean(map(math.log, ratios))), 2),
        "highest": round(max(ratios), 2),
    }


# -- who takes part, each with the proxy between its two processes


@contextlib.contextmanager
def _fdn(proxy: Worker, lanes: int) -> Iterator[Puts]:
    def place() -> dict[str, Any]:
        base = _free_base()
        targets = {channel: base + number for number, channel in enumerate(_CHANNELS)}
        there = proxy.ask("listen", ANSWER_S, targets=targets)
        advertise = ",".join(f"{channel}=tcp://{_HOST}:{port}" for channel, port in there.items())
        return {"endpoint": f"tcp://{_HOST}:{base}", "advertise": advertise, "lanes": lanes}

    place_of_receiver = place()
    join = place_of_receiver["advertise"].partition(",")[0].partition("=")[2]
    with (
        Worker("large-receiver", **place_of_receiver),
        Worker("large-sender", **place(), join=join) as sender,
    ):

        def puts(size: int, senders: int, seconds: float) -> dict[str, Any]:
            # With lanes, each sender has a key of its own, as the paper's had an affinity.
            amount = {"size": size, "seconds": seconds, "count": None, "in_flight": senders, "keyed": lanes > 1}
            return sender.ask("call", ANSWER_S, **amount)

        yield puts


@contextlib.contextmanager
def _b0(proxy: Worker) -> Iterator[Puts]:
    with Worker("b0-receiver", endpoint=f"tcp://{_HOST}:*") as receiver:
        port = int(receiver.ready["endpoint"].rpartition(":")[2])
        there = proxy.ask("listen", ANSWER_S, targets={"b0": port})["b0"]
        with Worker("b0-sender", endpoint=f"tcp://{_HOST}:{there}") as sender:

            def puts(size: int, senders: int, seconds: float) -> dict[str, Any]:
                receiver.tell("serve")
                # Each of its senders has one object under way, and sends the next when that was acknowledged.
                load = {"rate": max(_TICKS, 1 / seconds), "seconds": seconds, "senders": senders, "size": size}
                result = sender.ask("saturated", ANSWER_S, **load)
                receiver.answer(ANSWER_S)
                return {
                    "received": result["received"],
                    "elapsed_s": result["received"] * size / result["bulk_mb_s"] / 1e6,
                }

            yield puts


@contextlib.contextmanager
def _erlang(proxy: Worker) -> Iterator[Puts]:
    def through(name: str, port: int) -> int:
        there: int = proxy.ask("listen", ANSWER_S, targets={name: port})[name]
        return there

    with erlang.pair(through) as (_, sender):

        def puts(size: int, senders: int, seconds: float) -> dict[str, Any]:
            return sender.ask("puts", ANSWER_S, size=size, seconds=seconds, in_flight=senders)

        yield puts


def _free_base() -> int:
    """A base port with three free ones above it."""
    for _ in range(100):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.socket())
            first.bind((_HOST, 0))
            base: int = first.getsockname()[1]
            for offset in range(1, len(_CHANNELS)):
                stack.enter_context(socket.socket()).bind((_HOST, base + offset))
            return base
    raise StepFailedError("no four free ports in a row")


def _size(size: int) -> str:
    return f"{size // _MIB} MiB" if size >= _MIB else f"{size // _KIB} KiB"
