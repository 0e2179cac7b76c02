"""`python3 -m tools bench --peers ...`: everything that concerns messages, fdn beside others, in one run.

What is compared takes turns within the run, in another order each round, after a warm-up that also finds out how many
messages a round takes. It reports; `tools.peers.budgets` lays the figures beside what was promised.
"""

import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn import __version__
from fdn.bench.blob import BlobPlan, measure_blob
from fdn.bench.large import SIZES
from fdn.bench.load import LoadPlan, measure_load
from fdn.bench.mixed import MixedPlan, measure_mixed
from fdn.bench.overload import OverloadPlan, measure_overload
from fdn.bench.plan import ROUNDS, in_turn
from fdn.bench.shared import SharedPlan, measure_shared
from tools.peers import budgets, environment, machine, servers
from tools.peers.contestants import PEERS, Contestant, everyone
from tools.progress import StepFailedError

__all__ = ("IN_FLIGHT", "PARTS", "SuitePlan", "measure", "measure_side_by_side", "progress", "run", "table")

IN_FLIGHT: Final = 256
PARTS: Final = ("side_by_side", "shared", "blob", "mixed", "overload", "load")
_CAST_BYTES: Final = 100
_CALL_BYTES: Final = 64
_FIRST_COUNT: Final = 256
_CALIBRATIONS: Final = 3
_COUNT_MAX: Final = 3_000_000
_KINDS: Final = ("cast", "latency", "calls", "large")


@dataclasses.dataclass(frozen=True, slots=True)
class SuitePlan:
    """One run.

    Attributes:
        peers: Of `PEERS`.
        parts: Of `PARTS`.
        round_s: Seconds of one round of one contestant.
        rounds: How many.
        long_s: Seconds of each figure of the other parts.
        blob_bytes: Of the large object.
        say: Told what begins.
    """

    peers: tuple[str, ...] = PEERS
    parts: tuple[str, ...] = PARTS
    round_s: float = 0.8
    rounds: int = ROUNDS
    long_s: float = 10.0
    blob_bytes: int = 1 << 30
    say: Callable[[str], None] = lambda text: None

    @classmethod
    def quick(cls, **fields: Any) -> "SuitePlan":
        """The whole in about two minutes; figures are rough."""
        return cls(**{"round_s": 0.15, "rounds": 3, "long_s": 1.5, "blob_bytes": 1 << 26, **fields})


def run(root: Path, plan: SuitePlan, out: Path | None) -> int:
    """Install, measure, print the table, and write the result as JSON."""
    if out is not None and not out.resolve().parent.is_dir():
        raise StepFailedError(f"there is no folder {out.resolve().parent} for {out}")
    python, skipped = environment.ensure_all(root, plan.peers)
    with machine.watched() as found:
        result = measure(plan, python, skipped)
    versions = {**_versions(python), **result.pop("versions")}
    result = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions,
        "machine": found,
        "flags": {"nats-server": " ".join(servers.NATS_FLAGS), "redis-server": " ".join(servers.REDIS_FLAGS)},
        **result,
    }
    result["budgets"] = [dataclasses.asdict(row) for row in budgets.judge(result)]
    print("\n".join(table(result)))
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(plan: SuitePlan, python: Path | None, skipped: Mapping[str, str]) -> dict[str, Any]:
    """All parts, one after the other."""
    present = [name for name in plan.peers if name not in skipped]
    result: dict[str, Any] = {
        "plan": {"rounds": plan.rounds, "round_s": plan.round_s, "long_s": plan.long_s, "in_flight": IN_FLIGHT},
        "skipped": dict(skipped),
        "versions": {},
    }
    if "side_by_side" in plan.parts:
        with everyone(present, python, IN_FLIGHT) as contestants:
            result["contestants"] = {
                name: {"library": who.library, "awaits": who.awaits, "reads": who.reads}
                for name, who in contestants.items()
            }
            result["versions"] = {who.library: who.version for who in contestants.values() if who.version}
            result["rows"] = measure_side_by_side(contestants, plan)
    if "shared" in plan.parts:
        shared = SharedPlan(duration_s=plan.round_s * plan.rounds, rounds=plan.rounds, say=_prefixed(plan, "shared"))
        result["shared"] = measure_shared(shared)
    if "blob" in plan.parts:
        result["blob"] = measure_blob(BlobPlan(size=plan.blob_bytes, say=_prefixed(plan, "blob")))
    if "mixed" in plan.parts:
        peers = ("b0", "erlang") if "erlang" in present else ("b0",)
        say = _prefixed(plan, "mixed")
        scenario_s = min(1.5, plan.long_s)
        mixed = MixedPlan(duration_s=plan.long_s, peers=peers, rounds=plan.rounds, scenario_s=scenario_s, say=say)
        result["mixed"] = measure_mixed(mixed)
    if "overload" in plan.parts:
        overload = OverloadPlan(duration_s=max(0.6, plan.long_s * 0.6), say=_prefixed(plan, "overload"))
        result["overload"] = measure_overload(overload)
    if "load" in plan.parts:
        load = LoadPlan(duration_s=plan.long_s, rounds=plan.rounds, say=_prefixed(plan, "load"))
        result["load"] = measure_load(load)
    return result


