import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fdn
from fdn.app import App
from fdn.runtime.cron import Cron
from fdn.runtime.schedule import Interval
from tests.unit.fdn.harness import World, until, virtual


def test_a_service_stays_what_it_was():
    app = App("calc")

    class Math:
        def add(self, a: int, b: int) -> int:
            return a + b

    def who() -> str:
        return "me"

    assert app.service("math", version="1.2", capabilities={"cpu"}, concurrency=8)(Math) is Math
    assert app.service("who")(who) is who
    assert [(d.name, d.target, d.version, d.capabilities, d.concurrency) for d in app.services] == [
        ("math", Math, "1.2", ("cpu",), 8),
        ("who", who, "", (), None),
    ]


@pytest.mark.parametrize("name", ["", "a b", ".a", "a.", "a..b", "a@b", "a/b", "x" * 201, "fdn", "fdn.node", "über"])
def test_names_that_are_none(name: str):
    with pytest.raises(fdn.ConfigError):
        App().service(name)


@virtual
async def test_one_app_on_several_nodes_is_one_instance_each():
    app = App()

    @app.service("count")
    class Count:
        def __init__(self) -> None:
            self.calls = 0

        def up(self) -> int:
            self.calls += 1
            return self.calls

    async with World() as world:
        first, _ = await world.cluster(2, app)
        assert [await first.call(f"count.up@{name}") for name in ("n1", "n1", "n2")] == [1, 2, 1]


@virtual
async def test_two_apps_with_one_name_conflict():
    one, two = App(), App()
    one.service("who")(lambda: 1)
    two.service("who")(lambda: 2)
    async with World() as world:
        with pytest.raises(fdn.ConfigError, match="served by this node already"):
            await world.make("n1", one, two).start()


def test_a_subscription_stays_what_it_was():
    app = App()

    async def on_order(order: int) -> None:
        pass

    assert app.subscribe("orders.*", queue="billing", policy="drop_oldest", queue_max=5)(on_order) is on_order
    (wish,) = app.subscriptions
    assert (wish.pattern, wish.handler, wish.queue, wish.policy, wish.queue_max, wish.concurrency) == (
        ("orders.*", on_order, "billing", "drop_oldest", 5, 1)
    )


@pytest.mark.parametrize("wrong", [{"pattern": "a..b"}, {"pattern": "fdn.>"}, {"pattern": "a", "queue": " "}])
def test_subscriptions_that_cannot_be(wrong: dict[str, Any]):
    with pytest.raises(fdn.ConfigError):
        App().subscribe(**wrong)
    with pytest.raises(fdn.ConfigError, match="policy='never'"):
        App().subscribe("a", policy="never")


def test_a_timer_stays_what_it_was():
    app = App()

    def tick() -> None: ...

    assert app.every("1m30s", jitter="10s", at_once=True)(tick) is tick
    app.every(cron="*/5 * * * *", timezone="Europe/Berlin")(tick)
    first, second = app.timers
    assert isinstance(first.schedule, Interval)
    assert (first.name, first.handler, first.schedule.period_s, first.jitter_s, first.at_once) == (
        ("test_a_timer_stays_what_it_was.<locals>.tick", tick, 90.0, 10.0, True)
    )
    assert isinstance(second.schedule, Cron)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "expected one of the two"),
        ({"period": 1, "cron": "* * * * *"}, "expected one of the two"),
        ({"period": "soon"}, "period='soon'"),
        ({"period": 0}, "a period of 0 s"),
        ({"cron": "* * *"}, "cron="),
        ({"cron": "* * * * *", "timezone": "Mars"}, "time zone 'Mars'"),
        ({"period": 1, "timezone": "Europe/Berlin"}, "a period has none"),
        ({"period": 1, "jitter": 1}, "jitter=1: .* less than the period"),
        ({"period": 1, "jitter": -0.5}, "jitter=-0.5"),
        ({"period": 1, "singleton": True}, "comes with consensus"),
    ],
)
def test_timers_that_cannot_be(wrong: dict[str, Any], said: str):
    with pytest.raises(fdn.ConfigError, match=said):
        App().every(**wrong)


def test_a_lifespan_without_a_yield_is_none():
    async def setup(node: fdn.Node) -> None: ...

    with pytest.raises(fdn.ConfigError, match="has no yield"):
        App().lifespan(setup)  # type: ignore[type-var]


