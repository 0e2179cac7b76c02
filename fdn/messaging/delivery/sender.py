"""The sending core of acknowledged delivery: what waits for its acknowledgement, where it goes, when it goes again.

A message (`Message`) goes to one node or several; each copy (`Consignment`) is numbered in the stream to its node,
without gaps, and is kept until it is acknowledged, its node is gone, or its deadline has passed. Numbers of one stream
are never used again. One that is given up, or goes elsewhere, is skipped by the `floor` of all that follow.

What the driver does: `submit`, then for each `Way` that has something due `take` until there is nothing more or the
connection has no room; `remind` at `next_deadline` of a way, and take again; `on_open` when a new connection is open
(what was sent on the old one may be lost), `on_ack`, `on_gone`, and `on_time` at `next_expiry`. It carries out the
effects that these return, in order.

Bounds: `copies_max` copies and `bytes_max` bytes of payload that are not acknowledged, over all nodes; past that
`full` is true, and who submits waits, or is refused. Up to `window_max` numbers of one stream are under way; the rest
of it waits here.
"""

import collections
import dataclasses
import heapq
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from fdn.messaging.delivery.backoff import Backoff
from fdn.messaging.delivery.frames import Ack, MessageId, Tag

__all__ = (
    "Consignment",
    "Effect",
    "GaveUp",
    "Message",
    "Reroute",
    "Sender",
    "SenderStats",
    "Settled",
    "Transmission",
    "Way",
)

Way: TypeAlias = tuple[str, str]  # node id and channel
_STREAM_BITS: Final = 62
_ENVELOPE_BYTES: Final = 64  # what a message weighs beside its payload, for the bound only


class Message:
    """One message.

    Attributes:
        kind: Of envelope.
        to: Subject, or target.
        meta: What its envelopes have in common.
        body: The payload, encoded.
        deadline_at: When nobody wants it any more, or 0.0.
        key: Messages of one key stay in order; empty for none.
        identity: For effectively once; else None.
        priority: Higher leaves first.
        copies: How many were made, redelivered ones not counted again.
        open: Copies that are neither acknowledged nor given up.
        unconfirmed: Node ids of those that were given up, as far as they are known, and why.
        waiter: The driver's.
    """

    __slots__ = (
        "body",
        "copies",
        "deadline_at",
        "identity",
        "key",
        "kind",
        "meta",
        "open",
        "priority",
        "size",
        "to",
        "unconfirmed",
        "waiter",
    )

    def __init__(
        self,
        kind: int,
        to: str,
        meta: dict[int, Any],
        body: Any,
        *,
        deadline_at: float = 0.0,
        key: str | bytes = "",
        identity: MessageId | None = None,
        priority: int = 0,
    ) -> None:
        self.kind = kind
        self.to = to
        self.meta = meta
        self.body = body
        self.size = _ENVELOPE_BYTES + (0 if body is None else len(body))
        self.deadline_at = deadline_at
        self.key = key
        self.identity = identity
        self.priority = priority
        self.copies = self.open = 0
        self.unconfirmed: list[tuple[str, str]] = []
        self.waiter: Any = None


class Consignment:
    """One copy of a message.

    Attributes:
        message: The message.
        way: Where it goes now.
        group: The queue group, or the target of a cast, one member of which it is for; empty if it is for that node.
        number: In the stream to that node.
        previous: The number before it with the same key, or 0.
        sends: How often it was sent on any way.
        tried: The nodes that it went to before.
    """

    __slots__ = ("due", "group", "message", "number", "previous", "resend_at", "sends", "sent_at", "tried", "way")

    def __init__(self, message: Message, way: Way, group: str) -> None:
        self.message = message
        self.way = way
        self.group = group
        self.number = 0
        self.previous = 0
        self.sends = 0
        self.tried: list[str] = []
        self.due = True  # to be sent as soon as there is room
        self.sent_at = 0.0
        self.resend_at = 0.0


