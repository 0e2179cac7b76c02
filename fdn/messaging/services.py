"""Services: what a user's class or function becomes, so that it can be called by name."""

import asyncio
import functools
import inspect
import re
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fdn.errors import ConfigError
from fdn.messaging.offers import Offer
from fdn.messaging.payloads import Signature, signature_of
from fdn.messaging.workers import Workers

__all__ = ("Method", "Relay", "Service", "valid_name")

Relay = Callable[[Any], Coroutine[Any, Any, Any]]  # does one of the dispatcher's jobs
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME_CHARACTERS_MAX = 200


def valid_name(name: str) -> str:
    """`name`, if it is a dotted name that users may take.

    Raises:
        ConfigError: It is not, or begins with `fdn.`, which is the system's.
    """
    if len(name) > _NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise ConfigError(
            f"service name {name!r} is not a name",
            hint=f"use letters, digits, - and _, in parts joined by dots, at most {_NAME_CHARACTERS_MAX} characters",
        )
    if name == "fdn" or name.startswith("fdn."):
        raise ConfigError(
            f"service name {name!r} is taken: fdn.* is the system's own", hint="choose another first part"
        )
    return name


class Method:
    """One thing that can be called.

    Attributes:
        target: Its full name.
        function: The callable; a bound method for a class.
        signature: How it takes its arguments.
        inline: A plain `def` without threads: runs where the message arrives, before the next message is looked at.
        is_coroutine: An `async def`.
        is_stream: An async generator: its reply is a stream.
        plain: An `async def` that wants neither context nor request stream: its coroutine is the job.
        fast_decode: Decodes the one argument of a method that takes nothing else; None for others, or if it is relayed.
        has_streams: Its reply or its request may be a stream.
        relay: Does the job, decoding nothing, for a method that somebody else serves through this node; else None.
        workers: Where its jobs are run; set by the dispatcher.
        service: The service it belongs to.
    """

    __slots__ = (
        "fast_decode",
        "function",
        "has_streams",
        "inline",
        "is_coroutine",
        "is_stream",
        "plain",
        "relay",
        "service",
        "signature",
        "target",
        "workers",
    )

    def __init__(
        self, target: str, function: Callable[..., Any], service: "Service", relay: Relay | None = None
    ) -> None:
        if inspect.isgeneratorfunction(function):
            raise ConfigError(
                f"handler {target} is a generator; a streamed reply is an async generator",
                hint="make it `async def`, or leave the method out of the service by beginning its name with _",
            )
        self.target = target
        self.signature: Signature = signature_of(target, function)
        self.function = self.signature.adapt(function)
        self.is_coroutine = asyncio.iscoroutinefunction(function)
        self.is_stream = inspect.isasyncgenfunction(function)
        takes_stream = self.signature.stream_name is not None
        if takes_stream and not (self.is_coroutine or self.is_stream):
            raise ConfigError(
                f"handler {target} takes a request stream and is a plain function; only `async def` can read one",
                hint="make it `async def`",
            )
        self.plain = self.is_coroutine and self.signature.context_name is None and not takes_stream
        single = self.signature.single
        self.inline = not (self.is_coroutine or self.is_stream or service.executor is not None)
        alone = self.plain or (self.inline and self.signature.context_name is None)
        self.fast_decode = single.decode if single is not None and alone and relay is None else None
        self.service = service
        self.has_streams = self.is_stream or takes_stream
        self.relay = relay
        self.workers: Workers | None = None


class Service:
    """A named set of methods with one bounded mailbox and a bounded number of workers.

    Args:
        name: Dotted name.
        target: An instance or class (made without arguments) whose public methods are served, or a function.
        version: The service's own version, for people and later for matching.
        capabilities: Labels.
        concurrency: How many `async def` calls (or threads' calls) run at once; further ones wait in the mailbox.
        mailbox_max: How many may wait; past that calls are refused with `Overloaded`, casts dropped and counted.
        threads: Run plain `def` methods on this many threads, because they block; 0 runs them inline.
        relay: Does the jobs of `target`, a function, which then only stands for them.
        system: It is the node's own (`fdn.*`): every node has it, so nobody is told.

    Raises:
        ConfigError: The name is not one, there is nothing to serve, or a handler's signature cannot be served.
    """

    def __init__(
        self,
        name: str,
        target: Any,
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int,
        mailbox_max: int,
        threads: int = 0,
        relay: Relay | None = None,
        system: bool = False,
    ) -> None:
        self.name = name if system else valid_name(name)
        self.system = system
        self.version = version
        self.capabilities = tuple(sorted(capabilities))
        self.concurrency = concurrency
        self.mailbox_max = mailbox_max
        for field, value, least in (
            ("concurrency", concurrency, 1),
            ("mailbox_max", mailbox_max, 1),
            ("threads", threads, 0),
        ):
            if value < least:
                raise ConfigError(f"service {name!r}: {field}={value}; expected at least {least}")
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=f"fdn-{name}") if threads else None
        self.methods: dict[str, Method] = {}
        if inspect.isroutine(target) or isinstance(target, functools.partial):
            self.methods[name] = Method(name, target, self, relay)
            self._names: tuple[str, ...] = ()
        else:
            instance = target() if inspect.isclass(target) else target
            found = sorted(
                attribute
                for attribute in dir(type(instance))
                if not attribute.startswith("_") and inspect.isroutine(getattr(type(instance), attribute))
            )
            if not found:
                raise ConfigError(
                    f"service {name!r}: {type(instance).__name__} has no public method",
                    hint="give it one, or pass a function",
                )
            self._names = tuple(found)
            for attribute in found:
                full = f"{name}.{attribute}"
                self.methods[full] = Method(full, getattr(instance, attribute), self)

    @property
    def offer(self) -> Offer:
        """What the cluster is told."""
        return Offer(self.name, self._names, self.version, self.capabilities)

    def close(self) -> None:
        """Give up the threads; a call that runs on one is not waited for."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
