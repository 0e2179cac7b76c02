import asyncio
import threading

from fdn.runtime.data_side import LoopSide
from fdn.runtime.facts import Fact
from fdn.runtime.view import EMPTY_VIEW


def test_everything_is_handed_to_the_users_loop_in_order():
    got: list[object] = []

    async def main() -> None:
        done = asyncio.Event()

        def on_beat() -> None:
            got.append(threading.get_ident())
            done.set()

        side = LoopSide(
            asyncio.get_running_loop(),
            threading.get_ident(),
            lambda view: got.append(view),
            lambda fact: got.append(fact),
            on_beat,
        )

        def control() -> None:
            side.view_changed(EMPTY_VIEW)
            side.fact(Fact(1.0))
            side.beat()

        thread = threading.Thread(target=control)
        thread.start()
        async with asyncio.timeout(20):
            await done.wait()
        thread.join()

    asyncio.run(main())
    assert got == [EMPTY_VIEW, Fact(1.0), threading.get_ident()]


def test_it_names_the_code_that_holds_the_loop():
    async def main() -> str:
        me = threading.get_ident()
        side = LoopSide(asyncio.get_running_loop(), me, lambda _: None, lambda _: None, lambda: None)
        found: list[str] = []
        held = threading.Event()

        def look() -> None:
            assert held.wait(20)
            found.append(side.where())

        thread = threading.Thread(target=look)
        thread.start()

        def holds_the_loop() -> None:
            held.set()
            while not found and thread.is_alive():
                pass

        holds_the_loop()
        thread.join(20)
        return found[0]

    where = asyncio.run(main())
    assert "holds_the_loop (test_data_side.py:" in where
    assert "called from" in where


def test_a_thread_that_is_gone():
    loop = asyncio.new_event_loop()
    side = LoopSide(loop, -1, lambda _: None, lambda _: None, lambda: None)
    assert side.where() == "its thread is gone"
    loop.close()


def test_a_loop_that_is_closed_is_told_nothing():
    loop = asyncio.new_event_loop()
    loop.close()
    got: list[object] = []
    side = LoopSide(loop, 0, got.append, got.append, lambda: got.append(None))
    side.view_changed(EMPTY_VIEW)
    side.fact(Fact(1.0))
    side.beat()
    assert got == []
