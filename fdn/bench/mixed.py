"""Coordination while data is busy: round trips in an open loop, by fdn, over one connection (B0), and in Erlang.

All take turns within one run, idle and saturated. Then, for fdn and B0, what else should not hold coordination up: a
consumer that stops reading, a peer that acknowledges nothing (SIGSTOP), user code that holds its loop.
"""

import contextlib
import dataclasses
import signal
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fdn.bench import erlang
from fdn.bench.figures import incidents, percentile, tail
from fdn.bench.plan import ANSWER_S, ROUNDS, in_turn
from fdn.bench.worker import Worker

__all__ = ("PEERS", "SCENARIOS", "Contestant", "MixedPlan", "measure_mixed")

PEERS: Final = ("b0", "erlang")
SCENARIOS: Final = ("reader_stopped", "peer_stopped", "loop_blocked")
_STATES: Final = ("idle", "saturated")
_OBJECT_BYTES: Final = 8 * 1024 * 1024
_WARM_UP_S: Final = 0.3
_SCENARIO_S: Final = 1.5


@dataclasses.dataclass(frozen=True, slots=True)
class MixedPlan:
    """One run.

    Attributes:
        duration_s: Seconds that each is idle, and saturated, over all rounds.
        rate: Round trips that are due in a second.
        size: Bytes of an object.
        senders: How many send objects at once, each the next one as soon as the last was taken.
        peers: Of `PEERS`, who is measured besides fdn.
        rounds: How many, idle and saturated.
        scenario_s: How long each of `SCENARIOS` lasts; 0 leaves them out.
        say: Told what begins.
    """

    duration_s: float = 5.0
    rate: float = 500.0
    size: int = _OBJECT_BYTES
    senders: int = 4
    peers: tuple[str, ...] = ("b0",)
    rounds: int = ROUNDS
    scenario_s: float = _SCENARIO_S
    say: Callable[[str], None] = lambda text: None


@dataclasses.dataclass(frozen=True, slots=True)
class Contestant:
    """Whoever is measured.

    Attributes:
        run: Carries out one round, by the order's name and arguments.
        stopped: A worker that may be stopped by a signal, where there is one.
        scenarios: Of `SCENARIOS`, those that can be had here.
    """

    run: Callable[..., dict[str, Any]]
    stopped: Worker | None = None
    scenarios: tuple[str, ...] = ()


