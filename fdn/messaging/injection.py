"""What a target is given by whoever serves it: `node: fdn.Node`, where it asks by annotation."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from fdn.errors import ConfigError

__all__ = ("given",)


def given(target: Any, givens: Mapping[type, object]) -> Any:
    """A target that has got what it asks for.

    A class whose `__init__` asks is made. A function that asks is bound, and has one parameter less. All else is
    returned as it is: nothing of this is on the path of a message.

    Args:
        target: A class, a function or an instance.
        givens: Type to value.

    Raises:
        ConfigError: The `__init__` of a class cannot be called with what there is.
    """
    if inspect.isclass(target):
        return _made(target, givens)
    return _bound(target, givens) if inspect.isroutine(target) else target


def _made(target: type, givens: Mapping[type, object]) -> Any:
    init = target.__init__  # type: ignore[misc]  # of whatever class: its parameters are looked at next
    if not inspect.isfunction(init):
        return target
    try:
        hints = typing.get_type_hints(init)
    except (TypeError, NameError) as error:
        raise ConfigError(
            f"{target.__name__}.__init__ cannot be read: {error}", hint="import what its annotations name"
        ) from error
    _, *parameters = inspect.signature(init).parameters.values()
    wanted = {
        parameter.name: givens[hints[parameter.name]] for parameter in parameters if hints.get(parameter.name) in givens
    }
    missing = [
        str(parameter)
        for parameter in parameters
        if parameter.name not in wanted
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if missing:
        raise ConfigError(
            f"{target.__name__} is made with {', '.join(missing)}, and nobody gives it that",
            hint="annotate it as fdn.Node, give it a default, or serve an instance",
        )
    return target(**wanted) if wanted else target


def _bound(function: Callable[..., Any], givens: Mapping[type, object]) -> Callable[..., Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
    except (TypeError, NameError, ValueError):
        return function  # whoever serves it says so, and in which words it would have it
    wanted = {name: givens[hints[name]] for name in signature.parameters if hints.get(name) in givens}
    if not wanted:
        return function
    bound = functools.partial(function, **wanted)
    # Those behind one that is bound by name can be given by name only.
    kept, behind = [], False
    for parameter in signature.parameters.values():
        if parameter.name in wanted:
            behind = True
        elif behind and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            kept.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        else:
            kept.append(parameter)
    bound.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # where `inspect` looks first
    bound.__annotations__ = {name: hint for name, hint in hints.items() if name not in wanted}
    return bound
