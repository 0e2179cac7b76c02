"""Twice as much as a node can do: what still gets done in time, what memory does, and what is lost.

Capacity is measured first, in a closed loop. Then requests come in an open loop at a multiple of it, whatever becomes
of the ones before: as calls with a deadline, whose goodput is what was answered in time; and as casts, each of which is
promised as soon as it was taken.
"""

import collections
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fdn.bench.figures import tail
from fdn.bench.memory import MemoryWatch
from fdn.bench.plan import ANSWER_S
from fdn.bench.worker import Worker

__all__ = ("OverloadPlan", "measure_overload")

_IN_FLIGHT: Final = 64  # over all clients, when capacity is measured
_ROUNDS: Final = 3
_RATES: Final = ("capacity_per_s", "offered_per_s", "goodput_per_s")
_NEVER: Final = 1 << 62


@dataclasses.dataclass(frozen=True, slots=True)
class OverloadPlan:
    """One run.

    Attributes:
        duration_s: Seconds that calls are measured, over all rounds; each begins with a deadline's time that is not.
        factor: How many times the capacity is asked for.
        work_s: Processor seconds that a request costs the handler.
        deadline_s: Deadline of a call.
        clients: How many processes ask.
        handlers: `def`, `async`, or both; the first is reported at the top level.
        say: Told what begins.
    """

    duration_s: float = 6.0
    factor: float = 2.0
    work_s: float = 200e-6
    deadline_s: float = 1.0
    clients: int = 2
    handlers: tuple[str, ...] = ("def", "async")
    say: Callable[[str], None] = lambda text: None


def measure_overload(plan: OverloadPlan) -> dict[str, Any]:
    """Start the processes, measure, and end them.

    Returns:
        For the first kind of handler `capacity_per_s`, `offered_per_s`, `goodput_per_s` (answered in time), their ratio
        `goodput_to_capacity`; `outcomes` of all calls offered; `wasted`, requests carried out for nobody; the latencies
        of those answered; `memory` of each process during it; and under `casts` how many were `offered`, `accepted`
        (the promised ones), `handled`, `lost`, and `memory`. The same for a second kind under `async`.
    """
    reports = {}
    with _cluster(plan) as (server, clients):
        for handler in plan.handlers:
            reports[handler] = _measure(handler, plan, server, clients)
    first, *rest = plan.handlers
    return {
        "handler": first,
        **reports[first],
        **{handler: reports[handler] for handler in rest},
        "factor": plan.factor,
        "work_us": round(plan.work_s * 1e6, 1),
        "deadline_s": plan.deadline_s,
        "clients": plan.clients,
    }


def _measure(handler: str, plan: OverloadPlan, server: Worker, clients: Sequence[Worker]) -> dict[str, Any]:
    run = _Run(handler, plan, clients)
    processes = {"server": server.pid} | {f"client {number}": one.pid for number, one in enumerate(clients, 1)}
    seconds = plan.duration_s / _ROUNDS
    run.capacity(min(0.3, seconds))  # warms up
    rounds: list[dict[str, Any]] = []
    before = run.settled()
    asked = 0
    with MemoryWatch(processes) as watch:
        started = time.monotonic()
        for number in range(1, _ROUNDS + 1):
            plan.say(f"{handler}: capacity, then {plan.factor:g} times that; round {number} of {_ROUNDS}")
            rounds.append(run.round(seconds))
            asked += rounds[-1]["answered"]
    executed = run.settled() - before

    plan.say(f"{handler}: casts at {plan.factor:g} times that")
    rate = plan.factor * rounds[-1]["capacity_per_s"]
    before = run.settled()
    with MemoryWatch(processes) as casting:
        cast_at = time.monotonic()
        # Twice as long: whatever may be queued on the way must be full before memory is looked at.
        outcomes = _outcomes(run.all_clients("casts", rate=rate / len(clients), seconds=2 * plan.duration_s))
    accepted = outcomes.get("answered", 0)
    handled = run.done(before + accepted) - before
    return {
        **{key: round(statistics.median(one[key] for one in rounds)) for key in _RATES},
        "goodput_to_capacity": round(
            statistics.median(one["goodput_per_s"] / one["capacity_per_s"] for one in rounds), 3
        ),
        "outcomes": _outcomes(rounds),
        **tail([duration_s for one in rounds for duration_s in one["durations_s"]]),
        "wasted": max(0, executed - asked),
        "memory": watch.report(started + plan.deadline_s),
        "casts": {
            "offered": sum(outcomes.values()),
            "accepted": accepted,
            "handled": handled,
            "lost": accepted - handled,
            "memory": casting.report(cast_at + plan.duration_s),
        },
        "rounds": [{key: round(one[key]) for key in _RATES} for one in rounds],
    }


class _Run:
    """The orders of one kind of handler."""

    def __init__(self, handler: str, plan: OverloadPlan, clients: Sequence[Worker]) -> None:
        self._handler = handler
        self._plan = plan
        self._clients = clients

    def all_clients(self, order: str, **arguments: Any) -> list[dict[str, Any]]:
        for client in self._clients:
            client.tell(order, handler=self._handler, **arguments)
        return [client.answer(2 * self._plan.duration_s + ANSWER_S) for client in self._clients]

    def capacity(self, seconds: float) -> tuple[float, int]:
        """Answers a second in a closed loop; and how many there were."""
        each = max(1, _IN_FLIGHT // len(self._clients))
        closed = self.all_clients("capacity", seconds=seconds, in_flight=each)
        return sum(one["answered"] / one["elapsed_s"] for one in closed), sum(one["answered"] for one in closed)

    def round(self, seconds: float) -> dict[str, Any]:
        plan = self._plan
        self.settled()  # what the last round left behind is carried out for nobody, and takes its time
        capacity, asked = self.capacity(max(0.2, seconds / 2))
        rate = plan.factor * capacity
        answers = self.all_clients("calls", rate=rate / len(self._clients), seconds=seconds, deadline_s=plan.deadline_s)
        outcomes = _outcomes(answers)
        durations_s = [duration_s for one in answers for duration_s in one["durations_s"]]
        return {
            "capacity_per_s": capacity,
            "offered_per_s": sum(outcomes.values()) / (plan.deadline_s + seconds),
            "goodput_per_s": sum(duration_s <= plan.deadline_s for duration_s in durations_s) / seconds,
            "answered": asked + outcomes.get("answered", 0),
            "outcomes": outcomes,
            "durations_s": durations_s,
        }

    def done(self, expected: int) -> int:
        """Requests carried out so far, once there are as many as expected, or no more come."""
        count: int = self._clients[0].ask("done", ANSWER_S, handler=self._handler, expected=expected)["done"]
        return count

    def settled(self) -> int:
        """The same once no more come."""
        return self.done(_NEVER)


def _outcomes(answers: Sequence[dict[str, Any]]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for one in answers:
        total.update(one["outcomes"])
    return dict(total)


@contextlib.contextmanager
def _cluster(plan: OverloadPlan) -> Iterator[tuple[Worker, list[Worker]]]:
    with contextlib.ExitStack() as stack:
        endpoint = "tcp://127.0.0.1:0"
        server = stack.enter_context(Worker("overload-server", endpoint=endpoint, work_s=plan.work_s))
        join = server.ready["endpoint"]
        clients = [
            stack.enter_context(Worker("overload-client", endpoint=endpoint, join=join, seed=number))
            for number in range(plan.clients)
        ]
        yield server, clients
