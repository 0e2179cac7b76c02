"""`python3 -m tools bench events`: fdn beside nats-py with nats-server, in turns within one run.

The same processes on both sides: one publishes, some subscribe, and the subscriptions are spread over these in the same
way. NATS has its server as one process more; that is how it works. Both publish a number of events that is found out
first, so that a round takes about as long for both, and so that NATS, which does not hold a publisher up, is not made
to queue more than it would by itself.
"""

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn import __version__
from fdn.bench import events as ours
from fdn.bench.events import Contestant, EventPlan, Figure, one_round, rows
from fdn.bench.plan import ROUNDS, in_turn
from tools.peers import environment, nats_peer, servers
from tools.progress import StepFailedError

__all__ = ("FORMS", "calibrated", "measure", "run", "table")

FORMS: Final = ("iterator", "callback")  # nats-py has no third one
_FIRST_COUNT: Final = 2000  # deliveries of the first calibration
_CALIBRATIONS: Final = 2
_COUNT_MAX: Final = 200_000  # events of one round


def run(root: Path, out: Path, subscribers: tuple[int, ...], duration_s: float) -> int:
    """Measure, print the table, and write it beside the numbers into the folder `out`."""
    plan = EventPlan(duration_s=duration_s, subscribers=subscribers, forms=FORMS)
    python = environment.ensure(root, "nats")
    with ours.contestant(plan.transport, plan.processes) as fdn, nats_peer.contestant(python, plan.processes) as peer:
        figures = measure({"fdn": fdn, "nats-py": peer}, plan)
    result = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"fdn": __version__, **environment.versions(python), "python": platform.python_version()},
        "machine": {"cores": _cores(), "system": f"{platform.system()} {platform.machine()}"},
        "flags": {"nats-server": " ".join(servers.NATS_FLAGS), "nats-py": "defaults", "fdn": "defaults"},
        "size": plan.size,
        "rounds": ROUNDS,
        "subscribing_processes": plan.processes,
        "rows": [{"library": name, **row} for name, of in figures.items() for row in rows(of)],
        "figures": [
            {"library": name, "subscribers": n, "form": form, "round": number, **dataclasses.asdict(figure)}
            for name, of in figures.items()
            for (n, form), rounds in of.items()
            for number, figure in enumerate(rounds)
        ],
    }
    text = "\n".join(table(result))
    print(text)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "events.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (out / "events.txt").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StepFailedError(f"the results cannot be written to {out}: {error}") from error
    return 0


def measure(
    contestants: Mapping[str, Contestant], plan: EventPlan, one_round: Callable[..., Figure] = one_round
) -> dict[str, dict[tuple[int, str], list[Figure]]]:
    """All rounds: for each number of subscribers and form one library after the other, so that a machine that is busy
    for a while is so for all of them.
    """
    seconds = plan.duration_s / ROUNDS
    work = [(n, form, name) for n in plan.subscribers for form in plan.forms for name in contestants]
    figures: dict[str, dict[tuple[int, str], list[Figure]]] = {
        name: {(n, form): [] for n in plan.subscribers for form in plan.forms} for name in contestants
    }
    counts: dict[tuple[int, str, str], int] = {}
    _say("finding out how many events a round takes")
    for n, form, name in work:
        count = max(1, _FIRST_COUNT // n)
        for _ in range(_CALIBRATIONS):
            figure = one_round(contestants[name], n, form, {"size": plan.size, **_amount(name, count)})
            count = calibrated(figure, n, seconds)
        counts[n, form, name] = count
    for number in range(1, ROUNDS + 1):
        _say(f"round {number} of {ROUNDS}")
        for n, form, name in in_turn(work, number):
            amount = {"size": plan.size, **_amount(name, counts[n, form, name])}
            figures[name][n, form].append(one_round(contestants[name], n, form, amount))
    return figures


def calibrated(figure: Figure, n: int, seconds: float) -> int:
    """How many events to publish, so that delivering them to `n` subscribers takes about so long."""
    return max(1, min(_COUNT_MAX, round(figure.events_per_s * seconds / n)))


def table(result: Mapping[str, Any]) -> list[str]:
    """The result for people: one line for each number of subscribers and form, the libraries beside one another."""
    versions = result["versions"]
    names = list(dict.fromkeys(row["library"] for row in result["rows"]))
    found = {(row["library"], row["subscribers"], row["form"]): row for row in result["rows"]}
    title = f"events of {result['size']} bytes delivered a second, over all subscribers: medians of "
    lines = [
        f"{title}{result['rounds']} interleaved rounds (lowest to highest)",
        f"{'subscribers':<13}{'read by':<10}" + "".join(f"{name:>34}" for name in names) + f"{'ratio':>8}",
    ]
    for n, form in dict.fromkeys((row["subscribers"], row["form"]) for row in result["rows"]):
        beside = [found[name, n, form] for name in names]
        lines.append(f"{n:<13}{form:<10}" + "".join(f"{_rate(row):>34}" for row in beside) + _ratio(beside))
    lost = {name: sum(row["lost"] for row in result["rows"] if row["library"] == name) for name in names}
    return [
        *lines,
        "lost: " + ", ".join(f"{name} {count}" for name, count in lost.items()),
        "; ".join(f"{name} {version}" for name, version in versions.items())
        + f"; {result['machine']['cores']} cores, loopback; subscriptions over {result['subscribing_processes']} "
        f"process(es), one publishes; nats-server {result['flags']['nats-server']}",
    ]


def _rate(row: Mapping[str, Any]) -> str:
    return f"{row['events_per_s']:,.0f} ({row['lowest']:,.0f} to {row['highest']:,.0f})"


def _ratio(beside: Sequence[Mapping[str, Any]]) -> str:
    first, *others = (row["events_per_s"] for row in beside)
    return "".join(f"{first / other:>8.2f}" if other else f"{'-':>8}" for other in others)


def _amount(name: str, count: int) -> dict[str, Any]:
    # fdn's own worker may also be told to stop by the clock; NATS's only knows a number.
    return {"count": count, "seconds": 3600.0} if name == "fdn" else {"count": count}


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
