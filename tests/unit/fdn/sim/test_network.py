import dataclasses

import pytest

from fdn.sim.latency import Fixed, Uniform
from fdn.sim.network import DialOutcome, Path
from fdn.sim.simulation import Simulation

QUICK = Path(latency=Fixed(0.01))


class Recorder:
    """A program that writes down what comes to it."""

    def __init__(self, process):
        self.process = process
        self.got = []

    def on_start(self):
        pass

    def on_message(self, sender, message):
        self.got.append((round(self.process.world.elapsed_s, 6), sender, message))

    def on_tick(self):
        pass

    def next_deadline(self):
        return None

    def on_greeting(self, sender, greeting):
        self.got.append(("greeting", sender, greeting))
        return f"{self.process.name} in life {self.process.life}"

    def on_closed(self, peer):
        self.got.append((round(self.process.world.elapsed_s, 6), "closed", peer))


@pytest.fixture
def make():
    def make(path=QUICK, names=("a", "b"), seed=1):
        simulation = Simulation(seed, path)
        for name in names:
            simulation.add(name, Recorder)
        return simulation

    return make


def got(simulation, name):
    return simulation.processes[name].program.got


def messages(simulation, name):
    return [it[2] for it in got(simulation, name)]


def connect(simulation, source, target):
    outcomes = []
    process = simulation.processes[source]
    process.dial(target, "hello", lambda *it: outcomes.append(it))
    simulation.run(5.0, lambda: outcomes)
    assert outcomes[0][0] is DialOutcome.ANSWERED
    process.link(target)


def test_a_message_arrives_after_its_latency(make):
    simulation = make()
    simulation.processes["a"].send("b", "x")
    simulation.run(1.0)
    assert got(simulation, "b") == [(0.01, "a", "x")]


def test_lost_doubled_and_late_messages(make):
    for path, least, most in [
        (dataclasses.replace(QUICK, loss=0.5), 400, 600),
        (dataclasses.replace(QUICK, duplication=0.5), 1400, 1600),
        (dataclasses.replace(QUICK, reordering=0.5), 1000, 1000),
    ]:
        simulation = make(path)
        for number in range(1000):
            simulation.processes["a"].send("b", number)
        simulation.run(1.0)
        arrived = messages(simulation, "b")
        assert least <= len(arrived) <= most
        assert (arrived == sorted(arrived)) == (path.loss > 0.0)
    stats = make().network.stats()
    assert (stats.sent, stats.arrived) == (0, 0)


def test_one_fault_does_not_shift_the_dice_of_another(make):
    def arrivals(**faults):
        simulation = make(Path(latency=Uniform(0.0, 1.0), ordered=False, **faults))
        for number in range(50):
            simulation.processes["a"].send("b", number)
        simulation.run(5.0)
        return {message: at for at, _, message in reversed(got(simulation, "b"))}

    plain, lossy = arrivals(), arrivals(loss=0.3)
    assert 0 < len(lossy) < len(plain)
    assert all(plain[message] == at for message, at in lossy.items())
    assert arrivals(duplication=0.3) == plain  # of the first of each


def test_ordered_means_that_nothing_overtakes(make):
    for ordered in (True, False):
        simulation = make(Path(latency=Uniform(0.0, 1.0), ordered=ordered))
        for number in range(50):
            simulation.processes["a"].send("b", number)
        simulation.run(5.0)
        arrived = messages(simulation, "b")
        assert sorted(arrived) == [*range(50)]
        assert (arrived == sorted(arrived)) == ordered


def test_a_cut_has_a_direction_and_takes_what_is_on_its_way(make):
    simulation = make()
    simulation.processes["a"].send("b", "on its way")
    rule = simulation.network.impose(["a"], ["b"], None)
    simulation.processes["a"].send("b", "cut")
    simulation.processes["b"].send("a", "back")
    simulation.run(1.0)
    assert messages(simulation, "b") == []
    assert messages(simulation, "a") == ["back"]
    simulation.network.lift(rule)
    simulation.processes["a"].send("b", "healed")
    simulation.run(1.0)
    assert messages(simulation, "b") == ["healed"]


