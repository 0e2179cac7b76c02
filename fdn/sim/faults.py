"""The nemesis: a schedule of faults, drawn from the seed before the run begins, and shrunk when the run has failed.

Each fault begins at a time and ends by itself, so that any of them can be left out without changing what the others
mean; the seed and the places in the schedule of those that matter replay a failure. The dice of the schedule are not
those of the network, the disks and the programs.
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from fdn.sim.disk import DiskConditions
from fdn.sim.latency import LogNormal, Uniform
from fdn.sim.network import Path
from fdn.sim.simulation import Simulation

__all__ = (
    "KINDS",
    "BadDisk",
    "BadPath",
    "ClockFault",
    "Crash",
    "Cut",
    "Fault",
    "Pause",
    "plan",
    "shrink",
    "unleash",
)


class Fault(Protocol):
    """Something that goes wrong for a while. Times are seconds since the schedule was unleashed."""

    @property
    def at_s(self) -> float: ...

    @property
    def lasts_s(self) -> float: ...

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        """Let it go wrong; returns what ends it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Crash:
    """A process ends and is started again."""

    at_s: float
    lasts_s: float
    name: str
    power: bool = True  # the machine went down; else the process was killed, and what it has written stays

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        process = simulation.processes[self.name]
        process.crash(power=self.power)
        return process.start


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A process is stopped, and goes on."""

    at_s: float
    lasts_s: float
    name: str

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        process = simulation.processes[self.name]
        process.stop()
        return process.resume


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """Nothing gets from these to those; nor back, unless it is a cut in one direction."""

    at_s: float
    lasts_s: float
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    one_way: bool = False

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        network = simulation.network
        rules = [network.impose(self.sources, self.targets, None)]
        if not self.one_way:
            rules.append(network.impose(self.targets, self.sources, None))

        def end() -> None:
            for rule in rules:
                network.lift(rule)

        return end


@dataclasses.dataclass(frozen=True, slots=True)
class BadPath:
    """What goes from these to those gets there slowly, or doubled, or out of order, or not at all."""

    at_s: float
    lasts_s: float
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    path: Path

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        rule = simulation.network.impose(self.sources, self.targets, self.path)
        return functools.partial(simulation.network.lift, rule)


@dataclasses.dataclass(frozen=True, slots=True)
class ClockFault:
    """A clock jumps ahead, then runs too fast or too slow for a while."""

    at_s: float
    lasts_s: float
    name: str
    jump_s: float = 0.0
    rate: float = 1.0

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        process = simulation.processes[self.name]
        process.clock.jump(self.jump_s)
        process.clock.run_at(self.rate)
        process.on_clock_changed()

        def end() -> None:
            process.clock.run_at(1.0)
            process.on_clock_changed()

        return end


@dataclasses.dataclass(frozen=True, slots=True)
class BadDisk:
    """A disk is slow, full, or fails to sync."""

    at_s: float
    lasts_s: float
    name: str
    conditions: DiskConditions

    def begin(self, simulation: Simulation) -> Callable[[], object]:
        disk = simulation.processes[self.name].disk
        disk.conditions = self.conditions

        def end() -> None:
            if disk.conditions is self.conditions:  # else a later fault has taken over
                disk.conditions = disk.usual

        return end


_Make = Callable[[random.Random, Sequence[str], float, float], Fault]


def _sides(rng: random.Random, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    shuffled = rng.sample(names, len(names))
    size = rng.randint(1, max(1, len(names) - 1))
    return tuple(sorted(shuffled[:size])), tuple(sorted(shuffled[size:]))


def _bridge(rng: random.Random, names: Sequence[str], at_s: float, lasts_s: float) -> Fault:
    """Two halves that do not see each other, and one in the middle whom both see."""
    middle = rng.choice(names)
    left, right = _sides(rng, [name for name in names if name != middle] or names)
    return Cut(at_s, lasts_s, left, right)


def _some_paths(path: Path) -> _Make:
    def make(rng: random.Random, names: Sequence[str], at_s: float, lasts_s: float) -> Fault:
        sources = tuple(sorted(rng.sample(names, rng.randint(1, len(names)))))
        return BadPath(at_s, lasts_s, sources, tuple(names), path)

    return make


# A name for the command line -> makes one fault of that kind.
KINDS: Final[Mapping[str, _Make]] = {
    "crash": lambda rng, names, at_s, lasts_s: Crash(at_s, lasts_s, rng.choice(names)),
    "kill": lambda rng, names, at_s, lasts_s: Crash(at_s, lasts_s, rng.choice(names), power=False),
    "pause": lambda rng, names, at_s, lasts_s: Pause(at_s, lasts_s, rng.choice(names)),
    "partition": lambda rng, names, at_s, lasts_s: Cut(at_s, lasts_s, *_sides(rng, names)),
    "one-way": lambda rng, names, at_s, lasts_s: Cut(at_s, lasts_s, *_sides(rng, names), one_way=True),
    "bridge": _bridge,
    "loss": _some_paths(Path(loss=0.2)),
    "slow": _some_paths(Path(latency=LogNormal(0.05, 1.0, 2.0))),
    "duplication": _some_paths(Path(duplication=0.3, latency=Uniform(0.0002, 0.05))),
    "reordering": _some_paths(Path(reordering=0.3, held_up_s=0.2, ordered=False)),
    "drift": lambda rng, names, at_s, lasts_s: ClockFault(
        at_s, lasts_s, rng.choice(names), rate=rng.uniform(0.8, 1.25)
    ),
    "jump": lambda rng, names, at_s, lasts_s: ClockFault(
        at_s, lasts_s, rng.choice(names), jump_s=rng.uniform(0.0, 5.0)
    ),
    "slow-disk": lambda rng, names, at_s, lasts_s: BadDisk(
        at_s, lasts_s, rng.choice(names), DiskConditions(latency=LogNormal(0.05, 1.0, 2.0))
    ),
    "failing-disk": lambda rng, names, at_s, lasts_s: BadDisk(
        at_s, lasts_s, rng.choice(names), DiskConditions(sync_failure=0.2)
    ),
    "full-disk": lambda rng, names, at_s, lasts_s: BadDisk(
        at_s, lasts_s, rng.choice(names), DiskConditions(bytes_max=0)
    ),
}


def plan(
    rng: random.Random,
    names: Sequence[str],
    seconds: float,
    kinds: Collection[str] = (*KINDS,),
    *,
    per_minute: float = 20.0,
    lasts_s: tuple[float, float] = (0.1, 5.0),
) -> tuple[Fault, ...]:
    """Draw a schedule.

    Args:
        rng: `world.rng("faults")`, say.
        names: The processes that things may happen to.
        seconds: All faults are over by then.
        kinds: Of `KINDS`.
        per_minute: How many, about.
        lasts_s: How long each lasts, least and most.

    Raises:
        ValueError: A kind that there is not.
    """
    unknown = sorted({*kinds} - {*KINDS})
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(KINDS)}")
    made: list[Fault] = []
    at_s = rng.expovariate(per_minute / 60.0)
    while at_s < seconds:
        kind = rng.choice([*kinds])
        lasting = min(rng.uniform(*lasts_s), seconds - at_s)
        made.append(KINDS[kind](rng, names, at_s, lasting))
        at_s += rng.expovariate(per_minute / 60.0)
    return tuple(made)


def unleash(simulation: Simulation, faults: Sequence[Fault]) -> None:
    """Let a schedule begin now.

    A process under two faults that both keep it down, or stopped, comes back when the last of them ends.
    """
    holds: dict[tuple[type[Fault], str], int] = {}

    def begin(fault: Fault) -> None:
        simulation.world.note("fault", repr(fault))
        end = fault.begin(simulation)
        key = (type(fault), getattr(fault, "name", ""))
        holds[key] = holds.get(key, 0) + 1
        simulation.world.after(fault.lasts_s, finish, fault, key, end)

    def finish(fault: Fault, key: tuple[type[Fault], str], end: Callable[[], object]) -> None:
        holds[key] -= 1
        if not (isinstance(fault, Crash | Pause) and holds[key]):
            simulation.world.note("fault is over", repr(fault))
            end()

    for fault in faults:
        simulation.world.after(fault.at_s, begin, fault)


def shrink(
    faults: Sequence[Fault], fails: Callable[[Sequence[Fault]], bool], runs_max: int = 200
) -> tuple[tuple[int, ...], int]:
    """Find a small part of a schedule that still makes the run fail. Delta debugging (Zeller and Hildebrandt, 2002).

    Args:
        faults: With all of them it fails.
        fails: Runs with some of them.
        runs_max: No more runs than this; the best so far is returned then.

    Returns:
        The places in `faults` of those that remain, and how many runs that took.
    """
    kept = [*range(len(faults))]
    runs = 0
    if runs_max > 0:
        runs = 1
        if fails(()):
            return (), runs
    parts = 2
    while len(kept) >= 2 and runs < runs_max:
        for left in _without_each_part(kept, parts):
            runs += 1
            if fails([faults[place] for place in left]):
                kept, parts = left, max(parts - 1, 2)
                break
            if runs >= runs_max:
                break
        else:
            if parts >= len(kept):
                break
            parts = min(len(kept), parts * 2)
    return tuple(kept), runs


def _without_each_part(places: Sequence[int], parts: int) -> Iterator[list[int]]:
    size = -(-len(places) // parts)
    for start in range(0, len(places), size):
        yield [*places[:start], *places[start + size :]]
