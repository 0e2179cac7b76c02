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
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from fdn.context import pack_trace, scope_var
from fdn.errors import BadRequest, DeadlineExceeded, Overloaded, Unreachable
from fdn.messaging.event_handlers import HandledSubscription
from fdn.messaging.event_queue import Delivery
from fdn.messaging.interceptors import Incoming, Interceptor, compose_dispatch
from fdn.messaging.interests import Group, Interests, Route
from fdn.messaging.offers import Interest
from fdn.messaging.payloads import encode, wire
from fdn.messaging.subjects import Patterns, valid_subject
from fdn.messaging.subscriptions import Subscription, policy_of
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import DataPlane, NoTicket, Origin, Ticket
from fdn.runtime.link import Link, LinkState
from fdn.runtime.view import View
from fdn.settings import Settings
from transports.channel import Channel
from transports.transport import Connection
from transports.wire.envelope import NIL, Envelope, Kind, MetaKey

__all__ = ("ClientEvents", "Events", "EventsStats")

_NO_TICKET: Final = NoTicket()
_LOCAL_MAX: Final = 4096  # subjects whose subscriptions here are remembered
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


class _Local:
    """The subscriptions here that match one subject."""

    __slots__ = ("groups", "plain")

    def __init__(self, plain: Sequence[Subscription[Any]], groups: dict[str, "_Turns"]) -> None:
        self.plain = tuple(plain)
        self.groups = groups