class Reroute(NamedTuple):
    """These lost their node; in this order find another for each, and `redirect` it, or `give_up`."""

    consignments: tuple[Consignment, ...]
    reason: str


class Settled(NamedTuple):
    """Nothing of this message is open any more."""

    message: Message


class GaveUp(NamedTuple):
    """A copy is given up."""

    consignment: Consignment
    reason: str


Effect: TypeAlias = Reroute | Settled | GaveUp


class Transmission(NamedTuple):
    """A copy, to be sent now."""

    consignment: Consignment
    tag: Tag


@dataclasses.dataclass(frozen=True, slots=True)
class SenderStats:
    """Counters since the start."""

    messages: int  # submitted
    unacked: int  # copies that wait for their acknowledgement now
    unacked_bytes: int
    transmitted: int  # copies sent for the first time
    retransmitted: int  # sent again
    acked: int
    redelivered: int  # copies that went to another member, because the first was gone or did not want them
    given_up: int  # copies whose node is gone, or that nobody wants any more
    expired: int  # copies given up because their deadline had passed
    full: int  # times that a publisher met a full buffer


class _Outbound:
    """The stream to one node."""

    __slots__ = ("chain", "due", "floor", "next_number", "open", "resends", "round_trip", "stream", "usual_s")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.next_number = 1
        self.floor = 1
        self.open: dict[int, Consignment] = {}
        self.chain: dict[tuple[str, str | bytes], int] = {}  # the last open number of each group and key
        self.due: collections.deque[Consignment] = collections.deque()
        self.resends: list[tuple[float, int]] = []  # a heap; what does not agree with its consignment is void
        self.round_trip = (0.0, 0.0)  # smoothed, and how far it varies
        self.usual_s = 0.0  # within which an acknowledgement comes, twice over

    def on_round_trip(self, seconds: float) -> None:
        """One was measured: RFC 6298, section 2, doubled, because our half of the pause is by chance."""
        smoothed, varies = self.round_trip
        if smoothed:
            varies += (abs(seconds - smoothed) - varies) / 4
            smoothed += (seconds - smoothed) / 8
        else:
            smoothed, varies = seconds, seconds / 2
        self.round_trip = smoothed, varies
        self.usual_s = 2 * (smoothed + 4 * varies)


