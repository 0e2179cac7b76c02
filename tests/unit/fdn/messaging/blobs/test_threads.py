import asyncio
import threading

import pytest

from fdn.messaging.blobs.threads import Threads
from tests.unit.fdn.harness import virtual


@virtual
async def test_work_runs_elsewhere():
    threads = Threads()
    assert await threads.run(threading.get_ident) != threading.get_ident()
    threads.close()


@virtual
async def test_cancelling_waits_for_the_end():
    threads = Threads()
    began, go, done = threading.Event(), threading.Event(), []

    def work() -> None:
        began.set()
        go.wait(10)
        done.append(True)

    task = asyncio.ensure_future(threads.run(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    asyncio.get_running_loop().call_soon(go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
    threads.close()
