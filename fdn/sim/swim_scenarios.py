"""What must hold of SWIM in production settings (`lan`), under faults.

The bounds within which something must have happened are derived from the settings below, and not from what runs
happened to take.
"""

import functools
import random
from collections.abc import Sequence
from typing import Final

from fdn.sim import faults
from fdn.sim.faults import Crash, Cut, Fault, Pause
from fdn.sim.membership import Member, MemberSettings
from fdn.sim.network import Path
from fdn.sim.process import Process
from fdn.sim.report import Figures, Scenario, Violation
from fdn.sim.simulation import Simulation
from topologies.hyparview import HyParView, HyParViewSettings, Peer
from topologies.swim import Claim, Status, SwimSettings
from topologies.swim.suspicion import timeout_min_s

__all__ = ("SCENARIOS", "agreed", "detection_s_max", "form", "member")

_SETTINGS: Final = MemberSettings(swim=SwimSettings.lan(), seeds=("n0", "n1"))
_FORMS_S: Final = 20.0
_FOR_GOOD_S: Final = 1e6
_HEALS_S: Final = 10.0  # the promise after a partition of any length


def member(process: Process) -> Member:
    """The program of a process as a member."""
    program = process.program
    assert isinstance(program, Member)
    return program


def detection_s_max(settings: SwimSettings, count: int) -> float:
    """When the last of `count` members must hold dead whoever was killed, though no connection told them.

    The first probe fails within two rounds over all members at the latest, but with many who probe it takes a few
    intervals; the suspicion is confirmed, or runs its full time; then the news spreads.
    """
    probed_s = min(2 * count, 10) * settings.probe_interval_s
    suspected_s = timeout_min_s(settings, count) * settings.suspicion_max_multiplier
    return probed_s + suspected_s + 10 * settings.gossip_interval_s


def form(simulation: Simulation, count: int, settings: MemberSettings = _SETTINGS) -> float:
    """Put up that many members and let them find each other. Returns how long that took."""
    for number in range(count):
        simulation.add(f"n{number}", functools.partial(Member, settings))
    took = simulation.run(_FORMS_S, lambda: agreed(simulation))
    if took is None:
        raise Violation(f"{count} members did not find each other within {_FORMS_S:g} s\n{_views(simulation)}")
    return took


def agreed(simulation: Simulation) -> bool:
    """Whether all who run hold exactly those alive who run."""
    running = simulation.running()
    names = {process.name for process in running}
    # Cheaply first: this is asked after every event.
    if any(member(process).swim.stats().members != len(names) - 1 for process in running):
        return False
    return all(
        {name for name, status in member(process).view().items() if status is Status.ALIVE} == names
        for process in running
    )


def _views(simulation: Simulation) -> str:
    views = (
        f"  {process.name}: " + " ".join(f"{name}={status.value}" for name, status in member(process).view().items())
        for process in simulation.running()[:10]
    )
    return "\n".join(views)


def _verdicts(simulation: Simulation, status: Status) -> list[tuple[str, str]]:
    """Who holds, or held in this life, whom to be so."""
    return [
        (process.name, change.subject)
        for process in simulation.processes.values()
        for change in member(process).changes
        if change.after is not None and change.after.status is status
    ]


