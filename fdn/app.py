"""An app: services, subscriptions, timers and a lifespan, declared before a node exists."""

import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from fdn.errors import ConfigError
from fdn.messaging.event_handlers import OrderedBy
from fdn.messaging.interceptors import Interceptor
from fdn.messaging.services import valid_name
from fdn.messaging.subjects import valid_pattern, valid_queue
from fdn.messaging.subscriptions import policy_of
from fdn.runtime.schedule import Interval, Schedule, seconds

if TYPE_CHECKING:
    from fdn.node import Node

__all__ = ("App", "Declared", "DeclaredSubscription", "DeclaredTimer", "Lifespan")

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])
Lifespan = Callable[["Node"], AbstractAsyncContextManager[Any]]
L = TypeVar("L", bound=Callable[["Node"], AbstractAsyncContextManager[Any] | AsyncIterator[Any]])


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A service as an app declares it; None takes the node's setting."""

    name: str
    target: Any
    version: str
    capabilities: tuple[str, ...]
    concurrency: int | None
    mailbox_max: int | None
    threads: int


@dataclasses.dataclass(frozen=True, slots=True)
class DeclaredSubscription:
    """A subscription as an app declares it; None takes the node's setting."""

    pattern: str
    handler: Callable[..., Any]
    queue: str
    policy: str
    queue_max: int | None
    concurrency: int
    ordered_by: OrderedBy | None


@dataclasses.dataclass(frozen=True, slots=True)
class DeclaredTimer:
    """A timer as an app declares it."""

    name: str
    handler: Callable[..., Any]
    schedule: Schedule
    jitter_s: float
    at_once: bool


