"""Handlers of events: a function that is run for each, its payload typed by its annotation as a service's is.

A plain `def` is run where the event arrives. An `async def` is run by workers, one event after the other unless it is
given more `concurrency`; what waits for them waits in the subscription's bounded queue.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from fdn.context import Context, Scope, scope_var
from fdn.errors import ConfigError
from fdn.messaging.dispatch import scope_of
from fdn.messaging.event_queue import Delivery, Gap, Policy
from fdn.messaging.interceptors import Dispatch, Incoming
from fdn.messaging.payloads import MISFITS, does_not_fit, signature_of
from fdn.messaging.subscriptions import Subscription, wake
from fdn.messaging.workers import Workers
from fdn.runtime.data_plane import Ticket

__all__ = ("HandledSubscription",)

_plain = msgspec.msgpack.Decoder()
_UNLIMITED = 2**62  # the events' own queue is the bound; there is at most one turn for each


class _Turn:
    """The right of a worker to take one event from the queue."""

    __slots__ = ("deadline_at", "delivery")

    def __init__(self) -> None:
        self.deadline_at = 0.0
        self.delivery: Delivery | None = None


class HandledSubscription(Subscription[Any]):
    """See the module. It cannot be iterated over.

    Args:
        handler: Takes the payload, or nothing, or several arguments from a map or list; and a `Context` where it is
            annotated, whose `target` is the subject.
        concurrency: Events handled at once; above 1 they begin in order.
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
        node_name: str,
        intercept: Dispatch | None,
        loop: asyncio.AbstractEventLoop,
        detach: Callable[[Subscription[Any]], None],
    ) -> None:
        super().__init__(
            pattern,
            queue=queue,
            policy=policy,
            events_max=events_max,
            bytes_max=bytes_max,
            decoder=_plain,
            loop=loop,
            detach=detach,
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
        self._workers = Workers(self._begin, self._end, concurrency, _UNLIMITED, loop, pattern)
        self._turns = 0
        self._unfinished = 0
        self._closing: asyncio.Task[None] | None = None
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._queue.on_more = self._on_more
        if self._is_inline:
            self.deliver = self._run_inline

    def __aiter__(self) -> "HandledSubscription":
        raise TypeError(f"the events of {self.pattern!r} go to its handler; subscribe without one to iterate over them")

    @property
    def busy(self) -> bool:
        """Whether events wait for the handler, or are being handled."""
        return bool(self._unfinished or self.pending)

    async def close(self) -> None:
        """Want no more events: what waits is dropped, what is being handled is left to finish. Idempotent."""
        await super().close()
        self._workers.refuse()
        self._close_when_idle()

    async def wait_idle(self) -> None:
        """Return when no event waits for the handler and none is being handled."""
        while self.busy:
            await self._wait(self._idle_waiters)

    async def cancel(self) -> None:
        """The node stops: cancel what is being handled, and wait for its end."""
        self._queue.clear()
        await self._workers.close()
        if self._closing is not None:
            await self._closing

    def _on_idle(self) -> None:
        if self._idle_waiters and not self.busy:
            wake(self._idle_waiters)

    def _close_when_idle(self) -> None:
        # Not awaited by `close`: a handler may well close its own subscription.
        if not self._unfinished and self._closing is None:
            self._closing = self._loop.create_task(self._workers.close())

    # -- where it arrives

    def _run_inline(self, delivery: Delivery, ticket: Ticket) -> None:
        envelope = delivery.envelope
        try:
            if self._fast_decode is not None and envelope.meta is None and not delivery.deadline_at:
                contextvars.copy_context().run(self._function, self._fast_decode(envelope.body))
            else:
                contextvars.copy_context().run(self._run_in_scope, delivery)
        except MISFITS as misfit:
            self._fail(envelope.to, does_not_fit(misfit))
        except BaseException as error:
            self._fail(envelope.to, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise

    def _run_in_scope(self, delivery: Delivery) -> Any:
        scope = scope_of(delivery.envelope, delivery.deadline_at)
        scope_var.set(scope)
        return self._function(*self._signature.arguments(delivery.envelope.body), **self._keywords(delivery, scope))

    # -- on the workers

    def _on_more(self) -> None:
        if self._turns < self._queue.count:  # what is dropped leaves its turn to another
            self._turns += 1
            self._workers.put(_Turn())

    def _begin(self, turn: _Turn, context: contextvars.Context) -> Coroutine[Any, Any, Any] | None:
        self._turns -= 1
        item = self._queue.take()
        while type(item) is Gap:
            item = self._queue.take()
        coroutine: Coroutine[Any, Any, Any] | None = None
        if type(item) is Delivery:
            turn.delivery = item
            envelope = item.envelope
            try:
                if self._fast_decode is not None and envelope.meta is None and not item.deadline_at:
                    coroutine = self._function(self._fast_decode(envelope.body))
                elif item.deadline_at and self._loop.time() >= item.deadline_at:
                    self.expired += 1
                else:
                    turn.deadline_at = item.deadline_at
                    coroutine = self._coroutine(item, context)
            except MISFITS as misfit:
                self._fail(envelope.to, does_not_fit(misfit))
            except Exception as error:
                self._fail(envelope.to, error)
        if coroutine is None:
            self._on_idle()
        else:
            self._unfinished += 1
        return coroutine

    def _coroutine(self, delivery: Delivery, context: contextvars.Context) -> Coroutine[Any, Any, Any]:
        scope = scope_of(delivery.envelope, delivery.deadline_at)
        context.run(scope_var.set, scope)
        arguments = self._signature.arguments(delivery.envelope.body)
        keywords = self._keywords(delivery, scope)
        if self._intercept is None:
            coroutine: Coroutine[Any, Any, Any] = self._function(*arguments, **keywords)
            return coroutine
        incoming = Incoming(
            delivery.envelope.to,
            arguments,
            is_call=False,
            context=self._context(delivery, scope),
            handler=lambda *values: self._function(*values, **keywords),
            is_event=True,
        )
        return _awaited(self._intercept, incoming)

    def _end(self, turn: _Turn, result: Any, error: BaseException | None, expired: bool) -> None:
        self._unfinished -= 1
        if expired:
            self.expired += 1
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            assert turn.delivery is not None
            self._fail(turn.delivery.envelope.to, error)
        if self._closed:
            # Not yet: the worker that tells us this still has to see that there is nothing more to do.
            self._loop.call_soon(self._close_when_idle)
        if self._idle_waiters:
            self._on_idle()

    # -- what a handler is given

    def _keywords(self, delivery: Delivery, scope: Scope) -> dict[str, Context]:
        name = self._signature.context_name
        return {} if name is None else {name: self._context(delivery, scope)}

    def _context(self, delivery: Delivery, scope: Scope) -> Context:
        return Context(
            node=self._node_name,
            caller=delivery.origin,
            target=delivery.envelope.to,
            trace_id=scope.trace_id.hex(),
            span_id=scope.span_id.hex(),
            deadline_at=scope.deadline_at,
        )

    def _fail(self, subject: str, error: BaseException) -> None:
        self.failed += 1
        self._log.report(subject, error)


async def _awaited(intercept: Dispatch, incoming: Incoming) -> Any:
    return await intercept(incoming)  # a coroutine, whatever an interceptor returns
