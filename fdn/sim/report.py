"""Scenarios, their runs, and the report of one that failed: what is needed to see it again.

A scenario draws its faults from the seed, then plays: it puts up processes, lets the faults loose, watches, and raises
when something is not as it must be. Of a failed run the schedule is shrunk, and the report says what was wrong, which
faults it takes, what happened last, and how to replay it.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from fdn.sim.faults import Fault, shrink
from fdn.sim.simulation import Simulation

__all__ = ("Failure", "Figures", "Run", "Scenario", "Violation", "run", "run_seeds")

Figures = Mapping[str, float]  # what a run measured

_NOTES_SHOWN = 40


class Violation(AssertionError):
    """Something is not as it must be."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A story to be played with many seeds.

    Attributes:
        name: For the command line.
        summary: One line for people.
        nodes: How many processes it has unless told otherwise.
        plan: Draws the faults, given a simulation that has only just begun and the number of nodes.
        play: Plays, given simulation, number of nodes and faults. Raises what is wrong; returns what it measured.
    """

    name: str
    summary: str
    nodes: int
    plan: Callable[[Simulation, int], tuple[Fault, ...]]
    play: Callable[[Simulation, int, Sequence[Fault]], Figures]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong in a run, and how to see it again.

    Attributes:
        reason: The violation, or the error of a program.
        faults: Place in the schedule and the fault, of those that it takes.
        faults_count: How many the whole schedule has.
        notes: What happened last, one line each.
        command: Replays it.
    """

    reason: str
    faults: tuple[tuple[int, Fault], ...]
    faults_count: int
    notes: tuple[str, ...]
    command: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a scenario.

    Attributes:
        scenario: Its name.
        seed: Of all chance.
        nodes: How many processes.
        digest: Equal for equal runs.
        event_count: Things that happened.
        virtual_s: Seconds of virtual time.
        figures: What it measured; empty if it failed.
        failure: None if all went well.
    """

    scenario: str
    seed: int
    nodes: int
    digest: str
    event_count: int
    virtual_s: float
    figures: Figures
    failure: Failure | None = None

    def __str__(self) -> str:
        head = f"{self.scenario}, {self.nodes} nodes, seed {self.seed}: "
        size = f"{self.event_count:,} events in {self.virtual_s:,.1f} virtual seconds, digest {self.digest}"
        failure = self.failure
        if failure is None:
            return f"{head}well; {size}"
        faults = [f"  {place:3}  {fault}" for place, fault in failure.faults] or ["  none"]
        return "\n".join(
            (
                f"{head}FAILED; {size}",
                failure.reason,
                f"faults that it takes ({len(failure.faults)} of {failure.faults_count}):",
                *faults,
                "what happened last:",
                *(f"  {note}" for note in failure.notes),
                f"replay: {failure.command}",
            )
        )


def run(
    scenario: Scenario,
    seed: int,
    *,
    nodes: int | None = None,
    only: Collection[int] | None = None,
    shrink_runs_max: int = 100,
) -> Run:
    """Run a scenario once; and if it fails again and again, with ever fewer faults.

    Args:
        scenario: What to play.
        seed: Of all chance.
        nodes: How many processes; the scenario's own number if None.
        only: Places in the schedule: the other faults are left out. None: all of them happen.
        shrink_runs_max: How many runs may be spent on finding out which faults it takes; 0: none.
    """
    count = scenario.nodes if nodes is None else nodes
    schedule = scenario.plan(Simulation(seed), count)
    unknown = [place for place in only or () if not 0 <= place < len(schedule)]
    if unknown:
        raise ValueError(f"no fault {unknown[0]}; the schedule of seed {seed} has {len(schedule)}, counted from 0")
    places = [place for place in range(len(schedule)) if only is None or place in only]

    def attempt(faults: Sequence[Fault]) -> tuple[Simulation, Figures, Exception | None]:
        simulation = Simulation(seed)
        try:
            return simulation, scenario.play(simulation, count, faults), None
        except Exception as error:  # whatever a program raises is a finding
            return simulation, {}, error

    simulation, figures, error = attempt([schedule[place] for place in places])
    failure = None
    if error is not None:
        if shrink_runs_max:
            faults = [schedule[place] for place in places]
            kept, _ = shrink(faults, lambda some: _same(attempt(some)[2], error), shrink_runs_max)
            places = [places[position] for position in kept]
            simulation, figures, error = attempt([schedule[place] for place in places])
            assert error is not None
        failure = Failure(
            reason=_reason(error),
            faults=tuple((place, schedule[place]) for place in places),
            faults_count=len(schedule),
            notes=tuple(_lines(simulation)),
            command=_command(scenario, seed, count, places, len(schedule)),
        )
    return Run(
        scenario=scenario.name,
        seed=seed,
        nodes=count,
        digest=simulation.world.digest(),
        event_count=simulation.world.event_count,
        virtual_s=simulation.world.elapsed_s,
        figures=figures,
        failure=failure,
    )


def run_seeds(scenario: Scenario, seeds: Iterable[int], *, nodes: int | None = None) -> list[Run]:
    """Run a scenario with each seed, for tests.

    Raises:
        Violation: One failed; the text is its report.
    """
    runs = []
    for seed in seeds:
        runs.append(run(scenario, seed, nodes=nodes))
        if runs[-1].failure is not None:
            raise Violation(str(runs[-1]))
    return runs


def _same(error: Exception | None, wanted: Exception | None) -> bool:
    """A smaller schedule must fail in the same way: another failure is another bug."""
    return type(error) is type(wanted)


def _reason(error: Exception) -> str:
    if isinstance(error, Violation):
        return str(error)
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" at {where.tb_frame.f_code.co_qualname}, line {where.tb_lineno}" if where is not None else ""
    return f"{type(error).__name__}{place}: {error}"


def _lines(simulation: Simulation) -> list[str]:
    notes = simulation.world.notes()[-_NOTES_SHOWN:]
    return [f"{when:12.6f}  {what:<14}  {' '.join(map(str, facts))}" for when, what, facts in notes]


def _command(scenario: Scenario, seed: int, nodes: int, places: Sequence[int], total: int) -> str:
    parts = [f"python3 -m tools sim {scenario.name} --seed {seed}"]
    if nodes != scenario.nodes:
        parts.append(f"--nodes {nodes}")
    if len(places) < total:
        parts.append(f"--faults {','.join(map(str, places)) or 'none'}")
    return " ".join(parts)
