"""SWIM and Lifeguard as the Lifeguard paper measured them (Dadgar, Phillips, Currey, 2017), on virtual time.

Some members are slow: what they send and what is sent to them waits for a while, goes on for a moment, and waits again,
while their timers run. They accuse others wrongly. Counted are *false positives*: that a member which was never
slow is held dead, at anybody, and at those who were never slow themselves. Then members are killed while all are well,
and the time to the first verdict is taken, and to the last member's.

Five rows switch the three parts of Lifeguard on and off, without what fdn adds; the sixth is fdn as it is, which also
does not count time in which it did not run itself. Messages are datagrams, as in the paper: no connection tells of its
end here, so that only silence is evidence.
"""

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

from fdn.sim.membership import Member, MemberSettings
from fdn.sim.process import Process
from fdn.sim.simulation import Simulation
from fdn.sim.study import Study, StudyRequest
from topologies.identity import NodeId
from topologies.swim import Message, Status, Swim, SwimSettings, encode

__all__ = ("SWIM",)

# Share of the members that are slow, seconds that one stands still, and seconds that it then runs.
_ANOMALIES: Final = ((0.04, 4.096, 0.256), (0.08, 16.384, 0.256), (0.16, 16.384, 1.024))
_SETTLES_S: Final = 5.0
_KILLS_APART_S: Final = 40.0
_ALPHA: Final = 5  # the paper's; beta is 6
_PAPER: Final[Mapping[str, Any]] = {
    "source": "Dadgar, Phillips, Currey: Lifeguard, 2017; 100 virtual machines running memberlist, alpha 5, beta 6",
    "percent_of_swim": {"swim": 100, "lha_probe": 67.72, "lha_suspicion": 3.00, "buddy": 94.08, "lifeguard": 1.53},
    "percent_of_swim_at_healthy": {
        "swim": 100,
        "lha_probe": 32.88,
        "lha_suspicion": 6.71,
        "buddy": 44.57,
        "lifeguard": 1.89,
    },
    "messages_percent_of_swim": {"swim": 100, "lifeguard": 110.6},
}


class _PaperSwim(Swim):
    """Without what fdn adds to the papers."""

    def _allow_for_pause(self, now: float) -> None:
        self._last_now = now

    def _second_look_at(self, now: float) -> float:
        return float("inf")

    def _accuses_a_past_life(self, message: Message) -> bool:
        return False


def _settings(*, probe: bool, suspicion: bool, buddy: bool) -> SwimSettings:
    return SwimSettings(
        suspicion_multiplier=_ALPHA,
        suspicion_max_multiplier=6 if suspicion else 1,
        health_score_max=7 if probe else 0,
        tells_suspects=buddy,
    )


_ROWS: Final[Mapping[str, MemberSettings]] = {
    name: MemberSettings(swim=swim, overlay=None, core=core)
    for name, swim, core in (
        ("swim", _settings(probe=False, suspicion=False, buddy=False), _PaperSwim),
        ("lha_probe", _settings(probe=True, suspicion=False, buddy=False), _PaperSwim),
        ("lha_suspicion", _settings(probe=False, suspicion=True, buddy=False), _PaperSwim),
        ("buddy", _settings(probe=False, suspicion=False, buddy=True), _PaperSwim),
        ("lifeguard", _settings(probe=True, suspicion=True, buddy=True), _PaperSwim),
        ("fdn", _settings(probe=True, suspicion=True, buddy=True), Swim),
    )
}


