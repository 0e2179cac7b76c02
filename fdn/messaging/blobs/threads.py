"""Threads that wait for disks, so that the event loop does not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

__all__ = ("Threads",)

T = TypeVar("T")
_COUNT: Final = 4


class Threads:
    """A few threads of one node. They start when first used."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_COUNT, thread_name_prefix="fdn-blob")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns. Cancelling waits for it to end: it has files in its hands."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise

    def close(self) -> None:
        """Take nothing more. What runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