class App:
    """What belongs together. Give it to a node, `fdn.Node(app)`; or run it: `fdn run MODULE:APP`, or `app.run()`.

    Args:
        name: For people.
        interceptors: Around every send and every handler of a node with this app, the other apps' included; those that
            the node itself is given are further out, and those of the first app next.
    """

    def __init__(self, name: str = "app", *, interceptors: Sequence[Interceptor] = ()) -> None:
        self.name = name
        self.services: list[Declared] = []
        self.subscriptions: list[DeclaredSubscription] = []
        self.timers: list[DeclaredTimer] = []
        self.lifespans: list[Lifespan] = []
        self.interceptors = list(interceptors)

    def service(
        self,
        name: str,
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int | None = None,
        mailbox_max: int | None = None,
        threads: int = 0,
    ) -> Callable[[T], T]:
        """Declare a class, whose public methods are called as `name.method`, or a function, called as `name`.

        The return value is the reply. `async def` runs on the service's worker tasks, plain `def` where the message
        arrives: it must be quick, or be given `threads`.

        Args:
            name: Dotted name, unique on the node.
            version: The service's own version.
            capabilities: Labels.
            concurrency: Calls that run at once; further ones wait. None takes `calls.concurrency`.
            mailbox_max: Calls that may wait; further ones are refused with `Overloaded`. None takes
            `calls.mailbox_max`.
            threads: Run plain `def` on this many threads.

        Raises:
            ConfigError: The name is not a dotted name, or is the system's.
        """
        if not isinstance(name, str):
            raise _bare("service", "hello", name)
        valid_name(name)

        def declare(target: T) -> T:
            self.services.append(
                Declared(name, target, version, tuple(capabilities), concurrency, mailbox_max, threads)
            )
            return target

        return declare

    def subscribe(
        self,
        pattern: str,
        *,
        queue: str = "",
        policy: str = "wait",
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
    ) -> Callable[[H], H]:
        """Declare a function that is run for each event of a subject, or of all that match a pattern.

        Its payload is typed by its annotation, as a service's; `fdn.Context`, where annotated, tells the subject as its
        `target`. The arguments are those of `Node.subscribe`.

        Raises:
            ConfigError: The pattern, the group or the policy is not possible.
        """
        if not isinstance(pattern, str):
            raise _bare("subscribe", "orders.*", pattern)
        valid_pattern(pattern)
        valid_queue(queue)
        policy_of(policy)

        def declare(handler: H) -> H:
            self.subscriptions.append(
                DeclaredSubscription(pattern, handler, queue, policy, queue_max, concurrency, ordered_by)
            )
            return handler

        return declare

    def every(
        self,
        period: float | str | None = None,
        *,
        cron: str = "",
        timezone: str = "UTC",
        jitter: float | str = 0.0,
        at_once: bool = False,
        singleton: bool = False,
    ) -> Callable[[H], H]:
        """Declare a function that every node with this app runs again and again.

        It takes nothing, or by annotation `fdn.Node` and `fdn.Context`. A plain `def` runs on the event loop, so it
        must be quick. It never overlaps with itself: what falls due while it runs is skipped and counted. When it
        raises, that is logged and counted, and the next run comes as planned. When the node stops, a run that is under
        way is finished, within `drain_timeout_s`.

        Args:
            period: Seconds from one beginning to the next, or text such as "1m30s". The first is one period after the
                start.
            cron: Instead of a period: minute, hour, day of month, month and day of week, as in `*/5 * * * *`.
            timezone: What `cron` means its hours in, such as `Europe/Berlin`.
            jitter: Each run is put off by a random part of this, so that not all nodes work at the same moment.
            at_once: Run for the first time at the start.
            singleton: To run on one node of the cluster only. Not in this version.

        Raises:
            ConfigError: Period, expression, time zone or jitter are not possible.
        """
        if singleton:
            raise ConfigError(
                "singleton=True needs a leader, which comes with consensus",
                hint="leave it out: every node with this app runs the timer",
            )
        if (period is None) == (not cron):
            raise ConfigError(
                f"every(period={period!r}, cron={cron!r}): expected one of the two", hint='such as @app.every("30s")'
            )
        schedule: Schedule
        if period is None:
            from fdn.runtime.cron import Cron  # here, because few apps need what it imports

            schedule = Cron(cron, timezone)
        else:
            if timezone != "UTC":
                raise ConfigError(f"timezone={timezone!r} is for cron; a period has none", hint="leave it out")
            schedule = Interval(seconds("period", period))
        jitter_s = seconds("jitter", jitter)
        if jitter_s < 0 or (isinstance(schedule, Interval) and jitter_s >= schedule.period_s):
            raise ConfigError(f"jitter={jitter!r}: expected 0 or more, and less than the period of {period!r}")

        def declare(handler: H) -> H:
            name = str(getattr(handler, "__qualname__", handler))
            self.timers.append(DeclaredTimer(name, handler, schedule, jitter_s, at_once))
            return handler

        return declare

    def lifespan(self, function: L) -> L:
        """Declare what is around the work of this app: an async generator function with one `yield`.

        ```python
        @app.lifespan
        async def lifespan(node: fdn.Node) -> AsyncIterator[None]:
            async with database() as app.database:
                yield
        ```

        What comes before the `yield` runs once the node is a member of its cluster, and before anything of its apps is
        offered there; what comes after it, when the node stops and all work is finished. Several are entered in the
        order of their declaration and of the apps, and left in reverse. All run in one task, so task groups and
        timeouts may be around the `yield`. A function with `contextlib.asynccontextmanager` will do as well.

        An exception before the `yield` ends the start.

        Raises:
            ConfigError: It is a coroutine function or a plain generator, or does not take the node.
        """
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                f"lifespan {function.__qualname__} has no yield", hint="what comes after it runs when the node stops"
            )
        if inspect.isgeneratorfunction(function):
            raise ConfigError(f"lifespan {function.__qualname__} is a plain `def`", hint="write `async def`")
        with contextlib.suppress(ValueError):  # of what is written in C, nothing is known
            signature = inspect.signature(function)
            try:
                signature.bind(None)
            except TypeError:
                raise ConfigError(
                    f"lifespan {function.__qualname__} takes {signature}", hint="expected one argument, the node"
                ) from None
        is_generator = inspect.isasyncgenfunction(function)
        self.lifespans.append(contextlib.asynccontextmanager(function) if is_generator else function)  # type: ignore[arg-type]
        return function

    def run(self, **settings: Any) -> None:
        """Run a node with this app until Ctrl-C or SIGTERM: the first drains, the second ends at once.

        Args:
            **settings: As for `fdn.Node`.

        Raises:
            SystemExit: With the error's code, after printing it, when the node cannot start.
        """
        from fdn.running import run  # here, because the node knows apps

        run(self, **settings)


def _bare(decorator: str, example: str, given: object) -> ConfigError:
    """What to say of `@app.service` without a name, which hands over the function in its place."""
    return ConfigError(f"App.{decorator}({given!r}): expected a string", hint=f'such as @app.{decorator}("{example}")')
