"""What users do with a client, without waiting: generators that yield what they wait for.

A driver runs one to its end: it takes the `Wait` that comes out, and goes on when its signal fires or its time has
come; the generator looks for itself which it was. What it returns or raises is the verb's. A verb that is given up in
the middle is closed, and cleans up behind itself.
"""

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from fdn.client.codec import Meta, encode, headers_of
from fdn.client.connection import CHANNELS, Link, Phase
from fdn.client.core import Core
from fdn.client.inbox import ClientEvent, Inbox
from fdn.client.pending import Pending, ReplyStream
from fdn.client.serving import Job, Service
from fdn.client.signals import Signal, Wait
from fdn.errors import BadRequest, DeadlineExceeded, Error, Unreachable
from fdn.messaging.subjects import valid_pattern, valid_queue, valid_subject

__all__ = ("END", "FOREVER", "Steps", "Verbs")

T = TypeVar("T")
Steps: TypeAlias = Generator[Wait, None, T]

END: Final = object()  # what comes after the last item, or event
FOREVER: Final = float("inf")
_YEAR_S: Final = 365 * 86_400.0  # the deadline of a stream with no end in sight
_SUBSCRIBE_S: Final = 5.0  # more than a node waits for its members by itself
_PING: Final = "fdn.node.ping"
_RETRY_PAUSE_S: Final = 0.02  # before the second further try, as in `fdn.Retry`; the first goes out at once
_RETRY_PAUSE_S_MAX: Final = 1.0
_DELIVERIES: Final = ("at_most_once", "at_least_once", "effectively_once")
_SEQUENCE_MASK: Final = 2**63 - 1