def _measure(request: StudyRequest) -> Mapping[str, Any]:
    begun = time.process_time()
    rows: dict[str, dict[str, Any]] = {}
    for name, settings in _ROWS.items():
        figures: dict[str, Any] = {"false_positives": 0, "at_healthy": 0, "slow_held_dead": 0}
        sent = []
        for number, anomaly in enumerate(_ANOMALIES):
            request.progress(f"{name}, {anomaly[0]:.0%} slow for {anomaly[1]:g} s")
            some = _with_slow_members(settings, request, number)
            for figure in ("false_positives", "at_healthy", "slow_held_dead"):
                figures[figure] += some[figure]
            sent.append(some["messages"])
        figures["messages_a_node_second"] = statistics.mean(sent)
        request.progress(f"{name}, kills")
        rows[name] = figures | _with_kills(settings, request)
    for figures in rows.values():
        for figure in ("false_positives", "at_healthy"):
            of_swim = rows["swim"][figure]
            figures[f"{figure}_percent_of_swim"] = 100.0 * figures[figure] / of_swim if of_swim else None
    request.progress("load by size")
    load = {
        str(count): _idle_load(_ROWS["fdn"], request, count) for count in (max(4, request.nodes // 10), request.nodes)
    }
    return {
        "rows": rows,
        "anomalies": [dict(zip(("share_slow", "still_s", "runs_s"), it, strict=True)) for it in _ANOMALIES],
        "idle_load_by_nodes": load,
        "paper": _PAPER,
        "cpu_s": time.process_time() - begun,
    }


def _formed(settings: MemberSettings, seed: int, count: int) -> Simulation:
    """A cluster in which everybody has heard of everybody."""
    simulation = Simulation(seed)
    for number in range(count):
        simulation.add(f"n{number}", functools.partial(Member, settings))
    claims = [_member(process).swim.me for process in simulation.processes.values()]
    for process in simulation.processes.values():
        process.call(_member(process).learn, claims)
    simulation.run(_SETTLES_S)
    return simulation


def _member(process: Process) -> Member:
    program = process.program
    assert isinstance(program, Member)
    return program


def _with_slow_members(settings: MemberSettings, request: StudyRequest, number: int) -> dict[str, float]:
    share, still_s, runs_s = _ANOMALIES[number]
    simulation = _formed(settings, request.seed, request.nodes)
    world = simulation.world
    rng = world.rng(f"anomaly {number}")
    slow = rng.sample(sorted(simulation.processes), max(1, round(share * request.nodes)))
    sent_before = simulation.network.stats().sent

    def stop(process: Process) -> None:
        process.hold_messages()
        world.after(still_s, go_on, process)

    def go_on(process: Process) -> None:
        process.release_messages()
        world.after(runs_s, stop, process)

    for name in slow:
        world.after(rng.uniform(0.0, still_s), stop, simulation.processes[name])
    simulation.run(float(request.cycles))
    counts = {"false_positives": 0, "at_healthy": 0, "slow_held_dead": 0}
    for process in simulation.processes.values():
        for change in _member(process).changes:
            if change.after is None or change.after.status is not Status.DEAD:
                continue
            if change.subject in slow:
                counts["slow_held_dead"] += 1
                continue
            counts["false_positives"] += 1
            counts["at_healthy"] += process.name not in slow
    sent = simulation.network.stats().sent - sent_before
    return {**counts, "messages": sent / request.nodes / request.cycles}


def _with_kills(settings: MemberSettings, request: StudyRequest) -> dict[str, Any]:
    """Seconds from a death to the first verdict, and to that of the last who lives."""
    simulation = _formed(settings, request.seed, request.nodes)
    rng = simulation.world.rng("kills")
    first, last = [], []
    for name in rng.sample(sorted(simulation.processes), min(request.messages, request.nodes // 4)):
        simulation.run(rng.uniform(0.0, 1.0))
        killed_at = simulation.world.now
        simulation.processes[name].crash(power=False)
        simulation.run(_KILLS_APART_S, functools.partial(_is_held_dead, simulation, name, any))
        first.append(simulation.world.now - killed_at)
        took = simulation.run(_KILLS_APART_S, functools.partial(_is_held_dead, simulation, name, all))
        last.append(simulation.world.now - killed_at if took is not None else _KILLS_APART_S)
    return {
        "first_verdict_s": {"p50": statistics.median(first), "max": max(first)},
        "last_verdict_s": {"p50": statistics.median(last), "max": max(last)},
        "kills": len(first),
    }


def _is_held_dead(simulation: Simulation, name: str, quantifier: Any) -> bool:
    return bool(
        quantifier(
            (held := _member(process).swim.held(NodeId(name))) is not None and held.status is Status.DEAD
            for process in simulation.running()
        )
    )


def _idle_load(settings: MemberSettings, request: StudyRequest, count: int) -> dict[str, float]:
    """Messages and bytes that a member sends in a second when nothing happens."""
    simulation = _formed(settings, request.seed, count)
    simulation.run(30.0)  # the news of having joined has died down
    simulation.network.weigh = _bytes
    before = simulation.network.stats()
    simulation.run(20.0)
    after = simulation.network.stats()
    return {
        "messages_a_node_second": (after.sent - before.sent) / count / 20.0,
        "bytes_a_node_second": (after.bytes - before.bytes) / count / 20.0,
    }


def _bytes(message: Message) -> int:
    return len(encode(message))


def _table(result: Mapping[str, Any]) -> list[str]:
    paper = result["paper"]
    shares = f"{'% of SWIM':>11}{'paper':>8}"
    head = f"  {'':<15}{'false positives':>16}{shares}{'at healthy':>12}{shares}"
    lines = [f"{head}{'first, s':>10}{'last, s':>9}{'msg/s':>7}"]
    for name, row in result["rows"].items():
        share, at_healthy = row["false_positives_percent_of_swim"], row["at_healthy_percent_of_swim"]
        lines.append(
            f"  {name:<15}{row['false_positives']:>16,}{_percent(share):>11}"
            f"{paper['percent_of_swim'].get(name, '-'):>8}{row['at_healthy']:>12,}{_percent(at_healthy):>11}"
            f"{paper['percent_of_swim_at_healthy'].get(name, '-'):>8}{row['first_verdict_s']['p50']:>10.2f}"
            f"{row['last_verdict_s']['p50']:>9.2f}{row['messages_a_node_second']:>7.2f}"
        )
    for nodes, load in result["idle_load_by_nodes"].items():
        lines.append(
            f"  idle, {nodes} nodes: {load['messages_a_node_second']:.2f} messages and "
            f"{load['bytes_a_node_second']:.0f} bytes a node and second"
        )
    return [*lines, f"  paper: {paper['source']}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


SWIM: Final = Study(
    name="swim",
    summary="false positives of slow members, time to find a death, and load, with Lifeguard's parts on and off",
    nodes=100,
    messages=10,
    cycles=120,
    measure=_measure,
    table=_table,
)
