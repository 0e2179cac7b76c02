"""What a bench run is asked to do, and the pairs of processes that do it."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from fdn.bench.worker import Worker

__all__ = ("ANSWER_S", "ROUNDS", "Pair", "Plan", "endpoints", "in_turn", "pairs")

_T = TypeVar("_T")
ROUNDS: Final = 5
# Beyond its own duration, what an answer may take: the slowest machine still finishes, a hung one is noticed.
ANSWER_S: Final = 90.0
_WARM_UP_S: Final = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """One bench run.

    Attributes:
        size: Bytes of data in each message.
        duration_s: Seconds for each figure, over all rounds.
        count: Messages (or calls) for each figure, over all rounds, in place of a duration; None goes by time.
        handlers: `def`, `async`, or both; the first is reported at the top level.
        in_flight: Calls under way at once.
        transport: `tcp` or `ipc`.
        say: Told what begins.
    """

    size: int = 100
    duration_s: float = 3.0
    count: int | None = None
    handlers: tuple[str, ...] = ("def", "async")
    in_flight: int = 256
    transport: str = "tcp"
    say: Callable[[str], None] = lambda text: None

    def round(self, rounds: int = ROUNDS) -> dict[str, Any]:
        """How much one of so many rounds does, as the workers are told."""
        if self.count is None:
            return {"size": self.size, "seconds": self.duration_s / rounds, "count": None}
        return {"size": self.size, "seconds": ANSWER_S / 2, "count": -(-self.count // rounds)}

    def warm_up(self) -> dict[str, Any]:
        """How much is done before anything counts: connections open, code paths and caches warm."""
        return {"size": self.size, "seconds": min(_WARM_UP_S, self.duration_s), "count": None}


def in_turn(kinds: Iterable[_T], number: int) -> list[_T]:
    """All kinds, beginning with another one in each round: none is always the first, or always behind the same one."""
    kinds = list(kinds)
    first = number % len(kinds) if kinds else 0
    return [*kinds[first:], *kinds[:first]]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two connected processes."""

    receiver: Worker
    sender: Worker


@contextlib.contextmanager
def endpoints(transport: str) -> Iterator[Callable[[str], str]]:
    """Where the processes of one run may listen, by a name for each; the folder of `ipc` goes with the block."""
    with tempfile.TemporaryDirectory(prefix="fdn-bench-") as folder:
        yield lambda name: "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{Path(folder, name)}"


@contextlib.contextmanager
def pairs(transport: str) -> Iterator[tuple[Pair, Pair]]:
    """Two fdn nodes, and two bare pyzmq processes, each connected over this transport; ended with the block."""
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(endpoints(transport))
        receiver = stack.enter_context(Worker("node-receiver", endpoint=endpoint("r")))
        sender = stack.enter_context(Worker("node-sender", endpoint=endpoint("s"), join=receiver.ready["endpoint"]))
        raw_receiver = stack.enter_context(Worker("raw-receiver", endpoint=endpoint("z").replace(":0", ":*")))
        raw_sender = stack.enter_context(Worker("raw-sender", **raw_receiver.ready))
        yield Pair(receiver, sender), Pair(raw_receiver, raw_sender)
