"""Publish and subscribe: at most once, from a publisher to those nodes that want the subject, and to nobody else.

The publisher sends one envelope to each node with plain subscribers, and to one node of each queue group; the node
hands it to its own subscriptions. An envelope without `groups` is for the plain subscribers; one with it names the
groups that this node was picked for, and by the empty name the plain subscribers too.

Nobody is told of an event that could not be delivered. What holds a publisher up is credit: a subscription that waits
(`wait`) keeps that of the batch which it cannot take in, and so, in the end, the whole link from that publisher's node.
"""

import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from fdn.context import DEADLINE_S_MAX, Scope, pack_trace, scope_var
from fdn.errors import BadRequest, ConfigError, DeadlineExceeded, Overloaded, Unreachable
from fdn.messaging.delivery.receiver import Outcome
from fdn.messaging.event_handlers import HandledSubscription, OrderedBy
from fdn.messaging.event_queue import Delivery
from fdn.messaging.interceptors import Incoming, Interceptor, compose_dispatch
from fdn.messaging.interests import Group, Interests, Route
from fdn.messaging.local_subscriptions import Local, LocalSubscriptions
from fdn.messaging.offers import Interest
from fdn.messaging.payloads import arrive, encode
from fdn.messaging.settled import Settled, settled
from fdn.messaging.subjects import valid_subject
from fdn.messaging.subscriptions import Subscription, policy_of
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import DataPlane, Handler, NoTicket, Origin, Ticket
from fdn.runtime.link import Link, LinkState
from fdn.runtime.outlets import does_not_fit_frame
from fdn.runtime.send_options import Key, SendOptions, node_of_key
from fdn.runtime.view import View
from fdn.settings import Settings
from transports.channel import Channel
from transports.errors import OversizedEnvelope
from transports.transport import Connection
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("ClientEvents", "Events", "EventsStats")

_NO_TICKET: Final = NoTicket()
_EVENT: Final = int(Kind.EVENT)  # to look up a member of an enum costs as much as to make an envelope
_GROUPS: Final = int(MetaKey.GROUPS)
_PLAIN: Final = ""  # in `groups`: the subscribers that are in none
_TOO_MANY: Final = "prefer few subscriptions with wide patterns"