def test_of_several_rules_the_latest_holds_unless_one_cuts(make):
    network = make().network
    slow, slower = Path(latency=Fixed(1.0)), Path(latency=Fixed(2.0))
    network.impose(["a"], ["b"], slow)
    assert network.path("a", "b") is slow
    network.impose(["a"], ["b"], slower)
    assert network.path("a", "b") is slower
    cut = network.impose(["a"], ["b"], None)
    network.impose(["a"], ["b"], slow)
    assert network.path("a", "b") is None
    network.lift(cut)
    assert network.path("a", "b") is slow
    assert network.path("b", "a") == QUICK


def test_a_dial_is_answered_refused_or_times_out(make):
    simulation = make()
    outcomes = []
    dial = simulation.processes["a"].dial
    dial("b", "hello", lambda *it: outcomes.append(it))
    simulation.run(10.0)
    assert outcomes == [(DialOutcome.ANSWERED, "b in life 1")]
    assert got(simulation, "b") == [("greeting", "a", "hello")]
    simulation.processes["b"].crash()
    dial("b", "hello", lambda *it: outcomes.append(it))
    dial("nobody", "hello", lambda *it: outcomes.append(it))
    simulation.run(10.0)
    assert outcomes[1:] == [(DialOutcome.REFUSED, None)] * 2
    simulation.network.impose(["b"], ["a"], None)
    begun = simulation.world.now
    dial("b", "hello", lambda *it: outcomes.append(it))
    assert simulation.run(10.0, lambda: len(outcomes) == 4) == pytest.approx(2.0)
    assert outcomes[3] == (DialOutcome.UNREACHABLE, None)
    assert begun + 2.0 == simulation.world.now


def test_the_kernel_tells_of_a_process_that_ended(make):
    simulation = make()
    connect(simulation, "a", "b")
    simulation.processes["b"].crash()
    simulation.run(1.0)
    assert got(simulation, "a")[-1][1:] == ("closed", "b")


def test_behind_a_cut_nobody_tells_until_the_connection_is_used(make):
    simulation = make()
    connect(simulation, "a", "b")
    rules = [simulation.network.impose([one], [other], None) for one, other in (("a", "b"), ("b", "a"))]
    simulation.processes["b"].crash()
    simulation.processes["b"].start()
    simulation.run(1.0)
    for rule in rules:
        simulation.network.lift(rule)
    simulation.run(1.0)
    assert got(simulation, "a") == []
    simulation.processes["a"].send("b", "into the old connection")
    simulation.run(1.0)
    assert [it[1:] for it in got(simulation, "a")] == [("closed", "b")]
    assert got(simulation, "b") == []


def test_one_that_hangs_up_is_heard(make):
    simulation = make()
    connect(simulation, "a", "b")
    simulation.processes["b"].hang_up("a")
    simulation.processes["a"].send("b", "too late")
    simulation.run(1.0)
    assert [it[1:] for it in got(simulation, "a")] == [("closed", "b")]
    assert messages(simulation, "b") == ["hello"]


def test_one_that_gave_up_its_link_hears_nothing_more(make):
    simulation = make()
    connect(simulation, "a", "b")
    simulation.processes["a"].unlink("b")
    simulation.processes["b"].crash()
    simulation.run(1.0)
    assert got(simulation, "a") == []


def test_a_chance_is_one():
    with pytest.raises(ValueError, match=r"loss is 1\.5"):
        Path(loss=1.5)


def test_bytes_are_counted_when_somebody_wants_to_know(make):
    simulation = make()
    simulation.processes["a"].send("b", "four")
    simulation.network.weigh = len
    simulation.processes["a"].send("b", "fourteen bytes")
    assert simulation.network.stats().bytes == 14
