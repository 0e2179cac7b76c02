"""Handlers of events: a function that is run for each, its payload typed by its annotation as a service's is.

A plain `def` is run where the event arrives. An `async def` is run by workers, one event after the other unless it is
given more `concurrency`, and then events with the same key (`ordered_by`) still one after the other. What waits for
them waits in the subscription's bounded queue.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any

import msgspec

from fdn.context import Context, Scope, scope_var
from fdn.errors import ConfigError
from fdn.messaging.dispatch import scope_of
from fdn.messaging.event_order import KeyOrder
from fdn.messaging.event_queue import Delivery, Gap, Policy
from fdn.messaging.interceptors import Dispatch, Incoming
from fdn.messaging.payloads import MISFITS, PLAIN, Signature, does_not_fit, signature_of
from fdn.messaging.subscriptions import Subscription, wake
from fdn.messaging.workers import Workers
from fdn.runtime.data_plane import Ticket
from transports.wire.envelope import MetaKey

__all__ = ("HandledSubscription", "OrderedBy")

_copy_context = contextvars.copy_context
_UNLIMITED = 2**62  # the events' own queue is the bound; there is at most one turn for each


OrderedBy = str | Callable[..., Hashable]


class _Turn(msgspec.Struct, eq=False):  # made for every event: a plain class costs three times as much
    """The right of a worker to take one event from the queue, and then that event.

    Attributes:
        arguments: Decoded, where they had to be to know the key.
        missed: Events dropped just before this one.
    """

    deadline_at: float = 0.0
    delivery: Delivery | None = None
    missed: int = 0
    arguments: tuple[Any, ...] | None = None
    key: Hashable = None

    def handed_on(self) -> "_Turn":
        """Another one with this one's event."""
        return _Turn(0.0, self.delivery, self.missed, self.arguments, self.key)


