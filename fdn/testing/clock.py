"""Time that jumps: an event loop whose clock skips whatever nobody does anything in.

A minute of heartbeats takes milliseconds, and comes out the same each time. Only threads still take real time, and
while one works for the loop the clock stands still.
"""

import asyncio
import concurrent.futures
import contextvars
import functools
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, TypeVar, TypeVarTuple

__all__ = ("STARTS_AT", "VirtualLoop", "until", "virtual")

_REAL_S_MAX: Final = 20.0  # a loop that never comes to rest would otherwise swallow whatever is meant to end the test
STARTS_AT: Final = 1000.0
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, it lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = STARTS_AT
        self.threads = 0  # calls in executors that the loop has not heard the end of
        self._ends_at = time.monotonic() + _REAL_S_MAX

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if time.monotonic() > self._ends_at:
            passed = self.now - STARTS_AT
            raise RuntimeError(
                f"{_REAL_S_MAX:g} real seconds brought no end, at {passed:.3f} virtual ones; something on this loop "
                "never comes to rest, or never ends"
            )
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.threads:
            return super().select(max(0.0, self._ends_at - time.monotonic()))
        if timeout is None:
            raise RuntimeError("nothing is left that could ever wake the loop")
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> "asyncio.Future[_T]":
        """As always; until its result is here, time does not pass."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        # Nobody's context: the callback must not keep alive what the caller's held.
        future.add_done_callback(self._on_thread_done, context=contextvars.Context())
        return future

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """As always: this, too, waits for a thread."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*arguments)
        finally:
            self._jumping.threads -= 1

    def _on_thread_done(self, future: "asyncio.Future[Any]") -> None:
        self._jumping.threads -= 1


def virtual(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Make a test of a coroutine function: it runs on a `VirtualLoop`, and no fault of a callback goes unseen.

    ```python
    @fdn.testing.virtual
    async def test_an_hour_passes() -> None:
        await asyncio.sleep(3600)
    ```
    """

    @functools.wraps(test)
    def run(*arguments: _P.args, **keywords: _P.kwargs) -> None:
        faults: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
            await test(*arguments, **keywords)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(watched())
        assert not faults, f"callbacks failed: {faults}"

    return run


async def until(condition: Callable[[], object], what: str = "", timeout_s: float = 60.0) -> None:
    """Return when `condition()` is true. For virtual time.

    Raises:
        AssertionError: It was not within `timeout_s` virtual seconds.
    """
    loop = asyncio.get_running_loop()
    gives_up_at = loop.time() + timeout_s
    while not condition():
        assert loop.time() < gives_up_at, f"not within {timeout_s:g} virtual seconds: {what or condition}"
        await asyncio.sleep(0.005)
