"""Memory that the processes of one host share, beside frames: the same bytes written and read, and what a handle costs.

fdn passes shared memory as handles, bare pyzmq sends frames over `ipc` without a copy of its own. At both, the sender
fills memory with fresh bytes and the receiver reads every one of them. Then a piece of memory is passed that nobody
looks at, small and large.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

from fdn.bench.plan import ANSWER_S, ROUNDS, Pair, Plan, endpoints, in_turn
from fdn.bench.worker import Worker

__all__ = ("HANDLE_SIZES", "KINDS", "SIZES", "SharedPlan", "measure_shared")

KINDS: Final = ("again", "fresh", "raw")
_MIB: Final = 1024 * 1024
SIZES: Final = (_MIB, 4 * _MIB, 16 * _MIB)
# The last is as much as a message may be, which is 1 GiB and counts what goes around it.
HANDLE_SIZES: Final = (_MIB, 32 * _MIB, 1023 * _MIB)
_HANDLE_CALLS: Final = 300
_FIRST_COUNT: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class SharedPlan(Plan):
    """One run.

    Attributes:
        sizes: Bytes that are written and read, in turn.
        handle_sizes: Bytes of what is passed and not looked at.
        handle_calls: Round trips of each, over all rounds.
        rounds: How many.
    """

    sizes: tuple[int, ...] = SIZES
    handle_sizes: tuple[int, ...] = HANDLE_SIZES
    handle_calls: int = _HANDLE_CALLS
    rounds: int = ROUNDS


def measure_shared(plan: SharedPlan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        `rows`: for each size of `again` (fdn; the same memory filled anew once it was read), `fresh` (fdn; fresh memory
        each time) and `raw` (pyzmq over ipc, memory filled anew once it has left) `mb_s`, the median of the rounds,
        `lowest`, `highest`, `sent`, `received`; for fdn's `to_raw`, the median of the ratios within each round, and
        `as_handles`, how many did not go as frames. `handles`: for each size `p50_us` and `p99_us` of a round trip,
        medians of the rounds.
    """
    rounds: dict[tuple[int, str], list[dict[str, Any]]] = {(size, kind): [] for size in plan.sizes for kind in KINDS}
    passes: dict[int, list[dict[str, Any]]] = {size: [] for size in plan.handle_sizes}
    with _pairs() as (nodes, raw):
        plan.say("warming up")
        counts = {one: _calibrated(one, nodes, raw, plan.duration_s / plan.rounds) for one in rounds}
        for number in range(1, plan.rounds + 1):
            plan.say(f"round {number} of {plan.rounds}")
            for one in in_turn(rounds, number):
                rounds[one].append(_one_round(one, nodes, raw, counts[one]))
            for size in in_turn(passes, number):
                amount = {"size": size, "count": max(1, plan.handle_calls // plan.rounds)}
                passes[size].append(nodes.sender.ask("handles", ANSWER_S, **amount))
    return {
        "rows": [_row(size, kind, of, rounds[size, "raw"]) for (size, kind), of in rounds.items()],
        "handles": [
            {"size": size}
            | {key: round(statistics.median(one[key] for one in of), 1) for key in ("p50_us", "p99_us")}
            | {"calls": sum(one["calls"] for one in of)}
            for size, of in passes.items()
        ],
    }


def _calibrated(one: tuple[int, str], nodes: Pair, raw: Pair, seconds: float) -> int:
    count = _FIRST_COUNT
    for _ in range(3):
        started = time.perf_counter()
        _one_round(one, nodes, raw, count)
        count = max(2, min(16 * count, round(count * seconds / (time.perf_counter() - started))))
    return count


def _one_round(one: tuple[int, str], nodes: Pair, raw: Pair, count: int) -> dict[str, Any]:
    size, kind = one
    if kind != "raw":
        result = nodes.sender.ask("pass", ANSWER_S, size=size, count=count, again=kind == "again")
    else:
        raw.receiver.tell("bulk-read")
        sent = raw.sender.ask("bulk-fresh", ANSWER_S, size=size, count=count)
        counted = raw.receiver.answer(ANSWER_S)
        elapsed_s = counted["ended_at"] - sent["started_at"]
        result = {"sent": sent["sent"], "received": counted["received"], "elapsed_s": elapsed_s}
    return {**result, "mb_s": result["received"] * size / result["elapsed_s"] / 1e6}


def _row(size: int, kind: str, of: list[dict[str, Any]], raw: list[dict[str, Any]]) -> dict[str, Any]:
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
        row["as_handles"] = sum(one["as_handles"] for one in of)
    return row


@contextlib.contextmanager
def _pairs() -> Iterator[tuple[Pair, Pair]]:
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(endpoints("ipc"))
        receiver = stack.enter_context(Worker("shared-receiver", endpoint=endpoint("r")))
        sender = stack.enter_context(Worker("shared-sender", endpoint=endpoint("s"), join=receiver.ready["endpoint"]))
        raw_receiver = stack.enter_context(Worker("raw-receiver", endpoint=endpoint("z")))
        raw_sender = stack.enter_context(Worker("raw-sender", **raw_receiver.ready))
        yield Pair(receiver, sender), Pair(raw_receiver, raw_sender)
