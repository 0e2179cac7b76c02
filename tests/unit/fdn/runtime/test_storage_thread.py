"""Written in order, many at once, beside the loop."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import Configuration, Persist, Snapshot
from consensus.storage import MemoryStorage, Storage, StorageError, StorageFailed, Write
from fdn.runtime.storage_thread import StorageThread

FOUNDING = Snapshot(LogIndex(0), Term(0), Configuration((NodeId("a"),)))


def persist(token: int) -> Persist:
    return Persist(token, Term(token), None, ())


class Slow(MemoryStorage):
    """Writes when it is told to."""

    def __init__(self) -> None:
        super().__init__(FOUNDING)
        self.may_write = threading.Semaphore(0)
        self.is_at_it = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.error: StorageError | None = None
        self.tidied = 0
        self.closed = False

    def write(self, writes: Sequence[Write]) -> None:
        self.is_at_it.release()
        assert self.may_write.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        self.batches.append([write.token for write in writes if isinstance(write, Persist)])

    def tidy(self) -> None:
        self.tidied += 1
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


async def passes(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def a_thread(storage: Storage, failures: list[StorageError]) -> StorageThread:
    return StorageThread(storage, "test", asyncio.get_running_loop(), failures.append)


def test_what_gathers_while_it_writes_is_one_write():
    async def main() -> None:
        storage, failures, done = Slow(), list[StorageError](), list[int]()
        thread = a_thread(storage, failures)
        assert (await thread.open()).is_new
        all_done = asyncio.Event()
        for token in (1, 2):
            thread.write(persist(token), lambda token=token: done.append(token))  # type: ignore[misc]
        assert storage.is_at_it.acquire(blocking=False) is False, "not before this pass of the loop has ended"
        await passes()
        await asyncio.to_thread(storage.is_at_it.acquire, timeout=10)
        thread.write(persist(3), lambda: done.append(3))
        await passes()
        thread.write(persist(4))
        thread.write(persist(5), all_done.set)
        assert done == []
        storage.may_write.release(2)
        await asyncio.wait_for(all_done.wait(), 10)
        assert storage.batches == [[1, 2], [3, 4, 5]]
        assert done == [1, 2, 3]
        await thread.close()
        await thread.close()
        assert storage.closed
        assert failures == []

    asyncio.run(main())


def test_closing_waits_for_what_was_given_and_takes_nothing_more():
    async def main() -> None:
        storage = Slow()
        thread = a_thread(storage, [])
        thread.write(persist(1))
        closing = asyncio.create_task(thread.close())
        await passes()
        assert not closing.done()
        storage.may_write.release()
        await closing
        thread.write(persist(2))
        thread.on_files(lambda files: None, lambda _: pytest.fail("it is closed"))
        await passes()
        assert storage.batches == [[1]]

    asyncio.run(main())


def test_after_a_failure_nothing_is_called_back():
    async def main() -> None:
        storage, failed = Slow(), asyncio.get_running_loop().create_future()
        storage.error = StorageFailed("no room")
        thread = StorageThread(storage, "test", asyncio.get_running_loop(), failed.set_result)
        thread.write(persist(1), lambda: pytest.fail("it was not written"))
        storage.may_write.release()
        assert await failed is storage.error
        thread.write(persist(2), lambda: pytest.fail("nor was this"))
        await passes()
        await thread.close()

    asyncio.run(main())


def test_files_do_not_wait_for_the_log():
    async def main() -> None:
        storage = Slow()
        thread = a_thread(storage, [])
        thread.write(persist(1))
        await passes()
        got: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        saved = (LogIndex(3), Term(1), Configuration(), [b"state"])
        thread.on_files(lambda files: files.save_snapshot(*saved), got.set_result)
        snapshot = await got
        assert isinstance(snapshot, Snapshot)
        wrong: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        thread.on_files(lambda files: list(files.read_snapshot(FOUNDING)), wrong.set_result)
        assert isinstance(await wrong, StorageError), "an error is an answer"
        storage.may_write.release()
        await thread.close()

    asyncio.run(main())