class HandledSubscription(Subscription[Any]):
    """See the module. It cannot be iterated over.

    Args:
        handler: Takes the payload, or nothing, or several arguments from a map or list; and a `Context` where it is
            annotated, whose `target` is the subject.
        concurrency: Events handled at once; above 1 they begin in order.
        ordered_by: What the key of an event is: the name of an attribute of its payload, or of a key of a map, or of
            one of the handler's parameters where it has several; or a function of the handler's arguments.
        node_name: For contexts.
        intercept: Runs the handler, if there are interceptors.
    """

    def __init__(
        self,
        pattern: str,
        handler: Callable[..., Any],
        *,
        queue: str,
        policy: Policy,
        events_max: int,
        bytes_max: int,
        concurrency: int,
        ordered_by: OrderedBy | None = None,
        node_name: str,
        intercept: Dispatch | None,
        loop: asyncio.AbstractEventLoop,
        detach: Callable[[Subscription[Any]], None],
        withdraw: Callable[[Subscription[Any]], Awaitable[None]],
    ) -> None:
        super().__init__(
            pattern,
            queue=queue,
            policy=policy,
            events_max=events_max,
            bytes_max=bytes_max,
            decoder=PLAIN,
            loop=loop,
            detach=detach,
            withdraw=withdraw,
        )
        if concurrency < 1:
            raise ConfigError(f"concurrency={concurrency}", hint="expected at least 1")
        self._signature = signature_of(f"of {pattern}", handler)
        self._function = self._signature.adapt(handler)
        self._node_name = node_name
        self._intercept = intercept
        is_coroutine = asyncio.iscoroutinefunction(handler)
        single = self._signature.single if self._signature.context_name is None else None
        self._fast_decode = single.decode if single is not None and intercept is None else None
        self._is_inline = not is_coroutine and intercept is None
        self._key_of = None if ordered_by is None else _key_function(ordered_by, self._signature, pattern)
        self._order: KeyOrder[_Turn] | None = None
        if self._key_of is not None and concurrency > 1:
            self._order = KeyOrder(events_max)
        self._workers = Workers(self._begin, self._end, concurrency, _UNLIMITED, loop, pattern)
        self._turns = 0
        self._missed = 0  # dropped since the last event was taken
        self._unfinished = 0  # taken from the queue
        self._closing: asyncio.Task[None] | None = None
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._queue.on_more = self._on_more
        if self._is_inline:
            self.deliver = self._run_inline

    def __aiter__(self) -> "HandledSubscription":
        raise TypeError(f"the events of {self.pattern!r} go to its handler; subscribe without one to iterate over them")

    @property
    def pending(self) -> int:
        """Events that wait for the handler."""
        return self._queue.count + (0 if self._order is None else self._order.held)

    @property
    def busy(self) -> bool:
        """Whether events wait for the handler, or are being handled."""
        return bool(self._unfinished or self._queue.count)

    async def close(self) -> None:
        """Want no more events: what waits is dropped, what is being handled is left to finish. Idempotent."""
        await super().close()
        self._drop_taken()
        self._close_when_idle()

    async def drain(self) -> None:
        """Want no more events, and return when those that have come are handled; then it is closed."""
        await super().drain()
        await self.wait_idle()
        await self.close()

    async def wait_idle(self) -> None:
        """Return when no event waits for the handler and none is being handled."""
        while self.busy:
            await self._wait(self._idle_waiters)

    async def cancel(self) -> None:
        """The node stops: cancel what is being handled, and wait for its end."""
        self._queue.clear()
        self._drop_taken()
        await self._workers.close()
        if self._closing is not None:
            await self._closing

    def _on_idle(self) -> None:
        if self._idle_waiters and not self.busy:
            wake(self._idle_waiters)

    def _drop_taken(self) -> None:
        """Drop what was taken from the queue and has not begun."""
        if self._order is not None:
            self._unfinished -= self._order.clear()
        self._unfinished -= sum(turn.delivery is not None for turn in self._workers.refuse())

    def _close_when_idle(self) -> None:
        # Not awaited by `close`: a handler may well close its own subscription.
        if not self._unfinished and self._closing is None:
            self._closing = self._loop.create_task(self._workers.close())

    # -- where it arrives

    def _run_inline(self, delivery: Delivery, ticket: Ticket) -> None:
        envelope = delivery.envelope
        if delivery.deadline_at and self._loop.time() >= delivery.deadline_at:
            self.expired += 1
            return
        try:
            if self._fast_decode is None or envelope.meta is not None or delivery.deadline_at:
                _copy_context().run(self._run_in_scope, delivery)
                return
            try:
                argument = self._fast_decode(envelope.body)
            except MISFITS as misfit:
                self._fail(envelope.to, does_not_fit(misfit))
                return
            _copy_context().run(self._function, argument)
        except BaseException as error:
            self._fail(envelope.to, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise

    def _run_in_scope(self, delivery: Delivery) -> Any:
        scope = scope_of(delivery.envelope, delivery.deadline_at)
        scope_var.set(scope)
        return self._function(*self._signature.arguments(delivery.envelope.body), **self._keywords(delivery, scope, 0))

    # -- on the workers

    def _on_more(self) -> None:
        if self._order is not None and self._order.full:
            return  # whoever ends next sees to it
        while self._turns < self._queue.count:  # what is dropped leaves its turn to another
            self._turns += 1
            self._workers.put(_Turn())

    def _begin(self, turn: _Turn) -> Coroutine[Any, Any, Any] | None:
        delivery = turn.delivery
        if delivery is None:
            self._turns -= 1
            if self._order is None:
                self._take(turn)
            else:
                self._take_in_order(turn, self._order)
            delivery = turn.delivery
        coroutine: Coroutine[Any, Any, Any] | None = None
        if delivery is not None:
            envelope = delivery.envelope
            try:
                if delivery.deadline_at and self._loop.time() >= delivery.deadline_at:
                    self.expired += 1
                elif self._fast_decode is not None and envelope.meta is None and not delivery.deadline_at:
                    if turn.arguments is None:
                        coroutine = self._function(self._fast_decode(envelope.body))
                    else:
                        coroutine = self._function(*turn.arguments)
                else:
                    turn.deadline_at = delivery.deadline_at
                    coroutine = self._coroutine(turn, delivery)
            except MISFITS as misfit:
                self._fail(envelope.to, does_not_fit(misfit))
            except Exception as error:
                self._fail(envelope.to, error)
            if coroutine is None:
                self._finish(turn)
        if coroutine is None:
            self._on_idle()
        return coroutine

    def _take(self, turn: _Turn) -> bool:
        """Give a turn the next event, if there is one."""
        item = self._queue.take()
        while type(item) is Gap:
            self._missed += item.count
            item = self._queue.take()
        if type(item) is not Delivery:
            return False
        turn.delivery = item
        if self._missed:
            turn.missed, self._missed = self._missed, 0
        self._unfinished += 1
        return True

    def _take_in_order(self, turn: _Turn, order: KeyOrder[_Turn]) -> None:
        """Give a turn the next event that may begin, if there is one, and hold back those before it."""
        assert self._key_of is not None
        while not order.full and self._take(turn):
            assert turn.delivery is not None
            envelope = turn.delivery.envelope
            try:
                turn.arguments = self._signature.arguments(envelope.body)
                turn.key = self._key_of(*turn.arguments)
                if order.begin(turn.key):
                    return
                order.hold(turn.key, turn.handed_on())
            except Exception as error:  # it does not fit, or has no key
                self._fail(envelope.to, error)
                self._unfinished -= 1
            turn.delivery = None

    def _finish(self, turn: _Turn) -> None:
        """An event that was taken is done with."""
        self._unfinished -= 1
        if self._order is None:
            return
        following = self._order.done(turn.key)
        if following is not None:
            self._workers.put(following)  # after `refuse` there is none
        self._on_more()

    def _coroutine(self, turn: _Turn, delivery: Delivery) -> Coroutine[Any, Any, Any]:
        scope = scope_of(delivery.envelope, delivery.deadline_at)
        scope_var.set(scope)
        arguments = turn.arguments if turn.arguments is not None else self._signature.arguments(delivery.envelope.body)
        keywords = self._keywords(delivery, scope, turn.missed)
        if self._intercept is None:
            coroutine: Coroutine[Any, Any, Any] = self._function(*arguments, **keywords)
            return coroutine
        incoming = Incoming(
            delivery.envelope.to,
            arguments,
            is_call=False,
            context=self._context(delivery, scope, turn.missed),
            handler=lambda *values: self._function(*values, **keywords),
            is_event=True,
        )
        return _awaited(self._intercept, incoming)

    def _end(self, turn: _Turn, result: Any, error: BaseException | None, expired: bool) -> None:
        if expired:
            self.expired += 1
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            assert turn.delivery is not None
            self._fail(turn.delivery.envelope.to, error)
        if self._order is None:
            self._unfinished -= 1
        else:
            self._finish(turn)
        if self._closed:
            # Not yet: the worker that tells us this still has to see that there is nothing more to do.
            self._loop.call_soon(self._close_when_idle)
        if self._idle_waiters:
            self._on_idle()

    # -- what a handler is given

    def _keywords(self, delivery: Delivery, scope: Scope, missed: int) -> dict[str, Context]:
        name = self._signature.context_name
        return {} if name is None else {name: self._context(delivery, scope, missed)}

    def _context(self, delivery: Delivery, scope: Scope, missed: int) -> Context:
        return Context(
            node=self._node_name,
            caller=delivery.origin,
            target=delivery.envelope.to,
            trace_id=scope.trace_id.hex(),
            span_id=scope.span_id.hex(),
            deadline_at=scope.deadline_at,
            headers=scope.headers or {},
            missed=missed,
            redelivered=delivery.envelope.meta is not None and bool(delivery.envelope.meta.get(MetaKey.ATTEMPT)),
        )

    def _fail(self, subject: str, error: BaseException) -> None:
        self.failed += 1
        self._log.report(subject, error)


async def _awaited(intercept: Dispatch, incoming: Incoming) -> Any:
    return await intercept(incoming)  # a coroutine, whatever an interceptor returns


def _key_function(ordered_by: OrderedBy, signature: Signature, pattern: str) -> Callable[..., Hashable]:
    if not isinstance(ordered_by, str):
        return ordered_by
    name = ordered_by
    if len(signature.names) > 1:
        if name not in signature.names:
            raise ConfigError(
                f"ordered_by={name!r}: the handler of {pattern} takes {', '.join(signature.names)}",
                hint="name one of its parameters, or give a function of them",
            )
        return lambda *arguments: arguments[signature.names.index(name)]
    return lambda payload=None: payload.get(name) if isinstance(payload, Mapping) else getattr(payload, name)
