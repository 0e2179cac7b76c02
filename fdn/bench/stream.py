"""Streams between two nodes: a streamed reply read by an iterator and by a callback, and a request stream, in turns."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fdn.bench.figures import median_of
from fdn.bench.plan import ANSWER_S, ROUNDS, Plan, in_turn
from fdn.bench.stream_nodes import KINDS
from fdn.bench.worker import Worker

__all__ = ("measure_stream",)

_ROUNDS: Final = 3 * ROUNDS  # many short ones: what is compared differs by a few per cent


def measure_stream(plan: Plan) -> dict[str, Any]:
    """Start the processes, measure in rounds, and end them.

    Returns:
        `items_per_s` of a streamed reply that is read by `async for`, the median of the rounds; `client_us`, processor
        time of the client's process for an item; the same under `callback` and `function` for replies that are read so
        (`fdn.bench.stream_nodes` says how), and under `request` for a request stream; `iterator_to_callback` and
        `iterator_to_function`, medians of the ratios of the rates within each round; and every round under `rounds`.
    """
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with _client(plan.transport) as client:
        plan.say("warming up")
        for kind in results:
            _one_round(client, kind, plan.warm_up())
        for number in range(1, _ROUNDS + 1):
            plan.say(f"round {number} of {_ROUNDS}")
            for kind in in_turn(results, number):
                results[kind].append(_one_round(client, kind, plan.round(_ROUNDS)))
    summaries = {kind: _summary(rounds) for kind, rounds in results.items()}
    return {
        **summaries.pop("iterator"),
        "iterator_to_callback": _ratio(results["iterator"], results["callback"]),
        "iterator_to_function": _ratio(results["iterator"], results["function"]),
        "transport": plan.transport,
        "size": plan.size,
        **summaries,
        "rounds": [{kind: results[kind][number] for kind in results} for number in range(_ROUNDS)],
    }


@contextlib.contextmanager
def _client(transport: str) -> Iterator[Worker]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fdn-bench-")))

        def endpoint(name: str) -> str:
            return "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{folder / name}"

        server = stack.enter_context(Worker("stream-server", endpoint=endpoint("s")))
        yield stack.enter_context(Worker("stream-client", endpoint=endpoint("c"), join=server.ready["endpoint"]))


def _one_round(client: Worker, kind: str, amount: dict[str, Any]) -> dict[str, Any]:
    result = client.ask(kind, ANSWER_S, **amount)
    return {
        "items_per_s": round(result["items"] / result["elapsed_s"]),
        "client_us": round(result["used_s"] / result["items"] * 1e6, 2),
        "items": result["items"],
    }


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "items_per_s": median_of(rounds, "items_per_s"),
        "lowest": min(each["items_per_s"] for each in rounds),
        "highest": max(each["items_per_s"] for each in rounds),
        "client_us": median_of(rounds, "client_us", 2),
        "items": sum(each["items"] for each in rounds),
    }


def _ratio(rounds: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    ratios = (one["items_per_s"] / other["items_per_s"] for one, other in zip(rounds, others, strict=True))
    middle: float = statistics.median(ratios)
    return round(middle, 3)