class Verbs:
    """See the module.

    Args:
        core: What they act on.
        clock: Monotonic seconds.
        chance: A random number from 0 to 1.
        timeout_s: For verbs that are given no timeout.
    """

    def __init__(self, core: Core, clock: Callable[[], float], chance: Callable[[], float], timeout_s: float) -> None:
        self.core = core
        self.timeout_s = timeout_s
        self._clock = clock
        self._chance = chance
        self._connection = core.connection

    def connect(self) -> Steps[None]:
        """Return when a node has let us in."""
        yield from self._linked("coordination", self._deadline_at(None))

    # -- calls

    def call(
        self,
        target: str,
        payload: Any,
        *,
        timeout: float | None,
        headers: Mapping[str, str] | None,
        retry: Any,
        channel: str,
        wishes: Mapping[int, Any] | None = None,
    ) -> Steps[Any]:
        """One question, one answer."""
        if channel not in CHANNELS:
            raise BadRequest(f"channel={channel!r}", hint=f"expected one of {', '.join(CHANNELS)}")
        body, headers = encode(payload), headers_of(headers)
        deadline_at = self._deadline_at(timeout)
        tries = _Tries(retry, self._chance)
        while True:
            try:
                link = yield from self._linked(channel, deadline_at)
                pending = Pending(target, link.name, self.core.new_number(), deadline_at)
                with self._asking(pending):
                    self.core.call(pending, body, headers=headers, wishes=wishes)
                    return (yield from self.answer(pending))
            except Error as error:
                pause_s = tries.pause_after(error)
                if pause_s is None or self._clock() + pause_s >= deadline_at:
                    raise
                yield from self._sleep(pause_s)

    def answer(self, pending: Pending) -> Steps[Any]:
        """Wait for it."""
        while not pending.over:
            if self._clock() >= pending.deadline_at:
                known = "whether it was carried out is not known" if pending.sent else "it was not sent"
                raise DeadlineExceeded(
                    f"no answer to {pending.target} from {self._connection.endpoint} before the deadline",
                    hint=f"{known}; allow more time, or see `fdn members` for a stalled node",
                )
            yield Wait(pending.signal, pending.deadline_at)
        return pending.result()

    def ping(self, channel: str, timeout: float | None) -> Steps[float]:
        """A round trip, in seconds."""
        yield from self._linked(channel if channel in CHANNELS else "data", self._deadline_at(timeout))
        started = self._clock()
        yield from self.call(_PING, None, timeout=timeout, headers=None, retry=None, channel=channel)
        return self._clock() - started

    def cast(
        self,
        target: str,
        payload: Any,
        headers: Mapping[str, str] | None,
        wishes: Mapping[int, Any] | None = None,
    ) -> Steps[None]:
        """Send, and do not wait for an answer."""
        body, headers = encode(payload), headers_of(headers)
        yield from self._linked("data", self._deadline_at(None))
        self.core.cast(target, body, headers, wishes)

    # -- streams

    def open(
        self,
        target: str,
        payload: Any,
        *,
        timeout: float | None,
        headers: Mapping[str, str] | None,
        streams_reply: bool,
        streams_request: bool,
        wishes: Mapping[int, Any] | None = None,
    ) -> Steps[Pending]:
        """Send a CALL with a stream on either side; `forget` it in the end."""
        body, headers = encode(payload), headers_of(headers)
        deadline_at = self._deadline_at(timeout)
        yield from self._linked("data", deadline_at)
        made = ReplyStream if streams_reply else Pending
        pending = made(target, "data", self.core.new_number(), deadline_at)
        if streams_reply:  # `timeout` is the longest silence; who wants an end closes the stream
            pending.deadline_at = self._clock() + _YEAR_S
        self.core.call(pending, body, headers=headers, streams=streams_request, wishes=wishes)
        return pending

    def next_item(self, stream: ReplyStream, timeout: float | None) -> Steps[Any]:
        """The next item of the reply, or `END`."""
        silent_at = self._deadline_at(timeout)
        while not len(stream.reply):
            if stream.over:
                if stream.reply.error is not None:
                    raise stream.reply.error
                return END
            if self._clock() >= silent_at:
                raise DeadlineExceeded(
                    f"{stream.target} has sent no item in {self._timeout(timeout):g} s",
                    hint="allow more time between items with timeout=",
                )
            yield Wait(stream.signal, silent_at)
        return self.core.take_item(stream)

    def put_item(self, pending: Pending, value: Any) -> Steps[bool]:
        """Send one item of the caller when there is room; False when nobody wants it any more."""
        body = encode(value)
        outbox = self._connection.links[pending.channel].outbox
        while not pending.over and not (pending.request.may_send and not outbox.full):
            if self._clock() >= pending.deadline_at:
                return False
            yield Wait(outbox.room if pending.request.may_send else pending.signal, pending.deadline_at)
        if pending.over:
            return False
        self.core.send_item(pending, body)
        return True

    def forget(self, pending: Pending) -> None:
        """Nobody waits any more."""
        self.core.forget(pending)

    # -- events

    def publish(
        self,
        subject: str,
        payload: Any,
        headers: Mapping[str, str] | None,
        wishes: Mapping[int, Any] | None = None,
    ) -> Steps[None]:
        """Send an event."""
        valid_subject(subject)
        body, headers = encode(payload), headers_of(headers)
        yield from self._linked("events", self._deadline_at(None))
        self.core.publish(subject, body, headers, wishes)

    def publish_surely(
        self,
        subject: str,
        payload: Any,
        headers: Mapping[str, str] | None,
        wishes: Mapping[int, Any] | None,
        delivery: str,
    ) -> Steps[None]:
        """Send an event, to one node after the other, until one has taken it over."""
        valid_subject(subject)
        if delivery not in _DELIVERIES:
            raise BadRequest(f"delivery={delivery!r}", hint=f"expected {', '.join(_DELIVERIES)}")
        if delivery == _DELIVERIES[0]:
            yield from self.publish(subject, payload, headers, wishes)
            return
        body, headers = encode(payload), headers_of(headers)
        if delivery == _DELIVERIES[2]:  # the same at every node
            sequence = self.core.new_number() & _SEQUENCE_MASK or 1
            wishes = {**(wishes or {}), Meta.ORIGIN: self.core.node, Meta.SEQUENCE: sequence}
        deadline_at = self._deadline_at(None)
        yield from self._linked("events", deadline_at)
        while True:
            pending = Pending(subject, "events", self.core.new_number(), deadline_at)
            try:
                yield from self._linked("events", deadline_at)
                with self._asking(pending):
                    self.core.publish_surely(pending, body, headers, wishes)
                    yield from self.answer(pending)
                return
            except Unreachable:  # the connection is lost: whether the node has it, nobody knows
                if not self.core.reconnects or self._clock() + _RETRY_PAUSE_S >= deadline_at:
                    raise
            yield from self._sleep(_RETRY_PAUSE_S)

    def flush(self, timeout: float | None) -> Steps[None]:
        """Return when the node has all that was published."""
        deadline_at = self._deadline_at(timeout)
        yield from self._linked("events", deadline_at)
        flush = _Flush(self.core, deadline_at)
        with self._asking(flush):
            self.core.call(flush, encode(None))
            yield from self.answer(flush)
        self.core.events_unconfirmed -= flush.events
        if self.core.lost_events:
            self.core.lost_events = False
            raise Unreachable(
                "the connection was lost and made again: some of the events since the last flush may not have arrived",
                hint="publish them again, if hearing them twice does no harm",
                maybe_carried_out=True,
            )

    def subscribe(self, pattern: str, queue: str, timeout: float | None) -> Steps[Inbox]:
        """Want events; return when the node has confirmed it."""
        valid_pattern(pattern)
        valid_queue(queue)
        deadline_at = self._deadline_at(None) + (_SUBSCRIBE_S if timeout is None else timeout)
        yield from self._linked("events", deadline_at)
        inbox = Inbox(pattern, queue, self.core.new_number(), None if timeout is None else int(timeout * 1000))
        self.core.subscribe(inbox)
        try:
            yield from self._confirmed(inbox, f"subscribing to {pattern}", deadline_at)
        except BaseException:
            self.core.unsubscribe(inbox)
            raise
        return inbox

    def next_event(self, inbox: Inbox, until: float) -> Steps[ClientEvent | object | None]:
        """The next event, None when none came `until` then, or `END`."""
        while not len(inbox):
            if inbox.closed:
                return END
            if inbox.error is not None:
                raise inbox.error
            if self._clock() >= until:
                return None
            yield Wait(inbox.signal, until)
        return self.core.take_event(inbox)

    # -- services

    def serve(
        self,
        name: str,
        *,
        version: str,
        capabilities: Collection[str],
        concurrency: int,
        takes_items: bool,
        handler: Any,
    ) -> Steps[Service]:
        """Offer a name; return when the node does."""
        service = Service(
            name,
            self.core.new_number(),
            version=version,
            capabilities=capabilities,
            concurrency=concurrency,
            takes_items=takes_items,
            handler=handler,
        )
        deadline_at = self._deadline_at(None)
        yield from self._linked("data", deadline_at)
        self.core.serve(service)
        try:
            yield from self._confirmed(service, f"serving {name}", deadline_at)
        except BaseException:
            self.core.withdraw(service)
            raise
        return service

    def ended(self, service: Service) -> Steps[None]:
        """Return when it is withdrawn.

        Raises:
            Error: The node has ended it.
        """
        while service.error is None:
            yield Wait(service.signal, FOREVER)
        if not service.withdrawn:
            raise service.error

    def next_request(self, job: Job) -> Steps[Any]:
        """The next item of the caller, or `END`."""
        assert job.request is not None
        self.core.begin_items(job)
        while not len(job.request):
            if job.request.ended:
                if job.request.error is not None:
                    raise job.request.error
                return END
            yield Wait(job.signal, FOREVER)
        return self.core.take_request(job)

    def put_reply(self, job: Job, value: Any) -> Steps[bool]:
        """Send one item of the handler when there is room; False when nobody wants it any more."""
        body = encode(value)
        outbox = self._connection.links["data"].outbox
        while not job.over and (not job.reply.may_send or outbox.full):
            yield Wait(outbox.room if job.reply.may_send else job.signal, FOREVER)
        if job.over:
            return False
        self.core.reply_item(job, body)
        return True

    # -- the end

    def drain(self) -> Steps[None]:
        """Return when all that was handed over has gone out, or there is nobody to take it, or time is up."""
        until = self._deadline_at(None)
        for link in self._connection.links.values():
            while len(link.outbox) and self._connection.phase is Phase.READY and self._clock() < until:
                yield Wait(link.outbox.room, until)

    # -- waiting

    def _linked(self, channel: str, deadline_at: float) -> Steps[Link]:
        """The channel, ready and with room; connects if need be."""
        failed_rounds = self._connection.failed_rounds
        while True:
            if self._connection.failed_rounds != failed_rounds and self._connection.fails_fast:
                raise self._connection.failure()  # before anything begins anew
            link = self._connection.want(channel, self._clock())
            usable = link.ready and self._connection.phase is Phase.READY
            if usable and not link.outbox.full:
                return link
            if self._clock() >= deadline_at:
                if usable:
                    raise DeadlineExceeded(
                        f"{self._connection.endpoint} takes no more messages", hint="send fewer, or allow more time"
                    )
                raise self._connection.failure()
            yield Wait(link.outbox.room if usable else self._connection.changed, deadline_at)

    def _confirmed(self, wanted: Inbox | Service, what: str, deadline_at: float) -> Steps[None]:
        while not wanted.confirmed:
            if wanted.error is not None:
                raise wanted.error
            if self._clock() >= deadline_at:
                raise DeadlineExceeded(
                    f"{what}: no answer from {self._connection.endpoint} in time", hint="allow more time"
                )
            yield Wait(wanted.signal, deadline_at)

    def _sleep(self, seconds: float) -> Steps[None]:
        until = self._clock() + seconds
        while self._clock() < until:
            yield Wait(Signal(), until)

    @contextlib.contextmanager
    def _asking(self, pending: Pending) -> Iterator[None]:
        try:
            yield
        finally:
            self.core.forget(pending)

    def _timeout(self, timeout: float | None) -> float:
        return self.timeout_s if timeout is None else timeout

    def _deadline_at(self, timeout: float | None) -> float:
        seconds = self._timeout(timeout)
        if not 0 < seconds <= _YEAR_S:
            raise BadRequest(f"timeout={timeout!r}", hint=f"expected seconds above 0, at most {_YEAR_S:g}")
        return self._clock() + seconds


class _Flush(Pending):
    """A ping behind the events; knows how many went before it."""

    def __init__(self, core: Core, deadline_at: float) -> None:
        super().__init__(_PING, "events", core.new_number(), deadline_at)
        self.events = 0
        self._core = core

    def on_sent(self) -> None:
        super().on_sent()
        self.events = self._core.events_unconfirmed


class _Tries:
    """How often a call is made again, after errors that may pass. `retry` is a number or an `fdn.Retry`."""

    def __init__(self, retry: Any, chance: Callable[[], float]) -> None:
        self._left = getattr(retry, "attempts", retry) or 0
        self._pause_s = getattr(retry, "pause_s", _RETRY_PAUSE_S)
        self._pause_s_max = getattr(retry, "pause_max_s", _RETRY_PAUSE_S_MAX)
        self._chance = chance
        self._made = 0

    def pause_after(self, error: Error) -> float | None:
        """Seconds before the next try, or None to give up."""
        if self._made >= self._left or not error.retryable:
            return None
        self._made += 1
        if self._made == 1:
            return 0.0
        return float(self._chance() * min(self._pause_s_max, self._pause_s * 2.0 ** (self._made - 2)))
