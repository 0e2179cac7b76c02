import pytest

from fdn.sim import swim_scenarios
from fdn.sim.report import run_seeds
from topologies.swim import Swim, SwimSettings
from topologies.swim.membership import Membership
from topologies.swim.suspicion import Suspicion

SCENARIOS = {scenario.name: scenario for scenario in swim_scenarios.SCENARIOS}


@pytest.mark.parametrize("name", SCENARIOS)
def test_holds_over_seeds(name):
    run_seeds(SCENARIOS[name], range(1 if name == "swim-hyparview" else 2))


def test_a_partition_in_which_the_gossip_of_a_refutation_missed_one():
    run_seeds(SCENARIOS["swim-partition"], [47])


# A planted bug, and the scenario that must find it within a few seeds.
PLANTS = {
    "nobody refutes": ("swim-pause", Membership, "rise_above", lambda self, heard: False),
    "a suspect is dead at once": ("swim-loss", Suspicion, "deadline", property(lambda self: 0.0)),
    "the dead are remembered as alive": ("swim-crash", Swim, "_declare_dead", lambda self, peer, now: None),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_bug_is_found(plant, monkeypatch):
    name, owner, method, wrong = PLANTS[plant]
    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises(AssertionError, match="replay: "):
        run_seeds(SCENARIOS[name], range(5))


def test_the_bound_on_detection_grows_with_the_settings_and_slowly_with_the_size():
    lan = SwimSettings.lan()
    assert swim_scenarios.detection_s_max(SwimSettings.local(), 10) < swim_scenarios.detection_s_max(lan, 10)
    assert swim_scenarios.detection_s_max(lan, 1000) < 4 * swim_scenarios.detection_s_max(lan, 10)
