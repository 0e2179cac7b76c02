"""What `await` gives at once: the answer of a send that had nothing to wait for.

A coroutine that never waits still costs its frame. A future that is done costs the `await` alone, and one serves every
send of a node.
"""

import asyncio
import collections.abc
from typing import Any, NoReturn, TypeVar

__all__ = ("Settled", "settled")

T = TypeVar("T")


class Settled(asyncio.Future[T]):
    """A future that is done, taken wherever asyncio takes a coroutine as well (`create_task`, a `TaskGroup`)."""

    def send(self, value: Any) -> NoReturn:
        """What a task does with a coroutine: it has ended."""
        raise StopIteration(self.result())

    def throw(self, error: BaseException, *_: Any) -> NoReturn:
        """A task that was cancelled before its first step."""
        raise error

    def close(self) -> None:
        """There is nothing to close."""


collections.abc.Coroutine.register(Settled)


def settled(result: T, loop: asyncio.AbstractEventLoop) -> Settled[T]:
    """Gives `result` as often as it is awaited, on `loop`."""
    done: Settled[T] = Settled(loop=loop)
    done.set_result(result)
    return done
