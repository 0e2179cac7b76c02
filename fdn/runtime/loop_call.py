"""One loop asks another of the same process, and does not wait for ever: user code may hold that loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ("run_on",)

T = TypeVar("T")


async def run_on(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
    """Run a coroutine on `loop`, which may be this one, and wait for its result here.

    Args:
        loop: Where it runs.
        make: Makes the coroutine, on `loop`.
        timeout_s: Past it the coroutine is cancelled, as soon as its loop turns again.

    Raises:
        TimeoutError: There is no result in time.
        RuntimeError: That loop has ended.
    """

    async def run() -> T:
        return await make()

    here = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        if loop is here:
            return await run()
        if loop.is_closed():
            raise RuntimeError("that loop has ended")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
