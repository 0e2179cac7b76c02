"""Dispatch: from an incoming CALL or CAST to the handler, and its answer back.

A plain `def` runs inline. Everything else goes through its service's bounded mailbox to the workers. Work whose
deadline has passed, or that was cancelled while it waited, is dropped before it is dispatched, and counted.
"""

import asyncio
import contextlib
import contextvars
import dataclasses
import difflib
import logging
import traceback
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from fdn.context import Context, Scope, new_span, scope_var, unpack_headers, unpack_trace
from fdn.errors import (
    BadRequest,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    Error,
    NotFound,
    Overloaded,
    Unreachable,
    to_wire,
)
from fdn.messaging.delivery.receiver import Outcome
from fdn.messaging.interceptors import Dispatch, Incoming, Interceptor, compose_dispatch
from fdn.messaging.offers import Offers
from fdn.messaging.payloads import MISFITS, decode, does_not_fit, encode
from fdn.messaging.request_items import RequestItems, announces_items, receive_items, take_item
from fdn.messaging.services import Method, Relay, Service
from fdn.messaging.stream_flow import REPLY_STREAM, StreamReceiver, StreamSender, Window, read_window
from fdn.messaging.workers import Workers
from fdn.runtime.data_plane import Handler, Origin, Ticket
from transports.parcel import Parcel
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = (
    "PING",
    "STREAMED",
    "CallJob",
    "ClientForwarder",
    "DispatchStats",
    "Dispatcher",
    "scope_of",
)

_log = logging.getLogger(__name__)
_REPORT_INTERVAL_S = 1.0  # at most one log line about failed casts in this time; all are counted
# As plain numbers: to look up a member of an enum costs as much as to make an envelope.
_CALL = int(Kind.CALL)
_REPLY = int(Kind.REPLY)
_TRACE = int(MetaKey.TRACE)
_HEADERS = int(MetaKey.HEADERS)
_NO_CONTEXT = Scope()
_copy_context = contextvars.copy_context
_LONG = 32  # jobs that wait, past which one with less left than _BEGIN_S is not begun
_BEGIN_S = 0.02
STREAMED = object()  # the result of a job that has sent its answer itself
PING = "fdn.node.ping"  # answered by the plane itself, on every channel


