"""How a handler of a client takes its arguments. Imported when something is served: `inspect` and `typing` are slow."""

import collections.abc
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fdn.client.serving import Job
from fdn.errors import BadRequest, ConfigError

__all__ = ("ClientContext", "Handler")

_STREAMS = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.Iterator,
    collections.abc.Iterable,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class ClientContext(NamedTuple):
    """What a client's handler learns of the call it serves, where it asks by annotation.

    Attributes:
        target: The name that was called.
        caller: Node id (or client id) of the one that called.
        headers: The caller's.
        deadline_at: `time.monotonic` seconds by which the caller needs the answer, or 0.0.
    """

    target: str
    caller: str
    headers: Mapping[str, str]
    deadline_at: float


class Handler:
    """A function that serves.

    One parameter: the payload is its value. None: the payload is nil. Several: the payload is a map by name, or a list
    by position. A parameter annotated `ClientContext` takes no part, nor does one annotated `Iterator[T]` or
    `AsyncIterator[T]`: it is given the items that the caller streams.

    Attributes:
        function: The function.
        takes_items: Whether it wants the caller's items.
        is_async: Whether it is an `async def`, with or without `yield`.
        is_generator: Whether its answer is a stream.

    Raises:
        ConfigError: It takes `*args`, `**kwargs` or two streams, or an annotation cannot be resolved.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        try:
            parameters = inspect.signature(function).parameters
            hints = typing.get_type_hints(_annotated(function))
        except (TypeError, ValueError, NameError) as error:
            raise ConfigError(f"handler {name} cannot be served: {error}", hint="serve a function") from error
        streams = [each for each in parameters if _is_stream(hints.get(each))]
        contexts = [each for each in parameters if hints.get(each) is ClientContext]
        taken = [each for key, each in parameters.items() if key not in streams and key not in contexts]
        if len(streams) > 1 or any(each.kind in _VARIADIC for each in taken):
            raise ConfigError(
                f"handler {name}{inspect.signature(function)} cannot be served",
                hint="expected named parameters, and one stream at most",
            )
        self.function = function
        self.takes_items = bool(streams)
        called = _annotated(function)
        self.is_generator = inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)
        self.is_async = inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        self._name = name
        self._stream = streams[0] if streams else None
        self._contexts = contexts
        self._names = [each.name for each in taken]
        self._required = [each.name for each in taken if each.default is inspect.Parameter.empty]

    def call(self, job: Job, items: Any) -> Any:
        """Call the function for a job: what it returns, be it a value, a coroutine or a generator.

        Raises:
            BadRequest: The payload does not fit. Whatever the function raises.
        """
        arguments = self._arguments(job.payload)
        if self._stream is not None:
            arguments[self._stream] = items
        for each in self._contexts:
            arguments[each] = ClientContext(job.service.name, job.caller, job.headers, job.deadline_at)
        return self.function(**arguments)

    def _arguments(self, payload: Any) -> dict[str, Any]:
        match self._names, payload:
            case [], None:
                return {}
            case [], _:
                raise BadRequest(f"{self._name} takes no payload", hint="call it without one")
            case [name], _:
                return {} if payload is None and not self._required else {name: payload}
            case names, list() if len(payload) <= len(names):
                found = dict(zip(names, payload, strict=False))
            case names, dict() if payload.keys() <= set(names):
                found = dict(payload)
            case _:
                raise self._misfit()
        if not found.keys() >= set(self._required):
            raise self._misfit()
        return found

    def _misfit(self) -> BadRequest:
        return BadRequest(f"{self._name} takes {', '.join(self._names)}", hint="send a map by name, or a list in order")


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where annotations stand: an object with `__call__` has them there."""
    is_plain = inspect.isroutine(function) or inspect.isclass(function)
    return function if is_plain else getattr(function, "__call__", function)  # noqa: B004


def _is_stream(hint: Any) -> bool:
    return hint in _STREAMS or typing.get_origin(hint) in _STREAMS