def measure_side_by_side(contestants: Mapping[str, Contestant], plan: SuitePlan) -> list[dict[str, Any]]:
    """One row for each figure and contestant: medians, and the lowest and highest round.

    Returns:
        `figure` (`cast`, `latency`, `calls`, `large`), `size`, `who`, `unit`, `median`, `lowest`, `highest`; for
        one-way messages `sent` and `received` over all rounds, for round trips `p99_us`; and `rounds`.
    """
    work = [
        (kind, size, name)
        for kind, sizes in (("cast", (_CAST_BYTES,)), ("latency", (_CALL_BYTES,)), ("calls", (_CALL_BYTES,)))
        for size in sizes
        for name, who in contestants.items()
        if getattr(who, kind) is not None
    ]
    work += [("large", size, name) for size in SIZES for name, who in contestants.items() if who.large is not None]
    plan.say("side by side: finding out how many messages a round takes")
    counts = {one: _calibrated(contestants[one[2]], *one[:2], plan.round_s) for one in work}
    rounds: dict[tuple[str, int, str], list[dict[str, Any]]] = {one: [] for one in work}
    for number in range(1, plan.rounds + 1):
        for kind in _KINDS:
            plan.say(f"side by side: {kind}, round {number} of {plan.rounds}")
            for one in in_turn([one for one in work if one[0] == kind], number):
                rounds[one].append(_one_round(contestants[one[2]], *one[:2], counts[one]))
    return [_row(kind, size, name, of) for (kind, size, name), of in rounds.items()]


def _calibrated(who: Contestant, kind: str, size: int, seconds: float) -> int:
    count = _FIRST_COUNT if kind != "large" else 4
    for _ in range(_CALIBRATIONS):
        started = time.perf_counter()
        _one_round(who, kind, size, count)
        elapsed_s = time.perf_counter() - started
        # Not more than sixteen times as many at once: the first ones tell little.
        count = max(1, min(_COUNT_MAX, 16 * count, round(count * seconds / elapsed_s)))
    return count


def _one_round(who: Contestant, kind: str, size: int, count: int) -> dict[str, Any]:
    result: dict[str, Any] = getattr(who, kind)(size, count)
    if kind == "latency":
        return {"value": result["p50_us"], "p99_us": result["p99_us"]}
    if kind == "calls":
        return {"value": result["calls"] / result["elapsed_s"]}
    rate = result["received"] / result["elapsed_s"]
    value = rate * size / 1e6 if kind == "large" else rate
    return {"value": value, "sent": result["sent"], "received": result["received"]}


_UNITS: Final = {"cast": "messages_per_s", "latency": "p50_us", "calls": "calls_per_s", "large": "mb_s"}


def _row(kind: str, size: int, name: str, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [one["value"] for one in rounds]
    row: dict[str, Any] = {
        "figure": kind,
        "size": size,
        "who": name,
        "unit": _UNITS[kind],
        "median": round(statistics.median(values), 1),
        "lowest": round(min(values), 1),
        "highest": round(max(values), 1),
        "rounds": [round(value, 1) for value in values],
    }
    if kind == "latency":
        row["p99_us"] = round(statistics.median(one["p99_us"] for one in rounds), 1)
    if kind in ("cast", "large"):
        row["sent"] = sum(one["sent"] for one in rounds)
        row["received"] = sum(one["received"] for one in rounds)
    return row


def table(result: Mapping[str, Any]) -> list[str]:
    """The result for people."""
    lines = []
    rows = result.get("rows", [])
    for figure, size in dict.fromkeys((row["figure"], row["size"]) for row in rows):
        of = [row for row in rows if (row["figure"], row["size"]) == (figure, size)]
        lines.append(f"{_TITLES[figure]}, {size:,} bytes: {of[0]['unit']}, median (lowest to highest)")
        for row in of:
            more = f"   p99 {row['p99_us']:,.0f}" if "p99_us" in row else ""
            more += "" if row.get("sent") == row.get("received") else f"   LOST {row['sent'] - row['received']:,}"
            spread = f"({row['lowest']:,.0f} to {row['highest']:,.0f})"
            lines.append(f"  {row['who']:<12}{row['median']:>12,.0f}  {spread:<26}{more}".rstrip())
        lines.append("")
    lines += [
        f"{name}: waits for {who['awaits']}; receives {who['reads']}" for name, who in result["contestants"].items()
    ] if "contestants" in result else []  # fmt: skip
    lines += [f"{name} was not measured: {reason}" for name, reason in result["skipped"].items()]
    found = result["machine"]
    lines += [
        "",
        f"{found['cores']} cores, of which {found['others_cores']:.2f} were busy with other work; "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "",
        *budgets.lines(result["budgets"]),
    ]
    return lines


_TITLES: Final = {
    "cast": "one way",
    "latency": "there and back, one at a time",
    "calls": f"there and back, {IN_FLIGHT} under way",
    "large": "one way, large",
}


def _versions(python: Path | None) -> dict[str, str]:
    import zmq

    found = {"fdn": __version__, "python": platform.python_version(), "pyzmq": zmq.__version__}
    found["libzmq"] = zmq.zmq_version()
    return found | (environment.versions(python) if python is not None else {})


def _prefixed(plan: SuitePlan, part: str) -> Callable[[str], None]:
    return lambda text: plan.say(f"{part}: {text}")


def progress(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
