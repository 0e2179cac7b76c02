"""The events of one subscription that have come and are not read."""

import collections
import types
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fdn.client.signals import Signal
from fdn.errors import Error, from_wire

__all__ = ("ClientEvent", "Inbox")

_WAITING_MAX: Final = 8192
_UNKNOWN: Final = -1
_NO_HEADERS: Final[Mapping[str, str]] = types.MappingProxyType({})


class ClientEvent(NamedTuple):
    """One event.

    Attributes:
        subject: What it was published to.
        payload: Plain values.
        origin: Node id of the publisher's node.
        missed: Events of this subscription that were dropped just before this one, because they came faster than they
            were read; -1 when their number is not known, because the connection was lost and made again meanwhile.
        headers: What the publisher gave along.
        redelivered: It was sent before, and somebody may have handled it.
    """

    subject: str
    payload: Any
    origin: str
    missed: int
    headers: Mapping[str, str] = _NO_HEADERS
    redelivered: bool = False


class Inbox:
    """A subscription as the protocol sees it. It is made again on every connection.

    Args:
        pattern: Subject or pattern.
        queue: Queue group, or empty.
        number: Its id.
        timeout_ms: How long the node's answer may wait for members to confirm; None takes the node's setting.

    Attributes:
        confirmed: Whether the node has confirmed it on this connection.
        unaware: Names of the members that had not confirmed by then.
        error: Why it ended, once it has.
        signal: Fires when any of these changes, and for each event.
    """

    def __init__(self, pattern: str, queue: str, number: int, timeout_ms: int | None) -> None:
        self.pattern = pattern
        self.queue = queue
        self.number = number
        self.timeout_ms = timeout_ms
        self.confirmed = False
        self.unaware: tuple[str, ...] = ()
        self.error: Error | None = None
        self.closed = False
        self.signal = Signal()
        self._waiting: collections.deque[ClientEvent] = collections.deque()
        self._missed = 0

    def __len__(self) -> int:
        """Events to read."""
        return len(self._waiting)

    def on_confirmed(self, unaware: Any) -> None:
        """The node has answered."""
        self.confirmed = True
        self.unaware = tuple(name for name in unaware if isinstance(name, str)) if isinstance(unaware, list) else ()
        self.signal.fire()

    def on_ended(self, error: Any) -> None:
        """The node has ended it, or refused it; `error` is the body of its ERROR."""
        self.end(from_wire(error))

    def end(self, error: Error) -> None:
        """No event will come any more; those that have come can still be read."""
        self.error = self.error or error
        self.signal.fire()

    def close(self) -> None:
        """Nobody reads any more."""
        self.closed = True
        self._waiting.clear()
        self.signal.fire()

    def on_lost(self) -> None:
        """The connection is gone: who knows what is published until the next."""
        if self.confirmed:
            self._missed = _UNKNOWN
        self.confirmed = False

    def put(self, event: ClientEvent) -> None:
        """One came in."""
        if len(self._waiting) >= _WAITING_MAX:
            dropped = self._waiting.popleft()
            oldest = self._waiting.popleft()
            self._waiting.appendleft(oldest._replace(missed=_sum(dropped.missed, 1, oldest.missed)))
        if self._missed:
            event = event._replace(missed=_sum(self._missed, event.missed))
            self._missed = 0
        self._waiting.append(event)
        self.signal.fire()

    def take(self) -> ClientEvent:
        """The oldest; there must be one."""
        return self._waiting.popleft()


def _sum(*missed: int) -> int:
    return _UNKNOWN if _UNKNOWN in missed else sum(missed)
