"""The receiving core of acknowledged delivery: what may be handed over now, what waits, what was there before.

A message is handed over when those before it are: the one with the same key (`previous`), and those that its causal
past names for this node. Until then it is held, within bounds. It is acknowledged once it was accepted, that is, put
into the queue of whoever handles it; what was not accepted is forgotten, and comes again.

What the driver does, in this order: `on_message` for each that comes in; for every `Arrival` that is returned, hand it
over and tell with `on_outcome` what became of it, which may return further ones; then `take_acks`, and send them.
`take_dropped` names what will never be handed over, for whoever keeps something for it.

Bounds: `window_max` numbers of one stream past the first that is missing, `held_max` messages held in all, and
`hold_max_s` for what waits for its causal past. Beyond the first two a message is dropped, and its sender sends it
again. Beyond the last it is handed over all the same, and counted: order is given up then, the message is not.
"""

import collections
import dataclasses
import enum
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fdn.messaging.delivery.frames import ACK_RANGES_MAX, Ack, Dependency, MessageId, Tag
from fdn.messaging.delivery.window import DedupWindow, Progress

__all__ = ("Arrival", "Outcome", "Receiver", "ReceiverStats")

_Stream = tuple[str, int]  # who sends, and the number that names it
_Number = tuple[str, int, int]  # a stream, and a number in it


