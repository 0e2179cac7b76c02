"""The storage thread: what must be on the disk is written there, while the loop goes on.

Writes that gather while one is under way make the next one together (group commit). Snapshots are read and written on a
second thread: a large one must not hold up the log.
"""

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from consensus.storage import Opened, Storage, StorageError, Write

__all__ = ("StorageThread",)

_T = TypeVar("_T")
_TIDY_AFTER_S: Final = 1.0  # without a write: a quiet moment
_Pending = tuple[Write, Callable[[], None] | None]


class StorageThread:
    """One storage, for one loop. How much may wait is bounded by whoever writes: Raft's `uncommitted_bytes_max`.

    Args:
        storage: Used by nobody else.
        name: Of the thread, for whoever looks with a debugger.
        loop: Where everything is called back.
        on_failure: Called once, when a write has failed: nothing is known of the disk any more.
    """

    def __init__(
        self, storage: Storage, name: str, loop: asyncio.AbstractEventLoop, on_failure: Callable[[StorageError], None]
    ) -> None:
        self._storage = storage
        self._loop = loop
        self._on_failure = on_failure
        self._log = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._files = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=f"{name}-files")
        self._queue: list[_Pending] = []
        self._is_writing = False
        self._has_written = False
        self._failed = False
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._tidy: asyncio.TimerHandle | None = None

    async def open(self) -> Opened:
        """See `Storage.open`."""
        return await self._loop.run_in_executor(self._log, self._storage.open)

    def write(self, write: Write, done: Callable[[], None] | None = None) -> None:
        """Write, in the order of these calls; `done` is called when it is on the disk, and never if that fails."""
        if self._failed or self._closed:
            return
        self._queue.append((write, done))
        if not self._is_writing:
            self._is_writing = True
            if self._tidy is not None:
                self._tidy.cancel()
                self._tidy = None
            self._loop.call_soon(self._begin)  # what else this pass of the loop brings goes along

    def on_files(self, job: Callable[[Storage], _T], done: Callable[[_T | StorageError], None]) -> None:
        """Do something with snapshots, beside the log; `done` gets what it returned, or why it failed."""
        if self._closed:
            return

        def ended(future: "asyncio.Future[_T]") -> None:
            if self._closed or future.cancelled():
                return
            error = future.exception()
            if error is not None and not isinstance(error, StorageError):
                raise error
            done(error if error is not None else future.result())

        self._loop.run_in_executor(self._files, job, self._storage).add_done_callback(ended)

    async def close(self) -> None:
        """Return when what was given is on the disk, and the storage closed. Idempotent."""
        if self._closed:
            return
        if self._is_writing and not self._failed:
            self._idle = self._loop.create_future()
            await self._idle
        self._closed = True
        if self._tidy is not None:
            self._tidy.cancel()
        await self._loop.run_in_executor(self._files, lambda: None)
        await self._loop.run_in_executor(self._log, self._storage.close)
        self._files.shutdown(wait=False)
        self._log.shutdown(wait=False)

    def _begin(self) -> None:
        batch, self._queue = self._queue, []
        writing = self._loop.run_in_executor(self._log, self._storage.write, [write for write, _ in batch])
        writing.add_done_callback(functools.partial(self._on_written, batch))

    def _on_written(self, batch: Sequence[_Pending], writing: "asyncio.Future[None]") -> None:
        error = None if writing.cancelled() else writing.exception()
        if error is not None:
            self._fail(error)
            return
        self._has_written = True
        for _, done in batch:
            if done is not None:
                done()  # which may write more
        if self._queue:
            self._begin()
        else:
            self._rest()

    def _rest(self) -> None:
        self._is_writing = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        elif not self._closed:
            self._tidy = self._loop.call_later(_TIDY_AFTER_S, self._tidy_up)

    def _tidy_up(self) -> None:
        self._tidy = None
        if self._has_written and not self._is_writing:
            self._has_written = False
            self._loop.run_in_executor(self._log, self._storage.tidy).add_done_callback(self._on_tidied)

    def _on_tidied(self, tidying: "asyncio.Future[Any]") -> None:
        error = None if tidying.cancelled() else tidying.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, StorageError):
            raise error
        if not self._failed:
            self._failed = True
            self._queue.clear()
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            self._on_failure(error)
