"""A large object from one process to another: how fast, checked on arrival, and with how much memory."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from typing import Any, Final

from fdn.bench.memory import MemoryWatch
from fdn.bench.worker import Worker

__all__ = ("BlobPlan", "measure_blob")

_ANSWER_S: Final = 600.0
_GIB: Final = 1024 * 1024 * 1024
_WAYS: Final = {"frames": False, "shared": True}


@dataclasses.dataclass(frozen=True, slots=True)
class BlobPlan:
    """One run.

    Attributes:
        size: Bytes of the object.
        times: How often it is fetched, each way.
        say: Told what begins.
    """

    size: int = _GIB
    times: int = 3
    say: Callable[[str], None] = lambda text: None


def measure_blob(plan: BlobPlan) -> dict[str, Any]:
    """Start the processes, fetch, and end them.

    Returns:
        Under `frames` (a file of the holder, over TCP) and `shared` (shared memory of the holder, as handles) `mb_s` of
        the quickest time, `received` bytes each time, and `extra_mib`, by how much the memory of each process grew at
        most while it was fetched; shared memory counts where it is mapped.
    """
    return {"size": plan.size, **{way: _measure(plan, way) for way in _WAYS}}


def _measure(plan: BlobPlan, way: str) -> dict[str, Any]:
    shared = _WAYS[way]
    endpoint = "tcp://127.0.0.1:0"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fdn-bench-"))
        holder = stack.enter_context(Worker("blob-holder", endpoint=endpoint, folder=folder, shared=shared))
        join = holder.ready["endpoint"]
        taker = stack.enter_context(Worker("blob-taker", endpoint=endpoint, join=join, shared=shared))
        plan.say(f"{way}: making it")
        taker.ask("make", _ANSWER_S, size=plan.size)
        plan.say(f"{way}: fetching it")
        with MemoryWatch({"holder": holder.pid, "taker": taker.pid}) as watch:
            rounds = [taker.ask("take", _ANSWER_S) for _ in range(plan.times)]
    memory = watch.report()
    return {
        "mb_s": round(max(one["received"] / one["elapsed_s"] for one in rounds) / 1e6, 1),
        "received": [one["received"] for one in rounds],
        "extra_mib": {name: round(of["peak_mib"] - of["begin_mib"], 1) for name, of in memory.items()},
    }
