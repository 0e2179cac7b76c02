"""The lines that a peer's worker exchanges with the bench: one JSON object each way, as `fdn.bench.worker` has them.

Its programs run in the peers' own environment, where there is no fdn: `python -m tools.peers.NAME_pair ROLE ARGUMENTS`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

__all__ = ("Count", "arguments", "serve", "serve_on_loop")

_STILL_S = 1.0  # without a further message for this long, the missing ones are lost
_LOOK_S = 0.0005

Answer = dict[str, Any]


class Count:
    """What has come. A receiver adds to `messages` and `bytes`, and nothing else."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0

    def wait(self, expected: int) -> Answer:
        """Return when all have come, or no more come. For receivers whose messages come on another thread."""
        last, last_at = self.messages, time.monotonic()
        while self.messages < expected and time.monotonic() - last_at < _STILL_S:
            time.sleep(_LOOK_S)
            if self.messages != last:
                last, last_at = self.messages, time.monotonic()
        return self._report(expected, last_at)

    async def wait_on_loop(self, expected: int) -> Answer:
        """The same for those that have an event loop."""
        last, last_at = self.messages, time.monotonic()
        while self.messages < expected and time.monotonic() - last_at < _STILL_S:
            await asyncio.sleep(_LOOK_S)
            if self.messages != last:
                last, last_at = self.messages, time.monotonic()
        return self._report(expected, last_at)

    def _report(self, expected: int, last_at: float) -> Answer:
        ended_at = last_at if self.messages < expected else time.monotonic()
        return {"received": self.messages, "bytes": self.bytes, "ended_at": ended_at}


def arguments() -> tuple[str, dict[str, Any]]:
    """Role and arguments, from the command line."""
    return sys.argv[1], json.loads(sys.argv[2])


def serve(first: Mapping[str, Any], work: Mapping[str, Callable[..., Answer]]) -> None:
    """Carry out orders until there are no more."""
    answer: Mapping[str, Any] = first
    while (order := _exchange(answer)) is not None:
        answer = work[order.pop("order")](**order)


async def serve_on_loop(first: Mapping[str, Any], work: Mapping[str, Callable[..., Awaitable[Answer]]]) -> None:
    """The same, while the event loop keeps turning between orders."""
    answer: Mapping[str, Any] = first
    while (order := await asyncio.to_thread(_exchange, answer)) is not None:
        answer = await work[order.pop("order")](**order)


def _exchange(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    return json.loads(line) if line else None
