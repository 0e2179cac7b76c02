import asyncio
from typing import Any

import pytest

import fdn
from fdn.messaging.interceptors import Incoming, Interceptor, Outgoing, compose_dispatch, compose_send
from tests.unit.fdn.harness import World, until, virtual


class Tracer(Interceptor):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def on_send(self, outgoing: Outgoing, proceed: Any) -> Any:
        self.log.append(f"{self.name} sends {outgoing.target}")
        try:
            return await proceed(outgoing)
        finally:
            self.log.append(f"{self.name} sent")

    async def on_dispatch(self, incoming: Incoming, proceed: Any) -> Any:
        self.log.append(f"{self.name} handles {incoming.target}")
        try:
            return await proceed(incoming)
        finally:
            self.log.append(f"{self.name} handled")


class Doubler(Interceptor):
    async def on_send(self, outgoing: Outgoing, proceed: Any) -> Any:
        outgoing.payload *= 2
        return await proceed(outgoing)

    async def on_dispatch(self, incoming: Incoming, proceed: Any) -> Any:
        incoming.arguments = tuple(argument + 1 for argument in incoming.arguments)
        result = await proceed(incoming)
        return result if result is None else result * 10


class Guard(Interceptor):
    async def on_dispatch(self, incoming: Incoming, proceed: Any) -> Any:
        if incoming.target == "secret":
            raise fdn.Denied(f"{incoming.context.caller.split('-')[0]} may not")
        return await proceed(incoming)


@virtual
async def test_an_empty_chain_is_its_end():
    async def end(_: Any) -> None: ...

    assert compose_send((), end) is end
    assert compose_dispatch((), end) is end


@virtual
async def test_the_first_is_the_outermost_on_both_sides():
    log: list[str] = []
    app = fdn.App()

    @app.service("echo")
    async def echo(n: int) -> int:
        log.append("handler")
        return n

    async with World() as world:
        first = await world.start("n1", app, interceptors=(Tracer("c", log), Tracer("d", log)))
        second = await world.start("n2", interceptors=(Tracer("a", log), Tracer("b", log)))
        assert await second.call("echo", 5) == 5
        assert log == [
            *("a sends echo", "b sends echo"),
            *("c handles echo", "d handles echo", "handler", "d handled", "c handled"),
            *("b sent", "a sent"),
        ]
        log.clear()
        await second.cast("echo", 5)
        await until(lambda: "c handled" in log)
        assert log.index("b sends echo") < log.index("c handles echo") < log.index("handler")
        assert (await first.stats()).dispatch.casts == 1


@virtual
async def test_they_may_change_what_passes():
    got: list[int] = []
    app = fdn.App()

    @app.service("inline")
    def inline(n: int) -> int:
        got.append(n)
        return n

    @app.service("worker")
    async def worker(n: int) -> int:
        await asyncio.sleep(0.1)
        return inline(n)

    async with World() as world:
        await world.start("n1", app, interceptors=(Doubler(),))
        second = await world.start("n2", interceptors=(Doubler(),))
        assert await second.call("inline", 5) == 110
        assert await second.call("worker", 6, returns=int) == 130
        await second.cast("inline", 7)
        await until(lambda: len(got) == 3)
        assert got == [11, 13, 15]


@virtual
async def test_a_refusal_reaches_the_caller():
    app = fdn.App()
    app.service("secret")(lambda: "xyzzy")
    app.service("open")(lambda: "hello")
    async with World() as world:
        await world.start("n1", app, interceptors=(Guard(),))
        second = await world.start("n2")
        assert await second.call("open") == "hello"
        with pytest.raises(fdn.Denied, match="n2 may not"):
            await second.call("secret")


@virtual
async def test_a_crash_in_one_is_an_error_of_the_call():
    class Broken(Interceptor):
        async def on_dispatch(self, incoming: Incoming, proceed: Any) -> Any:
            raise ZeroDivisionError("oops")

    app = fdn.App()
    app.service("open")(lambda: "hello")
    async with World() as world:
        await world.start("n1", app, interceptors=(Broken(),))
        second = await world.start("n2")
        for _ in range(3):
            with pytest.raises(fdn.RemoteError, match="oops"):
                await second.call("open")
