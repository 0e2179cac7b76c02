"""Where a plane runs: on a thread with its own loop, or on the caller's.

The two planes talk only through `post`, which hands a callable's run to the other loop in order, and through immutable
snapshots. Nothing else is shared, so that the control plane can become a process behind the same seam.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

__all__ = ("InlinePlane", "PlaneHost", "PlaneThread")

T = TypeVar("T")
_EMPTY = contextvars.Context()


class PlaneHost(Protocol):
    """A loop to run a plane on."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run on that loop, soon, in the order of posting. From any thread. Dropped once the loop has ended."""

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run there and wait for the result here."""

    async def call(self, function: Callable[[], T]) -> T:
        """Call a plain function there and wait for the result here."""

    async def close(self, timeout_s: float) -> bool:
        """End it. Returns False if it did not end in time (it is then left behind, as a daemon)."""


class InlinePlane:
    """Both planes on one loop: for tests and virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *arguments)

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await coroutine

    async def call(self, function: Callable[[], T]) -> T:
        return function()

    async def close(self, timeout_s: float) -> bool:
        return True


class PlaneThread:
    """A plane on a thread of its own, named for whoever looks with a debugger.

    The thread is a daemon, so that a program that forgets to stop its node can still exit; `Node` stops it at exit.
    """

    def __init__(self, name: str) -> None:
        self._ready = threading.Event()
        self._on_end: Callable[[], object] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        # An empty context: the plane must not inherit a trace or a deadline from whoever started the node.
        self._thread = threading.Thread(target=_EMPTY.copy().run, args=(self._run,), name=name, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to tell

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    async def call(self, function: Callable[[], T]) -> T:
        async def there() -> T:
            return function()

        return await self.run(there())

    async def close(self, timeout_s: float) -> bool:
        here = asyncio.get_running_loop()
        ended = asyncio.Event()
        self._on_end = lambda: here.call_soon_threadsafe(ended.set)
        self.post(self.loop.stop)
        if self._thread.is_alive():
            try:
                async with asyncio.timeout(timeout_s):
                    await ended.wait()
            except TimeoutError:
                return False
            self._thread.join()  # it has nothing left to do
        return True

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        loop.call_soon(self._ready.set)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            with contextlib.suppress(RuntimeError):  # the caller's loop is closed: it has not waited
                self._on_end()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
