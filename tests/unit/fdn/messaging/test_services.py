import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fdn
from fdn.errors import ConfigError
from fdn.messaging.offers import Offer
from fdn.messaging.services import Service, valid_name
from tests.unit.fdn.harness import World, virtual


def make(target: Any, name: str = "s", **settings: Any) -> Service:
    return Service(name, target, **{"concurrency": 4, "mailbox_max": 10} | settings)


class Math:
    limit = 5

    def add(self, a: int, b: int) -> int:
        return a + b

    async def slow(self) -> None: ...

    @staticmethod
    def static(n: int) -> int:
        return n

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @property
    def size(self) -> int:
        raise AssertionError("a property is no method, and must not be read")

    def _private(self) -> None: ...


def test_the_public_methods_of_a_class_or_an_instance():
    for target in (Math, Math()):
        service = make(target, version="2", capabilities={"gpu", "cpu"})
        assert service.offer == Offer("s", ("add", "named", "slow", "static"), "2", ("cpu", "gpu"))
        assert sorted(service.methods) == ["s.add", "s.named", "s.slow", "s.static"]
    assert service.methods["s.add"].inline
    assert not service.methods["s.slow"].inline
    assert service.methods["s.slow"].plain


def test_a_function_is_called_by_the_services_name_alone():
    service = make(lambda n: n, "who")
    assert service.offer == Offer("who")
    assert list(service.methods) == ["who"]


def test_what_has_streams_is_told_apart():
    class Streams:
        async def gives(self, n: int) -> AsyncIterator[int]:
            yield n

        async def takes(self, items: AsyncIterator[int]) -> int:
            return 0

        async def both(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            async for item in items:
                yield item

        async def neither(self, n: int) -> int:
            return n

    methods = make(Streams, threads=2).methods
    assert {name: (m.is_stream, m.has_streams, m.plain, m.inline) for name, m in methods.items()} == {
        "s.gives": (True, True, False, False),
        "s.takes": (False, True, False, False),
        "s.both": (True, True, False, False),
        "s.neither": (False, False, True, False),
    }


def test_what_is_relayed_never_runs_itself():
    async def stands_in(body: Any) -> None:
        raise AssertionError

    async def relay(job: Any) -> None: ...

    (method,) = make(stands_in, relay=relay).methods.values()
    assert method.relay is relay
    assert method.fast_decode is None


def test_threads_take_plain_functions_off_the_loop():
    service = make(Math, threads=2)
    assert not service.methods["s.add"].inline
    assert service.executor is not None
    service.close()


def test_inherited_methods_are_served():
    class More(Math):
        def mul(self, a: int, b: int) -> int:
            return a * b

    assert "s.add" in make(More).methods
    assert "s.mul" in make(More).methods


def test_what_cannot_be_served():
    class Empty:
        def _hidden(self) -> None: ...

    def stream(n: int) -> Any:
        yield n

    def takes_stream(items: AsyncIterator[int]) -> int:
        return 0

    class Stars:
        def many(self, *values: int) -> None: ...

    for target, why in (
        (Empty, "no public method"),
        (stream, "is a generator"),
        (takes_stream, "only `async def` can read one"),
        (Stars, "expected named parameters only"),
        (object(), "no public method"),
        (functools.partial(print), "cannot be served"),
    ):
        with pytest.raises(ConfigError, match=why):
            make(target)


@pytest.mark.parametrize("setting", [{"concurrency": 0}, {"mailbox_max": 0}, {"threads": -1}])
def test_settings_out_of_range(setting: dict[str, Any]):
    with pytest.raises(ConfigError, match="expected at least"):
        make(Math, **setting)


def test_names():
    assert valid_name("orders.eu-1.v_2") == "orders.eu-1.v_2"
    for name in ("", "a..b", "fdn", "fdn.node", "a b", "x" * 201):
        with pytest.raises(ConfigError):
            valid_name(name)
    assert valid_name("fdnx.node")


@virtual
async def test_every_kind_of_method_can_be_called():
    app = fdn.App()
    app.service("s")(Math)
    async with World() as world:
        _, second = await world.cluster(2, app)
        assert await second.call("s.add@n1", [1, 2]) == 3
        assert await second.call("s.static@n1", 7) == 7
        assert await second.call("s.named@n1") == "Math"
        assert await second.call("s.slow@n1") is None
        for hidden in ("s._private", "s.size", "s.limit", "s.__init__", "s"):
            with pytest.raises(fdn.NotFound):
                await second.call(hidden)
