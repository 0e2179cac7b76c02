import random

import pytest

from fdn.sim import faults
from fdn.sim.disk import DiskConditions
from fdn.sim.faults import KINDS, BadDisk, BadPath, ClockFault, Crash, Cut, Fault, Pause
from fdn.sim.network import Path
from fdn.sim.process import CoreProgram
from fdn.sim.simulation import Simulation

NAMES = ["a", "b", "c"]


class Idle:
    def handle(self, input, now):
        return []

    def next_deadline(self):
        return None


@pytest.fixture
def simulation():
    simulation = Simulation(1)
    for name in NAMES:
        simulation.add(name, lambda process: CoreProgram(process, Idle(), None, lambda *_: None, print))
    return simulation


def test_a_plan_is_the_seeds_and_ends_in_time():
    plans = [faults.plan(random.Random(seed), NAMES, 60.0) for seed in (1, 1, 2)]
    one, again, other = plans
    assert one == again
    assert one != other
    assert 5 < len(plans[0]) < 40
    assert all(fault.at_s >= 0.0 and fault.at_s + fault.lasts_s <= 60.0 for fault in plans[0])


def test_a_plan_has_the_kinds_that_were_asked_for():
    made = faults.plan(random.Random(1), NAMES, 600.0, ("crash", "drift"))
    assert {type(fault) for fault in made} == {Crash, ClockFault}
    with pytest.raises(ValueError, match="no fault 'flood'"):
        faults.plan(random.Random(1), NAMES, 600.0, ("flood",))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_begins_and_leaves_nothing_behind(simulation, kind):
    for seed in range(20):
        fault = KINDS[kind](random.Random(seed), NAMES, 0.5, 1.0)
        assert (fault.at_s, fault.lasts_s) == (0.5, 1.0)
        end = fault.begin(simulation)
        end()
    for one in NAMES:
        process = simulation.processes[one]
        assert process.up
        assert not process.stopped
        assert process.disk.conditions is process.disk.usual
        assert all(simulation.network.path(one, other) == Path() for other in NAMES)


def state(simulation):
    return {name: (process.up, process.stopped) for name, process in simulation.processes.items()}


def test_faults_happen_at_their_times(simulation):
    slow = Path(loss=0.5)
    full = DiskConditions(bytes_max=0)
    schedule: list[Fault] = [
        Crash(1.0, 2.0, "a"),
        Pause(1.0, 2.0, "b"),
        Cut(1.0, 2.0, ("a",), ("b", "c"), one_way=True),
        BadPath(1.0, 2.0, ("c",), ("b",), slow),
        BadDisk(1.0, 2.0, "c", full),
        ClockFault(1.0, 2.0, "c", jump_s=5.0, rate=2.0),
    ]
    begun = simulation.processes["c"].now
    faults.unleash(simulation, schedule)
    simulation.run(2.0)
    assert state(simulation) == {"a": (False, False), "b": (True, True), "c": (True, False)}
    assert simulation.network.path("a", "b") is None
    assert simulation.network.path("b", "a") == Path()
    assert simulation.network.path("c", "b") is slow
    assert simulation.processes["c"].disk.conditions is full
    assert simulation.processes["c"].now == pytest.approx(begun + 1.0 + 5.0 + 2.0)
    simulation.run(2.0)
    assert set(state(simulation).values()) == {(True, False)}
    assert simulation.network.path("a", "b") == Path()
    assert simulation.processes["c"].now == pytest.approx(begun + 1.0 + 5.0 + 4.0 + 1.0)


def test_under_two_faults_it_comes_back_after_the_last(simulation):
    faults.unleash(simulation, [Crash(1.0, 2.0, "a"), Crash(2.0, 3.0, "a"), Pause(1.0, 2.0, "b"), Pause(2.0, 3.0, "b")])
    simulation.run(4.0)
    assert state(simulation)["a"] == (False, False)
    assert state(simulation)["b"] == (True, True)
    simulation.run(2.0)
    assert set(state(simulation).values()) == {(True, False)}


def crashes(count):
    return [Crash(float(number), 1.0, "a") for number in range(count)]


@pytest.mark.parametrize("needed", [(), (7,), (0, 19), (3, 4, 5), (2, 9, 11, 18)])
def test_shrinking_finds_what_it_takes(needed):
    schedule = crashes(20)

    def fails(some):
        return {schedule[place] for place in needed} <= set(some)

    kept, runs = faults.shrink(schedule, fails)
    assert kept == needed
    assert runs < 200


def test_shrinking_ends_when_its_runs_are_used_up():
    schedule, asked = crashes(40), []

    def fails(some):
        asked.append(len(some))
        return len(some) >= 20

    kept, runs = faults.shrink(schedule, fails, runs_max=5)
    assert runs == len(asked) == 5
    assert 20 <= len(kept) <= 40
