import pytest

from fdn.sim.process import CoreProgram
from fdn.sim.simulation import Simulation


class Idle:
    def handle(self, input, now):
        return []

    def next_deadline(self):
        return None


def idle(process):
    return CoreProgram(process, Idle(), None, lambda sender, message: None, print)


def test_names_are_for_life():
    simulation = Simulation(1)
    process = simulation.add("a", idle)
    assert (process.life, process.up) == (1, True)
    assert simulation.add("b", idle, start=False).life == 0
    with pytest.raises(ValueError, match="there is a process 'a'"):
        simulation.add("a", idle)


def test_running_are_those_that_are_up_and_not_stopped():
    simulation = Simulation(1)
    for name in ("a", "b", "c"):
        simulation.add(name, idle)
    simulation.processes["a"].crash()
    simulation.processes["b"].stop()
    assert [process.name for process in simulation.running()] == ["c"]
    assert simulation.run(2.0) is None
    assert simulation.world.elapsed_s == 2.0
