"""Large bodies: fdn's casts and calls and bare pyzmq without copies, in turns within one run, size by size."""

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fdn.bench.plan import ANSWER_S, ROUNDS, Pair, Plan, endpoints, in_turn
from fdn.bench.worker import Worker

__all__ = ("KINDS", "SIZES", "LargePlan", "measure_large", "node_pair", "one_round", "rows")

KINDS: Final = ("cast", "call", "raw")
_MIB: Final = 1024 * 1024
SIZES: Final = (64 * 1024, _MIB, 4 * _MIB, 16 * _MIB)


@dataclasses.dataclass(frozen=True, slots=True)
class LargePlan(Plan):
    """One run.

    Attributes:
        sizes: Bytes of a body, in turn.
        rounds: How many of each.
    """

    sizes: tuple[int, ...] = SIZES
    rounds: int = ROUNDS
    in_flight: int = 4


def measure_large(plan: LargePlan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        `rows`: for each size and each of `KINDS` `mb_s` (10**6 bytes received a second, the median of the rounds),
        `lowest`, `highest`, `sent`, `received`, and for fdn's `to_raw`, the median of the ratios within each round; and
        every round's under `rounds`. `sent` and `received` over all.
    """
    rounds: dict[tuple[int, str], list[dict[str, Any]]] = {(size, kind): [] for size in plan.sizes for kind in KINDS}
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(endpoints(plan.transport))
        nodes = stack.enter_context(node_pair(endpoint))
        raw_receiver = stack.enter_context(Worker("raw-receiver", endpoint=endpoint("z").replace(":0", ":*")))
        raw = Pair(raw_receiver, stack.enter_context(Worker("raw-sender", **raw_receiver.ready)))
        plan.say("warming up")
        for size, kind in rounds:
            one_round(kind, nodes, raw, {**plan.warm_up(), "size": size, "seconds": 0.05}, plan.in_flight)
        for number in range(1, plan.rounds + 1):
            plan.say(f"round {number} of {plan.rounds}")
            for size, kind in in_turn(rounds, number):
                amount = {**plan.round(plan.rounds), "size": size}
                rounds[size, kind].append(one_round(kind, nodes, raw, amount, plan.in_flight))
    every = [one for of in rounds.values() for one in of]
    return {
        "transport": plan.transport,
        "in_flight": plan.in_flight,
        "sent": sum(one["sent"] for one in every),
        "received": sum(one["received"] for one in every),
        "rows": rows(rounds),
        "rounds": [
            {"size": size, "kind": kind, "mb_s": [round(one["mb_s"], 1) for one in of]}
            for (size, kind), of in rounds.items()
        ],
    }


@contextlib.contextmanager
def node_pair(endpoint: Any) -> Iterator[Pair]:
    """Two fdn nodes that exchange large bodies; ended with the block."""
    with (
        Worker("large-receiver", endpoint=endpoint("r")) as receiver,
        Worker("large-sender", endpoint=endpoint("s"), join=receiver.ready["endpoint"]) as sender,
    ):
        yield Pair(receiver, sender)


def one_round(kind: str, nodes: Pair, raw: Pair, amount: dict[str, Any], in_flight: int) -> dict[str, Any]:
    """One size, one kind: `sent`, `received`, `bytes`, `elapsed_s`, `mb_s`."""
    if kind == "raw":
        raw.receiver.tell("bulk-count")
        sent = raw.sender.ask("bulk", ANSWER_S, **amount)
        counted = raw.receiver.answer(ANSWER_S)
        elapsed_s = counted["ended_at"] - sent["started_at"]  # both read the machine's one monotonic clock
        result = {**counted, "sent": sent["sent"], "elapsed_s": elapsed_s}
    else:
        result = nodes.sender.ask(kind, ANSWER_S, in_flight=in_flight, **amount)
    return {**result, "mb_s": result["bytes"] / result["elapsed_s"] / 1e6}


def rows(rounds: dict[tuple[int, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each size and kind."""
    return [_row(size, kind, of, rounds.get((size, "raw"), [])) for (size, kind), of in rounds.items()]


def _row(size: int, kind: str, of: Sequence[dict[str, Any]], raw: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rates = [one["mb_s"] for one in of]
    row: dict[str, Any] = {
        "size": size,
        "kind": kind,
        "mb_s": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "sent": sum(one["sent"] for one in of),
        "received": sum(one["received"] for one in of),
    }
    if kind != "raw":
        ratios = [one["mb_s"] / other["mb_s"] for one, other in zip(of, raw, strict=True)]
        row["to_raw"] = round(statistics.median(ratios), 3)
    return row
