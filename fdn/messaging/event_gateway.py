"""The gateway for events: what clients publish, and what they want to hear.

A client's events are published by this node, in their order, with the client's deadline and trace. Its subscriptions
are this node's own, with queues that drop their oldest: a client that does not read must cost bounded memory, and must
not hold up publishers. What it missed is told with the next event.
"""

import asyncio
import collections
import logging
from typing import Any

import msgspec

from fdn.context import scope_var
from fdn.errors import BadRequest, Error, to_wire
from fdn.messaging.delivery.courier import Courier
from fdn.messaging.delivery.frames import read_message_id
from fdn.messaging.delivery.promise import Promise
from fdn.messaging.dispatch import scope_of
from fdn.messaging.event_queue import Gap, Policy
from fdn.messaging.events import Events
from fdn.messaging.payloads import encode
from fdn.messaging.subscriptions import Subscription
from fdn.runtime.data_plane import Origin, Ticket
from fdn.runtime.send_options import NO_OPTIONS, SendOptions, options_from_wire
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("EventGateway", "Wanted")

_log = logging.getLogger(__name__)
_raw = msgspec.msgpack.Decoder(msgspec.Raw)


class Wanted(msgspec.Struct, frozen=True):
    """The body of a client's SUBSCRIBE.

    Attributes:
        queue: Queue group, or empty.
        timeout_ms: How long the answer may wait for members to confirm; None takes `events.subscribe_timeout_s`.
    """

    queue: str = ""
    timeout_ms: int | None = None


_wanted_decoder = msgspec.msgpack.Decoder(Wanted | None)


