"""Proxies: a service as an object with typed methods, after a Protocol that both sides can be checked against.

```python
class Math(Protocol):
    async def add(self, a: int, b: int) -> int: ...
    def countdown(self, n: int) -> AsyncIterator[int]: ...

math = node.proxy(Math, "math")
assert await math.add(2, 3) == 5
```

A method's payload is what `fdn.messaging.payloads.Signature` reads: nothing, the value of the one argument, or a map of
several by name (a list, where the Protocol makes them positional only, by a `/`).
"""

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import Any, Final

import msgspec

from fdn.arrays import is_array_type
from fdn.context import Context
from fdn.errors import ConfigError
from fdn.messaging.retry import Retry
from fdn.messaging.services import valid_name
from fdn.messaging.streams import Stream

__all__ = ("Verbs", "make_proxy")

_STREAMS: Final = (AsyncIterator, AsyncIterable, AsyncGenerator, Stream)
_REQUEST_STREAMS: Final = (AsyncIterator, AsyncIterable)
_FUNCTION: Final = "__call__"  # a Protocol with this is for a service that is a function


class Verbs(typing.Protocol):
    """What of a node a proxy uses."""

    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: Any = None,
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Any = None,
    ) -> Awaitable[Any]: ...

    def stream(
        self, target: str, payload: Any = None, *, items: Any = None, returns: Any = None, timeout: float | None = None
    ) -> Stream[Any]: ...


def make_proxy(
    verbs: Verbs, protocol: type, name: str, retry: Retry | int | None = None, timeout: float | None = None
) -> Any:
    """An object with the public methods of `protocol`, each of which is called at a service.

    Args:
        verbs: Who calls.
        protocol: A Protocol, or any class whose methods are annotated.
        name: The service's; `@node` behind it picks one.
        retry: As for `Node.call`, for methods without a stream.
        timeout: As for `Node.call` and `Node.stream`.

    Raises:
        ConfigError: The protocol has something that cannot be called from afar.
    """
    service, at, node = name.partition("@")
    valid_name(service)
    if not inspect.isclass(protocol):
        raise ConfigError(f"{protocol!r} is no class", hint="expected a Protocol: node.proxy(Math, 'math')")
    methods = {
        method: _Method(f"{protocol.__name__}.{method}", function)
        for method, function in _functions_of(protocol).items()
    }
    attributes = {
        method: _caller(
            verbs, found, (service if method == _FUNCTION else f"{service}.{method}") + at + node, retry, timeout
        )
        for method, found in methods.items()
    }
    kind = _FunctionProxy if _FUNCTION in attributes else _Proxy
    return kind(protocol, name, attributes)


class _Proxy:
    """The methods are attributes of the instance."""

    def __init__(self, protocol: type, name: str, methods: Mapping[str, Callable[..., Any]]) -> None:
        self.__dict__.update(methods)
        self.__dict__["_proxy_of"] = (protocol.__name__, name, ", ".join(methods))

    def __getattr__(self, attribute: str) -> Any:
        protocol, name, methods = self.__dict__["_proxy_of"]
        raise AttributeError(f"{protocol} (proxy of service {name!r}) has no method {attribute!r}; it has {methods}")

    def __repr__(self) -> str:
        protocol, name, _ = self._proxy_of
        return f"<proxy of service {name!r} as {protocol}>"


class _FunctionProxy(_Proxy):
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.__dict__[_FUNCTION](*arguments, **keywords)


class _AwaitableStream:
    """The stream of a method that is written as `async def ... -> AsyncIterator`.

    To a type checker that is a coroutine, to its author often a generator: both `async for x in await proxy.method()`
    and `async for x in proxy.method()` are served.
    """

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream

    def __await__(self) -> Generator[Any, None, Stream[Any]]:
        return self._stream
        yield  # makes it a generator, as `await` wants it

    def __aiter__(self) -> Stream[Any]:
        return self._stream

    async def __aenter__(self) -> Stream[Any]:
        return await self._stream.__aenter__()

    async def __aexit__(self, *exception: object) -> None:
        await self._stream.aclose()


