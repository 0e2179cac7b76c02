"""An app: services and subscriptions declared before a node exists."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from fdn.messaging.services import valid_name
from fdn.messaging.subjects import valid_pattern, valid_queue
from fdn.messaging.subscriptions import policy_of

__all__ = ("App", "Declared", "DeclaredSubscription")

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])


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


class App:
    """Services and subscriptions that belong together. Give it to a node: `fdn.Node(app)`, or run it: `app.run()`.

    Args:
        name: For people.
    """

    def __init__(self, name: str = "app") -> None:
        self.name = name
        self.services: list[Declared] = []
        self.subscriptions: list[DeclaredSubscription] = []

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
    ) -> Callable[[H], H]:
        """Declare a function that is run for each event of a subject, or of all that match a pattern.

        Its payload is typed by its annotation, as a service's; `fdn.Context`, where annotated, tells the subject as its
        `target`. The arguments are those of `Node.subscribe`.

        Raises:
            ConfigError: The pattern, the group or the policy is not possible.
        """
        valid_pattern(pattern)
        valid_queue(queue)
        policy_of(policy)

        def declare(handler: H) -> H:
            self.subscriptions.append(DeclaredSubscription(pattern, handler, queue, policy, queue_max, concurrency))
            return handler

        return declare

    def run(self, **settings: Any) -> None:
        """Run a node with this app until Ctrl-C or SIGTERM: the first drains, the second ends at once.

        Args:
            **settings: As for `fdn.Node`.

        Raises:
            SystemExit: With the error's code, after printing it, when the node cannot start.
        """
        from fdn.running import run  # here, because the node knows apps

        run(self, **settings)
