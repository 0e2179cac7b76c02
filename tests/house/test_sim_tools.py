"""`python3 -m tools sim`: what it prints, and that a failure comes with the command that replays it."""

import json

import pytest

from fdn.sim import Crash, Scenario, Study, Violation
from tools import sim


def plan(simulation, count):
    rng = simulation.world.rng("faults")
    return tuple(Crash(rng.uniform(0.0, 9.0), 1.0, f"n{place}") for place in range(4))


def story(simulation, count, schedule):
    """Seed 2 fails when the second fault of its schedule is there."""
    simulation.run(10.0)
    if simulation.world.seed == 2 and any(fault.name == "n1" for fault in schedule):
        raise Violation("two is odd")
    return {"nodes": count, "seconds": simulation.world.elapsed_s}


@pytest.fixture(autouse=True)
def scenarios(monkeypatch):
    monkeypatch.setattr(sim, "SCENARIOS", {"odd": Scenario(name="odd", summary="?", nodes=4, plan=plan, play=story)})


def test_seeds_that_go_well_are_a_table(capsys):
    assert sim.play(["odd", "--seed", "3", "--seeds", "2"]) == 0
    said = capsys.readouterr()
    assert "odd, 4 nodes: 2 seeds, 0 failed" in said.out
    assert "seconds" in said.out
    assert said.err == ""


def test_a_failure_is_told_with_its_replay_and_ends_the_run(capsys):
    assert sim.play(["odd", "--json"]) == 1
    said = capsys.readouterr()
    assert "python3 -m tools sim odd --seed 2 --faults 1" in said.err
    summary = json.loads(said.out)
    assert summary["simulated"] is True
    assert summary["seeds"] == [0, 1, 2]
    assert summary["violations"] == 1
    assert summary["failures"][0]["reason"] == "two is odd"
    assert summary["figures_virtual"]["seconds"] == {"min": 10.0, "mean": 10.0, "max": 10.0}


def test_the_replay_fails_alike_and_without_its_fault_it_goes_well(capsys):
    assert sim.play(["odd", "--seed", "2", "--faults", "1"]) == 1
    assert sim.play(["odd", "--seed", "2", "--faults", "none"]) == 0
    assert "two is odd" in capsys.readouterr().err


def test_a_study_says_that_it_is_simulated(capsys, monkeypatch):
    study = Study(
        name="size", summary="?", nodes=5, messages=2, cycles=3,
        measure=lambda it: {"figure": it.nodes * it.messages}, table=lambda it: [f"figure {it['figure']}"],
    )  # fmt: skip
    monkeypatch.setattr(sim, "STUDIES", {"size": study})
    assert sim.play(["size", "--nodes", "7"]) == 0
    assert capsys.readouterr().out == "size, simulated: 7 nodes, seed 0, 3 cycles\nfigure 14\n"
    assert sim.play(["size", "--seed", "4", "--messages", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "study": "size", "simulated": True, "nodes": 5, "seed": 4, "messages": 1, "cycles": 3, "figure": 5,
    }  # fmt: skip


def test_other_seeds_are_played_too_if_wanted(capsys):
    assert sim.play(["odd", "--keep-going", "--nodes", "5", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["nodes"] == 5
    assert len(summary["runs"]) == 10


def test_places_in_a_schedule_are_those_of_one_seed(capsys):
    with pytest.raises(SystemExit) as ended:
        sim.play(["odd", "--seeds", "2", "--faults", "1"])
    assert ended.value.code == 2
    assert "say --seed S" in capsys.readouterr().err