class ClientEvents(Protocol):
    """Who takes the events of clients: they are for the whole cluster, not for this node alone."""

    def publish(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class EventsStats:
    """Counters since the start."""

    published: int  # events published here
    sent: int  # envelopes to other nodes; an event that nobody wants is not sent
    unreachable: int  # nodes that wanted an event and could not be reached
    received: int  # from other nodes
    unwanted: int  # received, and no subscription here matched any more
    malformed: int
    dropped: int  # by subscriptions whose queue was full
    failed: int  # payloads that did not fit, handlers that raised
    expired: int  # events whose deadline had passed
    pending: int  # waiting in subscriptions now
    subscriptions: int


class Events:
    """Both sides of events on one node. All methods belong to the data plane's loop.

    Args:
        node: Our own node id.
        node_name: For contexts.
        interceptors: Around every handler.
        announce: Tells the cluster what is wanted here, and returns, after at most so many seconds, the names of those
            living members that have not confirmed; with None it waits for nobody.
    """

    def __init__(
        self,
        node: str,
        node_name: str,
        plane: DataPlane,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        interceptors: Sequence[Interceptor],
        announce: Callable[[float | None], Awaitable[tuple[str, ...]]],
    ) -> None:
        self._node = node
        self._node_name = node_name
        self._plane = plane
        self._loop = loop
        self._announce = announce
        self._settings = settings.events
        self._timeout_s = settings.calls.timeout_s
        self._body_bytes_max = settings.data.body_bytes_max
        self._large_bytes = min(settings.data.chunk_bytes, self._body_bytes_max)
        self._sends_per_pass_max = settings.data.sends_per_pass_max
        self._turn_at = self._sends_per_pass_max  # the number of events at which the loop has its turn
        self._sent_to: dict[int, Settled[int]] = {}  # the answers of events that had nothing to wait for
        self._intercept = compose_dispatch(interceptors, _invoke) if interceptors else None
        self._here = LocalSubscriptions()
        self._wanted = Interests(node, self.interests)
        self._routes = self._wanted.routes
        self._links: dict[str, Link] = {}
        self._failing: dict[str, Link] = {}  # those that could not be opened the last time
        # Those that have not begun, by timeout; None is for changes that nobody waits for.
        self._announcements: dict[float | None, asyncio.Task[tuple[str, ...]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.for_clients: ClientEvents | None = None
        self.on_numbered: Handler | None = None  # takes EVENTs that want an ACK
        self._n_published = self._n_sent = self._n_unreachable = self._n_received = 0
        self._n_unwanted = self._n_malformed = 0

    # -- publish

    def publish(self, subject: str, payload: Any = None) -> Awaitable[int]:
        """Send to every node that wants the subject. At most once; events of one task arrive in order.

        Small ones may overtake large ones, which go in pieces.

        Sent at once where open links have room; the `await` waits while a receiver grants no credit, or a link to one
        is not open yet.

        Returns:
            How many nodes it was sent to, this one included; 0 if nobody is interested.

        Raises (where it is awaited):
            BadRequest: The subject is none, or the payload cannot be sent.
            DeadlineExceeded: A receiver granted no credit in time; the others have got it.
        """
        route = self._routes.get(subject)
        if route is None:
            return self._publish_slowly(subject, payload)
        body = payload
        if type(payload) is not bytes:
            try:
                body = encode(payload)
            except BadRequest as unsendable:
                return _raise(unsendable)
        if body is not None and len(body) > self._large_bytes:
            if len(body) > self._body_bytes_max:
                return _raise(self._too_large(subject, len(body)))
            return self.publish_with(subject, body, None)
        scope = scope_var.get()
        meta: dict[int, Any] | None = None
        deadline_at = 0.0
        if scope is not None:
            deadline_at = scope.deadline_at
            meta = _meta_of(scope)
        self._n_published = published = self._n_published + 1
        link = self._links.get(route.only)
        connection = None if link is None else link.connection
        if connection is not None and not connection.full:
            connection.send(Envelope(_EVENT, subject, 0, 0, meta, body), deadline_at)
            self._n_sent += 1
            sent = 1
        else:
            event = Envelope(_EVENT, subject, 0, 0, meta, body)
            if not self._send_at_once(route, event, deadline_at):
                return self._publish_late(route, event, deadline_at)
            sent = len(route.nodes)
        if published < self._turn_at:
            return self._sent_to.get(sent) or self._sent_to.setdefault(sent, settled(sent, self._loop))
        return self._after_a_turn(sent)

    async def publish_with(self, subject: str, payload: Any, options: SendOptions | None) -> int:
        """`publish` with a key, a priority or a name, over one of the lanes to each node.

        Within a queue group, events of one key go to one node as long as its nodes stay the same.

        Raises:
            As `publish`; and Overloaded: There is no room to a node, and `options.refuse`; the others have got it.
        """
        route = self._routes.get(subject) or self._wanted.route(valid_subject(subject))
        body = encode(payload)
        if body is not None and len(body) > self._body_bytes_max:
            raise self._too_large(subject, len(body))
        scope = scope_var.get()
        meta = None if scope is None else _meta_of(scope)
        deadline_at = 0.0 if scope is None else scope.deadline_at
        self._n_published += 1
        event = Envelope(_EVENT, subject, 0, 0, meta if options is None else options.add_to(meta), body)
        sent = await self._send_to_all(route, event, deadline_at, options)
        return sent if self._n_published < self._turn_at else await self._after_a_turn(sent)

    async def _publish_slowly(self, subject: str, payload: Any) -> int:
        self._wanted.route(valid_subject(subject))  # remembered, so that `publish` finds it
        return await self.publish(subject, payload)

    async def _publish_late(self, route: Route, event: Envelope, deadline_at: float) -> int:
        sent = await self._send_to_all(route, event, deadline_at)
        return sent if self._n_published < self._turn_at else await self._after_a_turn(sent)

    async def _after_a_turn(self, sent: int) -> int:
        self._turn_at = self._n_published + self._sends_per_pass_max
        await loop_pass()
        return sent

    def _send_at_once(self, route: Route, event: Envelope, deadline_at: float) -> bool:
        """Send to all if all are other nodes that can take it now, and to none otherwise."""
        if route.groups:
            return False
        connections: list[Connection] = []
        for node in route.nodes:
            link = self._links.get(node)
            connection = None if link is None else link.connection
            if connection is None or connection.full:
                return False
            connections.append(connection)
        for connection in connections:
            if deadline_at:  # what is left of it is written into the envelope when it leaves
                event = Envelope(_EVENT, event.to, 0, 0, event.meta, event.body)
            connection.send(event, deadline_at)
        self._n_sent += len(connections)
        return True

    async def _send_to_all(
        self, route: Route, event: Envelope, deadline_at: float, options: SendOptions | None = None
    ) -> int:
        """First to those that can take it now, then to the rest, all at once: nobody's delay is another's."""
        reached: set[str] = set()
        later: list[_Errand] = []
        links = self._links
        size = 0 if event.body is None else len(event.body)
        plainly = not route.groups and options is None
        for errand in map(_Errand, route.nodes) if plainly else self._errands(route, event.to, options):
            link = links.get(errand.node)
            connection = None if link is None else link.connection
            if connection is not None and options is not None:
                lanes = self._plane.lanes(errand.node, Channel.EVENTS)
                connection = lanes.try_reach(options, size)
            if connection is not None and connection.has_room(size):
                self._send(connection, errand, event, deadline_at)
            elif errand.node != self._node or not self._try_here(errand, event, deadline_at):
                later.append(errand)
                continue
            reached.add(errand.node)
        if len(later) == 1:
            await self._see_to(later[0], {later[0].node}, reached, event, deadline_at)
        elif later:
            tried = {errand.node for errand in later}
            work = (self._see_to(errand, tried, reached, event, deadline_at) for errand in later)
            failures = [each for each in await asyncio.gather(*work, return_exceptions=True) if each is not None]
            if failures:
                raise failures[0]
        return len(reached)

    async def _see_to(
        self, errand: "_Errand", tried: set[str], reached: set[str], event: Envelope, deadline_at: float
    ) -> None:
        """Send it when there is room or a link. What was for a group and could not be sent goes to another member."""
        errands = [errand]
        while errands:
            errand = errands.pop()
            try:
                await self._wait_and_send(errand, event, deadline_at)
                reached.add(errand.node)
            except Unreachable:
                self._n_unreachable += 1
                for group in errand.groups:
                    other = group.next_but(tried)
                    if other is not None:
                        tried.add(other)
                        errands.append(_Errand(other, False, (group,), errand.options))

    def _errands(self, route: Route, subject: str, options: SendOptions | None) -> "list[_Errand]":
        picked: dict[str, list[Group]] = {}
        key = None if options is None else options.key
        for group in route.groups:
            node = self._pick(group, subject) if key is None else self._pick_by_key(group, key)
            picked.setdefault(node, []).append(group)
        return [
            _Errand(node, node in route.nodes, picked.get(node, ()), options)
            for node in dict.fromkeys((*route.nodes, *picked))
        ]

    def _pick_by_key(self, group: Group, key: Key) -> str:
        """Its node, even if it has no room: order is what a key is for. Another only if it could not be reached."""
        node = node_of_key(key, group.nodes)
        link = self._failing.get(node)
        return group.next() if link is not None and self._still_fails(node, link) else node

    def _pick(self, group: Group, subject: str) -> str:
        """The node whose turn it is, or another one, if it has no room or could not be reached."""
        node = first = group.next()
        for _ in group.nodes:
            if self._may_take(node, group.name, subject):
                return node
            node = group.next()
        return first

    def _may_take(self, node: str, group: str, subject: str) -> bool:
        if node == self._node:
            return self._local(subject).groups[group].has_room
        link = self._links.get(node)
        if link is not None and link.connection is not None and not link.connection.has_credit:
            return False
        return node not in self._failing or not self._still_fails(node, self._failing[node])

    def _still_fails(self, node: str, link: Link) -> bool:
        """Whether there is no open link yet where the last attempt failed. Makes another attempt, in the background:
        a node with one bad channel must not hold up every publisher, each time.
        """
        link.open()
        if link.connection is None and link.state is not LinkState.CLOSED:
            return True
        self._failing.pop(node, None)
        return False

    def _try_here(self, errand: "_Errand", event: Envelope, deadline_at: float) -> bool:
        targets = self._targets_here(event.to, errand)
        if any(subscription.full for subscription in targets):
            errand.here = targets
            return False
        self._deliver_here(targets, errand, event, deadline_at)
        return True

    async def _wait_and_send(self, errand: "_Errand", event: Envelope, deadline_at: float) -> None:
        ends_at = deadline_at or self._loop.time() + self._timeout_s
        if errand.node == self._node:
            targets = errand.here or self._targets_here(event.to, errand)
            async with self._until(ends_at, "a subscription on this node took nothing in", errand.node):
                while (blocked := next((each for each in targets if each.full), None)) is not None:
                    await blocked.wait_room()  # another may have become full meanwhile
            self._deliver_here(targets, errand, event, deadline_at)
            return
        link = self._plane.link(errand.node, Channel.EVENTS)
        if self._failing.get(errand.node) is link and self._still_fails(errand.node, link):
            raise Unreachable(f"the events link to node {errand.node} cannot be opened: {link.last_failure}")
        async with self._until(ends_at, f"the events link to node {errand.node} did not open", errand.node):
            try:
                connection = await link.wait_open()
            except Unreachable:
                self._failing[errand.node] = link
                raise
        self._links[errand.node] = link
        async with self._until(ends_at, f"node {errand.node} granted no credit", errand.node):
            size = 0 if event.body is None else len(event.body)
            if errand.options is None:
                await connection.wait_room(size)
            else:
                link, connection = await self._plane.lanes(errand.node, Channel.EVENTS).reach(errand.options, size)
        if link.connection is not connection:
            raise Unreachable(f"the events link to node {errand.node} was lost while events waited for room")
        self._send(connection, errand, event, deadline_at)

    def _send(self, connection: Connection, errand: "_Errand", event: Envelope, deadline_at: float) -> None:
        if errand.groups or deadline_at:  # what is left of a deadline is written into the envelope when it leaves
            event = Envelope(_EVENT, event.to, 0, 0, errand.meta(event.meta), event.body)
        try:
            if errand.options is None:
                connection.send(event, deadline_at)
            else:
                lanes = self._plane.lanes(errand.node, Channel.EVENTS)
                lanes.send(connection, event, errand.options, deadline_at)
        except OversizedEnvelope as error:
            raise does_not_fit_frame(error, errand.node) from error
        self._n_sent += 1

    @contextlib.asynccontextmanager
    async def _until(self, ends_at: float, what: str, node: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(ends_at):
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                f"{what} before the deadline",
                hint="a subscriber is slower than what is published: publish less, add members to its queue group, or "
                "give it a policy that drops; the other nodes have got the event",
                node=node,
            ) from None

    # -- subscribe

    def add(
        self,
        pattern: str,
        handler: Callable[..., Any] | None,
        *,
        queue: str,
        policy: str,
        queue_max: int | None,
        concurrency: int,
        ordered_by: OrderedBy | None = None,
        decoder: "msgspec.msgpack.Decoder[Any]",
    ) -> Subscription[Any]:
        """A subscription that gets events from now on, this node's own at least: the cluster is not told yet.

        Raises:
            ConfigError: The pattern, the group, the policy or the handler is not possible.
            Overloaded: There are `events.subscriptions_max` of them.
        """
        if len(self._here) >= self._settings.subscriptions_max:
            raise Overloaded(
                f"this node has {len(self._here)} subscriptions (events.subscriptions_max)", hint=_TOO_MANY
            )
        shape: dict[str, Any] = {
            "queue": queue,
            "policy": policy_of(policy),
            "events_max": self._settings.queue_max if queue_max is None else queue_max,
            "bytes_max": self._settings.queue_bytes_max,
            "loop": self._loop,
            "detach": self._detach,
            "withdraw": self._withdraw,
        }
        if handler is None:
            if concurrency != 1 or ordered_by is not None:
                raise ConfigError(
                    f"concurrency={concurrency}, ordered_by={ordered_by!r} without a handler",
                    hint="whoever iterates decides how many events are worked on at once; leave them out",
                )
            subscription: Subscription[Any] = Subscription(pattern, decoder=decoder, **shape)
        else:
            subscription = HandledSubscription(
                pattern,
                handler,
                concurrency=concurrency,
                ordered_by=ordered_by,
                node_name=self._node_name,
                intercept=self._intercept,
                **shape,
            )
        if self._here.add(subscription):
            self._wanted.own_changed()
        return subscription

    async def announced(self, subscription: Subscription[Any], timeout_s: float | None = None) -> None:
        """Return when the members know of it, and set its `unaware` to those that do not. Closes it if that fails.

        An `fdn.deadline` around it shortens the time.
        """
        try:
            if timeout_s is not None and not 0 <= timeout_s <= DEADLINE_S_MAX:
                raise ConfigError(f"timeout={timeout_s!r}", hint=f"expected seconds, 0 to {DEADLINE_S_MAX}")
            subscription.unaware = await self._announced(timeout_s)
        except BaseException:
            await subscription.close()
            raise

    def interests(self) -> tuple[Interest, ...]:
        """What the cluster is told, sorted."""
        return () if self._closed else self._here.interests()

    def forget_link(self, node: str) -> None:
        """Events to `node` take another way from now on."""
        self._links.pop(node, None)
        self._failing.pop(node, None)

    def on_view(self, view: View) -> None:
        """The cluster has changed."""
        self._wanted.on_view(view)
        for links in (self._links, self._failing):
            for node in [node for node in links if node not in view.members]:
                del links[node]

    def on_event(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An EVENT came in."""
        if origin.is_client:
            if self.for_clients is not None:
                self.for_clients.publish(origin, envelope, ticket)
            return
        if envelope.id and self.on_numbered is not None:
            self.on_numbered(origin, envelope, ticket)
            return
        self._n_received += 1
        local = self._here.by_subject.get(envelope.to) or self._here.match(envelope.to)
        deadline_at = self._loop.time() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
        delivery = Delivery(envelope, origin.peer, deadline_at)
        if envelope.meta is None or _GROUPS not in envelope.meta:
            targets: Sequence[Subscription[Any]] = local.plain
        else:
            targets = self._named(local, envelope.meta[_GROUPS])
        if not targets:
            self._n_unwanted += 1
        for subscription in targets:
            subscription.deliver(delivery, ticket)

    # -- for acknowledged delivery

    def route(self, subject: str) -> Route:
        """Who gets the events of a subject.

        Raises:
            BadRequest: It is none.
        """
        return self._routes.get(subject) or self._wanted.route(valid_subject(subject))

    def pick(self, group: Group, subject: str) -> str:
        """The node of a queue group whose turn it is, or another one, if it has no room or could not be reached."""
        return self._pick(group, subject)

    async def send_here(self, event: Envelope, plain: bool, groups: Sequence[Group], deadline_at: float) -> None:
        """Hand an event to subscriptions on this node, when they have room.

        Raises:
            DeadlineExceeded: They had none in time.
        """
        errand = _Errand(self._node, plain, groups)
        if not self._try_here(errand, event, deadline_at):
            await self._wait_and_send(errand, event, deadline_at)

    def take_here(self, event: Envelope, group: str, ticket: Ticket, deadline_at: float) -> bool:
        """Hand an event to a member of a group on this node at once; False if there is none."""
        turns = self._local(event.to).groups.get(group)
        if turns is None:
            return False
        envelope = Envelope(_EVENT, event.to, 0, 0, event.meta, event.body)
        arrive(envelope)
        turns.next().deliver(Delivery(envelope, self._node, deadline_at), ticket)
        return True

    def take(self, envelope: Envelope, peer: str, ticket: Ticket, deadline_at: float) -> Outcome:
        """Hand over an event that came in and wants an ACK."""
        local = self._local(envelope.to)
        groups = None if envelope.meta is None else envelope.meta.get(MetaKey.GROUPS)
        targets = local.plain if groups is None else self._named(local, groups)
        if not targets:
            self._n_unwanted += 1
            return Outcome.ACCEPTED if groups is None else Outcome.REFUSED
        if type(ticket) is NoTicket and any(subscription.full for subscription in targets):
            return Outcome.FULL  # it was sent without credit, and so would be dropped
        self._n_received += 1
        delivery = Delivery(envelope, peer, deadline_at)
        for subscription in targets:
            subscription.deliver(delivery, ticket)
        return Outcome.ACCEPTED

    # -- the end

    @property
    def handling(self) -> int:
        """Subscriptions whose handlers have something to do."""
        return sum(isinstance(subscription, HandledSubscription) and subscription.busy for subscription in self._here)

    async def drain(self) -> None:
        """Return when no event waits for a handler. What waits in iterators is their readers' affair."""
        for subscription in self._here:
            if isinstance(subscription, HandledSubscription):
                await subscription.wait_idle()

    async def close(self) -> None:
        """End every subscription; what has arrived can still be read."""
        self._closed = True
        subscriptions = list(self._here)
        for subscription in subscriptions:
            subscription.end()
            self._here.discard(subscription)
        self._wanted.own_changed()
        for task in self._tasks:
            task.cancel()
        handled = (each.cancel() for each in subscriptions if isinstance(each, HandledSubscription))
        await asyncio.gather(*self._tasks, *handled, return_exceptions=True)

    def stats(self) -> EventsStats:
        dropped, failed, expired = self._here.counts()
        return EventsStats(
            published=self._n_published,
            sent=self._n_sent,
            unreachable=self._n_unreachable,
            received=self._n_received,
            unwanted=self._n_unwanted,
            malformed=self._n_malformed,
            dropped=dropped,
            failed=failed,
            expired=expired,
            pending=sum(subscription.pending for subscription in self._here),
            subscriptions=len(self._here),
        )

    # -- subscriptions here

    def _detach(self, subscription: Subscription[Any]) -> None:
        if self._here.discard(subscription) and not self._closed:
            self._wanted.own_changed()
            self._soon(None)

    async def _withdraw(self, subscription: Subscription[Any]) -> None:
        if self._here.withdraw(subscription) and not self._closed:
            self._wanted.own_changed()
            await self._announced(None)

    def _named(self, local: Local, names: object) -> list[Subscription[Any]]:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._n_malformed += 1
            return []
        targets = list(local.plain) if _PLAIN in names else []
        targets += [local.groups[name].next() for name in dict.fromkeys(names) if name in local.groups]
        return targets

    def _local(self, subject: str) -> Local:
        return self._here.by_subject.get(subject) or self._here.match(subject)

    def _targets_here(self, subject: str, errand: "_Errand") -> Sequence[Subscription[Any]]:
        local = self._local(subject)
        groups = [group for group in errand.groups if group.name in local.groups]
        return (*(local.plain if errand.plain else ()), *(local.groups[group.name].next() for group in groups))

    def _deliver_here(
        self, targets: Sequence[Subscription[Any]], errand: "_Errand", event: Envelope, deadline_at: float
    ) -> None:
        """Deliver what would otherwise have crossed the network, in the form that it would have there."""
        envelope = Envelope(_EVENT, event.to, 0, 0, errand.meta(event.meta), event.body)
        arrive(envelope)
        delivery = Delivery(envelope, self._node, deadline_at)
        for subscription in targets:
            subscription.deliver(delivery, _NO_TICKET)

    # -- telling the cluster

    async def _announced(self, timeout_s: float | None) -> tuple[str, ...]:
        if timeout_s is None:
            timeout_s = self._settings.subscribe_timeout_s
        scope = scope_var.get()
        if scope is not None and scope.deadline_at:
            timeout_s = max(0.0, min(timeout_s, scope.deadline_at - self._loop.time()))
        return await asyncio.shield(self._soon(timeout_s))

    def _soon(self, timeout_s: float | None) -> "asyncio.Task[tuple[str, ...]]":
        """One announcement for all changes of one loop pass: the record is sent whole each time."""
        task = self._announcements.get(timeout_s)
        if task is None:
            task = self._announcements[timeout_s] = self._loop.create_task(self._announce_once(timeout_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(_look_at)
        return task

    async def _announce_once(self, timeout_s: float | None) -> tuple[str, ...]:
        await loop_pass()
        del self._announcements[timeout_s]  # what changes from here on is not in it
        return await self._announce(timeout_s)

    def _too_large(self, subject: str, size: int) -> BadRequest:
        return BadRequest(
            f"payload of {size} bytes for {subject!r} exceeds data.body_bytes_max={self._body_bytes_max}",
            hint="publish less at once, or raise data.body_bytes_max on every node",
        )


class _Errand:
    """One event for one node: for whom there it is.

    Attributes:
        node: Its node id.
        plain: Whether it is for the subscriptions in no group.
        groups: Of which it is for one member each.
        here: Whose turn it is, if the node is this one and they must be waited for.
        options: Of the event, or None.
    """

    __slots__ = ("groups", "here", "node", "options", "plain")

    def __init__(
        self, node: str, plain: bool = True, groups: Sequence[Group] = (), options: SendOptions | None = None
    ) -> None:
        self.node = node
        self.plain = plain
        self.groups = groups
        self.options = options
        self.here: Sequence[Subscription[Any]] = ()

    def meta(self, common: dict[int, Any] | None) -> dict[int, Any] | None:
        if not self.groups:
            return common
        names = [group.name for group in self.groups]
        return {**(common or {}), int(MetaKey.GROUPS): [_PLAIN, *names] if self.plain else names}


def _meta_of(scope: Scope) -> dict[int, Any] | None:
    """What an event carries of the work that publishes it."""
    meta: dict[int, Any] = {}
    if scope.trace_id:
        meta[int(MetaKey.TRACE)] = pack_trace(scope.trace_id, scope.span_id)
    if scope.headers:
        meta[int(MetaKey.HEADERS)] = scope.headers
    return meta or None


def _look_at(task: "asyncio.Task[Any]") -> None:
    """An announcement that nobody waits for any more may fail, too, and must not be reported as forgotten."""
    if not task.cancelled():
        task.exception()


async def _invoke(incoming: Incoming) -> Any:
    result = incoming.handler(*incoming.arguments)
    return await result if inspect.isawaitable(result) else result


async def _raise(error: BadRequest) -> int:
    raise error