class Outcome(enum.Enum):
    """What became of a message that was handed over."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # nobody here wants it: it may go elsewhere
    FULL = "full"  # not now: it is to come again


class Arrival:
    """One message.

    Attributes:
        peer: Node id of who sent it to us.
        stream: The sender's stream.
        number: In that stream.
        identity: Origin and sequence, for effectively once; else None.
        past: What its causal past names, for any node.
        item: The driver's.
    """

    __slots__ = ("identity", "item", "number", "past", "peer", "previous", "stream", "waits_for")

    def __init__(
        self,
        peer: str,
        stream: int,
        number: int,
        identity: MessageId | None,
        past: Sequence[Dependency],
        item: Any,
    ) -> None:
        self.peer = peer
        self.stream = stream
        self.number = number
        self.identity = identity
        self.past = past
        self.item = item
        self.previous = 0  # with the same key, while it waits for that
        self.waits_for: set[_Number] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class ReceiverStats:
    """Counters since the start."""

    accepted: int  # messages handed over and accepted
    refused: int  # that nobody here wanted
    duplicates: int  # dropped, because they had been accepted before
    overflowed: int  # dropped, because a bound was reached; their senders send them again
    held: int  # waiting now for those before them
    overdue: int  # handed over without their causal past, which did not come in time
    streams: int  # of senders, known now
    remembered: int  # messages in the dedup window now


class _Inbound:
    """What is known of one stream."""

    __slots__ = ("held", "progress", "refused")

    def __init__(self, floor: int) -> None:
        self.progress = Progress(floor)
        self.held: dict[int, Arrival] = {}
        self.refused: collections.deque[int] = collections.deque(maxlen=ACK_RANGES_MAX)


class Receiver:
    """See the module.

    Args:
        me: Our own node id.
        is_member: Whether a node may still send something: nobody waits for one that cannot.
        window_max: See the module, as the next two.
        held_max: In messages.
        hold_max_s: In seconds.
        streams_max: Streams known at once; past it the one unused for longest is forgotten.
        dedup: Remembers messages by origin and sequence.
    """

    def __init__(
        self,
        me: str,
        is_member: Callable[[str], bool],
        *,
        window_max: int,
        held_max: int,
        hold_max_s: float,
        streams_max: int,
        dedup: DedupWindow,
    ) -> None:
        self._me = me
        self._is_member = is_member
        self._window_max = window_max
        self._held_max = held_max
        self._hold_max_s = hold_max_s
        self._streams_max = streams_max
        self._dedup = dedup
        self._streams: collections.OrderedDict[_Stream, _Inbound] = collections.OrderedDict()
        self._waiting: dict[_Stream, dict[int, list[Arrival]]] = {}  # by what they wait for
        self._overdue_at: list[tuple[float, int, Arrival]] = []
        self._serial = itertools.count()
        self._to_acknowledge: dict[_Stream, None] = {}
        self._dropped: list[Any] = []  # items that were held
        self._offered: set[MessageId] = set()  # handed over, and nobody has told what became of it
        self._held = 0
        self._accepted = self._refused = self._duplicates = self._overflowed = self._overdue = 0

    def on_message(
        self,
        peer: str,
        tag: Tag,
        number: int,
        item: Any,
        now: float,
        identity: MessageId | None = None,
        past: Sequence[Dependency] = (),
    ) -> list[Arrival]:
        """A message came in. Returns what can be handed over now, in order."""
        key = (peer, tag.stream)
        inbound = self._streams.get(key)
        if inbound is None:
            inbound = self._streams[key] = _Inbound(tag.floor)
            freed = self._freed(key, inbound) + self._forget_oldest()
        else:
            self._streams.move_to_end(key)
            freed = self._raise_floor(key, inbound, tag.floor)
        self._to_acknowledge[key] = None
        held = inbound.held.get(number)
        if held is not None or inbound.progress.has(number):
            self._duplicates += 1
            if held is not None and held.previous != tag.previous:  # the one before it was given up meanwhile
                freed += self._wait_for_another(held, inbound, tag.previous)
            return self._ready(freed)
        if number > inbound.progress.upto + self._window_max:
            self._overflowed += 1
            return self._ready(freed)
        arrival = Arrival(peer, tag.stream, number, identity, past, item)
        return self._ready(freed) + self._admit(arrival, inbound, tag.previous, now)

    def on_outcome(self, arrival: Arrival, outcome: Outcome, now: float) -> list[Arrival]:
        """What became of one that was handed over. Returns what can be handed over because of that."""
        if arrival.identity is not None:
            self._offered.discard(arrival.identity)
        if outcome is Outcome.FULL:
            self._overflowed += 1
            return []
        key = (arrival.peer, arrival.stream)
        inbound = self._streams.get(key)
        if outcome is Outcome.ACCEPTED:
            self._accepted += 1
            if arrival.identity is not None:
                self._dedup.add(arrival.identity)
        else:
            self._refused += 1
            if inbound is not None:
                inbound.refused.append(arrival.number)
        if inbound is None:
            return []
        self._to_acknowledge[key] = None
        inbound.progress.settle(arrival.number)
        return self._ready(self._freed(key, inbound))

    def on_gone(self, peer: str) -> list[Arrival]:
        """A node is dead, or has left. What it sent and waits for what will not come is handed over."""
        freed: list[Arrival] = []
        for key in [key for key in {**self._streams, **self._waiting} if key[0] == peer]:
            freed += self._forget(key)
        return self._ready(freed)

    def on_time(self, now: float) -> list[Arrival]:
        """Time has passed. Returns what has waited for its causal past for long enough."""
        freed: list[Arrival] = []
        while self._overdue_at and self._overdue_at[0][0] <= now:
            _, _, arrival = heapq.heappop(self._overdue_at)
            past = [wait for wait in arrival.waits_for if wait[:2] != (arrival.peer, arrival.stream)]
            if past:
                self._overdue += 1
                freed += [arrival for wait in past if self._stop_waiting(arrival, wait)]
        return self._ready(freed)

    def next_deadline(self) -> float | None:
        """When `on_time` has something to do."""
        return self._overdue_at[0][0] if self._overdue_at else None

    def take_acks(self) -> list[tuple[str, Ack]]:
        """What is to be acknowledged, and to whom: once for all that came since the last time."""
        acks = []
        for peer, stream in self._to_acknowledge:
            inbound = self._streams.get((peer, stream))
            if inbound is not None:
                refused = tuple(inbound.refused)
                inbound.refused.clear()
                acks.append((peer, Ack(stream, inbound.progress.upto, inbound.progress.ranges(), refused)))
        self._to_acknowledge.clear()
        return acks

    def holds(self, peer: str, stream: int, number: int) -> Any:
        """The item of a message that waits for those before it; None if that one does not."""
        inbound = self._streams.get((peer, stream))
        held = None if inbound is None else inbound.held.get(number)
        return None if held is None else held.item

    def take_dropped(self) -> list[Any]:
        """The items of messages that will not be handed over, since the last time: they were, or went elsewhere."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def accept_here(self, identity: MessageId) -> bool:
        """Whether a message that did not come over a stream is new here. From now on it is not."""
        if self._dedup.has(identity):
            self._duplicates += 1
            return False
        self._dedup.add(identity)
        return True

    def stats(self) -> ReceiverStats:
        return ReceiverStats(
            accepted=self._accepted,
            refused=self._refused,
            duplicates=self._duplicates,
            overflowed=self._overflowed,
            held=self._held,
            overdue=self._overdue,
            streams=len(self._streams),
            remembered=len(self._dedup),
        )

    # -- waiting

    def _admit(self, arrival: Arrival, inbound: _Inbound, previous: int, now: float) -> list[Arrival]:
        if previous and not inbound.progress.has(previous) and previous < arrival.number:
            arrival.previous = previous
            arrival.waits_for.add((arrival.peer, arrival.stream, previous))
        past = {wait for wait in map(self._wait_for, arrival.past) if wait is not None}
        past.discard((arrival.peer, arrival.stream, arrival.number))  # it names its own copies, too
        arrival.waits_for |= past
        if not arrival.waits_for:
            return self._ready([arrival])
        if self._held >= self._held_max:
            self._overflowed += 1
            return []
        self._held += 1
        inbound.held[arrival.number] = arrival
        for peer, stream, number in sorted(arrival.waits_for):
            self._waiting.setdefault((peer, stream), {}).setdefault(number, []).append(arrival)
        if past:
            if len(self._overdue_at) > 2 * self._held_max:  # most have long been handed over
                self._overdue_at = [entry for entry in self._overdue_at if entry[2].waits_for]
                heapq.heapify(self._overdue_at)
            heapq.heappush(self._overdue_at, (now + self._hold_max_s, next(self._serial), arrival))
        return []

    def _raise_floor(self, key: _Stream, inbound: _Inbound, floor: int) -> list[Arrival]:
        """Those that are freed by what its sender does not want settled here any more."""
        if not inbound.progress.raise_floor(floor):
            return []
        for number in [number for number in inbound.held if number < floor]:
            arrival = inbound.held.pop(number)  # it went elsewhere, or is of no use any more
            self._held -= 1
            self._dropped.append(arrival.item)
            for wait in list(arrival.waits_for):
                self._stop_waiting(arrival, wait)
        return self._freed(key, inbound)

    def _wait_for_another(self, arrival: Arrival, inbound: _Inbound, previous: int) -> list[Arrival]:
        """It is another one with the same key that it waits for, or none. Returns it if it waits no more."""
        former, arrival.previous = arrival.previous, previous
        key = (arrival.peer, arrival.stream)
        if previous and not inbound.progress.has(previous) and previous < arrival.number:
            arrival.waits_for.add((*key, previous))
            self._waiting.setdefault(key, {}).setdefault(previous, []).append(arrival)
        if former and (*key, former) in arrival.waits_for and self._stop_waiting(arrival, (*key, former)):
            return [arrival]
        return []

    def _wait_for(self, dependency: Dependency) -> _Number | None:
        origin, dest, stream, number = dependency
        if dest != self._me or origin == self._me or not self._is_member(origin):
            return None
        inbound = self._streams.get((origin, stream))
        return None if inbound is not None and inbound.progress.has(number) else (origin, stream, number)

    def _freed(self, key: _Stream, inbound: _Inbound) -> list[Arrival]:
        """Those that wait for nothing any more because of what is settled in this stream."""
        waiting = self._waiting.get(key)
        if not waiting:
            return []
        settled = sorted(number for number in waiting if inbound.progress.has(number))
        return [arrival for number in settled for arrival in self._stop_waiting_all(key, number)]

    def _stop_waiting_all(self, key: _Stream, number: int) -> list[Arrival]:
        wait = (*key, number)
        return [arrival for arrival in list(self._waiting[key][number]) if self._stop_waiting(arrival, wait)]

    def _stop_waiting(self, arrival: Arrival, wait: _Number) -> bool:
        """Whether it waits for nothing else."""
        arrival.waits_for.discard(wait)
        key, number = wait[:2], wait[2]
        waiting = self._waiting[key]
        waiting[number].remove(arrival)
        if not waiting[number]:
            del waiting[number]
            if not waiting:
                del self._waiting[key]
        return not arrival.waits_for

    def _ready(self, freed: Iterable[Arrival]) -> list[Arrival]:
        """What of these is to be handed over; what was accepted before is settled instead, which may free others."""
        ready: list[Arrival] = []
        queue = collections.deque(freed)
        while queue:
            arrival = queue.popleft()
            key = (arrival.peer, arrival.stream)
            inbound = self._streams.get(key)
            if inbound is not None and inbound.held.pop(arrival.number, None) is not None:
                self._held -= 1
            if arrival.identity is None:
                ready.append(arrival)
            elif arrival.identity in self._offered:
                self._duplicates += 1  # on two ways at once; should the first not be taken, this one comes again
                self._dropped.append(arrival.item)
            elif self._dedup.has(arrival.identity):
                self._duplicates += 1
                self._dropped.append(arrival.item)
                if inbound is not None:
                    inbound.progress.settle(arrival.number)
                    self._to_acknowledge[key] = None
                    queue.extend(self._freed(key, inbound))
            else:
                self._offered.add(arrival.identity)
                ready.append(arrival)
        return ready

    def _forget_oldest(self) -> list[Arrival]:
        if len(self._streams) <= self._streams_max:
            return []
        return self._forget(next(iter(self._streams)))

    def _forget(self, key: _Stream) -> list[Arrival]:
        """Give up a stream: nobody waits for it any more, nor does what it holds."""
        freed = []
        for number in sorted(self._waiting.get(key, ())):
            freed += self._stop_waiting_all(key, number)
        inbound = self._streams.pop(key, None)
        for _, arrival in sorted(() if inbound is None else inbound.held.items()):
            for wait in list(arrival.waits_for):
                self._stop_waiting(arrival, wait)
            if arrival not in freed:
                freed.append(arrival)
            self._held -= 1
        self._to_acknowledge.pop(key, None)
        return freed
