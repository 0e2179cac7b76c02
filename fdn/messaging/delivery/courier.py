"""The driver of acknowledged delivery: the pure cores between links, subscriptions and services.

What is published goes through `Sender` to the links of its nodes, one stream each, and stays there until it is
acknowledged. What comes in goes through `Receiver` to the subscriptions and services here, and is acknowledged when
they have it: once for all of a loop pass. For this node's own subscriptions there is no stream: nothing can be lost.

A loop pass that sends to an open link with room costs no task. Where a link is not open, or has no room, one task for
it waits; where something is not acknowledged, one timer.
"""

import asyncio
import collections
import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from fdn.context import Scope, pack_trace, scope_var
from fdn.errors import BadRequest, DeadlineExceeded, NotFound, Overloaded, Unreachable
from fdn.messaging.delivery.backoff import Backoff
from fdn.messaging.delivery.causal import CausalPast
from fdn.messaging.delivery.frames import (
    Dependency,
    MessageId,
    pack_ack,
    pack_causal,
    read_ack,
    read_causal,
    read_message_id,
    read_tag,
)
from fdn.messaging.delivery.promise import Promise
from fdn.messaging.delivery.receiver import Arrival, Outcome, Receiver, ReceiverStats
from fdn.messaging.delivery.sender import (
    Consignment,
    Effect,
    GaveUp,
    Message,
    Reroute,
    Sender,
    SenderStats,
    Settled,
    Transmission,
    Way,
)
from fdn.messaging.delivery.window import DedupWindow
from fdn.messaging.directory import Directory
from fdn.messaging.dispatch import Dispatcher
from fdn.messaging.events import Events
from fdn.messaging.payloads import arrive, encode
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import DataPlane, NoTicket, Origin, Ticket
from fdn.runtime.facts import DeliveryGivenUp, Fact
from fdn.runtime.link import Link
from fdn.runtime.send_options import node_of_key
from fdn.runtime.view import View
from fdn.settings import Settings
from transports.channel import Channel
from transports.parcel import Parcel
from transports.transport import Connection
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("Courier", "CourierStats")

_log = logging.getLogger(__name__)
_EVENTS, _DATA = Channel.EVENTS.value, Channel.DATA.value
_CHANNELS: Final = {_EVENTS: Channel.EVENTS, _DATA: Channel.DATA}
_SEQUENCE_BITS: Final = 62
_TRIED_MAX: Final = 16  # nodes that one copy may go to
_LIVING: Final = ("alive", "suspect")
_NO_TICKET: Final = NoTicket()


@dataclasses.dataclass(frozen=True, slots=True)
class CourierStats:
    """Counters of acknowledged delivery since the start."""

    sender: SenderStats
    receiver: ReceiverStats
    expired: int  # received when their deadline had passed
    malformed: int  # messages and ACKs that could not be read
    causal_past: int  # messages that what is sent now would name as its past, over all labels
    causal_forgotten: int  # of those, dropped because of a bound


class _Incoming:
    """A message on its way in."""

    __slots__ = ("deadline_at", "envelope", "handed", "holds", "label", "origin", "ticket")

    def __init__(self, origin: Origin, envelope: Envelope, ticket: Ticket, deadline_at: float, label: str) -> None:
        self.origin = origin
        self.envelope = envelope
        self.ticket = ticket
        self.deadline_at = deadline_at
        self.label = label
        self.handed = False
        self.holds = False  # the credit of its batch, because it waits


