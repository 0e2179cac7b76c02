"""Round trips: fdn's calls to each kind of handler and bare pyzmq, one at a time and many at once, in turns."""

from typing import Any

from fdn.bench.figures import median_of
from fdn.bench.plan import ANSWER_S, ROUNDS, Pair, Plan, pairs

__all__ = ("measure_call",)


def measure_call(plan: Plan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        For the first kind of handler `calls_per_s` (`in_flight` at once) and `p50_us`, `p99_us` (one at a time), each
        the median of the rounds; the same for a second kind under `async`, and for bare pyzmq under `raw`; and every
        round's figures under `rounds`.
    """
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*plan.handlers, "raw")}
    with pairs(plan.transport) as (nodes, raw):
        plan.say("warming up")
        for kind in results:
            _one_round(kind, nodes, raw, plan.warm_up(), plan.in_flight)
        for number in range(1, ROUNDS + 1):
            plan.say(f"round {number} of {ROUNDS}")
            for kind, rounds in results.items():
                rounds.append(_one_round(kind, nodes, raw, plan.round(), plan.in_flight))
    first, *rest = plan.handlers
    return {
        **_summary(results[first], first),
        "in_flight": plan.in_flight,
        "transport": plan.transport,
        "size": plan.size,
        **{handler: _summary(results[handler], handler) for handler in rest},
        "raw": _summary(results["raw"]),
        "rounds": [{kind: results[kind][number] for kind in results} for number in range(ROUNDS)],
    }


def _one_round(kind: str, nodes: Pair, raw: Pair, amount: dict[str, Any], in_flight: int) -> dict[str, Any]:
    if kind == "raw":
        raw.receiver.tell("echo")
        single = raw.sender.ask("latency", ANSWER_S, **amount)
        raw.receiver.answer(ANSWER_S)
        raw.receiver.tell("echo")
        many = raw.sender.ask("calls", ANSWER_S, in_flight=in_flight, **amount)
        raw.receiver.answer(ANSWER_S)
    else:
        single = nodes.sender.ask("latency", ANSWER_S, handler=kind, **amount)
        many = nodes.sender.ask("calls", ANSWER_S, handler=kind, in_flight=in_flight, **amount)
    return {
        "calls_per_s": round(many["calls"] / many["elapsed_s"]),
        "p50_us": round(single["p50_us"], 1),
        "p99_us": round(single["p99_us"], 1),
        "calls": many["calls"] + single["calls"],
    }


def _summary(rounds: list[dict[str, Any]], handler: str = "") -> dict[str, Any]:
    summary: dict[str, Any] = {
        "calls_per_s": median_of(rounds, "calls_per_s"),
        "p50_us": median_of(rounds, "p50_us", 1),
        "p99_us": median_of(rounds, "p99_us", 1),
        "calls": sum(item["calls"] for item in rounds),
    }
    if handler:
        summary["handler"] = handler
    return summary
