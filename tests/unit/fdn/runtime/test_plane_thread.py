import asyncio
import contextvars
import threading

import pytest

from fdn.runtime.plane_thread import InlinePlane, PlaneThread

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_plane_of_its_own_thread():
    async def where() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def fails() -> None:
        raise ZeroDivisionError("over there")

    async def main() -> None:
        VARIABLE.set("dirty")
        plane = PlaneThread("test-plane")
        assert await plane.run(where()) == "test-plane"
        assert await plane.call(lambda: threading.current_thread().name) == "test-plane"
        with pytest.raises(ZeroDivisionError, match="over there"):
            await plane.run(fails())
        posted: list[int] = []
        for number in range(100):
            plane.post(posted.append, number)
        assert await plane.call(lambda: list(posted)) == list(range(100))
        assert await plane.close(20)
        assert "test-plane" not in threads()
        plane.post(posted.append, 100)  # nobody is left to tell
        assert len(posted) == 100
        assert await plane.close(20)

    asyncio.run(main())
    assert not [name for name in threads() if name.startswith("asyncio_")]


def test_the_plane_inherits_no_context():
    seen: list[str] = []

    async def main() -> None:
        VARIABLE.set("dirty")
        plane = PlaneThread("test-plane")
        plane.loop.call_soon_threadsafe(lambda: None)
        done = threading.Event()

        def look() -> None:
            seen.append(threading.current_thread().name)
            done.set()

        plane.post(look)
        assert done.wait(20)
        seen.append(await asyncio.to_thread(lambda: "x"))
        assert await plane.close(20)

    asyncio.run(main())
    assert seen == ["test-plane", "x"]


def test_leaving_the_wait_cancels_the_work_over_there():
    async def main() -> None:
        plane = PlaneThread("test-plane")
        began, cancelled = threading.Event(), threading.Event()

        async def work() -> None:
            began.set()
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        task = asyncio.create_task(plane.run(work()))
        assert await asyncio.to_thread(began.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(cancelled.wait, 20)
        assert await plane.close(20)

    asyncio.run(main())


def test_what_still_runs_is_cancelled_at_the_end():
    cleaned_up = threading.Event()

    async def main() -> None:
        plane = PlaneThread("test-plane")

        async def work() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0)
                cleaned_up.set()

        task = asyncio.create_task(plane.run(work()))
        await plane.call(lambda: None)
        assert await plane.close(20)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cleaned_up.is_set()


def test_a_plane_that_is_stuck_is_left_behind():
    release = threading.Event()

    async def main() -> None:
        plane = PlaneThread("test-plane")
        stuck = threading.Event()

        def block() -> None:
            stuck.set()
            release.wait(20)

        plane.post(block)
        assert await asyncio.to_thread(stuck.wait, 20)
        assert not await plane.close(0.01)
        release.set()
        assert await plane.close(20)

    asyncio.run(main())
    assert "test-plane" not in threads()


def test_inline_runs_on_the_callers_loop():
    async def main() -> InlinePlane:
        plane = InlinePlane(asyncio.get_running_loop())
        posted: list[int] = []
        plane.post(posted.append, 1)
        plane.post(posted.append, 2)
        assert posted == []
        assert await plane.call(lambda: 5) == 5
        assert await plane.run(asyncio.sleep(0, "x")) == "x"
        assert posted == [1, 2]
        assert await plane.close(1)
        return plane

    asyncio.run(main()).post(lambda: None)  # the loop is closed: nobody is left to tell