class _Kept:
    """The ticket of a message that is kept whatever waits already: the retransmit buffer was its bound."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0

    def release(self) -> None:
        """Nobody granted anything for it."""


class Courier:
    """See the module. All methods belong to the data plane's loop.

    Args:
        node: Our own node id.
        publish_fact: Tells what was given up.
        here: This node, as the origin of its own casts.
    """

    def __init__(
        self,
        node: str,
        plane: DataPlane,
        directory: Directory,
        dispatcher: Dispatcher,
        events: Events,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        publish_fact: Callable[[Fact], None],
        here: Origin,
    ) -> None:
        bounds = settings.delivery
        self._node = node
        self._plane = plane
        self._directory = directory
        self._dispatcher = dispatcher
        self._events = events
        self._loop = loop
        self._publish_fact = publish_fact
        self._here = here
        self._timeout_s = settings.calls.timeout_s
        self._body_bytes_max = settings.data.body_bytes_max
        self._sends_per_pass_max = min(settings.data.sends_per_pass_max, bounds.buffer_max)
        self._sends = 0  # since the loop last had its turn
        self._blocked_s = bounds.retransmit_min_s
        self._backoff = Backoff(bounds.retransmit_min_s, bounds.retransmit_max_s, rng)
        self._sender = Sender(
            copies_max=bounds.buffer_max,
            bytes_max=bounds.buffer_bytes_max,
            window_max=bounds.window_max,
            backoff=self._backoff,
            rng=rng,
        )
        self._receiver = Receiver(
            node,
            lambda other: other in self._living,
            window_max=bounds.window_max,
            held_max=bounds.held_max,
            hold_max_s=bounds.held_max_s,
            streams_max=bounds.streams_max,
            dedup=DedupWindow(bounds.dedup_window, bounds.dedup_origins_max),
        )
        self._past_max = bounds.causal_past_max
        self._past = CausalPast(node, bounds.causal_labels_max, bounds.causal_past_max)
        self._living: frozenset[str] = frozenset()
        self._sequence = rng.getrandbits(_SEQUENCE_BITS)
        self._connections: dict[Way, Connection] = {}  # that were last sent on
        self._timers: dict[Way, asyncio.TimerHandle] = {}
        self._carriers: dict[Way, asyncio.Task[None]] = {}
        self._clock: asyncio.TimerHandle | None = None
        self._answers: dict[tuple[str, int], Origin] = {}  # who is to be sent an ACK of which stream
        self._is_acknowledging = False
        self._astray: dict[Consignment, asyncio.TimerHandle] = {}  # those that lost their node, and wait for room here
        self._room: list[asyncio.Future[None]] = []
        self._idle: list[asyncio.Future[None]] = []
        self._n_given_up_unflushed = 0
        self._n_expired = self._n_malformed = 0
        self._closed = False

    # -- what is sent

    async def publish(self, subject: str, payload: Any, asked: Promise, identity: MessageId | None = None) -> int:
        """Take over an event for every node that wants it; see `fdn.Node.publish`.

        Args:
            identity: Of one that is not ours; None makes one where it is asked for.

        Returns:
            How many nodes, and members of groups, it is for.

        Raises:
            BadRequest: The subject is none, or the payload cannot be sent.
            Overloaded: The buffer is full, and that is to be an error.
            DeadlineExceeded: No room in time, or with `confirm` not everybody has it in time.
            Unreachable: With `confirm`: some are gone, and have not acknowledged it.
        """
        self._events.route(subject)  # a subject that is none is found out before anything waits
        message, ends_at = await self._message(Kind.EVENT, subject, payload, asked, identity)
        copies: list[tuple[Way, str]] = []
        route = self._events.route(subject)  # after the waiting: those that are known now
        plain_here = self._node in route.nodes
        copies += (((node, _EVENTS), "") for node in route.nodes if node != self._node)
        groups_here = []
        for group in route.groups:
            held = self._sender.holder(group.name, asked.key) if asked.key else None
            if held is not None:
                copies.append((held, group.name))
                continue
            node = node_of_key(asked.key, group.nodes) if asked.key else self._events.pick(group, subject)
            if node == self._node:
                groups_here.append(group)
            else:
                copies.append(((node, _EVENTS), group.name))
        self._submit(message, copies, asked.label)
        self._sends += 1
        if self._sends >= self._sends_per_pass_max:
            self._sends = 0
            await loop_pass()
        members = len(copies) + plain_here + len(groups_here)
        plain_here = plain_here and self._is_new_here(message, "")
        groups_here = [group for group in groups_here if self._is_new_here(message, group.name)]
        if plain_here or groups_here:
            event = Envelope(Kind.EVENT, subject, 0, 0, message.meta or None, message.body)
            await self._events.send_here(event, plain_here, groups_here, message.deadline_at)
        if asked.confirm:
            await self._confirmed(message, ends_at)
        return members

    async def cast(self, target: str, payload: Any, asked: Promise) -> None:
        """Take over a cast for one of the nodes that offer `target`; see `fdn.Node.cast`.

        Raises:
            NotFound: Nobody offers `target`.
            As `publish`.
        """
        if asked.label:
            raise BadRequest(f"causal={asked.label!r} for a cast", hint="only events have a causal order: publish it")
        self._directory.route(target)
        message, ends_at = await self._message(Kind.CAST, target, payload, asked, None)
        route = self._directory.route(target)
        message.to = route.to
        held = self._sender.holder(target, asked.key) if asked.key else None
        node = held[0] if held is not None else node_of_key(asked.key, route.nodes) if asked.key else route.next()
        if node == self._node:
            await self._cast_here(message, asked, ends_at)
            return
        self._submit(message, [((node, _DATA), target)], "")
        self._sends += 1
        if self._sends >= self._sends_per_pass_max:
            self._sends = 0
            await loop_pass()
        if asked.confirm:
            await self._confirmed(message, ends_at)

    async def flush(self, timeout_s: float | None = None) -> int:
        """Return when nothing waits for its acknowledgement any more.

        Returns:
            How many copies were given up since the last flush.

        Raises:
            DeadlineExceeded: Some have not acknowledged in time; the message names them.
        """
        ends_at = self._ends_at(self._timeout_s if timeout_s is None else timeout_s)
        try:
            async with asyncio.timeout_at(ends_at):
                await self.drain()
        except TimeoutError:
            raise self._unacknowledged(self._sender.unacked_by()) from None
        given_up, self._n_given_up_unflushed = self._n_given_up_unflushed, 0
        return given_up

    # -- the data plane, and the node, call these

    def on_message(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A CAST or EVENT came in that wants an ACK."""
        if self._closed:
            return  # nobody would handle it; its sender hears that we left
        meta = envelope.meta or {}
        tag = read_tag(meta)
        if tag is None:
            self._n_malformed += 1
            return
        label, past = read_causal(meta) or ("", ())
        deadline_at = self._loop.time() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
        item = _Incoming(origin, envelope, ticket, deadline_at, label)
        peer = origin.peer
        self._answers[peer, tag.stream] = origin
        ready = self._receiver.on_message(peer, tag, envelope.id, item, self._loop.time(), read_message_id(meta), past)
        self._hand_over(ready)
        if not item.handed and self._receiver.holds(peer, tag.stream, envelope.id) is item:
            item.holds = True  # what waits here counts against what its sender may send
            ticket.held += 1
            envelope.body = envelope.body.copy()
            self._set_clock()

    def on_ack(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An ACK came in."""
        ack = None if origin.is_client else read_ack(envelope.id, envelope.body)
        if ack is None:
            self._n_malformed += 1
            return
        for channel in (_EVENTS, _DATA):  # a stream has one name, and so one of the two
            way = (origin.peer, channel)
            self._carry_out(self._sender.on_ack(way, ack, self._loop.time()))
            self._pump(way)

    def on_view(self, view: View) -> None:
        """The cluster has changed."""
        former = self._living
        self._living = frozenset(node for node, member in view.members.items() if member.status in _LIVING)
        for node in former - self._living:
            member = view.members.get(node)
            reason = "it is forgotten" if member is None else f"{member.name} is {member.status}: {member.reason}"
            self._on_gone(node, reason)

    @property
    def unacked(self) -> int:
        """Copies that wait for their acknowledgement."""
        return self._sender.unacked

    async def drain(self) -> None:
        """Return when nothing waits for its acknowledgement; bound it with a timeout."""
        while self._sender.unacked:
            await self._wait(self._idle)

    async def close(self) -> None:
        """Give up what is not acknowledged, and stop."""
        self._closed = True
        stops = "this node stops"
        self._carry_out(self._sender.abandon(stops))
        for consignment, timer in self._astray.items():
            timer.cancel()
            self._carry_out(self._sender.give_up(consignment, stops))
        self._astray.clear()
        carriers = list(self._carriers.values())
        for carrier in carriers:
            carrier.cancel()
        for timer in self._timers.values():
            timer.cancel()
        if self._clock is not None:
            self._clock.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)

    def stats(self) -> CourierStats:
        return CourierStats(
            sender=self._sender.stats(),
            receiver=self._receiver.stats(),
            expired=self._n_expired,
            malformed=self._n_malformed,
            causal_past=len(self._past),
            causal_forgotten=self._past.forgotten,
        )

    # -- taking over

    async def _message(
        self, kind: Kind, to: str, payload: Any, asked: Promise, identity: MessageId | None
    ) -> tuple[Message, float]:
        """The message, once there is room for it; and until when its sender waits."""
        body = encode(payload)
        if body is not None and len(body) > self._body_bytes_max:
            raise BadRequest(
                f"payload of {len(body)} bytes for {to!r} exceeds data.body_bytes_max={self._body_bytes_max}",
                hint="send less at once, or raise data.body_bytes_max on every node",
            )
        if type(body) is Parcel:
            body = body.copy()  # it may be sent again long after this returns, and must be the same then
        scope = scope_var.get()
        deadline_at = 0.0 if scope is None else scope.deadline_at
        ends_at = deadline_at or self._loop.time() + self._timeout_s
        if self._sender.full:
            await self._wait_room(asked.refuse, ends_at)
        if asked.identified and identity is None:
            self._sequence += 1
            identity = MessageId(self._node, self._sequence)
        meta = _meta_of(scope)
        if asked.key:
            meta[int(MetaKey.PARTITION_KEY)] = asked.key
        if identity is not None:
            meta[int(MetaKey.ORIGIN)], meta[int(MetaKey.SEQUENCE)], _ = identity
        if asked.priority:
            meta[int(MetaKey.PRIORITY)] = asked.priority
        message = Message(
            kind,
            to,
            meta,
            body,
            deadline_at=deadline_at,
            key=asked.key,
            identity=identity,
            priority=asked.priority,
        )
        return message, ends_at

    def _submit(self, message: Message, copies: Sequence[tuple[Way, str]], label: str) -> None:
        if not copies:
            return
        before = self._past.before(label, self._is_open) if label else []
        consignments = self._sender.submit(message, copies)
        if label:
            own = [
                Dependency(self._node, each.way[0], self._sender.stream_of(each.way), each.number)
                for each in consignments
            ]
            message.meta[int(MetaKey.CAUSAL)] = pack_causal(label, (*before, *own)[-self._past_max :])
            self._past.on_sent(label, own)
        for way in dict.fromkeys(way for way, _ in copies):
            self._pump(way)
        if message.deadline_at:
            self._set_clock()

    def _is_open(self, dependency: Dependency) -> bool:
        return self._sender.is_open((dependency.dest, _EVENTS), dependency.stream, dependency.sequence)

    async def _wait_room(self, refuse: bool, ends_at: float) -> None:
        self._sender.met_full()
        stats = self._sender.stats()
        held = f"{stats.unacked} messages of {stats.unacked_bytes} bytes wait for their acknowledgement"
        if refuse:
            raise Overloaded(
                f"{held} (delivery.buffer_max, delivery.buffer_bytes_max)",
                hint="publish less, wait (when_full='wait'), or see `fdn.node.work` for who does not acknowledge",
            )
        try:
            async with asyncio.timeout_at(ends_at):
                while self._sender.full:
                    await self._wait(self._room)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{held}, and none was acknowledged in time", hint="receivers are slower than what is published"
            ) from None

    async def _confirmed(self, message: Message, ends_at: float) -> None:
        if message.open:
            message.waiter = self._loop.create_future()
            try:
                async with asyncio.timeout_at(ends_at):
                    await message.waiter
            except TimeoutError:
                if message.open:
                    raise self._unacknowledged(self._sender.unacked_by(message)) from None
        if not message.unconfirmed:
            return
        nodes = [node for node, _ in message.unconfirmed]
        if message.deadline_at and self._loop.time() >= message.deadline_at:
            raise DeadlineExceeded(
                f"{message.to} was not acknowledged before its deadline by {', '.join(nodes)}",
                hint="it is not sent to them any more; the others have it",
                nodes=nodes,
            )
        lost = ", ".join(f"{node or 'a group'} ({reason})" for node, reason in message.unconfirmed)
        raise Unreachable(
            f"{message.to} was not acknowledged by {len(nodes)} of {message.copies}: {lost}",
            hint="the others have it",
            maybe_carried_out=True,
            nodes=nodes,
        )

    def _unacknowledged(self, by: dict[str, int]) -> DeadlineExceeded:
        who = ", ".join(f"{node} ({count})" for node, count in sorted(by.items()))
        return DeadlineExceeded(
            f"not acknowledged in time by {who}",
            hint="they are still kept, and sent again; allow more time, or see `fdn members` for a stalled node",
            nodes=sorted(by),
        )

    def _ends_at(self, timeout_s: float) -> float:
        scope = scope_var.get()
        ends_at = self._loop.time() + timeout_s
        return min(ends_at, scope.deadline_at) if scope is not None and scope.deadline_at else ends_at

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = self._loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    async def _pause(self, seconds: float) -> None:
        done = self._loop.create_future()
        timer = self._loop.call_later(seconds, done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()

    # -- sending

    def _pump(self, way: Way) -> None:
        """Send what is due on one way, as far as there is room; see to the rest later."""
        if not self._sender.has_open(way) or self._closed:
            return
        link = self._link(way)
        connection = None if link is None else link.connection
        now = self._loop.time()
        if connection is not None:
            if self._connections.get(way) is not connection:
                if way in self._connections:
                    self._sender.on_open(way)  # what was sent on the one before may be lost
                self._connections[way] = connection
            while not connection.full:
                # What was sent before, and waits at the other side or for its credit, is not lost.
                transmission = self._sender.take(way, now, only_new=not connection.has_credit)
                if transmission is None:
                    break
                message = transmission.consignment.message
                if link is not None and transmission.consignment.sends > 1:
                    link.retransmitted += 1
                if message.priority:
                    connection.send_ranked(_envelope(transmission), message.priority, "", message.deadline_at)
                else:
                    connection.send(_envelope(transmission), message.deadline_at)
        if self._sender.has_due(way, now):
            if connection is None or connection.full:
                if way not in self._carriers:
                    self._carriers[way] = self._loop.create_task(self._carry(way), name="fdn-delivery")
            else:
                self._set_timer(way, now + self._blocked_s)
        else:
            self._set_timer(way, self._sender.next_deadline(way))

    async def _carry(self, way: Way) -> None:
        """Wait for the link, and for room on it, until all that is due has been sent."""
        failures = 0
        try:
            while self._sender.has_due(way, self._loop.time()):
                try:
                    link = self._plane.link(way[0], _CHANNELS[way[1]])
                    connection = await link.wait_open()
                    await connection.wait_room()
                except Unreachable:
                    failures += 1  # its own pauses apply, too; this one is for those that have none
                    await self._pause(self._backoff.pause(failures))
                    continue
                failures = 0
                self._pump(way)
                if link.connection is connection and not connection.full:
                    return  # what is left has no credit: the timer sees to it
        finally:
            del self._carriers[way]
            if not self._closed:
                self._set_timer(way, self._sender.next_deadline(way))

    def _link(self, way: Way) -> Link | None:
        try:
            return self._plane.link(way[0], _CHANNELS[way[1]])
        except Unreachable:
            return None

    def _set_timer(self, way: Way, at: float | None) -> None:
        timer = self._timers.get(way)
        if at is None or (timer is not None and timer.when() <= at):
            return
        if timer is not None:
            timer.cancel()
        self._timers[way] = self._loop.call_at(at, self._on_timer, way)

    def _on_timer(self, way: Way) -> None:
        timer = self._timers.pop(way)
        now = self._loop.time()
        if now - timer.when() > self._blocked_s / 2:
            self._set_timer(way, now + self._blocked_s / 2)  # this loop stood still: what is unread may be the ACK
        else:
            self._sender.remind(way, now)
            self._pump(way)

    def _set_clock(self) -> None:
        """For deadlines, and for what waits for its causes."""
        ends = [at for at in (self._sender.next_expiry(), self._receiver.next_deadline()) if at is not None]
        if self._clock is not None:
            if not ends or self._clock.when() <= min(ends):
                return
            self._clock.cancel()
        self._clock = self._loop.call_at(min(ends), self._on_clock) if ends and not self._closed else None

    def _on_clock(self) -> None:
        self._clock = None
        now = self._loop.time()
        self._carry_out(self._sender.on_time(now))
        self._hand_over(self._receiver.on_time(now))
        self._set_clock()

    # -- what comes of it

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        given_up: collections.Counter[tuple[str, str]] = collections.Counter()
        last: dict[tuple[str, str], str] = {}
        queue = collections.deque(effects)
        while queue:
            effect = queue.popleft()
            match effect:
                case Reroute(consignments, reason):
                    for consignment in consignments:
                        queue.extend(self._reroute(consignment, reason))
                case GaveUp(consignment, reason):
                    about = (consignment.tried[-1] if consignment.tried else consignment.way[0], reason)
                    given_up[about] += 1
                    last[about] = consignment.message.to
                case Settled(message):
                    if message.waiter is not None and not message.waiter.done():
                        message.waiter.set_result(None)
        for (node, reason), count in given_up.items():
            self._tell_given_up(node, last[node, reason], count, reason)
        if self._room and not self._sender.full:
            _wake(self._room)
        if self._idle and not self._sender.unacked:
            _wake(self._idle)

    def _reroute(self, consignment: Consignment, reason: str) -> list[Effect]:
        """Find another member of the group, or another node that offers the target."""
        if self._closed or len(consignment.tried) >= _TRIED_MAX:
            return self._sender.give_up(consignment, reason)
        message = consignment.message
        held = self._sender.holder(consignment.group, message.key) if message.key else None
        if held is not None:
            self._sender.redirect(consignment, held)
            self._pump(held)
            return []
        is_cast = message.kind == Kind.CAST
        for node in self._others(consignment):
            if node != self._node:
                way = (node, _DATA if is_cast else _EVENTS)
                self._sender.redirect(consignment, way)
                self._pump(way)
                return []
            outcome = self._take_here(consignment)
            if outcome is Outcome.ACCEPTED:
                return self._sender.accepted_here(consignment)
            if outcome is Outcome.FULL:
                self._astray[consignment] = self._loop.call_later(
                    self._backoff.pause(len(consignment.tried)), self._try_again, consignment, reason
                )
                return []
            consignment.tried.append(node)
        return self._sender.give_up(consignment, reason)

    def _try_again(self, consignment: Consignment, reason: str) -> None:
        """There was no room here; there may be now, or another node."""
        del self._astray[consignment]
        self._carry_out([Reroute((consignment,), reason)])

    def _others(self, consignment: Consignment) -> Iterable[str]:
        message, last = consignment.message, consignment.tried[-1]
        if message.kind == Kind.CAST:
            try:
                nodes: Sequence[str] = self._directory.route(consignment.group).nodes
            except (NotFound, Unreachable):
                nodes = ()
        else:
            groups = self._events.route(message.to).groups
            nodes = next((group.nodes for group in groups if group.name == consignment.group), ())
        fresh = [node for node in nodes if node not in consignment.tried]
        again = [node for node in nodes if node in consignment.tried and node != last and node in self._living]
        if message.key:
            first = [node_of_key(message.key, fresh)] if fresh else []
            return [*first, *(node for node in fresh if node not in first), *again]
        start = message.size + len(consignment.tried) + consignment.number  # not always the same one
        return [*fresh[start % len(fresh) :], *fresh[: start % len(fresh)], *again] if fresh else again

    def _is_new_here(self, message: Message, group: str) -> bool:
        """Whether this node has not accepted it before. From now on it has."""
        return message.identity is None or self._receiver.accept_here(message.identity._replace(group=group))

    def _take_here(self, consignment: Consignment) -> Outcome:
        """A copy whose node is gone was for a group that has a member here."""
        message = consignment.message
        meta = {**message.meta, int(MetaKey.ATTEMPT): consignment.sends} if consignment.sends else message.meta
        if message.kind == Kind.CAST:
            return self._take_cast(message, meta)
        if not self._is_new_here(message, consignment.group):
            return Outcome.ACCEPTED
        event = Envelope(Kind.EVENT, message.to, 0, 0, meta or None, message.body)
        taken = self._events.take_here(event, consignment.group, _Kept(), message.deadline_at)
        return Outcome.ACCEPTED if taken else Outcome.REFUSED

    def _take_cast(self, message: Message, meta: dict[int, Any]) -> Outcome:
        left_ms = max(1, int((message.deadline_at - self._loop.time()) * 1000)) if message.deadline_at else 0
        envelope = Envelope(Kind.CAST, message.to, 0, left_ms, meta or None, message.body)
        arrive(envelope)
        return self._dispatcher.take(self._here, envelope, _NO_TICKET)

    async def _cast_here(self, message: Message, asked: Promise, ends_at: float) -> None:
        tries = 0
        while (outcome := self._take_cast(message, message.meta)) is Outcome.FULL:
            pause = self._backoff.pause(tries := tries + 1)
            if asked.refuse or self._loop.time() + pause >= ends_at:
                raise Overloaded(
                    f"{message.to} on this node has too many calls waiting",
                    hint="slow down, add nodes that serve it, or raise its concurrency or calls.mailbox_max",
                )
            await self._pause(pause)
        if outcome is Outcome.REFUSED:
            raise NotFound(f"this node does not serve {message.to!r} any more", hint="`fdn service ls` shows who does")

    def _on_gone(self, node: str, reason: str) -> None:
        self._past.on_gone(node)
        for channel in (_EVENTS, _DATA):
            self._connections.pop((node, channel), None)
            timer = self._timers.pop((node, channel), None)
            if timer is not None:
                timer.cancel()
        self._carry_out(self._sender.on_gone(node, reason))
        self._hand_over(self._receiver.on_gone(node))

    def _tell_given_up(self, node: str, to: str, count: int, reason: str) -> None:
        self._n_given_up_unflushed += count
        self._publish_fact(DeliveryGivenUp(self._loop.time(), node, to, count, reason))
        _log.warning(
            "gave up %d message(s) that node %s has not acknowledged, the last to %s: %s",
            count,
            node,
            to,
            reason,
            extra={"peer": node, "target": to, "given_up": count},
        )

    # -- what comes in

    def _hand_over(self, ready: Iterable[Arrival]) -> None:
        queue = collections.deque(ready)
        while queue:
            arrival = queue.popleft()
            item: _Incoming = arrival.item
            outcome = self._take(item)
            if outcome is Outcome.ACCEPTED and item.label:
                self._past.on_delivered(item.label, arrival.past)
            if item.holds:
                item.ticket.release()
                self._answers[arrival.peer, arrival.stream] = item.origin
            queue.extend(self._receiver.on_outcome(arrival, outcome, self._loop.time()))
        for dropped in self._receiver.take_dropped():
            if dropped.holds:
                dropped.ticket.release()
        if self._answers and not self._is_acknowledging:
            self._is_acknowledging = True
            self._loop.call_soon(self._acknowledge)

    def _take(self, item: _Incoming) -> Outcome:
        item.handed = True
        if item.deadline_at and self._loop.time() >= item.deadline_at:
            self._n_expired += 1
            return Outcome.ACCEPTED
        if item.envelope.kind == Kind.CAST:
            return self._dispatcher.take(item.origin, item.envelope, item.ticket)
        return self._events.take(item.envelope, item.origin.peer, item.ticket, item.deadline_at)

    def _acknowledge(self) -> None:
        """Once for all of a loop pass."""
        self._is_acknowledging = False
        answers, self._answers = self._answers, {}
        for peer, ack in self._receiver.take_acks():
            origin = answers.get((peer, ack.stream))
            if origin is not None:  # else it is acknowledged when it comes again
                stream, body = pack_ack(ack)
                origin.answer(Envelope(Kind.ACK, "", stream, 0, None, encode(body)))


def _envelope(transmission: Transmission) -> Envelope:
    consignment = transmission.consignment
    message = consignment.message
    meta = {**message.meta, int(MetaKey.DELIVERY): transmission.tag}
    if consignment.sends > 1:
        meta[int(MetaKey.ATTEMPT)] = consignment.sends - 1
    if consignment.group and message.kind == Kind.EVENT:
        meta[int(MetaKey.GROUPS)] = [consignment.group]
    return Envelope(message.kind, message.to, consignment.number, 0, meta, message.body)


def _meta_of(scope: Scope | None) -> dict[int, Any]:
    meta: dict[int, Any] = {}
    if scope is not None:
        if scope.trace_id:
            meta[int(MetaKey.TRACE)] = pack_trace(scope.trace_id, scope.span_id)
        if scope.headers:
            meta[int(MetaKey.HEADERS)] = scope.headers
    return meta


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    woken = waiters[:]
    waiters.clear()
    for waiter in woken:
        if not waiter.done():
            waiter.set_result(None)