def measure_mixed(plan: MixedPlan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        `idle` and `saturated`, each with `count`, `p50_us`, `p99_us` (medians of the rounds), `p999_us` and `max_us`
        (of all rounds together) of the round trips, from when each was due; `bulk_mb_s`, the median; `sent` and
        `received` objects; `incidents`, the round trips of the saturated rounds that were later than the idle 99th
        percentile and 10 ms; for each of `scenarios` the same figures; and all of it again under `b0` and `erlang`.
        `skipped` says who was not measured, and why.
    """
    skipped = {"erlang": reason} if "erlang" in plan.peers and (reason := erlang.missing()) else {}
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with contextlib.ExitStack() as stack:
        contestants = {"fdn": stack.enter_context(_fdn())}
        if "b0" in plan.peers:
            contestants["b0"] = stack.enter_context(_b0())
        if "erlang" in plan.peers and "erlang" not in skipped:
            contestants["erlang"] = stack.enter_context(_erlang())
        work = [(name, state) for name in contestants for state in _STATES]
        plan.say("warming up")
        for name, state in work:
            _one_round(contestants[name], state, plan, _WARM_UP_S)
            rounds.setdefault(name, {})[state] = []
        for number in range(1, plan.rounds + 1):
            plan.say(f"round {number} of {plan.rounds}")
            for name, state in in_turn(work, number):
                rounds[name][state].append(_one_round(contestants[name], state, plan, plan.duration_s / plan.rounds))
        scenarios = {name: _scenarios(who, plan) for name, who in contestants.items()}
    reports = {name: _report(rounds[name], scenarios[name]) for name in rounds}
    return {
        **reports.pop("fdn"),
        **reports,
        "skipped": skipped,
        "load": {"rate": plan.rate, "size": plan.size, "senders": plan.senders, "rounds": plan.rounds},
    }


def _one_round(who: Contestant, state: str, plan: MixedPlan, seconds: float) -> dict[str, Any]:
    load = {"senders": plan.senders, "size": plan.size} if state == "saturated" else {}
    return who.run(state, rate=plan.rate, seconds=seconds, **load)


def _scenarios(who: Contestant, plan: MixedPlan) -> dict[str, dict[str, Any]]:
    results = {}
    for name in who.scenarios if plan.scenario_s else ():
        plan.say(name.replace("_", " "))
        if name == "peer_stopped":
            assert who.stopped is not None
            who.stopped.signal(signal.SIGSTOP)
        try:
            results[name] = who.run(name, rate=plan.rate, seconds=plan.scenario_s, senders=plan.senders)
        finally:
            if name == "peer_stopped" and who.stopped is not None:
                who.stopped.signal(signal.SIGCONT)
    return results


def _report(rounds: dict[str, list[dict[str, Any]]], scenarios: dict[str, dict[str, Any]]) -> dict[str, Any]:
    report: dict[str, Any] = {state: _tail_of(of) for state, of in rounds.items()}
    limit_us = report["idle"]["p99_us"]
    saturated = rounds["saturated"]
    return report | {
        "bulk_mb_s": round(statistics.median(one["bulk_mb_s"] for one in saturated), 1),
        "sent": sum(one["sent"] for one in saturated),
        "received": sum(one["received"] for one in saturated),
        "incidents": sum(incidents(one["durations_s"], limit_us) for one in saturated),
        "unanswered": sum(one["unanswered"] for of in rounds.values() for one in of),
        "scenarios": {
            name: {
                **tail(result["durations_s"]),
                "incidents": incidents(result["durations_s"], limit_us),
                **({"held_up": result["held_up"]} if "held_up" in result else {}),
            }
            for name, result in scenarios.items()
        },
        "rounds": [
            {state: tail(of[number]["durations_s"]) for state, of in rounds.items()}
            | {"bulk_mb_s": round(saturated[number]["bulk_mb_s"], 1)}
            for number in range(len(saturated))
        ],
    }


def _tail_of(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def middle(fraction: float) -> float:
        each = [percentile(sorted(one["durations_s"]), fraction) for one in rounds]
        return round(statistics.median(each) * 1e6, 1)

    # A round has too few for the thousandth part of them.
    together = tail([duration_s for one in rounds for duration_s in one["durations_s"]])
    return together | {"p50_us": middle(0.5), "p99_us": middle(0.99)}


@contextlib.contextmanager
def _fdn() -> Iterator[Contestant]:
    with contextlib.ExitStack() as stack:
        endpoint = "tcp://127.0.0.1:0"
        receiver = stack.enter_context(Worker("mixed-receiver", endpoint=endpoint, name="receiver"))
        join = receiver.ready["endpoint"]
        stopped = stack.enter_context(Worker("mixed-receiver", endpoint=endpoint, name="stopped", join=join))
        sender = stack.enter_context(Worker("mixed-sender", endpoint=endpoint, join=join))

        def run(order: str, **arguments: Any) -> dict[str, Any]:
            return sender.ask(order, ANSWER_S, **arguments)

        # Last the one after which a member may be taken for dead.
        yield Contestant(run, stopped, ("reader_stopped", "loop_blocked", "peer_stopped"))


@contextlib.contextmanager
def _b0() -> Iterator[Contestant]:
    with (
        Worker("b0-receiver", endpoint="tcp://127.0.0.1:*") as receiver,
        Worker("b0-sender", **receiver.ready) as sender,
    ):

        def run(order: str, **arguments: Any) -> dict[str, Any]:
            receiver.tell("serve")
            result = sender.ask(order, ANSWER_S, **arguments)
            receiver.answer(ANSWER_S)
            return result

        # Its pairs have each a connection of their own: a stopped third process holds nobody up there either.
        yield Contestant(run, None, ("reader_stopped", "loop_blocked"))


@contextlib.contextmanager
def _erlang() -> Iterator[Contestant]:
    with erlang.pair() as (receiver, sender):

        def run(order: str, **arguments: Any) -> dict[str, Any]:
            before = receiver.ask("tally", ANSWER_S, expected=0)
            result = sender.ask(order, ANSWER_S, **arguments)
            after = receiver.ask("tally", ANSWER_S, expected=before["received"] + result["sent"])
            result["received"] = after["received"] - before["received"]
            elapsed_s = after["ended_at"] - result["started_at"]
            result["bulk_mb_s"] = (after["bytes"] - before["bytes"]) / elapsed_s / 1e6
            return result

        yield Contestant(run)