class EventGateway:
    """See the module. It sees only clients: nodes tell their interests in their offers."""

    def __init__(
        self, events: Events, courier: Courier, node: str, settings: Settings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._events = events
        self._courier = courier
        self._node = node
        self._loop = loop
        self._waiting_max = settings.data.credit_messages
        self._default_timeout_s = settings.calls.timeout_s
        self._no_options = NO_OPTIONS if settings.events.parallelism > 1 else None
        self._publishing: dict[Session, collections.deque[tuple[Envelope, Ticket]]] = {}
        self._forwarding: dict[tuple[Session, int], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what a client publishes

    def publish(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """Take a client's EVENT."""
        assert isinstance(origin, Session)
        waiting = self._publishing.get(origin)
        if waiting is None:
            waiting = self._publishing[origin] = collections.deque()
            self._start(self._publish_all(origin, waiting))
        if len(waiting) < self._waiting_max:  # more than that only from one who does not keep to its credit
            ticket.held += 1
            waiting.append((envelope, ticket))

    async def _publish_all(self, session: Session, waiting: "collections.deque[tuple[Envelope, Ticket]]") -> None:
        """One task a client, for as long as it has something to publish: that keeps the order."""
        try:
            while waiting:
                envelope, ticket = waiting.popleft()
                timeout_s = envelope.deadline_ms / 1000 or self._default_timeout_s
                scope_var.set(scope_of(envelope, self._loop.time() + timeout_s))
                try:
                    options = options_from_wire(envelope.meta) or self._no_options
                    if envelope.id and envelope.meta is not None and MetaKey.DELIVERY in envelope.meta:
                        await self._publish_surely(session, envelope, envelope.meta, options or NO_OPTIONS)
                    elif options is None:
                        await self._events.publish(envelope.to, envelope.body)
                    else:
                        await self._events.publish_with(envelope.to, envelope.body, options)
                except Error as error:  # nobody waits to hear of it
                    _log.warning("an event of client %s is lost: %s", session.peer, error, extra={"peer": session.peer})
                finally:
                    ticket.release()
        finally:
            del self._publishing[session]

    async def _publish_surely(
        self, session: Session, envelope: Envelope, meta: dict[int, Any], options: SendOptions
    ) -> None:
        """Take it over: from then on it is ours to see to, and the client is told so."""
        # How long the client waits for that is its own affair; only if it says so is there an end to the event.
        scope_var.set(scope_of(envelope, envelope.deadline_ms and self._loop.time() + envelope.deadline_ms / 1000))
        identity = read_message_id(meta)
        if identity is not None and identity.origin != session.peer:
            identity = None  # a client's word for another's counts for nothing
        asked = Promise(key=options.key or "", priority=options.priority)
        try:
            await self._courier.publish(envelope.to, envelope.body, asked, identity)
        except Error as error:
            self._fail(session, envelope.id, error)
        else:
            session.answer(Envelope(Kind.ACK, "", envelope.id))

    # -- what it wants

    def on_subscribe(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A SUBSCRIBE came in."""
        if not isinstance(origin, Session) or not origin.is_client:
            return
        key = (origin, envelope.id)
        if key in self._forwarding:
            self._fail(origin, envelope.id, BadRequest(f"subscription {envelope.id} exists", hint="choose another id"))
            return
        try:
            wanted = _wanted_decoder.decode(envelope.body) or Wanted()
            subscription = self._events.add(
                envelope.to,
                None,
                queue=wanted.queue,
                policy=Policy.DROP_OLDEST,
                queue_max=None,
                concurrency=1,
                decoder=_raw,
            )
        except Error as error:
            self._fail(origin, envelope.id, error)
            return
        except (ValueError, RecursionError) as error:
            self._fail(origin, envelope.id, BadRequest(f"SUBSCRIBE cannot be read: {error}"))
            return
        timeout_s = None if wanted.timeout_ms is None else max(0.0, wanted.timeout_ms / 1000)
        task = self._start(self._serve(origin, envelope.id, subscription, timeout_s))
        self._forwarding[key] = task
        task.add_done_callback(lambda _: self._forwarding.pop(key, None))

    def on_unsubscribe(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An UNSUBSCRIBE came in."""
        task = self._forwarding.get((origin, envelope.id)) if isinstance(origin, Session) else None
        if task is not None:
            task.cancel()

    def session_closed(self, session: Session) -> None:
        """A client's session has ended, and with it what it wanted. What it published is still sent."""
        for key in [key for key in self._forwarding if key[0] is session]:
            self._forwarding[key].cancel()

    async def _serve(
        self, session: Session, number: int, subscription: Subscription[Any], timeout_s: float | None
    ) -> None:
        try:
            await self._events.announced(subscription, timeout_s)
            session.answer(Envelope(Kind.REPLY, "", number, 0, None, encode(subscription.unaware)))
            await self._forward(session, number, subscription)
        except Error as error:
            self._fail(session, number, error)
        finally:
            await subscription.close()

    async def _forward(self, session: Session, number: int, subscription: Subscription[Any]) -> None:
        missed, outlet = 0, session.outlet()
        async for event in subscription:
            if isinstance(event, Gap):
                missed += event.count
                continue
            meta: dict[int, Any] = {int(MetaKey.ORIGIN): event.origin}
            if event.headers:
                meta[int(MetaKey.HEADERS)] = event.headers
            if event.redelivered:
                meta[int(MetaKey.ATTEMPT)] = 1
            if missed:
                meta[int(MetaKey.MISSED)] = missed
            envelope = Envelope(Kind.EVENT, event.subject, number, 0, meta, event.payload)
            try:
                while not outlet.try_send(envelope):
                    await outlet.wait_room()  # what comes meanwhile waits in the subscription's queue, or is dropped
            except BadRequest:  # larger than a client can be sent
                missed += 1
            else:
                missed = 0

    # -- the end

    @property
    def publishing(self) -> int:
        """Clients whose events are being published."""
        return len(self._publishing)

    async def drain(self) -> None:
        """Return when all that clients have published is sent; bound it with a timeout."""
        while publishing := [task for task in self._tasks if task not in self._forwarding.values()]:
            await asyncio.wait(publishing)

    async def close(self) -> None:
        """Give up everything under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, coroutine: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name="fdn-event-gateway")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fail(self, session: Session, number: int, error: Error) -> None:
        session.answer(Envelope(Kind.ERROR, "", number, 0, None, encode(to_wire(error, node=self._node))))