class _Method:
    """One method of a Protocol: how its arguments become a payload, and its reply a value.

    Attributes:
        is_stream: Whether the reply is a stream.
        is_async: Whether it is written as `async def`, which for a stream means two things.
        returns: The type of the result, or of an item; None for any.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except (TypeError, NameError) as error:
            raise _cannot(name, f"its annotations cannot be read: {error}", "import what they name") from error
        _, *parameters = inspect.signature(function).parameters.values()
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        result = hints.get("return", Any)
        self.is_stream = _is_one_of(result, _STREAMS)
        if not self.is_async and not self.is_stream:
            raise _cannot(name, "it is a plain def, and a call has to be awaited", "make it `async def`")
        self.returns = _type_of(name, "its result", _item(result) if self.is_stream else result)
        self._read(parameters, hints)

    def _read(self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> None:
        kept: list[inspect.Parameter] = []
        asides: set[str] = set()
        self._items = ""
        for place, parameter in enumerate(parameters):
            hint = hints.get(parameter.name, Any)
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise _cannot(self._name, f"it takes {parameter}", "give each parameter a name")
            if hint is Context or Context in typing.get_args(hint):
                asides.add(parameter.name)
                behind = parameters[place + 1 :]
                if all(p.default is not p.empty or p.kind is p.KEYWORD_ONLY for p in behind):
                    parameter = parameter.replace(default=None)  # whoever serves it gets its own
            elif _is_one_of(hint, _REQUEST_STREAMS):
                if self._items:
                    raise _cannot(self._name, "it takes two request streams", "join them into one")
                _type_of(self._name, f"an item of {parameter.name}", _item(hint))
                self._items = parameter.name
            else:
                _type_of(self._name, f"its parameter {parameter.name}", hint)
            kept.append(parameter)
        self._sent = tuple(p.name for p in kept if p.name not in asides and p.name != self._items)
        self._by_position = all(p.kind is p.POSITIONAL_ONLY for p in kept if p.name in self._sent)
        self._signature = inspect.Signature(kept)
        self._plain = len(kept) == len(self._sent) and all(p.kind is not p.KEYWORD_ONLY for p in kept)

    def pack(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        """The payload, and the request stream or None.

        Raises:
            TypeError: As for a call of the function itself.
        """
        sent = self._sent
        if self._plain and not keywords and len(arguments) == len(sent):  # the usual case, without `bind`
            if len(sent) == 1:
                return arguments[0], None
            if not sent:
                return None, None
            return (list(arguments) if self._by_position else dict(zip(sent, arguments, strict=True))), None
        try:
            given = self._signature.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise TypeError(f"{self._name}(): {error}") from None
        items = given.get(self._items) if self._items else None
        values = {name: given[name] for name in sent if name in given}
        if len(sent) == 1:
            return next(iter(values.values()), None), items
        if not values:
            return None if not sent else [] if self._by_position else {}, items
        return (list(values.values()) if self._by_position else values), items


def _caller(
    verbs: Verbs, method: _Method, target: str, retry: Retry | int | None, timeout: float | None
) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Awaitable[Any]:
        payload, items = method.pack(arguments, keywords)
        return verbs.call(target, payload, returns=method.returns, timeout=timeout, retry=retry, items=items)

    def stream(*arguments: Any, **keywords: Any) -> Any:
        payload, items = method.pack(arguments, keywords)
        opened = verbs.stream(target, payload, items=items, returns=method.returns, timeout=timeout)
        return _AwaitableStream(opened) if method.is_async else opened

    return stream if method.is_stream else call


def _functions_of(protocol: type) -> dict[str, Callable[..., Any]]:
    """The public methods, in the order in which they are written.

    Raises:
        ConfigError: There is something public beside them, or nothing at all.
    """
    found: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if base.__module__ in ("builtins", "typing", "abc"):
            continue
        found |= {name: value for name, value in vars(base).items() if not name.startswith("_") or name == _FUNCTION}
        for name in vars(base).get("__annotations__", ()):
            if not name.startswith("_"):
                found.setdefault(name, None)
    for name, value in found.items():
        if not inspect.isfunction(value):
            what = "a property" if isinstance(value, property) else "no method"
            raise _cannot(f"{protocol.__name__}.{name}", f"it is {what}", "only methods can: make it `async def`")
    if not found:
        raise ConfigError(f"{protocol.__name__} has no public method", hint="write the service's methods in it")
    return found


def _type_of(name: str, what: str, hint: Any) -> Any:
    """A hint as a type for `Node.call`: None if it is anything.

    Raises:
        ConfigError: MessagePack cannot hold it.
    """
    if hint is Any or hint is inspect.Parameter.empty:
        return None
    kind = type(None) if hint is None else hint
    try:
        msgspec.msgpack.Decoder(kind)
        foreign = _foreign(msgspec.inspect.type_info(kind))
    except TypeError as error:
        raise _cannot(name, f"{what} is {hint!r}: {error}", "use types that MessagePack can hold") from error
    if foreign is not None:
        raise _cannot(
            name, f"{what} is of type {foreign.__qualname__}", "use plain types, dataclasses or msgspec.Structs"
        )
    return kind


def _foreign(info: Any) -> type | None:
    """The first class in a type that only Python knows, or None. It looks through containers, not into fields."""
    if isinstance(info, msgspec.inspect.CustomType):
        return None if info.cls is object or is_array_type(info.cls) else info.cls
    parts = [getattr(info, part, None) for part in ("item_type", "key_type", "value_type", "type")]
    parts += [*getattr(info, "types", ()), *getattr(info, "item_types", ())]
    return next((found for part in parts if part is not None and (found := _foreign(part)) is not None), None)


def _is_one_of(hint: Any, origins: tuple[Any, ...]) -> bool:
    return hint in origins or typing.get_origin(hint) in origins


def _item(hint: Any) -> Any:
    return next(iter(typing.get_args(hint)), Any)


def _cannot(name: str, why: str, hint: str) -> ConfigError:
    return ConfigError(f"{name} cannot be called from afar: {why}", hint=hint)
