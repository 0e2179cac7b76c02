import functools
from typing import Any

import pytest

from fdn.context import Context
from fdn.errors import ConfigError
from fdn.messaging.injection import given
from fdn.messaging.payloads import encode, signature_of, wire


class Giver:
    """What is given here."""


GIVENS: dict[type, object] = {Giver: Giver()}


class Wants:
    def __init__(self, giver: Giver, limit: int = 3) -> None:
        self.giver = giver


class WantsNothing:
    pass


class WantsMore:
    def __init__(self, giver: Giver, path: str) -> None: ...


class Unreadable:
    def __init__(self, giver: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_a_class_that_asks_is_made():
    assert given(Wants, GIVENS).giver is GIVENS[Giver]


@pytest.mark.parametrize("target", [WantsNothing, WantsNothing(), Wants(Giver()), len, functools.partial(int, "3")])
def test_what_does_not_ask_stays_as_it_is(target: Any):
    assert given(target, GIVENS) is target


@pytest.mark.parametrize(("target", "said"), [(WantsMore, "path: str"), (Unreadable, "Missing")])
def test_what_cannot_be_made(target: type, said: str):
    with pytest.raises(ConfigError, match=said):
        given(target, GIVENS)


def served(function: Any, payload: Any) -> Any:
    """As a service takes it: arguments by position, a context by keyword."""
    bound = given(function, GIVENS)
    signature = signature_of("f", bound)
    arguments = signature.arguments(wire(encode(payload)))
    context = {signature.context_name: None} if signature.context_name else {}
    return signature.adapt(bound)(*arguments, **context)


def test_a_function_has_one_parameter_less():
    def last(a: int, giver: Giver) -> Any:
        return a, giver

    def first(giver: Giver, a: int, b: int = 2) -> Any:
        return a, b, giver

    def only(giver: Giver) -> Any:
        return giver

    def with_context(giver: Giver, context: Context, a: int) -> Any:
        return a, giver, context

    assert served(last, 1) == (1, GIVENS[Giver])
    assert served(first, {"a": 1}) == (1, 2, GIVENS[Giver])
    assert served(first, [1, 3]) == (1, 3, GIVENS[Giver])
    assert served(only, None) is GIVENS[Giver]
    assert served(with_context, 1) == (1, GIVENS[Giver], None)


def test_what_cannot_be_read_is_left_to_who_serves_it():
    def broken(a: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert given(broken, GIVENS) is broken
    assert given(len, GIVENS) is len
