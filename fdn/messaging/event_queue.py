"""The bounded queue of one subscription, and what happens when it is full.

- `wait`: what comes keeps the credit of the batch that it came in, until there is room. The publisher, which then gets
  no further credit, waits; what is held here beyond the queue is at most one credit window for each peer.
- `drop_oldest`, `drop_newest`: never hold credit. What is dropped is counted, and told at its place as a `Gap`.

No clock and no task: whoever reads is told through a callback that there is more.
"""

import collections
import enum
from collections.abc import Callable
from typing import Final

import msgspec

from fdn.runtime.data_plane import NoTicket, Ticket
from transports.wire.envelope import Envelope

__all__ = ("Delivery", "Dropped", "EventQueue", "Gap", "Policy")


# A body is a view into the batch that it came in. Small ones are copied out, or each could keep 64 KiB alive.
_COPIED_BYTES_MAX: Final = 16 * 1024


class Policy(enum.StrEnum):
    """What a full queue does with the next event."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class Gap(msgspec.Struct, frozen=True):
    """In the place of `count` events that were dropped here because the reader was too slow."""

    count: int


class Delivery(msgspec.Struct, gc=False):
    """One event on its way to the subscriptions of one node.

    Attributes:
        envelope: As it came in; its body is encoded.
        origin: Node id of the publisher's node.
        deadline_at: Loop time after which nobody wants it, or 0.0.
    """

    envelope: Envelope
    origin: str
    deadline_at: float = 0.0


class Dropped:
    """A gap that may still grow."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class EventQueue:
    """See the module.

    Args:
        policy: What to do when it is full.
        events_max: Events that it holds.
        bytes_max: Bytes of payload that it holds; one event more than this still passes when nothing else waits.

    Attributes:
        items: What waits, in order: deliveries, and marks where some were dropped.
        count: Events that wait, those that hold their credit included.
        size: Bytes of payload of those.
        full: Whether an event that came now would wait or be dropped.
        dropped: Events dropped so far.
        on_more: Called when there is more to read than before, if it is set. Must not raise.
        on_room: Called when it is not full any more, if it is set. Must not raise.
    """

    __slots__ = (
        "_bytes_max",
        "_events_max",
        "_held",
        "_policy",
        "count",
        "dropped",
        "full",
        "items",
        "on_more",
        "on_room",
        "size",
    )

    def __init__(self, policy: Policy, events_max: int, bytes_max: int) -> None:
        self._policy = policy
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._held: collections.deque[Ticket] = collections.deque()  # of the last so many items
        self.items: collections.deque[Delivery | Dropped] = collections.deque()
        self.count = 0
        self.size = 0
        self.dropped = 0
        self.full = False
        self.on_more: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None

    def put(self, delivery: Delivery, ticket: Ticket) -> None:
        """Take one event. Never waits."""
        if self.full and not self._take_full(ticket):
            return
        body = delivery.envelope.body
        size = len(body)
        if size <= _COPIED_BYTES_MAX:
            delivery.envelope.body = body.copy()
        self.items.append(delivery)
        self.count = count = self.count + 1
        self.size = total = self.size + size
        if count >= self._events_max or total >= self._bytes_max:
            self.full = True
        if self.on_more is not None:
            self.on_more()

    def take(self) -> Delivery | Gap | None:
        """The next in order; None if there is none."""
        if not self.items:
            return None
        item = self.items.popleft()
        if type(item) is Delivery:
            self.count -= 1
            self.size -= len(item.envelope.body)
            if self.full:
                self._make_room()
            return item
        assert type(item) is Dropped
        return Gap(item.count)

    def release(self) -> None:
        """Give back the credit that is held, and keep what came: there will be no more."""
        held, self._held = self._held, collections.deque()
        for ticket in held:
            ticket.release()

    def clear(self) -> None:
        """Drop everything; nobody will read it."""
        self.items.clear()
        self.count = self.size = 0
        self.release()
        self.full = False
        if self.on_room is not None:
            self.on_room()

    def _take_full(self, ticket: Ticket) -> bool:
        """Whether an event is taken in though the queue is full."""
        if self._policy is Policy.DROP_OLDEST:
            self._drop_oldest()
        elif self._policy is Policy.WAIT and type(ticket) is not NoTicket:
            ticket.held += 1
            self._held.append(ticket)
        else:
            # Also with `wait`, where nobody can be made to: a peer that sends without credit must not fill our memory.
            self._drop_newest()
            return False
        return True

    def _drop_newest(self) -> None:
        self.dropped += 1
        if self._policy is Policy.WAIT:
            return
        last = self.items[-1]
        if type(last) is not Dropped:
            last = Dropped()
            self.items.append(last)
        last.count += 1

    def _drop_oldest(self) -> None:
        """Drop as many as it takes: more than one if they are smaller than what fills the queue."""
        items = self.items
        first = items.popleft()
        if type(first) is Dropped:
            mark = first  # of those before, which nobody has heard of yet
        else:
            mark = Dropped()
            items.appendleft(first)
        while items and (self.count >= self._events_max or self.size >= self._bytes_max):
            oldest = items.popleft()
            assert type(oldest) is Delivery  # there is one mark, and it was in front
            self.count -= 1
            self.size -= len(oldest.envelope.body)
            mark.count += 1
            self.dropped += 1
        items.appendleft(mark)
        self.full = False

    def _make_room(self) -> None:
        if self._held:
            self._held.popleft().release()  # one that came later has its place now
            return
        self.full = self.count >= self._events_max or self.size >= self._bytes_max
        if not self.full and self.on_room is not None:
            self.on_room()
