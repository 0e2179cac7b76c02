import asyncio
import threading

import pytest

from fdn.runtime.loop_call import run_on
from tests.unit.fdn.harness import virtual


async def thread_name() -> str:
    return threading.current_thread().name


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


@virtual
async def test_on_the_same_loop():
    here = asyncio.get_running_loop()
    assert await run_on(here, thread_name, 1.0) == threading.current_thread().name
    with pytest.raises(TimeoutError):
        await run_on(here, for_ever, 1.0)


def test_on_another_loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="other")
    thread.start()
    try:
        assert asyncio.run(run_on(loop, thread_name, 10.0)) == "other"
        with pytest.raises(TimeoutError):
            asyncio.run(run_on(loop, for_ever, 0.01))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    with pytest.raises(RuntimeError, match="ended"):
        asyncio.run(run_on(loop, thread_name, 1.0))
