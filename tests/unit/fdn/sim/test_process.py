import pytest

from fdn.sim.disk import DiskOutcome
from fdn.sim.latency import Fixed
from fdn.sim.network import Path
from fdn.sim.process import CoreProgram
from fdn.sim.simulation import Simulation


class Beating:
    """A program with a timer each second."""

    def __init__(self, process):
        self.process = process
        self.seen = []
        self.due = process.now + 1.0

    def on_start(self):
        self.seen.append("start")

    def on_message(self, sender, message):
        self.seen.append(message)

    def on_tick(self):
        self.seen.append("tick")
        self.due = self.process.now + 1.0

    def next_deadline(self):
        return self.due

    def on_greeting(self, sender, greeting):
        return None

    def on_closed(self, peer):
        self.seen.append(f"{peer} closed")


@pytest.fixture
def simulation():
    simulation = Simulation(1, Path(latency=Fixed(0.01)))
    for name in ("a", "b"):
        simulation.add(name, Beating)
    return simulation


@pytest.fixture
def process(simulation):
    return simulation.processes["a"]


def test_ticks_come_when_they_are_due(simulation, process):
    simulation.run(3.5)
    assert process.program.seen == ["start", "tick", "tick", "tick"]


def test_a_new_life_knows_nothing_of_the_old_one_and_gets_nothing_meant_for_it(simulation, process):
    process.persist([b"kept"], process.program.seen.append)
    old = process.program
    simulation.run(0.5)
    assert old.seen == ["start", DiskOutcome.DURABLE]
    process.persist([b"unsynced"], old.seen.append)
    process.dial("b", None, lambda *it: old.seen.append(it))
    process.crash()
    process.start()
    simulation.run(3.5)
    assert process.life == 2
    assert old.seen == ["start", DiskOutcome.DURABLE]
    assert process.program.seen == ["start", "tick", "tick", "tick"]
    assert process.disk.records()[0] == b"kept"


def test_what_comes_to_one_that_is_down_is_lost(simulation, process):
    process.crash()
    simulation.processes["b"].send("a", "x")
    simulation.run(1.0)
    process.start()
    simulation.run(0.5)
    assert process.program.seen == ["start"]


def test_one_that_is_stopped_gets_everything_when_it_goes_on(simulation, process):
    process.stop()
    simulation.processes["b"].send("a", "x")
    process.call(process.program.seen.append, "called")
    simulation.run(10.0)
    assert process.program.seen == ["start"]
    process.resume()
    assert sorted(process.program.seen[1:]) in (["called", "x"], ["called", "tick", "x"])
    simulation.run(1.5)
    assert process.program.seen.count("tick") in (1, 2)


def test_held_messages_wait_both_ways_while_timers_run(simulation, process):
    other = simulation.processes["b"]
    process.hold_messages()
    process.send("b", "out")
    other.send("a", "in")
    simulation.run(1.5)
    assert process.program.seen == ["start", "tick"]
    assert "out" not in other.program.seen
    process.release_messages()
    simulation.run(0.1)
    assert process.program.seen == ["start", "tick", "in"]
    assert other.program.seen[-1] == "out"


def test_a_crash_loses_what_was_held(simulation, process):
    process.hold_messages()
    process.send("b", "out")
    process.crash()
    process.start()
    process.release_messages()
    simulation.run(0.5)
    assert simulation.processes["b"].program.seen == ["start"]


def test_a_crash_ends_a_stop(simulation, process):
    process.stop()
    process.crash()
    process.start()
    simulation.run(1.5)
    assert process.program.seen == ["start", "tick"]


def test_a_clock_that_was_turned_moves_the_timers(simulation, process):
    process.clock.jump(0.9)
    process.on_clock_changed()
    simulation.run(0.2)
    assert process.program.seen == ["start", "tick"]
    process.clock.run_at(2.0)
    process.on_clock_changed()
    simulation.run(1.0)
    assert process.program.seen.count("tick") == 3


def test_one_that_gives_up_is_started_again(simulation, process):
    simulation.world.after(0.5, process.call, process.fail, "no reason", 1.0)
    simulation.run(1.0)
    assert not process.up
    simulation.run(1.0)
    assert (process.up, process.life) == (True, 2)
    assert any(what == "gives up" for _, what, _ in simulation.world.notes())


def test_a_program_that_is_always_due_is_found(simulation, process):
    process.program.on_tick = lambda: None
    with pytest.raises(RuntimeError, match="a was ticked 1000 times in one instant"):
        simulation.run(2.0)


class Counter:
    """A core: says how often it was ticked, each half second, and echoes."""

    def __init__(self, now):
        self.due = now + 0.5
        self.count = 0

    def handle(self, input, now):
        if input == "tick":
            self.count += 1
            self.due = now + 0.5
            return [("b", self.count)]
        sender, message = input
        return [(sender, f"echo {message}")]

    def next_deadline(self):
        return self.due


def test_a_bare_core_runs_as_a_program(simulation):
    def program(process):
        return CoreProgram(
            process=process,
            core=Counter(process.now),
            tick="tick",
            received=lambda sender, message: (sender, message),
            carry_out=lambda effect: process.send(*effect),
        )

    simulation.add("core", program)
    simulation.processes["b"].send("core", "x")
    simulation.run(1.2)
    assert [it for it in simulation.processes["b"].program.seen if it not in ("start", "tick")] == ["echo x", 1, 2]