class _Turns:
    """The members of one queue group on this node."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: tuple[Subscription[Any], ...]) -> None:
        self._members = members
        self._next = itertools.cycle(members).__next__

    def next(self) -> Subscription[Any]:
        """The one whose turn it is; one that has room, if there is any."""
        for _ in self._members:
            member = self._next()
            if not member.full:
                return member
        return self._next()


class Events:
    """Both sides of events on one node. All methods belong to the data plane's loop.

    Args:
        node: Our own node id.
        node_name: For contexts.
        interceptors: Around every handler.
        announce: Tells the cluster what is wanted here, and returns, after at most so many seconds, the names of those
            living members that have not confirmed.
    """

    def __init__(
        self,
        node: str,
        node_name: str,
        plane: DataPlane,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        interceptors: Sequence[Interceptor],
        announce: Callable[[float], Awaitable[tuple[str, ...]]],
    ) -> None:
        self._node = node
        self._node_name = node_name
        self._plane = plane
        self._loop = loop
        self._announce = announce
        self._settings = settings.events
        self._timeout_s = settings.calls.timeout_s
        self._body_bytes_max = settings.data.body_bytes_max
        self._sends_per_pass_max = settings.data.sends_per_pass_max
        self._sends = 0  # since the loop last had its turn
        self._intercept = compose_dispatch(interceptors, _invoke) if interceptors else None
        self._wanted = Interests(node)
        self._routes = self._wanted.routes
        self._links: dict[str, Link] = {}
        self._failing: dict[str, Link] = {}  # those that could not be opened the last time
        self._subscriptions: dict[Subscription[Any], None] = {}
        self._patterns: Patterns[Subscription[Any]] = Patterns()
        self._local: dict[str, _Local] = {}
        self._turns: dict[tuple[Subscription[Any], ...], _Turns] = {}
        self._announcements: dict[float, asyncio.Task[tuple[str, ...]]] = {}  # those that have not begun, by timeout
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.for_clients: ClientEvents | None = None
        self._n_published = self._n_sent = self._n_unreachable = self._n_received = 0
        self._n_unwanted = self._n_malformed = 0
        self._gone = [0, 0, 0]  # dropped, failed and expired in subscriptions that were closed

    # -- publish

    async def publish(self, subject: str, payload: Any = None) -> int:
        """Send to every node that wants the subject. At most once; events of one task arrive in order.

        Waits while a receiver grants no credit, or a link to one is not open yet.

        Returns:
            How many nodes it was sent to, this one included; 0 if nobody is interested.

        Raises:
            BadRequest: The subject is none, or the payload cannot be sent.
            DeadlineExceeded: A receiver granted no credit in time; the others have got it.
        """
        route = self._routes.get(subject)
        if route is None:
            route = self._wanted.route(valid_subject(subject))
        body = payload if type(payload) is bytes else encode(payload)
        if body is not None and len(body) > self._body_bytes_max:
            raise self._too_large(subject, len(body))
        scope = scope_var.get()
        meta: dict[int, Any] | None = None
        deadline_at = 0.0
        if scope is not None:
            deadline_at = scope.deadline_at
            if scope.trace_id:
                meta = {MetaKey.TRACE: pack_trace(scope.trace_id, scope.span_id)}
        self._n_published += 1
        link = self._links.get(route.only)
        connection = None if link is None else link.connection
        if connection is not None and not connection.full:
            connection.send(Envelope(Kind.EVENT, subject, 0, 0, meta, body), deadline_at)
            self._n_sent += 1
            sent = 1
        else:
            sent = await self._send_to_all(route, Envelope(Kind.EVENT, subject, 0, 0, meta, body), deadline_at)
        self._sends += 1
        if self._sends >= self._sends_per_pass_max:
            self._sends = 0
            await loop_pass()
        return sent

    async def _send_to_all(self, route: Route, event: Envelope, deadline_at: float) -> int:
        """First to those that can take it now, so that nobody's delay is another's; then to the rest, one by one."""
        picked: dict[str, list[Group]] = {}
        for group in route.groups:
            picked.setdefault(self._pick(group), []).append(group)
        later: list[_Errand] = []
        reached: set[str] = set()
        for node in dict.fromkeys((*route.nodes, *picked)):
            errand = _Errand(node, node in route.nodes, picked.get(node, ()))
            if self._try_now(errand, event, deadline_at):
                reached.add(node)
            else:
                later.append(errand)
        tried = {errand.node for errand in later}
        while later:
            errand = later.pop(0)
            try:
                await self._wait_and_send(errand, event, deadline_at)
                reached.add(errand.node)
            except Unreachable:
                self._n_unreachable += 1
                for group in errand.groups:  # nothing was sent there, so any other member may have it
                    other = group.next_but(tried)
                    if other is not None:
                        tried.add(other)
                        later.append(_Errand(other, False, (group,)))
        return len(reached)

    def _pick(self, group: Group) -> str:
        """The node whose turn it is, or another one, if it has no room or could not be reached."""
        node = first = group.next()
        for _ in group.nodes:
            link = self._links.get(node)
            has_room = link is None or link.connection is None or not link.connection.full
            if has_room and not (node in self._failing and self._still_fails(node, self._failing[node])):
                return node
            node = group.next()
        return first

    def _still_fails(self, node: str, link: Link) -> bool:
        """Whether there is no open link yet where the last attempt failed. Makes another attempt, in the background:
        a node with one bad channel must not hold up every publisher, each time.
        """
        link.open()
        if link.connection is None and link.state is not LinkState.CLOSED:
            return True
        self._failing.pop(node, None)
        return False

    def _try_now(self, errand: "_Errand", event: Envelope, deadline_at: float) -> bool:
        if errand.node == self._node:
            targets = self._targets_here(event.to, errand)
            if any(subscription.full for subscription in targets):
                errand.here = targets
                return False
            self._deliver_here(targets, errand, event, deadline_at)
            return True
        link = self._links.get(errand.node)
        connection = None if link is None else link.connection
        if connection is None or connection.full:
            return False
        self._send(connection, errand, event, deadline_at)
        return True

    async def _wait_and_send(self, errand: "_Errand", event: Envelope, deadline_at: float) -> None:
        ends_at = deadline_at or self._loop.time() + self._timeout_s
        if errand.node == self._node:
            targets = errand.here or self._targets_here(event.to, errand)
            async with self._until(ends_at, "a subscription on this node took nothing in", errand.node):
                for subscription in targets:
                    await subscription.wait_room()
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
            await connection.wait_room()
        if link.connection is not connection:
            raise Unreachable(f"the events link to node {errand.node} was lost while events waited for room")
        self._send(connection, errand, event, deadline_at)

    def _send(self, connection: Connection, errand: "_Errand", event: Envelope, deadline_at: float) -> None:
        connection.send(
            Envelope(Kind.EVENT, event.to, 0, 0, errand.meta(event.meta), event.body),  # each has its own deadline_ms
            deadline_at,
        )
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
        decoder: "msgspec.msgpack.Decoder[Any]",
    ) -> Subscription[Any]:
        """A subscription that gets events from now on, this node's own at least: the cluster is not told yet.

        Raises:
            ConfigError: The pattern, the group, the policy or the handler is not possible.
            Overloaded: There are `events.subscriptions_max` of them.
        """
        if len(self._subscriptions) >= self._settings.subscriptions_max:
            raise Overloaded(
                f"this node has {len(self._subscriptions)} subscriptions (events.subscriptions_max)", hint=_TOO_MANY
            )
        shape: dict[str, Any] = {
            "queue": queue,
            "policy": policy_of(policy),
            "events_max": self._settings.queue_max if queue_max is None else queue_max,
            "bytes_max": self._settings.queue_bytes_max,
            "loop": self._loop,
            "detach": self._remove,
        }
        if handler is None:
            subscription: Subscription[Any] = Subscription(pattern, decoder=decoder, **shape)
        else:
            subscription = HandledSubscription(
                pattern,
                handler,
                concurrency=concurrency,
                node_name=self._node_name,
                intercept=self._intercept,
                **shape,
            )
        self._subscriptions[subscription] = None
        self._refresh()
        return subscription

    async def announced(self, subscription: Subscription[Any], timeout_s: float | None = None) -> None:
        """Return when the members know of it, and set its `unaware` to those that do not. Closes it if that fails."""
        try:
            subscription.unaware = await self._announce_together(
                self._settings.subscribe_timeout_s if timeout_s is None else timeout_s
            )
        except BaseException:
            await subscription.close()
            raise

    def interests(self) -> tuple[Interest, ...]:
        """What the cluster is told, sorted."""
        if self._closed:
            return ()
        wanted = sorted({(subscription.pattern, subscription.queue) for subscription in self._subscriptions})
        return tuple(Interest(pattern, queue) for pattern, queue in wanted)

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
        self._n_received += 1
        local = self._local.get(envelope.to)
        if local is None:
            local = self._match(envelope.to)
        deadline_at = self._loop.time() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
        delivery = Delivery(envelope, origin.peer, deadline_at)
        if envelope.meta is None or MetaKey.GROUPS not in envelope.meta:
            targets: Sequence[Subscription[Any]] = local.plain
        else:
            targets = self._named(local, envelope.meta[MetaKey.GROUPS])
        if not targets:
            self._n_unwanted += 1
        for subscription in targets:
            subscription.deliver(delivery, ticket)

    # -- the end

    @property
    def handling(self) -> int:
        """Subscriptions whose handlers have something to do."""
        return sum(
            isinstance(subscription, HandledSubscription) and subscription.busy for subscription in self._subscriptions
        )

    async def drain(self) -> None:
        """Return when no event waits for a handler. What waits in iterators is their readers' affair."""
        for subscription in list(self._subscriptions):
            if isinstance(subscription, HandledSubscription):
                await subscription.wait_idle()

    async def close(self) -> None:
        """End every subscription; what has arrived can still be read."""
        self._closed = True
        subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.end()
        self._subscriptions.clear()
        self._refresh()
        for task in self._tasks:
            task.cancel()
        handled = (each.cancel() for each in subscriptions if isinstance(each, HandledSubscription))
        await asyncio.gather(*self._tasks, *handled, return_exceptions=True)

    def stats(self) -> EventsStats:
        living = tuple(self._subscriptions)
        return EventsStats(
            published=self._n_published,
            sent=self._n_sent,
            unreachable=self._n_unreachable,
            received=self._n_received,
            unwanted=self._n_unwanted,
            malformed=self._n_malformed,
            dropped=self._gone[0] + sum(subscription.dropped for subscription in living),
            failed=self._gone[1] + sum(subscription.failed for subscription in living),
            expired=self._gone[2] + sum(subscription.expired for subscription in living),
            pending=sum(subscription.pending for subscription in living),
            subscriptions=len(living),
        )

    # -- subscriptions here

    def _remove(self, subscription: Subscription[Any]) -> None:
        if subscription not in self._subscriptions:
            return  # the node has stopped
        del self._subscriptions[subscription]
        for index, count in enumerate((subscription.dropped, subscription.failed, subscription.expired)):
            self._gone[index] += count
        self._refresh()
        self._soon(0.0)  # nobody waits until the members know that it has gone

    def _refresh(self) -> None:
        self._patterns = Patterns()
        for subscription in self._subscriptions:
            self._patterns.add(subscription.pattern, subscription)
        self._local.clear()
        self._turns.clear()
        self._wanted.set_own(self.interests())

    def _match(self, subject: str) -> _Local:
        matching = self._patterns.matching(subject)
        members: dict[str, list[Subscription[Any]]] = {}
        for subscription in matching:
            if subscription.queue:
                members.setdefault(subscription.queue, []).append(subscription)
        plain = [subscription for subscription in matching if not subscription.queue]
        if len(self._local) >= _LOCAL_MAX:
            self._local.clear()
        local = _Local(plain, {name: self._turns_of(tuple(group)) for name, group in members.items()})
        self._local[subject] = local
        return local

    def _turns_of(self, members: tuple[Subscription[Any], ...]) -> _Turns:
        return self._turns.setdefault(members, _Turns(members))  # one for all subjects, as with the nodes of a group

    def _named(self, local: _Local, names: object) -> list[Subscription[Any]]:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._n_malformed += 1
            return []
        targets = list(local.plain) if _PLAIN in names else []
        targets += [local.groups[name].next() for name in dict.fromkeys(names) if name in local.groups]
        return targets

    def _targets_here(self, subject: str, errand: "_Errand") -> Sequence[Subscription[Any]]:
        local = self._local.get(subject) or self._match(subject)
        groups = [group for group in errand.groups if group.name in local.groups]
        return (*(local.plain if errand.plain else ()), *(local.groups[group.name].next() for group in groups))

    def _deliver_here(
        self, targets: Sequence[Subscription[Any]], errand: "_Errand", event: Envelope, deadline_at: float
    ) -> None:
        """Deliver what would otherwise have crossed the network, in the form that it would have there."""
        body = NIL if event.body is None else wire(event.body)
        envelope = Envelope(Kind.EVENT, event.to, 0, 0, errand.meta(event.meta), body)
        delivery = Delivery(envelope, self._node, deadline_at)
        for subscription in targets:
            subscription.deliver(delivery, _NO_TICKET)

    # -- telling the cluster

    async def _announce_together(self, timeout_s: float) -> tuple[str, ...]:
        return await asyncio.shield(self._soon(timeout_s))

    def _soon(self, timeout_s: float) -> "asyncio.Task[tuple[str, ...]]":
        """One announcement for all changes of one loop pass: the record is sent whole each time."""
        task = self._announcements.get(timeout_s)
        if task is None:
            task = self._announcements[timeout_s] = self._loop.create_task(self._announce_once(timeout_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(_look_at)
        return task

    async def _announce_once(self, timeout_s: float) -> tuple[str, ...]:
        await loop_pass()
        del self._announcements[timeout_s]  # what changes from here on is not in it
        return await self._announce(timeout_s)

    def _too_large(self, subject: str, size: int) -> BadRequest:
        return BadRequest(
            f"payload of {size} bytes for {subject!r} exceeds data.body_bytes_max={self._body_bytes_max}",
            hint="publish less at once, or raise data.body_bytes_max on every node",
        )


class _Errand:
    """One event for one node: for whom there it is."""

    __slots__ = ("groups", "here", "node", "plain")

    def __init__(self, node: str, plain: bool, groups: Sequence[Group]) -> None:
        self.node = node
        self.plain = plain
        self.groups = groups
        self.here: Sequence[
            Subscription[Any]
        ] = ()  # whose turn it is, if the node is this one and they must be waited for

    def meta(self, common: dict[int, Any] | None) -> dict[int, Any] | None:
        if not self.groups:
            return common
        names = [group.name for group in self.groups]
        return {**(common or {}), int(MetaKey.GROUPS): [_PLAIN, *names] if self.plain else names}


def _look_at(task: "asyncio.Task[Any]") -> None:
    """An announcement that nobody waits for any more may fail, too, and must not be reported as forgotten."""
    if not task.cancelled():
        task.exception()


async def _invoke(incoming: Incoming) -> Any:
    result = incoming.handler(*incoming.arguments)
    return await result if inspect.isawaitable(result) else result
