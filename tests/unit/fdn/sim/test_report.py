import pytest

from fdn.sim import faults
from fdn.sim.faults import Crash, Pause
from fdn.sim.process import CoreProgram
from fdn.sim.report import Scenario, Violation, run, run_seeds

NAMES = ["a", "b"]


class Idle:
    def handle(self, input, now):
        return []

    def next_deadline(self):
        return None


def idle(process):
    return CoreProgram(process, Idle(), None, lambda *_: None, print)


def scenario(play, kinds=("crash", "pause")):
    def plan(simulation, nodes):
        return faults.plan(simulation.world.rng("faults"), NAMES, 60.0, kinds)

    def wrapped(simulation, nodes, schedule):
        for name in NAMES:
            simulation.add(name, idle)
        faults.unleash(simulation, schedule)
        return play(simulation, nodes, schedule)

    return Scenario(name="story", summary="a story", nodes=2, plan=plan, play=wrapped)


def never_b(simulation, nodes, schedule):
    """Fails when b goes down: what a bug in some program would do."""

    def check():
        if not simulation.processes["b"].up:
            raise Violation("b went down")

    simulation.world.always(check)
    simulation.run(100.0)
    return {"seconds": simulation.world.elapsed_s}


def well(simulation, nodes, schedule):
    simulation.run(1.0)
    return {"nodes": nodes, "faults": len(schedule)}


def test_a_run_that_is_well_tells_its_figures():
    done = run(scenario(well), 3, nodes=5)
    assert done.failure is None
    assert done.figures["nodes"] == 5
    assert done.figures["faults"] > 5
    assert str(done).startswith("story, 5 nodes, seed 3: well; ")
    assert run(scenario(well), 3, nodes=5) == done
    assert run(scenario(well), 4, nodes=5).digest != run(scenario(never_b), 5).digest


def failing_seed(story):
    return next(seed for seed in range(50) if run(story, seed, shrink_runs_max=0).failure is not None)


def test_a_failed_run_is_reported_with_what_it_takes_and_replays():
    story = scenario(never_b)
    seed = failing_seed(story)
    done = run(story, seed)
    failure = done.failure
    assert failure is not None
    assert failure.reason == "b went down"
    assert failure.faults_count > len(failure.faults) == 1
    (place, fault), *_ = failure.faults
    assert isinstance(fault, Crash)
    assert fault.name == "b"
    assert failure.command == f"python3 -m tools sim story --seed {seed} --faults {place}"
    assert any("crashes" in note and "b" in note for note in failure.notes)
    for part in (failure.reason, failure.command, repr(fault), "FAILED"):
        assert part in str(done)
    again = run(story, seed, only=[place])
    assert again.failure is not None
    assert (again.digest, again.failure.notes) == (done.digest, failure.notes)
    assert run(story, seed, only=[]).failure is None


def test_a_program_that_raises_is_a_finding():
    def play(simulation, nodes, schedule):
        simulation.world.after(1.0, lambda: dict[str, int]()["missing"])
        simulation.run(5.0)
        return {}

    failure = run(scenario(play), 1).failure
    assert failure is not None
    assert failure.faults == ()  # it fails without any
    assert failure.reason.startswith("KeyError at ")
    assert "missing" in failure.reason
    assert failure.command.endswith("--faults none")


def test_shrinking_keeps_to_the_same_kind_of_failure():
    def play(simulation, nodes, schedule):
        if not any(isinstance(it, Pause) for it in schedule):
            raise ValueError("something else")
        raise Violation("the one")

    failure = run(scenario(play), 1).failure
    assert failure is not None
    assert failure.reason == "the one"


def test_a_place_that_is_not_in_the_schedule():
    with pytest.raises(ValueError, match="no fault 999"):
        run(scenario(well), 1, only=[999])


def test_many_seeds_for_a_test():
    assert [it.seed for it in run_seeds(scenario(well), range(3))] == [0, 1, 2]
    with pytest.raises(Violation, match="b went down"):
        run_seeds(scenario(never_b), range(50))
