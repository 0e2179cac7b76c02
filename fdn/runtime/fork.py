"""Forking is allowed; using the node in the child is not.

The child has neither the threads behind the sockets nor a right to them. What it inherits is marked, so that using it
is
a clear error, and nothing of it is closed or waited for when the child exits.
"""

import os
import weakref
from typing import Any

from fdn.errors import Error

__all__ = ("ForkGuard",)

_guards: "weakref.WeakSet[ForkGuard]" = weakref.WeakSet()


class ForkGuard:
    """Knows whether its owner was made in this very process."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.forked = False
        self.inherited: list[Any] = []  # kept from the collector, whose finalisers would touch what is not ours
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


def _mark() -> None:
    for guard in _guards:
        guard.forked = True


os.register_at_fork(after_in_child=_mark)