def _no_faults(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    del simulation, count
    return ()


def _play_loss(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """One message in ten is lost, for five minutes: some are suspected, and nobody is held dead who lives."""
    form(simulation, count)
    everybody = [*simulation.processes]
    simulation.network.impose(everybody, everybody, Path(loss=0.1))
    faults.unleash(simulation, schedule)
    simulation.run(300.0)
    false = _verdicts(simulation, Status.DEAD)
    if false:
        raise Violation(f"{false[0][0]} held {false[0][1]} dead, which lives; {len(false)} such verdicts")
    return {"suspicions": len(_verdicts(simulation, Status.SUSPECT)), "sent": simulation.network.stats().sent}


def _plan_crash(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    rng = simulation.world.rng("faults")
    return (Crash(rng.uniform(0.0, 5.0), _FOR_GOOD_S, f"n{rng.randrange(count)}"),)


def _play_crash(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """A member is killed: all others hold it dead within the bound, and nobody else."""
    form(simulation, count)
    faults.unleash(simulation, schedule)
    simulation.run(max((fault.at_s for fault in schedule), default=0.0) + 1e-6)
    dead = {process.name for process in simulation.processes.values() if not process.up}
    bound_s = detection_s_max(_SETTINGS.swim, count)
    took = simulation.run(bound_s, lambda: agreed(simulation))
    if took is None:
        raise Violation(f"{sorted(dead)} is not dead to all within {bound_s:.1f} s\n{_views(simulation)}")
    false = [verdict for verdict in _verdicts(simulation, Status.DEAD) if verdict[1] not in dead]
    if false:
        raise Violation(f"{false[0][0]} held {false[0][1]} dead, which lives")
    return {"detection_s": took}


def _plan_pause(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    rng = simulation.world.rng("faults")
    # From what nobody notices to what makes everybody hold it dead.
    return (Pause(rng.uniform(0.0, 5.0), rng.choice([0.3, 2.0, 4.0, 60.0]), f"n{rng.randrange(count)}"),)


def _play_pause(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """A member is stopped and goes on: it refutes what was said of it, and blames nobody."""
    form(simulation, count)
    faults.unleash(simulation, schedule)
    simulation.run(max((fault.at_s + fault.lasts_s for fault in schedule), default=0.0) + 1e-6)
    took = simulation.run(_HEALS_S, lambda: agreed(simulation))
    if took is None:
        raise Violation(f"not agreed {_HEALS_S:g} s after the pause\n{_views(simulation)}")
    slept = {fault.name for fault in schedule if isinstance(fault, Pause)}
    for process in simulation.processes.values():
        for change in member(process).changes:
            after = change.after
            if after is not None and after.status in (Status.SUSPECT, Status.DEAD) and after.subject not in slept:
                raise Violation(f"{after.by} held {after.subject}, which was never stopped, {after.status.value}")
    simulation.run(60.0)
    if not agreed(simulation):
        raise Violation(f"no longer agreed a minute after the pause\n{_views(simulation)}")
    return {"refutation_s": took}


def _plan_partition(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    rng = simulation.world.rng("faults")
    names = [f"n{number}" for number in range(count)]
    lasts_s = rng.choice([5.0, 60.0, 600.0])
    match rng.choice(["one", "halves", "one way", "bridge"]):
        case "one":
            alone = rng.choice(names)
            return (Cut(1.0, lasts_s, (alone,), tuple(name for name in names if name != alone)),)
        case "halves":
            return (Cut(1.0, lasts_s, tuple(names[: count // 2]), tuple(names[count // 2 :])),)
        case "one way":
            return (Cut(1.0, lasts_s, tuple(names[: count // 2]), tuple(names[count // 2 :]), one_way=True),)
        case _:
            return (Cut(1.0, lasts_s, tuple(names[: count // 2]), tuple(names[count // 2 + 1 :])),)


def _play_partition(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """The network is parted and heals: all agree again within ten seconds, however long it was."""
    form(simulation, count)
    faults.unleash(simulation, schedule)
    simulation.run(max((fault.at_s + fault.lasts_s for fault in schedule), default=0.0) + 1e-6)
    took = simulation.run(_HEALS_S, lambda: agreed(simulation))
    if took is None:
        raise Violation(f"not agreed {_HEALS_S:g} s after healing\n{_views(simulation)}")
    simulation.run(30.0)
    if not agreed(simulation):
        raise Violation(f"no longer agreed 30 s after healing\n{_views(simulation)}")
    return {"recovery_s": took, "lasted_s": sum(fault.lasts_s for fault in schedule)}


def _hyparview(claim: Claim, rng: random.Random) -> HyParView:
    return HyParView(Peer(claim.subject, claim.incarnation, claim.endpoints), HyParViewSettings(), rng)


_PARTIAL: Final = MemberSettings(swim=SwimSettings.lan(), seeds=("n0", "n1"), overlay=_hyparview, is_partial=True)


def _plan_crashes(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    rng = simulation.world.rng("faults")
    victims = rng.sample([f"n{number}" for number in range(count)], max(1, count // 10))
    return tuple(Crash(rng.uniform(0.0, 2.0), _FOR_GOOD_S, name, power=rng.random() < 0.5) for name in victims)


def _play_partial(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """With a few links each, a tenth is killed: dead to everybody within the bound, and nobody else."""
    took = form(simulation, count, _PARTIAL)
    simulation.run(10.0)  # neighbours settle
    faults.unleash(simulation, schedule)
    simulation.run(max((fault.at_s for fault in schedule), default=0.0) + 1e-6)
    dead = {process.name for process in simulation.processes.values() if not process.up}
    bound_s = detection_s_max(_PARTIAL.swim, count)
    detected = simulation.run(bound_s, lambda: agreed(simulation))
    if detected is None:
        raise Violation(f"{sorted(dead)} are not dead to all within {bound_s:.1f} s\n{_views(simulation)}")
    false = [verdict for verdict in _verdicts(simulation, Status.DEAD) if verdict[1] not in dead]
    if false:
        raise Violation(f"{false[0][0]} held {false[0][1]} dead, which lives")
    simulation.run(10.0)
    links = max(len(member(process).linked()) for process in simulation.running())
    if links > 2 * HyParViewSettings().active_max:
        raise Violation(f"somebody holds {links} links, and needs {HyParViewSettings().active_max}")
    return {"forming_s": took, "detection_s": detected, "links_max": links}


_CHAOS_S: Final = 60.0
_CHAOS_KINDS: Final = (
    "crash", "pause", "partition", "one-way", "bridge", "loss", "slow", "duplication", "reordering", "drift", "jump",
)  # fmt: skip


def _plan_chaos(simulation: Simulation, count: int) -> tuple[Fault, ...]:
    names = [f"n{number}" for number in range(count)]
    return faults.plan(simulation.world.rng("faults"), names, _CHAOS_S, _CHAOS_KINDS)


def _play_chaos(simulation: Simulation, count: int, schedule: Sequence[Fault]) -> Figures:
    """A minute of everything: once it is over, all agree again."""
    form(simulation, count)
    faults.unleash(simulation, schedule)
    simulation.run(_CHAOS_S + 1e-6)
    bound_s = detection_s_max(_SETTINGS.swim, count)  # of what began to be suspected last
    took = simulation.run(bound_s, lambda: agreed(simulation))
    if took is None:
        raise Violation(f"not agreed {bound_s:.1f} s after the last fault\n{_views(simulation)}")
    return {"recovery_s": took, "faults": len(schedule)}


SCENARIOS: Final = (
    Scenario(
        name="swim-loss", summary="10 % of all messages lost for 5 minutes: nobody is held dead", nodes=10,
        plan=_no_faults, play=_play_loss,
    ),
    Scenario(
        name="swim-crash", summary="one is killed: dead to all within the bound, and nobody else", nodes=10,
        plan=_plan_crash, play=_play_crash,
    ),
    Scenario(
        name="swim-pause", summary="one is stopped and goes on: it refutes, and blames nobody", nodes=10,
        plan=_plan_pause, play=_play_pause,
    ),
    Scenario(
        name="swim-partition", summary="halves, one alone, one way, a bridge: agreed within 10 s of healing", nodes=10,
        plan=_plan_partition, play=_play_partition,
    ),
    Scenario(
        name="swim-hyparview", summary="a few links each, a tenth is killed: dead to all within the bound", nodes=40,
        plan=_plan_crashes, play=_play_partial,
    ),
    Scenario(
        name="swim-chaos", summary="a minute of every fault: agreed once it is over", nodes=7,
        plan=_plan_chaos, play=_play_chaos,
    ),
)  # fmt: skip
