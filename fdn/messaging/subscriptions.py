"""A subscription as its user holds it: an iterator over events.

`fdn.messaging.event_handlers` has the other form, a handler that is run for each event.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from fdn.context import unpack_headers, unpack_trace
from fdn.errors import BadRequest, ConfigError
from fdn.messaging.event_queue import Delivery, Dropped, EventQueue, Gap, Policy
from fdn.messaging.payloads import MISFITS, decode, open_parcel
from fdn.messaging.reporting import FailureLog
from fdn.messaging.subjects import valid_pattern, valid_queue
from fdn.messaging.workers import loop_pass
from fdn.runtime.data_plane import Ticket
from transports.parcel import Parcel
from transports.wire.envelope import MetaKey

__all__ = ("Event", "Subscription", "policy_of", "wake")

T = TypeVar("T")
I_co = TypeVar("I_co", covariant=True)  # what iterating gives: `Event[T]`, or `Event[T] | Gap`
_NO_HEADERS: Final[Mapping[str, str]] = types.MappingProxyType({})
_EVENTS_PER_PASS_MAX: Final = 256  # read without waiting before the loop gets its turn


class Event(msgspec.Struct, Generic[T], frozen=True):
    """One event.

    Attributes:
        subject: What it was published to.
        payload: As it was published: plain values, or the type that the subscription names.
        origin: Node id of the publisher's node.
        trace_id: Of the work that published it, 32 hex digits, or empty.
        headers: What that gave along: see `fdn.headers`.
        redelivered: It was sent before, to this node or another, and somebody may have handled it (`at_least_once`).
    """

    subject: str
    payload: T
    origin: str
    trace_id: str = ""
    headers: Mapping[str, str] = _NO_HEADERS
    redelivered: bool = False


class Subscription(Generic[I_co]):
    """What `await node.subscribe(...)` gives: iterate over it, and close it, or use it as an async context manager.

    ```python
    async with await node.subscribe("orders.*.created") as orders:
        async for event in orders:
            ...
    ```

    Events of one publishing task come in the order of publishing. With a policy that drops, and only then, a `Gap`
    stands in the place of what was dropped. An event whose payload is not of the type is dropped, counted in `failed`
    and logged.
    When the node stops, what has arrived can still be read, and then the iteration ends.

    Attributes:
        pattern: Subject or pattern.
        queue: The queue group, or empty.
        policy: What happens when its queue is full.
        unaware: Names of the members that are alive, and had not confirmed that they know of this subscription when
            `subscribe` returned. They learn of it as soon as they can be reached.
        failed: Events whose payload did not fit, or whose handler raised.
        expired: Events dropped because the publisher's deadline had passed before they were read.
    """

    def __init__(
        self,
        pattern: str,
        *,
        queue: str,
        policy: Policy,
        events_max: int,
        bytes_max: int,
        decoder: "msgspec.msgpack.Decoder[Any]",
        loop: asyncio.AbstractEventLoop,
        detach: "Callable[[Subscription[Any]], None]",
        withdraw: "Callable[[Subscription[Any]], Awaitable[None]]",
    ) -> None:
        self.pattern = valid_pattern(pattern)
        self.queue = valid_queue(queue)
        self.policy = policy
        if events_max < 1:
            raise ConfigError(f"queue_max={events_max}", hint="expected at least 1")
        self.unaware: tuple[str, ...] = ()
        self.failed = self.expired = 0
        self._queue = EventQueue(policy, events_max, bytes_max)
        self._queue.on_room = self._on_room
        self._decode = decoder.decode
        self._decoder = decoder
        self._loop = loop
        self._detach = detach
        self._withdraw = withdraw
        self._log = FailureLog(loop, "%d event(s) could not be delivered, the last of %s: %s")
        self._closed = False
        self._readers: list[asyncio.Future[None]] = []
        self._senders: list[asyncio.Future[None]] = []
        self._reads = 0
        self.deliver: Callable[[Delivery, Ticket], None] = self._queue.put

    async def __aenter__(self) -> "Subscription[I_co]":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __aiter__(self) -> "Subscription[I_co]":
        return self

    async def __anext__(self) -> I_co:
        # What it gives is told by whoever makes it (`Node.subscribe`), in its type.
        self._reads += 1
        if self._reads >= _EVENTS_PER_PASS_MAX:
            self._reads = 0
            await loop_pass()
        queue = self._queue
        while True:
            if queue.count and not queue.full:
                # What `take` does, without the call: this loop is what an event costs its reader.
                item: Delivery | Dropped | Gap | None = queue.items.popleft()
                if type(item) is Delivery:
                    queue.count -= 1
                    envelope = item.envelope
                    queue.size -= len(envelope.body)
                    if envelope.meta is None and not item.deadline_at:
                        try:
                            return Event(envelope.to, self._decode(envelope.body), item.origin)  # type: ignore[return-value]
                        except MISFITS:
                            self._report_misfit(item)
                            continue
                elif type(item) is Dropped:
                    return Gap(item.count)  # type: ignore[return-value]
            else:
                item = queue.take()
            if type(item) is Delivery:
                event = self._event(item)
                if event is not None:
                    return event  # type: ignore[return-value]
            elif type(item) is Gap:
                return item  # type: ignore[return-value]
            elif self._closed:
                raise StopAsyncIteration
            else:
                self._reads = 0
                queue.on_more = self._on_more
                await self._wait(self._readers)

    @property
    def dropped(self) -> int:
        """Events dropped because the queue was full."""
        return self._queue.dropped

    @property
    def pending(self) -> int:
        """Events that wait to be read."""
        return self._queue.count

    @property
    def closed(self) -> bool:
        """Whether no further event will come in."""
        return self._closed

    async def close(self) -> None:
        """Want no more events: what waits is dropped, and the cluster is told. Idempotent."""
        if not self._closed:
            self.end()
            self._detach(self)
        self._queue.clear()

    async def drain(self) -> None:
        """Want no more events, and lose none: return when the members know, and no further event comes.

        What has come can still be read; then the iteration ends. With a handler it has been handled.
        """
        if not self._closed:
            await self._withdraw(self)
        if not self._closed:
            self.end()
            self._detach(self)

    def end(self) -> None:
        """The node stops: no further event, but those that have arrived may still be read."""
        self._closed = True
        self.deliver = _ignore
        self._queue.release()
        wake(self._readers)
        wake(self._senders)

    @property
    def has_room(self) -> bool:
        """Whether an event that came now would neither wait nor be dropped."""
        return not self._queue.full

    @property
    def full(self) -> bool:
        """Whether a publisher on this node should `wait_room` first."""
        return self._queue.full and self.policy is Policy.WAIT and not self._closed

    async def wait_room(self) -> None:
        """Return when it is not `full`."""
        while self.full:
            await self._wait(self._senders)

    def _event(self, delivery: Delivery) -> Event[Any] | None:
        envelope = delivery.envelope
        if delivery.deadline_at and self._loop.time() >= delivery.deadline_at:
            self.expired += 1
            return None
        body = envelope.body
        try:
            payload = open_parcel(body, self._decoder) if type(body) is Parcel else self._decode(body)
        except MISFITS:
            self._report_misfit(delivery)
            return None
        if envelope.meta is None:
            return Event(envelope.to, payload, delivery.origin)
        trace_id, _ = unpack_trace(envelope.meta.get(MetaKey.TRACE))
        headers = unpack_headers(envelope.meta.get(MetaKey.HEADERS)) or _NO_HEADERS
        redelivered = bool(envelope.meta.get(MetaKey.ATTEMPT))
        return Event(envelope.to, payload, delivery.origin, trace_id.hex(), headers, redelivered)

    def _report_misfit(self, delivery: Delivery) -> None:
        self.failed += 1
        try:
            decode(delivery.envelope.body, self._decoder)
        except BadRequest as misfit:
            self._log.report(delivery.envelope.to, misfit)

    def _on_more(self) -> None:
        self._queue.on_more = None  # until somebody waits again
        wake(self._readers)

    def _on_room(self) -> None:
        if self._senders:
            wake(self._senders)

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = self._loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)


def policy_of(policy: str) -> Policy:
    """The policy of this name.

    Raises:
        ConfigError: There is none.
    """
    try:
        return Policy(policy)
    except ValueError:
        raise ConfigError(f"policy={policy!r}", hint=f"expected {', '.join(Policy)}") from None


def _ignore(delivery: Delivery, ticket: Ticket) -> None:
    """It came after the end."""


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Let everybody in the list go on, and empty it."""
    woken = waiters[:]
    waiters.clear()
    for waiter in woken:
        if not waiter.done():
            waiter.set_result(None)
