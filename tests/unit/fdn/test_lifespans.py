import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fdn
from fdn.lifespans import Lifespans
from tests.unit.fdn.harness import World, until, virtual


def app_of(name: str, done: list[str], fails: str = "") -> fdn.App:
    app = fdn.App(name)

    @app.lifespan
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        done.append(f"enter {name}")
        if fails == "enter":
            raise OSError("no disk")
        try:
            async with asyncio.timeout(10_000):  # which wants to be left in the task that entered it
                yield
        finally:
            done.append(f"leave {name}")
        if fails == "leave":
            raise OSError("no disk")

    @app.service(f"say-{name}")
    def say() -> str:
        done.append(f"call {name}")
        return name

    return app


@virtual
async def test_in_order_and_back():
    done: list[str] = []
    async with World() as world:
        node = await world.start("n1", app_of("a", done), app_of("b", done))
        assert done == ["enter a", "enter b"]
        assert await node.call("say-a") == "a"
        await node.stop()
    assert done == ["enter a", "enter b", "call a", "leave b", "leave a"]


@virtual
async def test_it_is_a_member_and_serves_nothing_yet():
    seen: list[Any] = []
    app = fdn.App()
    app.service("late")(lambda: 1)

    @app.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        seen.append(await node.call("early"))
        try:
            await first.call("late", timeout=1.0)
        except fdn.NotFound:
            seen.append("not yet")
        yield
        seen.append(await node.call("early"))

    early = fdn.App()
    early.service("early")(lambda: "early")
    async with World() as world:
        first = await world.start("n1", early)
        second = await world.start("n2", app)
        assert await first.call("late") == 1, "when the start returns, the others know of it"
        await second.stop()
    assert seen == ["early", "not yet", "early"]


@virtual
async def test_work_is_finished_before_it_is_left():
    done: list[str] = []
    app = app_of("a", done)

    @app.service("slow")
    async def slow() -> str:
        await asyncio.sleep(1.0)
        done.append("worked")
        return "done"

    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", app)
        call = asyncio.create_task(first.call("slow"))
        await until(lambda: second._dispatcher.stats().running)
        await second.stop()
        assert await call == "done"
    assert done == ["enter a", "worked", "leave a"]


@virtual
async def test_an_error_ends_the_start(caplog: pytest.LogCaptureFixture):
    done: list[str] = []
    async with World() as world:
        first = await world.start("n1")
        node = world.make("n2", app_of("a", done), app_of("b", done, fails="enter"), app_of("c", done))
        with pytest.raises(fdn.Error, match='the lifespan of app "b" failed: OSError: no disk') as caught:
            await node.start()
        assert isinstance(caught.value.__cause__, OSError)
        assert done == ["enter a", "enter b", "leave a"]
        await until(lambda: {m.name: m.status for m in first.members()}["n2"] == "left")
    assert "the lifespan of app b failed" in caplog.text


@virtual
async def test_an_error_of_ours_stays_what_it_is():
    app = fdn.App()

    @app.lifespan
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        await node.call("nobody.serves-this")
        yield

    async with World() as world:
        with pytest.raises(fdn.NotFound, match="nobody"):
            await world.make("n1", app).start()


@virtual
async def test_an_app_that_cannot_be_served_leaves_what_was_entered():
    done: list[str] = []
    app = app_of("a", done)
    app.service("broken")(lambda *rest: None)
    async with World() as world:
        with pytest.raises(fdn.ConfigError):
            await world.make("n1", app).start()
    assert done == ["enter a", "leave a"]


@virtual
async def test_a_start_that_is_given_up_in_the_middle():
    entered = asyncio.Event()
    ended: list[str] = []
    app = fdn.App()

    @app.lifespan
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        yield

    async with World() as world:
        node = world.make("n1", app)
        starting = asyncio.create_task(node.start())
        await entered.wait()
        await node.stop()
        with pytest.raises(fdn.Error, match="stopped while it started"):
            await starting
    assert ended == ["cancelled"]


@virtual
async def test_an_error_at_the_end_is_logged_and_keeps_nobody_from_leaving(caplog: pytest.LogCaptureFixture):
    done: list[str] = []
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", app_of("a", done), app_of("b", done, fails="leave"))
        await second.stop()
        assert done == ["enter a", "enter b", "leave b", "leave a"]
        await until(lambda: {m.name: m.status for m in first.members()}["n2"] == "left")
    assert "a lifespan failed while it was left" in caplog.text


@virtual
async def test_one_that_does_not_end_is_left_behind(caplog: pytest.LogCaptureFixture):
    ended: list[str] = []
    app = fdn.App()

    @app.lifespan
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        yield
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with World() as world:
        node = await world.start("n1", app, stop_timeout_s=2.0)
        await node.stop()
    assert ended == ["cancelled"]
    assert "a lifespan was not left within stop_timeout_s=2" in caplog.text


@virtual
async def test_one_that_breaks_stops_the_node(caplog: pytest.LogCaptureFixture):
    done: list[str] = []
    fail = asyncio.Event()
    broken = fdn.App("broken")

    @broken.lifespan
    async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
        async def poll() -> None:
            await fail.wait()
            raise OSError("no disk")

        async with asyncio.TaskGroup() as group:
            group.create_task(poll())
            yield

    async with World() as world:
        node = await world.start("n1", app_of("a", done), broken)
        fail.set()
        with pytest.raises(fdn.Error, match="a lifespan ended by itself"):
            await node.wait_stopped()
        await node.stop()
    assert done == ["enter a", "leave a"]
    assert "no disk" in caplog.text


@virtual
async def test_without_any_there_is_nothing_to_do():
    none = Lifespans([fdn.App()], None, lambda: None)
    assert not none
    await none.leave()
