"""Forking is allowed; using the node in the child is not.

The child has neither the threads behind the sockets nor a right to them. What it inherits is marked, so that using it
is a clear error, and nothing of it is closed or waited for when the child exits.
"""

import asyncio
import os
import select
import weakref
from collections.abc import Callable

from fdn.errors import Error

__all__ = ("ForkGuard", "detach_loop")

_guards: "weakref.WeakSet[ForkGuard]" = weakref.WeakSet()


class ForkGuard:
    """Knows whether its owner was made in this very process.

    Attributes:
        forked: True in a child.
        on_fork: Called once in each child, right after the fork. It must touch nothing but memory and descriptors.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.forked = False
        self.on_fork: Callable[[], None] = lambda: None
        _guards.add(self)

    def check(self) -> None:
        """Raises:
        Error: We are a forked child of the process that made it.
        """
        if self.forked:
            raise Error(
                f"{self._what} was started before a fork and cannot be used in the child",
                hint="start a new one here, or make processes with multiprocessing's spawn method",
            )


def detach_loop(loop: asyncio.AbstractEventLoop) -> None:
    """In a child: take its copy of the loop off the parent's epoll instance, which the two share.

    A child that leaves `asyncio.run` closes its copy of the loop, and with that unregisters the parent's descriptors:
    the parent would never wake again. The descriptor is replaced by that of an empty instance.
    """
    selector = getattr(loop, "_selector", None)
    if selector is None or not hasattr(select, "epoll") or not hasattr(selector, "fileno"):
        return  # another kind of loop or system; kqueue is not inherited
    with select.epoll() as empty:
        os.dup2(empty.fileno(), selector.fileno(), inheritable=False)


def _mark() -> None:
    for guard in list(_guards):
        if not guard.forked:
            guard.forked = True
            guard.on_fork()


os.register_at_fork(after_in_child=_mark)
