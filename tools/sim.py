"""`sim`: plays a scenario of `fdn.sim` with many seeds; of one that fails it says how to see it again.

Or it makes a study: measures what a paper measured, and prints the figures of both.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fdn.sim import Run, Scenario, run
from fdn.sim.scenarios import SCENARIOS, STUDIES
from fdn.sim.study import Study, StudyRequest
from tools import mutants

__all__ = ("play",)

_MUTANTS = "`mutants` instead of a scenario plays each planted bug of tests/mutants until a seed sees it."


def play(arguments: Sequence[str]) -> int:
    """Play, and return 1 if a seed failed."""
    if arguments[:1] == ["mutants"]:
        return _hunt(arguments[1:])
    options = _parse(arguments)
    if options.patch is not None:
        return _play_patched(options.patch, arguments)
    if options.scenario in STUDIES:
        return _study(STUDIES[options.scenario], options)
    scenario = SCENARIOS[options.scenario]
    failed = 0
    runs = []
    for done in _runs(scenario, options):
        runs.append(done)
        if done.failure is not None:
            failed += 1
            print(f"{done}\n", file=sys.stderr, flush=True)
            if not options.keep_going:
                break
    if options.json:
        print(json.dumps(_summary(scenario, runs), indent=2))
    else:
        print("\n".join(_table(scenario, runs)))
    return 1 if failed else 0


def _study(study: Study, options: argparse.Namespace) -> int:
    live = sys.stderr.isatty()

    def progress(text: str) -> None:
        if live:
            print(f"\r\x1b[K{study.name}: {text}", end="", file=sys.stderr, flush=True)

    request = StudyRequest(
        nodes=options.nodes or study.nodes,
        seed=options.seed,
        messages=options.messages or study.messages,
        cycles=options.cycles or study.cycles,
        edges=options.edges,
        progress=progress,
    )
    result = {
        "study": study.name,
        "simulated": True,
        "nodes": request.nodes,
        "seed": request.seed,
        "messages": request.messages,
        "cycles": request.cycles,
        **study.measure(request),
    }
    if live:
        print("\r\x1b[K", end="", file=sys.stderr)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        head = f"{study.name}, simulated: {request.nodes:,} nodes, seed {request.seed}, {request.cycles} cycles"
        print("\n".join((head, *study.table(result))))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    width = max(map(len, (*SCENARIOS, *STUDIES)))
    every: tuple[Mapping[str, Scenario | Study], ...] = (SCENARIOS, STUDIES)
    scenarios, studies = (
        "\n".join(f"  {name:<{width}}  {it.summary} ({it.nodes} nodes)" for name, it in them.items()) for them in every
    )
    parser = argparse.ArgumentParser(
        prog="python3 -m tools sim",
        description=f"All of it in virtual time. {_MUTANTS}\n\n"
        f"scenarios, for many seeds:\n{scenarios}\n\nstudies:\n{studies}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=[*SCENARIOS, *STUDIES], metavar="SCENARIO")
    parser.add_argument("--seeds", type=_positive, default=None, metavar="N", help="how many seeds (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first of them; alone: only this one (0)")
    parser.add_argument("--nodes", type=_positive, default=None, metavar="N", help="how many processes")
    parser.add_argument(
        "--faults", type=_places, default=None, metavar="I,J", help="of the seed's schedule only these, or `none`"
    )
    parser.add_argument("--messages", type=_positive, default=None, metavar="N", help="of a study: broadcasts a figure")
    parser.add_argument("--cycles", type=_positive, default=None, metavar="N", help="of a study: cycles beforehand")
    parser.add_argument(
        "--edges", type=Path, default=None, metavar="FILE", help="of hyparview: links and hops, as JSON lines"
    )
    parser.add_argument(
        "--patch", type=Path, default=None, metavar="FILE", help="plant a bug first, in a scratch copy of the source"
    )
    parser.add_argument("--no-shrink", action="store_true", help="do not look for the faults that a failure takes")
    parser.add_argument("--keep-going", action="store_true", help="play the other seeds, too, when one has failed")
    parser.add_argument("--json", action="store_true", help="a summary for programs instead of the table")
    options = parser.parse_args(arguments)
    if options.seeds is None:
        # A seed that is named is meant alone, as in the command that replays a failure.
        options.seeds = 1 if any(it == "--seed" or it.startswith("--seed=") for it in arguments) else 10
    if options.faults is not None and options.seeds != 1:
        parser.error("--faults names places in the schedule of one seed; say --seed S")
    return options


def _hunt(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tools sim mutants", description=_MUTANTS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, as raft/vote-twice")
    parser.add_argument("--seeds", type=_positive, default=100, metavar="N", help="at most, for each (100)")
    parser.add_argument("--json", action="store_true", help="for programs instead of the table")
    options = parser.parse_args(arguments)
    try:
        return mutants.hunt(options.names, options.seeds, options.json)
    except ValueError as error:
        parser.error(str(error))


def _play_patched(patch: Path, arguments: Sequence[str]) -> int:
    """The same command, but for the patch, in a copy that has it."""
    rest, skip = [], False
    for argument in arguments:
        if skip or argument.startswith("--patch="):
            skip = False
        elif argument == "--patch":
            skip = True
        else:
            rest.append(argument)
    try:
        return mutants.play_patched(patch, rest)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _runs(scenario: Scenario, options: argparse.Namespace) -> Iterator[Run]:
    begun = time.monotonic()
    live = sys.stderr.isatty()
    for number, seed in enumerate(range(options.seed, options.seed + options.seeds), start=1):
        if live:
            print(f"\r\x1b[K{scenario.name}: seed {seed}, {number} of {options.seeds}", end="", file=sys.stderr)
        spent = 0 if options.no_shrink else 100
        done = run(scenario, seed, nodes=options.nodes, only=options.faults, shrink_runs_max=spent)
        if live:
            print("\r\x1b[K", end="", file=sys.stderr)
        elif number % 100 == 0:
            print(f"{scenario.name}: {number} of {options.seeds}, {time.monotonic() - begun:.0f} s", file=sys.stderr)
        yield done


def _summary(scenario: Scenario, runs: Sequence[Run]) -> dict[str, Any]:
    """Everything in virtual time, as the name of each says."""
    good = [it for it in runs if it.failure is None]
    figures = {
        name: {"min": min(values), "mean": sum(values) / len(values), "max": max(values)}
        for name in (good[0].figures if good else ())
        if (values := [it.figures[name] for it in good])
    }
    return {
        "scenario": scenario.name,
        "simulated": True,
        "nodes": runs[0].nodes,
        "seeds": [it.seed for it in runs],
        "violations": len(runs) - len(good),
        "steps": sum(it.event_count for it in runs),
        "virtual_hours": sum(it.virtual_s for it in runs) / 3600.0,
        "figures_virtual": figures,
        "failures": [
            {"seed": it.seed, "reason": it.failure.reason, "command": it.failure.command}
            for it in runs
            if it.failure is not None
        ],
        "runs": [{"seed": it.seed, "digest": it.digest, "figures": dict(it.figures)} for it in runs],
    }


def _table(scenario: Scenario, runs: Sequence[Run]) -> list[str]:
    summary = _summary(scenario, runs)
    head = (
        f"{scenario.name}, {summary['nodes']} nodes: {len(runs)} seeds, {summary['violations']} failed; "
        f"{summary['steps']:,} events, {summary['virtual_hours']:.2f} virtual hours"
    )
    lines = [head]
    for name, figure in summary["figures_virtual"].items():
        lines.append(f"  {name:<16}{figure['min']:>14,.3f}{figure['mean']:>14,.3f}{figure['max']:>14,.3f}")
    if len(lines) > 1:
        lines.insert(1, f"  {'':<16}{'least':>14}{'mean':>14}{'most':>14}")
    return lines


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _places(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(int(place) for place in text.split(","))
