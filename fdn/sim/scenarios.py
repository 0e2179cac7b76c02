"""The scenarios that `python3 -m tools sim` knows by name."""

from collections.abc import Mapping
from typing import Final

from fdn.sim import raft_scenarios, swim_scenarios
from fdn.sim.report import Scenario

__all__ = ("SCENARIOS",)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.name: scenario for scenario in (*swim_scenarios.SCENARIOS, *raft_scenarios.SCENARIOS)
}
