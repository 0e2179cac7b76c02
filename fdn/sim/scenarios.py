"""The scenarios and studies that `python3 -m tools sim` knows by name."""

from collections.abc import Mapping
from typing import Final

from fdn.sim import raft_scenarios, swim_scenarios
from fdn.sim.hyparview_study import HYPARVIEW
from fdn.sim.plumtree_study import PLUMTREE
from fdn.sim.report import Scenario
from fdn.sim.study import Study
from fdn.sim.swim_study import SWIM

__all__ = ("SCENARIOS", "STUDIES")

SCENARIOS: Final[Mapping[str, Scenario]] = {
    scenario.name: scenario for scenario in (*swim_scenarios.SCENARIOS, *raft_scenarios.SCENARIOS)
}

STUDIES: Final[Mapping[str, Study]] = {study.name: study for study in (HYPARVIEW, PLUMTREE, SWIM)}