class ClientForwarder(Protocol):
    """Who takes the messages of clients: they are for the whole cluster, not for this node alone."""

    def forward(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None: ...

    def cancel(self, origin: Origin, call_id: int) -> None: ...

    def on_item(self, origin: Origin, envelope: Envelope) -> None: ...

    def on_credit(self, origin: Origin, envelope: Envelope) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class DispatchStats:
    """Counters since the start."""

    calls: int  # CALLs that came in
    casts: int
    failed: int  # handlers that raised something that is not an `fdn.Error`
    expired: int  # dropped at dispatch, or cancelled, because the deadline had passed
    cancelled: int  # by the caller, or because the caller's node is gone
    overloaded: int  # refused (calls) or dropped (casts) at a full mailbox
    not_found: int
    queued: int  # waiting in mailboxes now
    running: int  # calls taken in and not answered yet
    overruns: int  # items of request streams past what was granted


class Dispatcher:
    """All services of one node.

    Args:
        node_name: For contexts and errors.
        node: Node id, for errors.
        default_timeout_s: The deadline of a call or cast that came with none.
        body_bytes_max: A result that is larger cannot be sent.
        stream_window: Items and bytes of a request stream that may wait here.
        interceptors: Around every handler.
    """

    def __init__(
        self,
        node_name: str,
        node: str,
        default_timeout_s: float,
        body_bytes_max: int,
        stream_window: Window,
        loop: asyncio.AbstractEventLoop,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._node_name = node_name
        self._node = node
        self._default_timeout_s = default_timeout_s
        self._body_bytes_max = body_bytes_max
        self._stream_window = stream_window
        self._loop = loop
        self._now = loop.time
        self._services: dict[str, Service] = {}
        self._methods: dict[str, Method] = {}
        self._workers: dict[str, Workers] = {}
        self._calls: dict[tuple[str, int], CallJob] = {}  # (caller, id) of calls that are queued or running
        self._intercept: Dispatch | None = compose_dispatch(interceptors, _invoke) if interceptors else None
        self._accepting = True
        self.for_clients: ClientForwarder | None = None
        self.on_numbered: Handler | None = None  # takes CASTs that want an ACK
        self._unfinished = 0  # jobs queued or running
        self._quiet_waiters: list[asyncio.Future[None]] = []
        self._reported_at = -_REPORT_INTERVAL_S
        self._unreported = 0
        self._n_calls = self._n_casts = self._n_failed = self._n_expired = 0
        self._n_cancelled = self._n_overloaded = self._n_not_found = self._n_overruns = 0

    # -- services

    def add(self, service: Service) -> None:
        """Serve it from now on.

        Raises:
            ConfigError: A service of this name, or one of its targets, is served already.
        """
        taken = [target for target in service.methods if target in self._methods]
        if service.name in self._services or taken:
            raise ConfigError(
                f"service {service.name!r} is served by this node already{f' ({taken[0]})' if taken else ''}",
                hint="give it another name, or remove the first",
            )
        self._services[service.name] = service
        self._methods.update(service.methods)
        workers = Workers(self._begin, self._end, service.concurrency, service.mailbox_max, self._loop, service.name)
        self._workers[service.name] = workers
        for method in service.methods.values():
            method.workers = workers

    def remove(self, name: str) -> Coroutine[Any, Any, None]:
        """Stop serving, at once. Await what this returns: what runs is cancelled, what waits is refused.

        Raises:
            NotFound: It is not served.
        """
        service = self._services.pop(name, None)
        if service is None:
            raise NotFound(f"this node does not serve {name!r}")
        for target in service.methods:
            del self._methods[target]
        return self._close_service(service, self._workers.pop(name))

    def offers(self) -> Offers:
        """What the cluster is told."""
        return Offers(tuple(service.offer for _, service in sorted(self._services.items()) if not service.system))

    # -- the data plane calls these

    def on_call(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A CALL came in."""
        self._n_calls += 1
        method = self._methods.get(envelope.to)
        if method is None and envelope.to == PING:
            origin.answer(Envelope(_REPLY, "", envelope.id))
        elif origin.is_client and self.for_clients is not None:
            self.for_clients.forward(origin, envelope, ticket)
        elif method is None or not self._accepting:
            self._answer_error(origin, envelope.id, self._no_method(envelope.to))
        elif method.inline and self._intercept is None and not announces_items(envelope):
            self._call_inline(method, origin, envelope)
        else:
            self._enqueue(method, origin, envelope, ticket)

    def on_cast(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A CAST came in."""
        if envelope.id and self.on_numbered is not None and not origin.is_client:
            self.on_numbered(origin, envelope, ticket)
            return
        self._n_casts += 1
        method = self._methods.get(envelope.to)
        if origin.is_client and self.for_clients is not None:
            self.for_clients.forward(origin, envelope, ticket)
        elif method is None or not self._accepting:
            self._n_not_found += 1
        elif method.inline and self._intercept is None:
            if method.fast_decode is None or envelope.meta is not None:
                self._cast_inline(method, origin, envelope)
                return
            try:  # the hot path, in no method of its own
                argument = method.fast_decode(envelope.body)
            except MISFITS as misfit:
                self._report_failed_cast(envelope.to, does_not_fit(misfit))
                return
            try:
                _copy_context().run(method.function, argument)
            except BaseException as error:
                self._report_failed_cast(envelope.to, error)
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    raise
        elif method.has_streams:
            self._report_failed_cast(envelope.to, BadRequest("it has streams, and so needs a call"))
        else:
            assert method.workers is not None
            # A cast without a deadline may take its time: nobody waits for it.
            deadline_at = self._now() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
            job = _Job(method, origin, envelope, ticket, deadline_at)
            if method.workers.put(job):
                ticket.held += 1
                self._unfinished += 1
            else:
                self._refuse(job)

    def take(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> Outcome:
        """Hand over a cast that came in and wants an ACK."""
        method = self._methods.get(envelope.to)
        if method is None or not self._accepting:
            self._n_not_found += 1
            return Outcome.REFUSED
        inline = method.inline and self._intercept is None
        if not inline and method.workers is not None and method.workers.full:
            return Outcome.FULL
        self._n_casts += 1
        if inline:
            self._cast_inline(method, origin, envelope)
        elif method.has_streams:
            self._report_failed_cast(envelope.to, BadRequest("it has streams, and so needs a call"))
        else:
            self._enqueue(method, origin, envelope, ticket)
        return Outcome.ACCEPTED

    def on_cancel(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """The caller gave up."""
        if origin.is_client and self.for_clients is not None:  # whatever id it claims: it may be that of a node
            self.for_clients.cancel(origin, envelope.id)
            return
        job = self._calls.get((origin.peer, envelope.id))
        if job is not None:
            self._cancel(job)
        origin.withdraw(envelope.id)

    def on_item(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """An ITEM, or the END, of a request stream came in."""
        if origin.is_client and self.for_clients is not None:
            self.for_clients.on_item(origin, envelope)
            return
        job = self._calls.get((origin.peer, envelope.id))
        if job is None or job.incoming is None:
            return  # it has been answered already
        if not take_item(job.incoming, envelope):
            self._n_overruns += 1
            overrun = BadRequest(f"{envelope.to} was sent more than it granted", hint="keep to CREDIT")
            self._answer_error(origin, envelope.id, overrun)
            self._cancel(job)

    def on_credit(self, origin: Origin, envelope: Envelope) -> None:
        """A CREDIT for a streamed reply came in."""
        if origin.is_client and self.for_clients is not None:
            self.for_clients.on_credit(origin, envelope)
            return
        job = self._calls.get((origin.peer, envelope.id))
        window = read_window(envelope.body)
        if job is not None and job.sender is not None and window is not None:
            job.sender.grant(window)

    def on_caller_gone(self, caller: str) -> None:
        """A caller's node is dead or has left: nobody waits for its answers."""
        for job in self._calls_of(caller):
            self._cancel(job)

    def fail_streams(self, caller: str, reason: str) -> None:
        """What was on its way to a caller's node may be lost: its streams cannot go on."""
        for job in self._calls_of(caller):
            if not job.cancelled and (job.sender is not None or job.incoming is not None):
                lost = Unreachable(f"the way back to node {caller} was lost: {reason}", hint="begin the stream again")
                self._answer_error(job.origin, job.envelope.id, lost)
                self._cancel(job)

    # -- the end

    async def drain(self) -> None:
        """Return when nothing is queued or running. New work is still taken; bound it with a timeout."""
        while self._unfinished:
            quiet = self._loop.create_future()
            self._quiet_waiters.append(quiet)
            await quiet

    async def close(self) -> None:
        """Refuse new work and cancel what runs."""
        self._accepting = False
        await asyncio.gather(*(self._close_workers(workers, "is stopping") for workers in self._workers.values()))
        for service in self._services.values():
            service.close()

    @property
    def unfinished(self) -> int:
        """Calls and casts queued or running."""
        return self._unfinished

    def stats(self) -> DispatchStats:
        return DispatchStats(
            calls=self._n_calls,
            casts=self._n_casts,
            failed=self._n_failed,
            expired=self._n_expired,
            cancelled=self._n_cancelled,
            overloaded=self._n_overloaded,
            not_found=self._n_not_found,
            queued=sum(workers.queued for workers in self._workers.values()),
            running=len(self._calls),
            overruns=self._n_overruns,
        )

    def _calls_of(self, caller: str) -> "list[CallJob]":
        return [job for (peer, _), job in self._calls.items() if peer == caller]

    async def _close_service(self, service: Service, workers: Workers) -> None:
        await self._close_workers(workers, f"does not serve {service.name!r} any more")
        service.close()

    async def _close_workers(self, workers: Workers, why: str) -> None:
        for job in workers.refuse():
            job.ticket.release()
            self._finish(job)
            if job.is_call and not job.cancelled:
                unbegun = Unreachable(f"node {self._node_name!r} {why}", hint="call another node", not_begun=True)
                self._answer_error(job.origin, job.envelope.id, unbegun)
        await workers.close()

    # -- running

    def _call_inline(self, method: Method, origin: Origin, envelope: Envelope) -> None:
        deadline_at = self._now() + (envelope.deadline_ms / 1000 or self._default_timeout_s)
        scope = scope_of(envelope, deadline_at)
        try:
            result = _copy_context().run(self._run_inline, method, origin, envelope, scope)
            answer = Envelope(_REPLY, "", envelope.id, 0, None, self._body_of(result))
        except BaseException as error:
            self._answer_error(origin, envelope.id, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
            return
        origin.answer(answer)

    def _cast_inline(self, method: Method, origin: Origin, envelope: Envelope) -> None:
        deadline_at = self._now() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
        scope = scope_of(envelope, deadline_at)
        try:
            _copy_context().run(self._run_inline, method, origin, envelope, scope)
        except BaseException as error:
            self._report_failed_cast(envelope.to, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise

    def _run_inline(self, method: Method, origin: Origin, envelope: Envelope, scope: Scope) -> Any:
        scope_var.set(scope)
        single = method.signature.single
        arguments = method.signature.arguments(envelope.body) if single is None else (decode(envelope.body, single),)
        name = method.signature.context_name
        if name is None:
            return method.function(*arguments)
        return method.function(*arguments, **{name: self._context(origin.peer, envelope, scope)})

    def _enqueue(self, method: Method, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        assert method.workers is not None
        job: _Job
        if envelope.kind == _CALL:
            deadline_at = self._now() + (envelope.deadline_ms / 1000 or self._default_timeout_s)
            job = CallJob(method, origin, envelope, ticket, deadline_at)
            if method.has_streams or method.relay is not None or announces_items(envelope):
                misuse = self._give_streams(job)
                if misuse is not None:
                    self._answer_error(origin, envelope.id, misuse)
                    return
            if self._calls.setdefault((origin.peer, envelope.id), job) is not job:
                under_way = BadRequest(f"call {envelope.id} is under way", hint="give each call an id of its own")
                self._answer_error(origin, envelope.id, under_way)
                return
        else:
            # A cast without a deadline may take its time: nobody waits for it.
            deadline_at = self._now() + envelope.deadline_ms / 1000 if envelope.deadline_ms else 0.0
            job = _Job(method, origin, envelope, ticket, deadline_at)
        if method.workers.put(job):
            ticket.held += 1
            self._unfinished += 1
        else:
            self._refuse(job)

    def _refuse(self, job: "_Job") -> None:
        """The mailbox is full."""
        self._n_overloaded += 1
        if job.is_call:
            del self._calls[job.origin.peer, job.envelope.id]
            self._answer_error(job.origin, job.envelope.id, self._overloaded(job.method))
        else:
            self._report_failed_cast(job.envelope.to, self._overloaded(job.method))

    def _give_streams(self, job: "CallJob") -> Error | None:
        """What a call with streams needs beside its job; an error if caller and handler do not agree on them."""
        method, origin, envelope = job.method, job.origin, job.envelope
        sends, takes = announces_items(envelope), method.signature.stream_name is not None
        if sends != takes and method.relay is None:
            return BadRequest(
                f"{method.target} {'takes a' if takes else 'takes no'} request stream",
                hint="give it one: call(..., items=...)" if takes else "call it without items",
            )
        try:
            if method.is_stream or method.relay is not None:
                window = read_window((envelope.meta or {}).get(MetaKey.WINDOW))
                job.sender = StreamSender(REPLY_STREAM, envelope.id, origin.outlet(), window, self._loop)
        except Unreachable as gone:
            return gone
        if sends:
            job.incoming = receive_items(origin, envelope.id, self._stream_window, self._loop)
        return None

    def _begin(self, job: "_Job") -> Coroutine[Any, Any, Any] | None:
        """The coroutine that does the job, to be run in the context that this is called in; None if the job is void."""
        job.ticket.release()
        method, envelope = job.method, job.envelope
        fast_decode = method.fast_decode if self._intercept is None else None
        if fast_decode is not None and not job.deadline_at and envelope.meta is None:
            try:
                cast: Coroutine[Any, Any, Any] = method.function(fast_decode(envelope.body))
                return cast
            except Exception as error:
                self._end(job, None, does_not_fit(error) if isinstance(error, MISFITS) else error, False)
                return None
        if job.cancelled:
            self._finish(job)
            return None
        if job.deadline_at:
            left_s = job.deadline_at - self._now()
            # Of those that wait in a long queue the first is always nearly too late: what is begun must come in time.
            if left_s <= 0 or (left_s < _BEGIN_S and method.workers is not None and method.workers.queued > _LONG):
                self._n_expired += 1
                self._finish(job)  # the caller's own timer has told it already, or will
                return None
        scope = scope_of(envelope, job.deadline_at)
        scope_var.set(scope)
        # What takes streams or a relay has no fast decoder.
        if fast_decode is not None and type(envelope.body) is not Parcel:
            try:
                call: Coroutine[Any, Any, Any] = method.function(fast_decode(envelope.body))
                return call
            except Exception as error:
                self._end(job, None, does_not_fit(error) if isinstance(error, MISFITS) else error, False)
                return None
        if method.relay is not None:
            return self._run_relay(job, method.relay, scope)
        try:
            arguments = method.signature.arguments(envelope.body)
        except Exception as error:
            self._end(job, None, error, False)
            return None
        if self._intercept is None and method.plain:
            coroutine: Coroutine[Any, Any, Any] = method.function(*arguments)
            return coroutine
        name = method.signature.context_name
        about = self._context(job.origin.peer, envelope, scope)
        keywords: dict[str, Any] = {} if name is None else {name: about}
        if isinstance(job, CallJob):
            if job.incoming is not None and method.signature.stream_name is not None:
                keywords[method.signature.stream_name] = RequestItems(job.incoming, method.signature.stream_decoder)
                job.incoming.open()
            if job.sender is not None:
                return self._run_stream(job, job.sender, arguments, keywords, about)
        return self._run_job(job, arguments, keywords, about)

    async def _run_job(
        self, job: "_Job", arguments: tuple[Any, ...], keywords: Mapping[str, Any], context: Context
    ) -> Any:
        method = job.method

        def handler(*values: Any) -> Any:
            if method.service.executor is None or method.is_coroutine:
                return method.function(*values, **keywords)
            inner = contextvars.copy_context()
            return self._loop.run_in_executor(
                method.service.executor, lambda: inner.run(method.function, *values, **keywords)
            )

        incoming = Incoming(job.envelope.to, arguments, job.is_call, context, handler)
        return await (_invoke if self._intercept is None else self._intercept)(incoming)

    def _run_relay(self, job: "_Job", relay: Relay, scope: Scope) -> Coroutine[Any, Any, Any]:
        if self._intercept is None:
            return relay(job)
        context = self._context(job.origin.peer, job.envelope, scope)

        def handler(body: Any) -> Coroutine[Any, Any, Any]:
            job.envelope.body = encode(body)  # an interceptor may have changed it
            return relay(job)

        incoming = Incoming(job.envelope.to, (job.envelope.body,), job.is_call, context, handler)
        return _awaited(self._intercept(incoming))

    async def _run_stream(
        self,
        job: "CallJob",
        sender: StreamSender,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        context: Context,
    ) -> object:
        function, body_of, try_send = job.method.function, self._body_of, sender.try_send

        async def handler(*values: Any) -> None:
            async with contextlib.aclosing(function(*values, **keywords)) as items:
                async for item in items:
                    body = body_of(item)
                    if not try_send(body):
                        await sender.send(body)

        incoming = Incoming(job.envelope.to, arguments, True, context, handler)
        try:
            await (_invoke if self._intercept is None else self._intercept)(incoming)
        except Exception as error:
            if not sender.items or job.cancelled:
                raise
            if not isinstance(error, Error):
                self._n_failed += 1
            await sender.end(self._error_body(error))  # behind the items, which are good
        else:
            await sender.end()
        return STREAMED

    def _end(self, job: "_Job", result: Any, error: BaseException | None, expired: bool) -> None:
        is_call = job.is_call
        if error is None and not is_call and self._unfinished > 1:  # the most frequent end
            self._unfinished -= 1
            return
        self._finish(job)
        if job.cancelled:
            pass  # nobody waits for an answer
        elif error is None:
            if is_call and result is not STREAMED:
                try:
                    body = self._body_of(result)
                except Exception as unsendable:
                    self._answer_error(job.origin, job.envelope.id, unsendable)
                else:
                    job.origin.answer(Envelope(_REPLY, "", job.envelope.id, 0, None, body))
        elif expired:
            self._n_expired += 1
            late = DeadlineExceeded(
                f"{job.envelope.to} did not end before the caller's deadline", hint="give it more time"
            )
            if is_call:
                self._answer_error(job.origin, job.envelope.id, late)
        elif isinstance(error, asyncio.CancelledError):
            self._n_cancelled += 1
            if is_call:
                self._answer_error(
                    job.origin, job.envelope.id, Cancelled(f"{job.envelope.to} was cancelled on {self._node_name}")
                )
        elif is_call:
            self._answer_error(job.origin, job.envelope.id, error)
        else:
            self._report_failed_cast(job.envelope.to, error)

    def _finish(self, job: "_Job") -> None:
        self._unfinished -= 1
        if type(job) is CallJob:
            self._calls.pop((job.origin.peer, job.envelope.id), None)
            if job.incoming is not None:  # a task that the handler has left behind must not wait for ever
                job.incoming.end(Cancelled(f"{job.envelope.to} has been answered"), at_once=True)
        if not self._unfinished and self._quiet_waiters:
            waiters, self._quiet_waiters = self._quiet_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _cancel(self, job: "CallJob") -> None:
        if job.cancelled:
            return  # once is enough: a second time would hit the handler in its cleanup
        job.cancelled = True
        self._n_cancelled += 1
        if job.sender is not None:  # which finds a generator that does not wait, too
            job.sender.fail(Cancelled(f"{job.envelope.to} was given up by its caller"))
        if job.incoming is not None:
            job.incoming.end(Cancelled(f"{job.envelope.to} was given up by its caller"), at_once=True)
        if job.method.workers is not None:
            job.method.workers.cancel(job)  # where it waits; in the mailbox it will be dropped

    # -- answers

    def _body_of(self, result: Any) -> Any:
        body = encode(result)
        if body is not None and len(body) > self._body_bytes_max:
            raise BadRequest(
                f"a result of {len(body)} bytes exceeds data.body_bytes_max={self._body_bytes_max}",
                hint="return less at once, or raise data.body_bytes_max on every node",
            )
        return body

    def _answer_error(self, origin: Origin, call_id: int, error: BaseException) -> None:
        if not isinstance(error, Error):
            self._n_failed += 1
        origin.answer(Envelope(Kind.ERROR, "", call_id, 0, None, self._error_body(error)))

    def _error_body(self, error: BaseException) -> Any:
        try:
            return encode(to_wire(error, node=self._node))
        except Exception as broken:  # a user's own error class; the caller must be answered all the same
            return encode(to_wire(broken, node=self._node))

    def _no_method(self, target: str) -> Error:
        self._n_not_found += 1
        if not self._accepting:
            return Unreachable(f"node {self._node_name!r} is stopping", hint="call another node", not_begun=True)
        close = difflib.get_close_matches(target, self._methods, n=1)
        return NotFound(
            f"node {self._node_name!r} does not serve {target[:200]!r}",
            hint=f"did you mean {close[0]!r}?" if close else "`fdn service ls` shows what is offered",
        )

    def _overloaded(self, method: Method) -> Overloaded:
        service = method.service
        return Overloaded(
            f"service {service.name!r} on node {self._node_name!r} has {service.mailbox_max} calls waiting",
            hint="slow down, add nodes that serve it, or raise its concurrency or calls.mailbox_max",
            mailbox_max=service.mailbox_max,
        )

    def _report_failed_cast(self, target: str, error: BaseException) -> None:
        """Nobody waits for a cast, so the log is where its failure shows."""
        if not isinstance(error, Overloaded):
            self._n_failed += 1
        self._unreported += 1
        now = self._loop.time()
        if now - self._reported_at < _REPORT_INTERVAL_S:
            return
        count, self._unreported, self._reported_at = self._unreported, 0, now
        _log.error(
            "%d cast(s) failed, the last to %s: %s",
            count,
            target,
            error if isinstance(error, Error) else "".join(traceback.format_exception(error)),
            extra={"target": target, "failed": count},
        )

    def _context(self, caller: str, envelope: Envelope, scope: Scope) -> Context:
        return Context(
            node=self._node_name,
            caller=caller,
            target=envelope.to,
            trace_id=scope.trace_id.hex(),
            span_id=scope.span_id.hex(),
            deadline_at=scope.deadline_at,
            headers=scope.headers or {},
            redelivered=envelope.meta is not None and bool(envelope.meta.get(MetaKey.ATTEMPT)),
        )


class _Job(msgspec.Struct, eq=False):  # made for every message: a plain class costs three times as much
    """One CAST on its way through a mailbox and a worker."""

    is_call: ClassVar[bool] = False

    method: Method
    origin: Origin
    envelope: Envelope
    ticket: Ticket
    deadline_at: float
    cancelled: bool = False  # of a call only: nobody waits for a cast, so nobody cancels one


class CallJob(_Job, eq=False):
    """One CALL on its way through a mailbox and a worker.

    Attributes:
        sender: For a streamed reply, or None.
        incoming: The request stream, or None.
    """

    is_call: ClassVar[bool] = True

    sender: StreamSender | None = None
    incoming: StreamReceiver | None = None


def scope_of(envelope: Envelope, deadline_at: float) -> Scope:
    """The scope in which an incoming message is handled: its trace with a span of our own, deadline and headers."""
    meta = envelope.meta
    if not meta:
        return Scope(b"", b"", deadline_at) if deadline_at else _NO_CONTEXT
    trace_id, _parent = unpack_trace(meta.get(_TRACE))
    headers = unpack_headers(meta[_HEADERS]) if _HEADERS in meta else None
    return Scope(trace_id, new_span() if trace_id else b"", deadline_at, headers)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def _invoke(incoming: Incoming) -> Any:
    result = incoming.handler(*incoming.arguments)
    return await result if asyncio.iscoroutine(result) or asyncio.isfuture(result) else result
