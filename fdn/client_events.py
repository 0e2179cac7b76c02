"""The thin client's side of events: what has come for each subscription, and the credit to publish.

No sockets: `fdn.client` reads and writes, and hands over what it read.
"""

import collections
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from fdn.errors import Error

__all__ = ("ClientEvent", "ClientSubscription", "Credit")

_INBOX_MAX: Final = 8192  # events read from the socket while another subscription, or a publisher, was waited for
_HOUR_S: Final = 3600.0


class ClientEvent(NamedTuple):
    """One event.

    Attributes:
        subject: What it was published to.
        payload: Plain values.
        origin: Node id of the publisher's node.
        missed: Events dropped between the one before and this, because this client read too slowly.
    """

    subject: str
    payload: Any
    origin: str
    missed: int


class ClientSubscription:
    """What `Client.subscribe` gives. Iterating blocks until the next event comes; it does not end by itself.

    Args:
        pattern: Subject or pattern.
        number: Its id on the wire.
        read: Reads once from the socket and hands out what came; False if nothing did in so many seconds.
        close: Tells the node, and forgets this subscription.

    Attributes:
        unaware: Names of the members that had not confirmed that they know of it.
        error: Why the node ended it, once it has.
    """

    def __init__(
        self,
        pattern: str,
        number: int,
        read: Callable[[float], bool],
        close: "Callable[[ClientSubscription], None]",
    ) -> None:
        self.pattern = pattern
        self.number = number
        self.unaware: tuple[str, ...] = ()
        self.error: Error | None = None
        self._read = read
        self._close = close
        self._inbox: collections.deque[ClientEvent] = collections.deque()
        self._missed = 0
        self._closed = False

    def __enter__(self) -> "ClientSubscription":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> "ClientSubscription":
        return self

    def __next__(self) -> ClientEvent:
        while True:
            event = self.next(_HOUR_S)
            if event is not None:
                return event
            if self._closed:
                raise StopIteration

    def next(self, timeout: float) -> ClientEvent | None:
        """The next event, or None if none comes in so many seconds.

        Raises:
            Unreachable: The node is gone.
            Error: The node has ended the subscription.
        """
        while not self._inbox:
            if self.error is not None:
                raise self.error
            if self._closed or not self._read(timeout):
                return None
        event = self._inbox.popleft()
        if self._missed:
            event = event._replace(missed=event.missed + self._missed)
            self._missed = 0
        return event

    def put(self, event: ClientEvent) -> None:
        """One came in."""
        if len(self._inbox) >= _INBOX_MAX:
            self._missed += 1 + self._inbox.popleft().missed
        self._inbox.append(event)

    def close(self) -> None:
        """Want no more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self._close(self)


class Credit:
    """What the node lets us send on one channel: totals since HELLO. Wire format: spec 0001, section 6.

    Args:
        granted: Messages and bytes of the WELCOME; (0, 0) is no limit.
        epoch: Of the HELLO.
    """

    def __init__(self, granted: tuple[int, int], epoch: int) -> None:
        self._granted = granted
        self._epoch = epoch
        self._sent = (0, 0)

    @property
    def spent(self) -> bool:
        """Whether nothing more may be sent for now."""
        if self._granted == (0, 0):
            return False
        return self._sent[0] >= self._granted[0] or self._sent[1] >= self._granted[1]

    def spend(self, size: int) -> None:
        """One message of so many bytes was sent."""
        self._sent = (self._sent[0] + 1, self._sent[1] + size)

    def on_credit(self, body: Any) -> None:
        """A CREDIT came in."""
        epoch, messages, size = body
        if epoch == self._epoch:
            self._granted = (max(self._granted[0], messages), max(self._granted[1], size))
