"""Calls within a cluster at a part of what it can do, in an open loop, with and without bulk traffic beside them."""

import collections
import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fdn.bench.figures import percentile, tail
from fdn.bench.plan import ANSWER_S, ROUNDS, in_turn
from fdn.bench.worker import Worker

__all__ = ("LoadPlan", "measure_load")

_IN_FLIGHT: Final = 32  # of each node, when it is measured what they could do at most
# The parts of that which are tried in an open loop: calls that come one by one cannot be sent many at a time, and cost
# more. Capacity is the highest that is kept up with.
_STEPS: Final = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_STEP_S: Final = 0.7
_KEPT_UP: Final = 0.95  # of the calls are answered by the time that the last one is due
_STATES: Final = ("quiet", "bulk")


@dataclasses.dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run.

    Attributes:
        nodes: How many, a process each; all serve, and all call the others.
        load: Which part of the capacity is asked for.
        size: Bytes of a call's data, there and back.
        duration_s: Seconds for each of both, over all rounds.
        bulk_size: Bytes of an object that the first node sends to the second.
        bulk_mb_s: At which rate, in 10**6 bytes a second.
        rounds: How many.
        say: Told what begins.
    """

    nodes: int = 5
    load: float = 0.5
    size: int = 64
    duration_s: float = 6.0
    bulk_size: int = 8 * 1024 * 1024
    bulk_mb_s: float = 200.0
    rounds: int = ROUNDS
    say: Callable[[str], None] = lambda text: None


def measure_load(plan: LoadPlan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        `closed_loop_per_s` of all nodes together, with many calls always under way; `capacity_per_s`, the highest rate
        at which they keep up with an open loop; under `quiet` and `bulk` what was offered, the
        `outcomes`, `p50_us` and `p99_us` (medians of the rounds), `p999_us` and `max_us` (of all rounds), from when
        each call was due; `bulk_mb_s`, what was sent beside them; and every round's percentiles under `rounds`.
    """
    with _members(plan) as members:
        run = _Run(plan, members)
        plan.say("capacity")
        run.closed_loop(min(0.5, plan.duration_s))  # warms up
        closed = run.closed_loop(min(2.0, plan.duration_s))
        capacity = run.capacity(closed, min(_STEP_S, plan.duration_s))
        rounds: dict[str, list[dict[str, Any]]] = {state: [] for state in _STATES}
        for number in range(1, plan.rounds + 1):
            plan.say(f"round {number} of {plan.rounds}")
            for state in in_turn(_STATES, number):
                rounds[state].append(run.calls(state, plan.load * capacity, plan.duration_s / plan.rounds))
    return {
        "nodes": plan.nodes,
        "load": plan.load,
        "size": plan.size,
        "closed_loop_per_s": round(closed),
        "capacity_per_s": round(capacity),
        **{state: _report(of) for state, of in rounds.items()},
        "rounds": [{state: _tail(of[number]) for state, of in rounds.items()} for number in range(plan.rounds)],
    }


class _Run:
    def __init__(self, plan: LoadPlan, members: Sequence[Worker]) -> None:
        self._plan = plan
        self._members = members

    def capacity(self, closed: float, seconds: float) -> float:
        """The highest rate that is kept up with; the lowest that was tried if none is."""
        rates = [closed * step for step in _STEPS]
        kept_up = rates[0]
        for rate in rates:
            one = self.calls("quiet", rate, seconds)
            if one["in_time"] < _KEPT_UP * one["outcomes"].total():
                break
            kept_up = rate
        return kept_up

    def closed_loop(self, seconds: float) -> float:
        for member in self._members:
            member.tell("capacity", size=self._plan.size, seconds=seconds, in_flight=_IN_FLIGHT)
        answers = [member.answer(ANSWER_S) for member in self._members]
        return sum(float(one["answered"] / one["elapsed_s"]) for one in answers)

    def calls(self, state: str, rate: float, seconds: float) -> dict[str, Any]:
        plan = self._plan
        bulk = {"bulk_to": "node-2", "bulk_size": plan.bulk_size, "bulk_mb_s": plan.bulk_mb_s}
        for number, member in enumerate(self._members):
            beside = bulk if state == "bulk" and number == 0 else {}
            member.tell("calls", size=plan.size, rate=rate / plan.nodes, seconds=seconds, **beside)
        answers = [member.answer(ANSWER_S + seconds) for member in self._members]
        outcomes: collections.Counter[str] = collections.Counter()
        for one in answers:
            outcomes.update(one["outcomes"])
        return {
            "outcomes": outcomes,
            "durations_s": sorted(us / 1e6 for one in answers for us in one["durations_us"]),
            "in_time": sum(one["in_time"] for one in answers),
            "offered_per_s": outcomes.total() / seconds,
            "bulk_mb_s": sum(one["bulk_bytes"] for one in answers) / seconds / 1e6,
        }


def _report(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    outcomes: collections.Counter[str] = collections.Counter()
    for one in rounds:
        outcomes.update(one["outcomes"])

    def middle(value: Callable[[dict[str, Any]], float]) -> float:
        return round(statistics.median(map(value, rounds)), 1)

    return {
        "offered_per_s": middle(lambda one: one["offered_per_s"]),
        "outcomes": dict(outcomes),
        **tail([duration_s for one in rounds for duration_s in one["durations_s"]]),
        "p50_us": middle(lambda one: percentile(one["durations_s"], 0.5) * 1e6),
        "p99_us": middle(lambda one: percentile(one["durations_s"], 0.99) * 1e6),
        "bulk_mb_s": middle(lambda one: one["bulk_mb_s"]),
    }


def _tail(one: dict[str, Any]) -> dict[str, Any]:
    return {**tail(one["durations_s"]), "bulk_mb_s": round(one["bulk_mb_s"], 1)}


@contextlib.contextmanager
def _members(plan: LoadPlan) -> Iterator[list[Worker]]:
    with contextlib.ExitStack() as stack:
        members: list[Worker] = []
        names = [f"node-{number}" for number in range(1, plan.nodes + 1)]
        for seed, name in enumerate(names):
            arguments: dict[str, Any] = {"endpoint": "tcp://127.0.0.1:0", "name": name, "seed": seed}
            join = {"join": members[0].ready["endpoint"]} if members else {}
            members.append(stack.enter_context(Worker("load-member", **arguments, **join)))
        for member in members:
            member.ask("ready", ANSWER_S, names=names)
        yield members
