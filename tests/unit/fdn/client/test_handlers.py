from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fdn.client.codec import Received
from fdn.client.handlers import ClientContext, Handler
from fdn.client.serving import Job, Service
from fdn.errors import BadRequest, ConfigError


def call(function: Any, payload: Any = None, items: Any = None, **meta: Any) -> Any:
    received = Received(5, "x", 1, 0, {7: "n1-1", 11: {"h": "1"}}, payload, 0)
    return Handler("x", function).call(Job(Service("x", 1), received, 1, 0.0), items)


def test_no_one_and_several_parameters():
    assert call(lambda: 1) == 1
    assert call(lambda order: order, {"a": 1}) == {"a": 1}
    assert call(lambda order=7: order) == 7
    assert call(lambda order: order) is None
    assert call(lambda a, b: (a, b), [1, 2]) == (1, 2)
    assert call(lambda a, b: (a, b), {"b": 2, "a": 1}) == (1, 2)
    assert call(lambda a, b=5: (a, b), [1]) == (1, 5)
    assert call(lambda a, *, b: (a, b), [1, 2]) == (1, 2)


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (lambda: 1, 5),
        (lambda a, b: 1, 5),
        (lambda a, b: 1, [1]),
        (lambda a, b: 1, [1, 2, 3]),
        (lambda a, b: 1, {"a": 1}),
        (lambda a, b: 1, {"a": 1, "b": 2, "c": 3}),
        (lambda a, b: 1, None),
    ],
)
def test_payloads_that_do_not_fit(function: Any, payload: Any):
    with pytest.raises(BadRequest, match="takes"):
        call(function, payload)


def test_the_context_where_it_is_asked_for():
    def handler(order: str, context: ClientContext) -> Any:
        return order, context

    assert call(handler, "a") == ("a", ClientContext("x", "n1-1", {"h": "1"}, 0.0))


def test_what_streams():
    def plain() -> None: ...
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None: ...
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    class Callable:
        async def __call__(self) -> None: ...

    found = [
        (handler.is_async, handler.is_generator)
        for handler in (Handler("x", each) for each in (plain, generator, coroutine, async_generator, Callable()))
    ]
    assert found == [(False, False), (False, True), (True, False), (True, True), (True, False)]


def test_items_where_they_are_asked_for():
    def total(start: int, items: Iterator[int]) -> int:
        return start + sum(items)

    def method_total(items: "AsyncIterator[int]") -> str:
        return "read"

    assert Handler("x", total).takes_items
    assert call(total, 1, iter([2, 3])) == 6
    assert Handler("x", method_total).takes_items
    assert not Handler("x", lambda items: 1).takes_items


def test_handlers_that_cannot_serve():
    def two(a: Iterator[int], b: Iterator[int]) -> None: ...
    def unknown(a: "Nonsense") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for bad in (two, unknown, lambda *args: 1, lambda **kwargs: 1, 5):
        with pytest.raises(ConfigError, match="cannot be served"):
            Handler("x", bad)  # type: ignore[arg-type]
