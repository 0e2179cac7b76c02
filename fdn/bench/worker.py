"""The measured processes: how the measuring side starts one and talks to it, and what runs inside.

Two processes exchange the messages that are measured, and a third tells them when. It speaks to each over its standard
streams, one JSON object a line each way, so that nothing of the control goes through the sockets under test. A worker
ends when its standard input does: even SIGKILL of the measuring side leaves none behind.
"""

import asyncio
import contextlib
import importlib
import itertools
import json
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from fdn.errors import Error

__all__ = ("ROLES", "Worker", "exchange", "main", "orders", "orders_on_loop", "until")

# Role -> where it lives: a function of its arguments and of `exchange`.
ROLES: Final[Mapping[str, str]] = {
    "b0-receiver": "fdn.bench.one_connection:receiver",
    "b0-sender": "fdn.bench.one_connection:sender",
    "blob-holder": "fdn.bench.blob_nodes:holder",
    "blob-taker": "fdn.bench.blob_nodes:taker",
    "event-publisher": "fdn.bench.event_nodes:publisher",
    "event-subscriber": "fdn.bench.event_nodes:subscriber",
    "large-receiver": "fdn.bench.large_nodes:receiver",
    "large-sender": "fdn.bench.large_nodes:sender",
    "load-member": "fdn.bench.load_nodes:member",
    "mixed-receiver": "fdn.bench.mixed_nodes:receiver",
    "mixed-sender": "fdn.bench.mixed_nodes:sender",
    "node-receiver": "fdn.bench.nodes:receiver",
    "node-sender": "fdn.bench.nodes:sender",
    "overload-client": "fdn.bench.overload_nodes:client",
    "overload-server": "fdn.bench.overload_nodes:server",
    "raw-receiver": "fdn.bench.raw:receiver",
    "raw-sender": "fdn.bench.raw:sender",
    "shared-receiver": "fdn.bench.shared_nodes:receiver",
    "shared-sender": "fdn.bench.shared_nodes:sender",
    "stream-client": "fdn.bench.stream_nodes:client",
    "stream-server": "fdn.bench.stream_nodes:server",
}
_READY_S: Final = 30.0
_END_S: Final = 3.0

Exchange = Callable[[Mapping[str, Any]], dict[str, Any] | None]


class Worker:
    """One measured process. A context manager: it is ended with the block, by its process id.

    Args:
        role: Of `ROLES`.
        program: What to start in place of this module: the command of a worker of somebody else's library, which speaks
            the same lines.
        **arguments: For the role; plain values.

    Attributes:
        ready: What it said when it was ready.
    """

    def __init__(self, role: str, program: Sequence[str] = (), **arguments: Any) -> None:
        self.role = role
        self._process = subprocess.Popen(
            [*(program or (sys.executable, "-m", "fdn.bench.worker")), role, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the measuring side, which then ends this process
        )
        try:
            self.ready = self._answer(_READY_S)
        except BaseException:
            self.close(at_once=True)
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # After a failure or Ctrl-C nobody waits for a round to end.
        self.close(at_once=kind is not None)

    def tell(self, order: str, **arguments: Any) -> None:
        """Give an order, whose answer is fetched with `answer`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"order": order, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The answer to the last order.

        Raises:
            Error: The worker has ended, or takes too long.
        """
        return self._answer(timeout_s)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, order: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        self.tell(order, **arguments)
        return self._answer(timeout_s)

    def signal(self, number: int) -> None:
        """Send it a signal; SIGSTOP must be followed by SIGCONT before it is closed."""
        self._process.send_signal(number)

    def close(self, at_once: bool = False) -> None:
        """End it. Idempotent."""
        if at_once:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        except KeyboardInterrupt:  # it still must not be left behind
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise Error(f"the {self.role} process did not answer within {timeout_s:g} s", hint="is the machine busy?")
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> Error:
        status = self._process.wait()
        return Error(f"the {self.role} process ended with status {status}", hint="what it wrote is above")


def exchange(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Inside a worker: answer, and wait for the next order; None when there will be none."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def orders(first_answer: Mapping[str, Any], carry_out: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Inside a worker that only ever waits for orders: carry them out until there are no more."""
    answer: Mapping[str, Any] = first_answer
    while (order := exchange(answer)) is not None:
        answer = carry_out(order)


async def orders_on_loop(
    first_answer: Mapping[str, Any], carry_out: Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
) -> None:
    """The same on an event loop, which keeps turning between orders."""
    answer = first_answer
    while (order := await asyncio.to_thread(exchange, answer)) is not None:
        answer = await carry_out(order)


def until(limit: int, seconds: float, step: int) -> Iterator[int]:
    """Numbers below `limit`, until `seconds` have passed; the clock is read once every `step`."""
    # Chained, because a generator of our own in the measured loop would cost as much as a tenth of a cast.
    return itertools.chain.from_iterable(_spans(limit, seconds, step))


def _spans(limit: int, seconds: float, step: int) -> Iterator[range]:
    ends_at = time.perf_counter() + seconds
    for start in range(0, limit, step):
        yield range(start, min(start + step, limit))
        if time.perf_counter() >= ends_at:
            return


def main() -> None:
    """One worker: role and arguments are on the command line."""
    module, _, function = ROLES[sys.argv[1]].partition(":")
    getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
