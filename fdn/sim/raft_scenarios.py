"""What must hold of Raft under every fault there is: nothing answered is lost, and what was answered has an order.

Clients put, get and compare-and-set while the nemesis is loose; the properties of figure 3.2 are checked as things
happen, and afterwards that the group serves again, that all stores are equal, and that the history of the clients is
linearizable.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final

from consensus.raft import RaftSettings
from fdn.sim import faults, linearizability
from fdn.sim.faults import KINDS, Fault
from fdn.sim.history import History, Outcome
from fdn.sim.kv import KvClient, KvClientSettings
from fdn.sim.raft_member import RaftMember, RaftMemberSettings, RaftWatch
from fdn.sim.report import Figures, Scenario, Violation
from fdn.sim.simulation import Simulation

__all__ = ("SCENARIOS",)

_LOOSE_S: Final = 30.0
_SERVES_AGAIN_S: Final = 10.0
_CLIENTS: Final = 4

# Small, so that what large settings make rare happens all the time.
_SETTINGS: Final = RaftSettings(
    append_bytes_max=512,
    append_entries_max=8,
    inflight_messages_max=4,
    snapshot_after_entries=40,
    trailing_entries=5,
    snapshot_chunk_bytes=64,
)
# A voter whose clock runs fast takes its promise back too early: no lease holds beyond `clock_drift_max`.
_LEASE_SETTINGS: Final = dataclasses.replace(_SETTINGS, lease_s=0.2)
_LEASE_KINDS: Final = tuple(kind for kind in KINDS if kind not in ("drift", "jump"))


def _names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def _plan(kinds: Sequence[str], simulation: Simulation, count: int) -> tuple[Fault, ...]:
    return faults.plan(simulation.world.rng("faults"), _names(count), _LOOSE_S, kinds, per_minute=40.0)


def _plan_elections(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    rng = simulation.world.rng("faults")
    return faults.plan(
        rng, _names(count), _LOOSE_S, ("crash", "kill", "partition", "slow", "loss", "slow-disk"), per_minute=400.0,
        lasts_s=(0.01, 0.5),
    )  # fmt: skip


def _play(
    settings: RaftSettings, lease_reads: bool, simulation: Simulation, count: int, schedule: Sequence[Fault]
) -> Figures:
    names = _names(count)
    watch, history = RaftWatch(), History(simulation.world)
    members = RaftMemberSettings(raft=settings, voters=tuple(names), lease_reads=lease_reads)
    for name in names:
        simulation.add(name, functools.partial(RaftMember, members, watch))
    clients = KvClientSettings(servers=names, ends_at_s=_LOOSE_S + _SERVES_AGAIN_S)
    for number in range(_CLIENTS):
        simulation.add(f"c{number}", functools.partial(KvClient, clients, history, number))
    faults.unleash(simulation, schedule)
    simulation.run(_LOOSE_S + 1e-6)
    calm = simulation.world.now
    if simulation.run(_SERVES_AGAIN_S, lambda: all(it.answered_at > calm for it in _clients(simulation))) is None:
        raise Violation(f"not all clients were served within {_SERVES_AGAIN_S:g} s after the last fault")
    recovery_s = simulation.world.now - calm
    simulation.run(2 * _SERVES_AGAIN_S)  # the clients end, and the last of the members catches up
    _same_stores(simulation)
    verdict = linearizability.check(history.operations)
    if not verdict.linearizable:
        raise Violation(str(verdict))
    operations = history.operations
    return {
        "operations": len(operations),
        "ok": sum(it.outcome is Outcome.OK for it in operations),
        "unknown": sum(it.outcome is Outcome.UNKNOWN for it in operations),
        "terms": max(watch.leaders, default=0),
        "faults": len(schedule),
        "recovery_s": recovery_s,
        "checker_steps": verdict.steps,
    }


def _clients(simulation: Simulation) -> list[KvClient]:
    programs = (process.program for process in simulation.processes.values())
    return [program for program in programs if isinstance(program, KvClient)]


def _same_stores(simulation: Simulation) -> None:
    dumps = {
        process.name: process.program.store.dump()
        for process in simulation.processes.values()
        if isinstance(process.program, RaftMember)
    }
    first = min(dumps)
    for name, dump in dumps.items():
        if dump != dumps[first]:
            raise Violation(f"the stores of {first} and {name} differ after {_SERVES_AGAIN_S:g} s of quiet")


SCENARIOS: Final = (
    Scenario(
        name="raft",
        summary="half a minute of every fault, disks included: linearizable, served again, all stores equal",
        nodes=3,
        plan=functools.partial(_plan, tuple(KINDS)),
        play=functools.partial(_play, _SETTINGS, False),
    ),
    Scenario(
        name="raft-elections",
        summary="seven faults a second, all short, so that elections and crashes meet",
        nodes=3,
        plan=_plan_elections,
        play=functools.partial(_play, _SETTINGS, False),
    ),
    Scenario(
        name="raft-lease",
        summary="the same with lease reads; clocks are true, or no lease could hold",
        nodes=3,
        plan=functools.partial(_plan, _LEASE_KINDS),
        play=functools.partial(_play, _LEASE_SETTINGS, True),
    ),
)