def test_lifespans_that_cannot_be():
    def plain(node: fdn.Node) -> Iterator[None]:
        yield

    async def for_nobody() -> AsyncIterator[None]:
        yield

    with pytest.raises(fdn.ConfigError, match=r"plain is a plain `def`; write `async def`"):
        App().lifespan(plain)  # type: ignore[type-var]
    with pytest.raises(fdn.ConfigError, match=r"for_nobody takes \(\) .*; expected one argument, the node"):
        App().lifespan(for_nobody)  # type: ignore[type-var]


def test_decorators_without_their_parentheses():
    def who() -> str:
        return ""

    with pytest.raises(fdn.ConfigError, match=r'expected a string; such as @app.service\("hello"\)'):
        App().service(who)  # type: ignore[arg-type]
    with pytest.raises(fdn.ConfigError, match=r'such as @app.subscribe\("orders'):
        App().subscribe(who)  # type: ignore[arg-type]


@virtual
async def test_timers_run_on_every_node_and_end_with_it():
    seen: list[tuple[str, str]] = []
    app = App()

    @app.every(10)
    async def tick(node: fdn.Node, context: fdn.Context) -> None:
        seen.append((node.name, await node.call(f"who@{node.name}")))
        await asyncio.sleep(1.0)
        seen.append((node.name, "done"))

    @app.service("who")
    def who(node: fdn.Node) -> str:
        return node.name

    async with World() as world:
        first, second = await world.cluster(2, app)
        await until(lambda: len(seen) >= 3)
        await first.stop()
        await until(lambda: len(seen) >= 4)
        await second.stop()
        stats = len(seen)
        await asyncio.sleep(60.0)
        assert len(seen) == stats
    assert sorted(seen) == [("n1", "done"), ("n1", "n1"), ("n2", "done"), ("n2", "n2")]


@virtual
async def test_cron_goes_by_the_clock_of_the_cluster():
    seen: list[str] = []
    app = App()

    @app.every(cron="30 0 * * *")
    def report(context: fdn.Context) -> None:
        seen.append(context.target)

    async with World() as world:
        await world.cluster(1, app)
        await world.advance(29 * 60)
        assert not seen
        await world.advance(2 * 60)
        assert [target.rpartition(".")[2] for target in seen] == ["report"]


@virtual
async def test_services_and_subscriptions_get_their_node():
    got = asyncio.Queue[tuple[str, int]]()
    app = App()

    @app.service("asker")
    class Asker:
        def __init__(self, node: fdn.Node) -> None:
            self.node = node

        async def ask(self) -> str:
            return str(await self.node.call("who"))

    app.service("who")(lambda: "me")

    @app.subscribe("orders.new")
    async def on_order(node: fdn.Node, order: int) -> None:
        got.put_nowait((node.name, order))

    async with World() as world:
        (node,) = await world.cluster(1, app)
        assert await node.call("asker.ask") == "me"
        await node.publish("orders.new", 3)
        assert await got.get() == ("n1", 3)


@virtual
async def test_interceptors_of_the_node_are_around_those_of_the_apps():
    passed: list[str] = []

    class Named(fdn.Interceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def on_send(self, outgoing: fdn.Outgoing, proceed: Any) -> Any:
            passed.append(f"send {self.name}")
            return await proceed(outgoing)

        async def on_dispatch(self, incoming: fdn.Incoming, proceed: Any) -> Any:
            passed.append(f"dispatch {self.name}")
            return await proceed(incoming)

    one, two = App(interceptors=[Named("one")]), App(interceptors=[Named("two"), Named("three")])
    one.service("who")(lambda: "me")
    async with World() as world:
        node = await world.start("n1", one, two, interceptors=(Named("node"),))
        assert await node.call("who") == "me"
    order = ["node", "one", "two", "three"]
    assert passed == [f"send {name}" for name in order] + [f"dispatch {name}" for name in order]


@virtual
async def test_an_instance_is_served_as_it_is():
    class Lock:
        def __init__(self) -> None:
            self._lock = threading.Lock()  # which cannot be copied

        def held(self) -> bool:
            return self._lock.locked()

    app = App()
    app.service("lock")(Lock())
    async with World() as world:
        (node,) = await world.cluster(1, app)
        assert await node.call("lock.held") is False