class Sender:
    """See the module.

    Args:
        copies_max: See the module, as the next two.
        bytes_max: In bytes.
        window_max: In numbers.
        backoff: The pause before a copy is sent again.
        rng: Names streams.

    Attributes:
        full: Whether nobody should submit now.
    """

    def __init__(
        self, *, copies_max: int, bytes_max: int, window_max: int, backoff: Backoff, rng: random.Random
    ) -> None:
        self._copies_max = copies_max
        self._bytes_max = bytes_max
        self._window_max = window_max
        self._backoff = backoff
        self._rng = rng
        self._streams: dict[Way, _Outbound] = {}
        self._holders: dict[tuple[str, str | bytes], tuple[Way, int]] = {}  # by group and key: where, and how many
        self._deadlines: list[tuple[float, int, Consignment]] = []
        self._serial = itertools.count()
        self._unacked = self._bytes = 0
        self._messages = self._transmitted = self._retransmitted = self._acked = 0
        self._redelivered = self._given_up = self._expired = self._met_full = 0
        self.full = False

    # -- messages

    def submit(self, message: Message, copies: Sequence[tuple[Way, str]]) -> list[Consignment]:
        """Take over a message, with a copy for each way (and group); number them. Check `full` before."""
        self._messages += 1
        message.copies = message.open = len(copies)
        consignments = []
        for way, group in copies:
            consignment = Consignment(message, way, group)
            self._unacked += 1
            self._bytes += message.size
            self._enter(consignment)
            if message.deadline_at:
                heapq.heappush(self._deadlines, (message.deadline_at, next(self._serial), consignment))
            consignments.append(consignment)
        self._weigh()
        return consignments

    def met_full(self) -> None:
        """Somebody wanted to submit, and waits or was refused."""
        self._met_full += 1

    def holder(self, group: str, key: str | bytes) -> Way | None:
        """Where messages of a key for a group must go as long as some are not acknowledged there: else they would
        overtake those.
        """
        held = self._holders.get((group, key))
        return None if held is None else held[0]

    def stream_of(self, way: Way) -> int:
        """The number that names the stream to a node; made if there is none."""
        return self._outbound(way).stream

    def redirect(self, consignment: Consignment, way: Way) -> None:
        """It goes to another node now."""
        self._redelivered += 1
        consignment.way = way
        consignment.due = True
        self._enter(consignment)

    def accepted_here(self, consignment: Consignment) -> list[Effect]:
        """One that lost its node was accepted on this one."""
        self._redelivered += 1
        self._acked += 1
        return self._close(consignment)

    def give_up(self, consignment: Consignment, reason: str) -> list[Effect]:
        """Nobody is left for one that lost its node."""
        self._given_up += 1
        consignment.message.unconfirmed.append((consignment.tried[-1] if consignment.tried else "", reason))
        return [GaveUp(consignment, reason), *self._close(consignment)]

    # -- sending

    def ways(self) -> list[Way]:
        """Those on which something is open."""
        return [way for way, outbound in self._streams.items() if outbound.open]

    def has_open(self, way: Way) -> bool:
        """Whether something is open on it."""
        outbound = self._streams.get(way)
        return outbound is not None and bool(outbound.open)

    def has_due(self, way: Way, now: float) -> bool:
        """Whether something is to be sent on it now."""
        outbound = self._streams.get(way)
        return outbound is not None and self._next_due(outbound, now) is not None

    def take(self, way: Way, now: float, *, only_new: bool = False) -> Transmission | None:
        """The next that is to be sent on it now; None if there is nothing, or only something that was sent before."""
        outbound = self._streams.get(way)
        consignment = None if outbound is None else self._next_due(outbound, now)
        if outbound is None or consignment is None or (only_new and consignment.sends):
            return None
        outbound.due.popleft()
        consignment.due = False
        consignment.sends += 1
        if consignment.sends == 1:
            self._transmitted += 1
        else:
            self._retransmitted += 1
        consignment.sent_at = now
        consignment.resend_at = now + self._backoff.pause(consignment.sends, outbound.usual_s)
        heapq.heappush(outbound.resends, (consignment.resend_at, consignment.number))
        return Transmission(consignment, Tag(outbound.stream, outbound.floor, consignment.previous))

    def remind(self, way: Way, now: float) -> None:
        """It is `next_deadline`, and nothing that could acknowledge them is unread: send them again."""
        outbound = self._streams.get(way)
        if outbound is None:
            return
        resends = outbound.resends
        while resends and resends[0][0] <= now:
            at, number = heapq.heappop(resends)
            consignment = outbound.open.get(number)
            if consignment is not None and not consignment.due and consignment.resend_at == at:
                consignment.due = True
                outbound.due.append(consignment)

    def next_deadline(self, way: Way) -> float | None:
        """When to `remind` of it, unless all of it is acknowledged before."""
        outbound = self._streams.get(way)
        if outbound is None:
            return None
        resends = outbound.resends
        while resends:
            at, number = resends[0]
            consignment = outbound.open.get(number)
            if consignment is not None and not consignment.due and consignment.resend_at == at:
                return at
            heapq.heappop(resends)
        return None

    def next_expiry(self) -> float | None:
        """When `on_time` has something to do."""
        deadlines = self._deadlines
        while deadlines and not self._is_open(deadlines[0][2]):
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    # -- what happens

    def on_time(self, now: float) -> list[Effect]:
        """Give up what has passed its deadline."""
        effects: list[Effect] = []
        while (expires_at := self.next_expiry()) is not None and expires_at <= now:
            _, _, consignment = heapq.heappop(self._deadlines)
            self._bridge(consignment)
            self._leave(consignment)
            self._expired += 1
            reason = "its deadline has passed"
            consignment.message.unconfirmed.append((consignment.way[0], reason))
            effects += [GaveUp(consignment, reason), *self._close(consignment)]
        return effects

    def on_open(self, way: Way) -> None:
        """A new connection is open: what was sent on the one before may be lost, and goes again, in order."""
        outbound = self._streams.get(way)
        if outbound is None:
            return
        for consignment in outbound.open.values():
            consignment.due = True
        outbound.due = collections.deque(outbound.open.values())
        outbound.resends.clear()

    def on_ack(self, way: Way, ack: Ack, now: float) -> list[Effect]:
        """An acknowledgement came from a node. One of another stream is late, and of no use."""
        outbound = self._streams.get(way)
        if outbound is None or outbound.stream != ack.stream:
            return []
        effects: list[Effect] = []
        last = min(ack.upto, outbound.next_number - 1)
        refused = set(ack.refused)
        astray: dict[Consignment, None] = {}
        for number in sorted(refused):
            consignment = outbound.open.get(number)
            if consignment is not None and consignment not in astray:
                astray |= dict.fromkeys((consignment, *self._behind(consignment)))
        effects += self._reroute(astray, "nobody there wants it")
        newest: Consignment | None = None
        for first, end in ((outbound.floor, last), *ack.ranges):
            for number in _within(outbound.open, first, end):
                newest = consignment = outbound.open[number]
                self._leave(consignment)
                self._acked += 1
                effects += self._close(consignment)
        if newest is not None and newest.sends == 1:  # of one sent again nobody knows which time is meant (Karn)
            outbound.on_round_trip(now - newest.sent_at)
        return effects

    def on_gone(self, node: str, reason: str) -> list[Effect]:
        """A node is dead, or has left: what it has not acknowledged goes to other members of its group, or is
        given up.
        """
        effects: list[Effect] = []
        for way in [way for way in self._streams if way[0] == node]:
            outbound = self._streams[way]
            effects += self._reroute(dict.fromkeys(outbound.open.values()), reason)
            del self._streams[way]  # should it come back, that is another stream
        return effects

    def abandon(self, reason: str) -> list[Effect]:
        """This node stops: give up everything."""
        effects: list[Effect] = []
        for outbound in self._streams.values():
            for consignment in list(outbound.open.values()):
                self._leave(consignment)
                consignment.tried.append(consignment.way[0])
                effects += self.give_up(consignment, reason)
        return effects

    def is_open(self, way: Way, stream: int, number: int) -> bool:
        """Whether this number of a stream to a node is not settled yet."""
        outbound = self._streams.get(way)
        return outbound is not None and outbound.stream == stream and number in outbound.open

    @property
    def unacked(self) -> int:
        """Copies that wait for their acknowledgement."""
        return self._unacked

    def unacked_by(self, message: Message | None = None) -> dict[str, int]:
        """How many each node has not acknowledged, of one message or of all."""
        counts: collections.Counter[str] = collections.Counter()
        for (node, _), outbound in self._streams.items():
            count = sum(message is None or each.message is message for each in outbound.open.values())
            if count:
                counts[node] += count
        return dict(counts)

    def stats(self) -> SenderStats:
        return SenderStats(
            messages=self._messages,
            unacked=self._unacked,
            unacked_bytes=self._bytes,
            transmitted=self._transmitted,
            retransmitted=self._retransmitted,
            acked=self._acked,
            redelivered=self._redelivered,
            given_up=self._given_up,
            expired=self._expired,
            full=self._met_full,
        )

    # -- streams

    def _outbound(self, way: Way) -> _Outbound:
        outbound = self._streams.get(way)
        if outbound is None:
            outbound = self._streams[way] = _Outbound(self._rng.getrandbits(_STREAM_BITS) + 1)
        return outbound

    def _enter(self, consignment: Consignment) -> None:
        """Give it a number in the stream to its node."""
        outbound = self._outbound(consignment.way)
        consignment.number = outbound.next_number
        outbound.next_number += 1
        outbound.open[consignment.number] = consignment
        outbound.due.append(consignment)
        consignment.previous = 0
        if consignment.message.key:
            selector = (consignment.group, consignment.message.key)
            consignment.previous = outbound.chain.get(selector, 0)
            outbound.chain[selector] = consignment.number
            if consignment.group:
                _, count = self._holders.get(selector, (consignment.way, 0))
                self._holders[selector] = consignment.way, count + 1

    def _leave(self, consignment: Consignment) -> None:
        """It has no number any more."""
        outbound = self._streams[consignment.way]
        del outbound.open[consignment.number]
        while outbound.floor < outbound.next_number and outbound.floor not in outbound.open:
            outbound.floor += 1
        if consignment.message.key:
            selector = (consignment.group, consignment.message.key)
            if outbound.chain.get(selector) == consignment.number:
                del outbound.chain[selector]
            if consignment.group:
                way, count = self._holders[selector]
                if count > 1:
                    self._holders[selector] = way, count - 1
                else:
                    del self._holders[selector]

    def _next_due(self, outbound: _Outbound, now: float) -> Consignment | None:
        due = outbound.due
        while due:
            consignment = due[0]
            if not consignment.due or outbound.open.get(consignment.number) is not consignment:
                due.popleft()  # acknowledged, or gone elsewhere, meanwhile
            elif consignment.number >= outbound.floor + self._window_max:
                return None
            elif consignment.message.deadline_at and consignment.message.deadline_at <= now:
                due.popleft()  # `on_time` sees to it
            else:
                return consignment
        return None

    def _reroute(self, astray: Mapping[Consignment, None], reason: str) -> list[Effect]:
        """Those of a group go elsewhere, the others are given up."""
        effects: list[Effect] = []
        for consignment in astray:
            self._leave(consignment)
            consignment.tried.append(consignment.way[0])
        movable = tuple(consignment for consignment in astray if consignment.group)
        if movable:
            effects.append(Reroute(movable, reason))
        for consignment in astray:
            if not consignment.group:
                effects += self.give_up(consignment, reason)
        return effects

    def _behind(self, consignment: Consignment) -> list[Consignment]:
        """Those with its key: they must not stay where it is not, or they would be handled before it."""
        message = consignment.message
        outbound = self._streams[consignment.way]
        if not (message.key and consignment.group) or outbound.chain.get((consignment.group, message.key)) is None:
            return []
        return [
            other
            for other in outbound.open.values()
            if other.number > consignment.number
            and other.group == consignment.group
            and other.message.key == message.key
        ]

    def _bridge(self, consignment: Consignment) -> None:
        """Whoever waits for this one, which will not come, waits for the one before it."""
        outbound = self._streams[consignment.way]
        before = consignment.previous if consignment.previous in outbound.open else 0
        for other in outbound.open.values():
            if other.previous == consignment.number:
                other.previous = before

    def _is_open(self, consignment: Consignment) -> bool:
        outbound = self._streams.get(consignment.way)
        return outbound is not None and outbound.open.get(consignment.number) is consignment

    def _close(self, consignment: Consignment) -> list[Effect]:
        message = consignment.message
        self._unacked -= 1
        self._bytes -= message.size
        self._weigh()
        message.open -= 1
        return [] if message.open else [Settled(message)]

    def _weigh(self) -> None:
        self.full = self._unacked >= self._copies_max or self._bytes >= self._bytes_max


def _within(open_: dict[int, Consignment], first: int, last: int) -> list[int]:
    """The open numbers from `first` to `last`. A peer may name any range: at most all that are open are looked at."""
    if last - first < len(open_):
        return [number for number in range(first, last + 1) if number in open_]
    return [number for number in open_ if first <= number <= last]
