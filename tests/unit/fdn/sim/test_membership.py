import functools

import pytest

from fdn.sim.membership import Member, MemberSettings
from fdn.sim.simulation import Simulation
from topologies.swim import Status, SwimSettings

SETTINGS = MemberSettings(swim=SwimSettings.local(), seeds=("n0",))


@pytest.fixture(params=["links", "datagrams"])
def settings(request):
    if request.param == "links":
        return SETTINGS
    return MemberSettings(swim=SwimSettings.local(), seeds=("n0",), overlay=None)


def put_up(settings, count=5, seed=1):
    simulation = Simulation(seed)
    for number in range(count):
        simulation.add(f"n{number}", functools.partial(Member, settings))
    return simulation


def view(simulation, name):
    return simulation.processes[name].program.view()


def all_alive(simulation):
    names = {process.name for process in simulation.running()}
    views = [view(simulation, name).items() for name in names]
    return all({it for it, status in seen if status is Status.ALIVE} == names for seen in views)


def test_members_find_each_other_through_a_seed(settings):
    simulation = put_up(settings)
    assert simulation.run(10.0, lambda: all_alive(simulation)) is not None
    simulation.run(5.0)
    assert all_alive(simulation)
    for name, process in simulation.processes.items():
        linked = process.program.linked()
        assert linked == (set(simulation.processes) - {name} if settings.overlay else set())


def test_one_that_is_killed_is_dead_to_all_and_comes_back_in_another_life(settings):
    simulation = put_up(settings)
    simulation.run(10.0, lambda: all_alive(simulation))
    simulation.processes["n3"].crash()
    others = ("n0", "n1", "n2", "n4")
    dead_to_all = simulation.run(30.0, lambda: all(view(simulation, name)["n3"] is Status.DEAD for name in others))
    assert dead_to_all is not None
    assert all_alive(simulation)
    simulation.processes["n3"].start()
    assert simulation.run(20.0, lambda: all_alive(simulation)) is not None
    assert simulation.processes["n1"].program.swim.members()["n3"].incarnation[0] == 2


def test_a_link_that_was_lost_is_dialled_again():
    simulation = put_up(SETTINGS, 2)
    simulation.run(5.0)
    simulation.processes["n1"].hang_up("n0")
    simulation.run(0.01)
    assert simulation.processes["n0"].program.linked() == set()
    simulation.run(5.0)
    assert simulation.processes["n0"].program.linked() == {"n1"}
    assert all_alive(simulation)


def test_members_may_know_each_other_from_the_start():
    simulation = put_up(MemberSettings(swim=SwimSettings.local(), overlay=None))
    claims = [process.program.swim.me for process in simulation.processes.values()]
    for process in simulation.processes.values():
        process.call(process.program.learn, claims)
    assert all_alive(simulation)
    simulation.run(30.0)
    assert all_alive(simulation)
    assert simulation.network.stats().dials == 0
