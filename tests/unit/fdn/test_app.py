from typing import Any

import pytest

import fdn
from fdn.app import App
from tests.unit.fdn.harness import World, virtual


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
