"""One-way messages: fdn's casts to each kind of handler and bare pyzmq, in turns within one run."""

from typing import Any

from fdn.bench.figures import median_of
from fdn.bench.plan import ANSWER_S, ROUNDS, Pair, Plan, pairs

__all__ = ("measure_cast",)


def measure_cast(plan: Plan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        For the first kind of handler `messages_per_s` (the median of the rounds), `sent`, `received`, `lost`,
        `wire_bytes` (sent by the data plane, all rounds together), `duration_s`; the same for a second kind under
        `async`, and for bare pyzmq under `raw`; and every round's rates under `rounds`.
    """
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*plan.handlers, "raw")}
    with pairs(plan.transport) as (nodes, raw):
        plan.say("warming up")
        for kind in results:
            _one_round(kind, nodes, raw, plan.warm_up())
        for number in range(1, ROUNDS + 1):
            plan.say(f"round {number} of {ROUNDS}")
            # Interleaved, so that a machine that is busier for a while is so for all of them.
            for kind, rounds in results.items():
                rounds.append(_one_round(kind, nodes, raw, plan.round()))
    first, *rest = plan.handlers
    return {
        **_summary(results[first], first),
        "transport": plan.transport,
        "size": plan.size,
        **{handler: _summary(results[handler], handler) for handler in rest},
        "raw": _summary(results["raw"]),
        "rounds": [
            {kind: round(results[kind][number]["messages_per_s"]) for kind in results} for number in range(ROUNDS)
        ],
    }


def _one_round(kind: str, nodes: Pair, raw: Pair, amount: dict[str, Any]) -> dict[str, Any]:
    if kind == "raw":
        raw.receiver.tell("count")
        result = raw.sender.ask("cast", ANSWER_S, **amount)
        counted = raw.receiver.answer(ANSWER_S)
        # Both read the machine's one monotonic clock.
        elapsed_s = counted["ended_at"] - result["started_at"]
        result = {"sent": result["sent"], "received": counted["received"], "elapsed_s": elapsed_s}
    else:
        result = nodes.sender.ask("cast", ANSWER_S, handler=kind, **amount)
    result["messages_per_s"] = result["received"] / result["elapsed_s"]
    return result


def _summary(rounds: list[dict[str, Any]], handler: str = "") -> dict[str, Any]:
    total = {key: sum(item[key] for item in rounds) for key in rounds[0] if key != "messages_per_s"}
    summary: dict[str, Any] = {
        "messages_per_s": median_of(rounds, "messages_per_s"),
        "sent": total["sent"],
        "received": total["received"],
        "lost": total["sent"] - total["received"],
    }
    if "wire_bytes" in total:
        summary["wire_bytes"] = total["wire_bytes"]
    if handler:
        summary["handler"] = handler
    summary["duration_s"] = round(total["elapsed_s"], 3)
    return summary
