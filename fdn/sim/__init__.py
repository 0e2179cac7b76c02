"""The deterministic simulator: cores and whole programs on a virtual clock, where everything that can go wrong does.

One seed decides all chance, so a run that failed can be seen again, exactly. Start with `fdn.sim.simulation` and
`fdn.sim.process`; `fdn.sim.scenarios` holds what `python3 -m tools sim` plays.
"""

from fdn.sim.clock import Clock
from fdn.sim.disk import Disk, DiskConditions, DiskOutcome, Journal
from fdn.sim.faults import KINDS, BadDisk, BadPath, ClockFault, Crash, Cut, Fault, Pause, plan, shrink, unleash
from fdn.sim.history import History, Operation, Outcome, from_json_lines
from fdn.sim.latency import Fixed, Latency, LogNormal, Uniform
from fdn.sim.linearizability import Model, Register, Verdict, check
from fdn.sim.network import DialOutcome, Network, NetworkStats, Path, Rule
from fdn.sim.process import Core, CoreProgram, Process, Program
from fdn.sim.report import Failure, Figures, Run, Scenario, Violation, run, run_seeds
from fdn.sim.simulation import Simulation
from fdn.sim.study import Study, StudyRequest
from fdn.sim.world import World

__all__ = (
    "KINDS",
    "BadDisk",
    "BadPath",
    "Clock",
    "ClockFault",
    "Core",
    "CoreProgram",
    "Crash",
    "Cut",
    "DialOutcome",
    "Disk",
    "DiskConditions",
    "DiskOutcome",
    "Failure",
    "Fault",
    "Figures",
    "Fixed",
    "History",
    "Journal",
    "Latency",
    "LogNormal",
    "Model",
    "Network",
    "NetworkStats",
    "Operation",
    "Outcome",
    "Path",
    "Pause",
    "Process",
    "Program",
    "Register",
    "Rule",
    "Run",
    "Scenario",
    "Simulation",
    "Study",
    "StudyRequest",
    "Uniform",
    "Verdict",
    "Violation",
    "World",
    "check",
    "from_json_lines",
    "plan",
    "run",
    "run_seeds",
    "shrink",
    "unleash",
)
