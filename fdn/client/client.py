"""The asyncio driver of the thin client.

It watches the sockets' descriptors with the running loop; `asyncio` itself is imported when a client is used, so that
importing this costs a script nothing.
"""

import atexit
import contextlib
import os
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fdn.client.codec import wishes_of
from fdn.client.core import Core, Run, Stop
from fdn.client.inbox import ClientEvent, Inbox
from fdn.client.pending import Pending, ReplyStream
from fdn.client.serving import Job, Service
from fdn.client.signals import Wait
from fdn.client.verbs import END, FOREVER, Steps, Verbs
from fdn.client.wires import Wires
from fdn.errors import BadRequest, ConfigError, Error

if TYPE_CHECKING:
    import asyncio

    from fdn.client.handlers import Handler
    from fdn.messaging.retry import Retry

__all__ = ("Client", "ClientService", "ClientStream", "ClientSubscription")

T = TypeVar("T")
_open: "weakref.WeakSet[Client]" = weakref.WeakSet()


class Client:
    """A client of a cluster, on asyncio: it joins nothing and binds nothing.

    ```python
    async with fdn.Client("tcp://127.0.0.1:7400") as client:
        assert await client.call("math.add", [2, 3]) == 5
    ```

    It talks to one node. When that is lost, it goes on at another: a seed, or a member that the node told of. Calls
    that were under way then fail with `Unreachable`, unless `retry=` was given; new ones wait for the next node, within
    their timeout. Subscriptions and services are made again, and the next event tells with `missed` of -1 that some may
    be missing. It is for tasks of one event loop.

    Args:
        *seeds: Coordination endpoints of nodes, `tcp://HOST:PORT` (their base ports), tried in this order.
        cluster: The cluster's name.
        timeout: Seconds for the handshake, and for verbs that are given no timeout.
        reconnect: Whether to go on when the node is lost. Without, everything fails at once; the next verb dials the
            seeds again.

    Attributes:
        id: This client's id.
    """

    def __init__(self, *seeds: str, cluster: str = "fdn", timeout: float = 5.0, reconnect: bool = True) -> None:
        if not seeds:
            raise BadRequest("Client() needs an address", hint="name a node: Client('tcp://127.0.0.1:7400')")
        self.cluster = cluster
        self.id = f"client-{os.urandom(8).hex()}"
        self._seeds = seeds
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._core = Core(
            seeds,
            cluster=cluster,
            node=self.id,
            name=f"client pid {self._pid}",
            timeout_s=timeout,
            reconnect=reconnect,
            chance=_chance,
            number=int.from_bytes(os.urandom(7), "big"),
        )
        self._verbs = Verbs(self._core, time.monotonic, _chance, timeout)
        self._jobs: dict[Job, asyncio.Task[None]] = {}
        self._is_pumping = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._soon: asyncio.Handle | None = None
        self._wires = Wires(
            self._core, time.monotonic, watch=self._watch, unwatch=self._unwatch, run=self._run, stop=self._stop
        )

    async def __aenter__(self) -> "Client":
        await self.connect()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def node(self) -> dict[str, Any]:
        """The identity of the node that it talks to, or talked to last."""
        return self._core.connection.node

    @property
    def endpoint(self) -> str:
        """Where that is; the first seed before it was connected."""
        return self._core.connection.endpoint or self._seeds[0]

    @property
    def timeout(self) -> float:
        """Seconds for verbs that are given no timeout."""
        return self._verbs.timeout_s

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._verbs.timeout_s = seconds

    @property
    def connections(self) -> int:
        """How often a node has let this client in: above 1, it has been lost in between."""
        return self._core.connection.connected

    async def connect(self) -> None:
        """Say HELLO to the first seed that answers. Idempotent; every other verb does it too.

        Raises:
            Unreachable: None answers. Names them, and why.
            ConfigError: They belong to another cluster, or an address is none.
            VersionMismatch: There is no common version of the protocol.
        """
        await self._do(self._verbs.connect())

    async def close(self) -> None:
        """Send what is to be sent, say goodbye and close. Idempotent; a verb after it dials anew."""
        if self._loop is None or self._pid != os.getpid():
            return
        await self._do(self._verbs.drain())
        tasks = list(self._jobs.values())
        self._core.close()
        self._closing = True  # what goes out now is waited for below
        self._pump_all()
        self._closing = False
        for task in tasks:
            task.cancel()
        import asyncio

        await asyncio.gather(*tasks, return_exceptions=True)
        context = self._wires.release()
        if context is not None:
            await asyncio.to_thread(context.term)
        _open.discard(self)
        self._loop = None

    # -- verbs

    async def call(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        retry: "Retry | int | None" = None,
        channel: str = "data",
        key: str | bytes | None = None,
        priority: int = 0,
    ) -> Any:
        """Call `service.method` somewhere in the cluster, or `fdn.*` of the node itself on the coordination channel.

        Args:
            target: As in `Node.call`.
            payload: Anything MessagePack holds, a dataclass or a Struct.
            items: The request stream, for a handler that takes one; not together with `retry`.
            timeout: Seconds for everything.
            headers: Baggage, for the handler and everything that it calls.
            retry: Further tries after errors that may pass, a lost node among them; the call may then run twice.
            channel: `data` for services, `coordination` for the node itself, which answers there even while its user's
                code is stuck.
            key: As in `Node.cast`: from the node on; up to it everything is in order.
            priority: As in `Node.cast`; likewise.

        Returns:
            The result, in plain values.

        Raises:
            Error: What the handler or the cluster answered.
            DeadlineExceeded: No answer in time; the work is cancelled over there.
            Unreachable: The node was lost meanwhile, and no other found in time. Its fact `maybe_carried_out` tells
                whether the call had been sent.
        """
        wishes = wishes_of(key, priority)
        if items is None:
            return await self._do(
                self._verbs.call(
                    target, payload, timeout=timeout, headers=headers, retry=retry, channel=channel, wishes=wishes
                )
            )
        pending = await self._do(
            self._verbs.open(
                target,
                payload,
                timeout=timeout,
                headers=headers,
                streams_reply=False,
                streams_request=True,
                wishes=wishes,
            )
        )
        feed = self._feed(pending, items)
        try:
            return await self._do(self._verbs.answer(pending))
        finally:
            await _end_task(feed)
            self._forget(pending)

    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        priority: int = 0,
    ) -> "ClientStream":
        """Call a handler that answers with a stream: `async for item in client.stream(...)`.

        Args:
            target: As in `call`.
            payload: As in `call`.
            items: The request stream, for a handler that takes one.
            timeout: The longest silence before an item, in seconds.
            headers: As in `call`.
            key: As in `call`.
            priority: As in `call`.
        """
        opening = self._verbs.open(
            target,
            payload,
            timeout=timeout,
            headers=headers,
            streams_reply=True,
            streams_request=items is not None,
            wishes=wishes_of(key, priority),
        )
        return ClientStream(self, opening, items, timeout)

    async def cast(
        self,
        target: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        priority: int = 0,
    ) -> None:
        """Send without waiting for an answer; at most once, in order."""
        await self._do(self._verbs.cast(target, payload, headers, wishes_of(key, priority)))

    async def publish(
        self,
        subject: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        priority: int = 0,
        delivery: str | None = None,
    ) -> None:
        """Publish to everybody in the cluster who wants the subject; at most once, in order. See `flush`.

        With `delivery="at_least_once"` or `"effectively_once"` it returns when a node has taken the event over: from
        then on that node sees to it, as long as it lives. When the connection is lost before, it is sent to the next
        node; with `effectively_once` it is handed over once even so. See docs/explanation/delivery.md.

        Raises:
            BadRequest: The subject is none, or the payload cannot be sent.
            DeadlineExceeded: The node took nothing in time; with `delivery`: none has said in time that it has it.
            Overloaded: With `delivery`: the node keeps too much already.
        """
        wishes = wishes_of(key, priority)
        if delivery is not None:
            await self._do(self._verbs.publish_surely(subject, payload, headers, wishes, delivery))
            return
        await self._do(self._verbs.publish(subject, payload, headers, wishes))

    async def flush(self, timeout: float | None = None) -> None:
        """Return when the node has received all that was published here.

        Raises:
            Unreachable: The node was lost since the last flush, and maybe some of the events with it.
        """
        await self._do(self._verbs.flush(timeout))

    async def subscribe(
        self,
        pattern: str,
        handler: Callable[[ClientEvent], Any] | None = None,
        *,
        queue: str = "",
        timeout: float | None = None,
    ) -> "ClientSubscription":
        """Get the events of a subject, or of all that match a pattern: `async for event in subscription`.

        What this client is too slow to read is dropped, the oldest first, and counted in the next event's `missed`.

        Args:
            pattern: `*` stands for one token, `>` at the end for the rest.
            handler: Called with each event, one after the other, instead of iterating; a `def` or an `async def`. What
                it raises is logged.
            queue: A queue group: one member of it in the whole cluster gets each event.
            timeout: Seconds to wait until the members know of it; None takes the node's setting.

        Raises:
            ConfigError: The pattern or the group is not possible.
            Overloaded: The node has too many subscriptions.
        """
        inbox = await self._do(self._verbs.subscribe(pattern, queue, timeout))
        return ClientSubscription(self, inbox, handler)

    async def serve(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int = 64,
    ) -> "ClientService":
        """Serve a name to the whole cluster; the node offers it in this client's stead.

        Args:
            name: `service.method`, or a plain name.
            handler: A `def`, an `async def` or an async generator, which answers with a stream; its arguments as in
                `fdn.client.handlers.Handler`.
            version: The service's own.
            capabilities: Labels.
            concurrency: Calls under way at once; further ones wait.

        Raises:
            ConfigError: It cannot be served.
            Conflict: This client serves it already.
        """
        from fdn.client.handlers import Handler

        bound = Handler(name, handler)
        if bound.takes_items and not bound.is_async:
            raise ConfigError(f"handler {name} takes a stream", hint="make it an `async def` with an AsyncIterator")
        service = await self._do(
            self._verbs.serve(
                name,
                version=version,
                capabilities=capabilities,
                concurrency=concurrency,
                takes_items=bound.takes_items,
                handler=bound,
            )
        )
        return ClientService(self, service)

    async def ping(self, channel: str = "data", timeout: float | None = None) -> float:
        """Round trip to the node on one channel, in seconds."""
        return await self._do(self._verbs.ping(channel, timeout))

    # -- the driver

    async def _do(self, steps: Steps[T]) -> T:
        """Run a verb to its end."""
        loop = self._bind()
        try:
            while True:
                await self._wait(loop, next(steps))
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            steps.close()
            self._pump_soon()

    async def _wait(self, loop: "asyncio.AbstractEventLoop", wait: Wait) -> None:
        """Send what is to be sent, and return when the signal fires, or the time has come."""
        future = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        timer = None if wait.until == FOREVER else loop.call_later(max(0.0, wait.until - time.monotonic()), wake)
        wait.signal.add(wake)  # before sending, which may make it fire
        self._pump_soon()
        try:
            await future
        finally:
            wait.signal.discard(wake)
            if timer is not None:
                timer.cancel()

    def _now(self, act: Callable[..., T], *arguments: Any) -> T:
        """What needs no waiting."""
        try:
            return act(*arguments)
        finally:
            self._pump_soon()

    def _bind(self) -> "asyncio.AbstractEventLoop":
        import asyncio

        if self._pid != os.getpid():
            raise Error("this client was made before a fork", hint="make a new one in the child")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise Error("this client belongs to another event loop", hint="make one for each loop")
            self._loop = loop
            _open.add(self)
        return loop

    def _pump_soon(self) -> None:
        """The first of an idle period goes out at once; what follows within the same pass of the loop, as one batch."""
        if self._soon is None and self._loop is not None and not self._loop.is_closed():
            self._soon = self._loop.call_soon(self._push_again)
            self._pump(self._wires.push)

    def _push_again(self) -> None:
        self._soon = None
        self._pump(self._wires.push)

    def _pump_all(self) -> None:
        self._pump(self._wires.pump)

    def _pump(self, pump: Callable[[], bool]) -> None:
        if self._is_pumping or self._loop is None:
            return
        self._is_pumping = True
        try:
            more = pump()
        finally:
            self._is_pumping = False
        if more:
            self._loop.call_soon(self._pump_all)
        if self._wires.is_idle and not self._closing:
            context = self._wires.release()
            if context is not None:  # nobody was reached, or the node is gone for good: keep nothing
                self._loop.run_in_executor(None, context.term)
        deadline = self._core.next_deadline()
        if deadline != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = None, deadline
            if deadline is not None:
                self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_time)

    def _on_time(self) -> None:
        self._timer_at = None
        self._pump_all()

    def _watch(self, descriptor: int) -> None:
        assert self._loop is not None
        self._loop.add_reader(descriptor, self._pump_all)

    def _unwatch(self, descriptor: int) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)

    # -- handlers

    def _run(self, effect: Run) -> None:
        assert self._loop is not None
        job = effect.job
        handler: Handler = job.service.handler
        if handler.is_async or handler.is_generator:
            task = self._loop.create_task(self._serve(handler, job), name=f"fdn-client-{job.service.name}")
            self._jobs[job] = task
            task.add_done_callback(lambda _: self._on_done(job))
            return
        try:
            answer = handler.call(job, None)
        except Exception as error:
            self._core.fail(job, error, time.monotonic())
        else:
            self._core.reply(job, answer, time.monotonic())

    def _on_done(self, job: Job) -> None:
        self._jobs.pop(job, None)
        # For one that was cancelled before its first step; to any other it is no news.
        self._now(self._core.fail, job, Error("the handler was cancelled"), time.monotonic())

    def _stop(self, effect: Stop) -> None:
        task = self._jobs.get(effect.job)
        if task is not None:
            task.cancel()

    async def _serve(self, handler: "Handler", job: Job) -> None:
        try:
            answer = handler.call(job, self._requests(job) if handler.takes_items else None)
            if handler.is_generator:
                await self._serve_items(job, answer)
                self._now(self._core.end_reply, job, time.monotonic())
            else:
                self._now(self._core.reply, job, await answer, time.monotonic())
        except Exception as error:
            self._now(self._core.fail, job, error, time.monotonic())

    async def _serve_items(self, job: Job, generator: Any) -> None:
        try:
            async with contextlib.aclosing(_each(generator)) as each:
                async for item in each:
                    if not await self._do(self._verbs.put_reply(job, item)):
                        return
        finally:
            await _close(generator)

    async def _requests(self, job: Job) -> AsyncIterator[Any]:
        while (item := await self._do(self._verbs.next_request(job))) is not END:
            yield item

    # -- request streams

    def _feed(self, pending: Pending, items: Iterable[Any] | AsyncIterable[Any]) -> "asyncio.Task[None]":
        assert self._loop is not None
        return self._loop.create_task(self._feed_all(pending, items), name="fdn-client-items")

    async def _feed_all(self, pending: Pending, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        try:
            async with contextlib.aclosing(_each(items)) as each:
                async for item in each:
                    if not await self._do(self._verbs.put_item(pending, item)):
                        return
        except Exception as error:  # of whatever produces the items: both sides hear of it
            self._now(self._core.end_items, pending, error)
            self._now(pending.fail, error if isinstance(error, Error) else _failed_items(error))
        else:
            self._now(self._core.end_items, pending)

    def _forget(self, pending: Pending) -> None:
        self._now(self._verbs.forget, pending)


class ClientStream:
    """A streamed reply. Iterate; left early with `async with` or `aclose()`, the generator over there is closed.

    It is opened when it is first read. Errors of the handler come after the items before them.
    """

    def __init__(
        self,
        client: Client,
        opening: Steps[Pending],
        items: Iterable[Any] | AsyncIterable[Any] | None,
        timeout: float | None,
    ) -> None:
        self._client = client
        self._opening: Steps[Pending] | None = opening
        self._items = items
        self._timeout = timeout
        self._stream: ReplyStream | None = None
        self._feed: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> "ClientStream":
        await self._begin()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __aiter__(self) -> "ClientStream":
        return self

    async def __anext__(self) -> Any:
        client = self._client
        stream = self._stream or await self._begin()
        if self._closed or stream is None:
            raise StopAsyncIteration
        if len(stream.reply):
            return client._now(client._core.take_item, stream)
        try:
            item = await client._do(client._verbs.next_item(stream, self._timeout))
        except BaseException:
            await self.aclose()
            raise
        if item is END:
            await self.aclose()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Want no more items: what produces them is stopped. Idempotent."""
        self._closed = True
        self._forget()
        if self._feed is not None:
            await _end_task(self._feed)
            self._feed = None

    def __del__(self) -> None:
        loop = self._client._loop
        if not self._closed and self._stream is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._client._forget, self._stream)  # abandoned, perhaps on another thread

    def _forget(self) -> None:
        if self._stream is not None:
            self._client._forget(self._stream)

    async def _begin(self) -> ReplyStream | None:
        if self._opening is not None and not self._closed:
            opening, self._opening = self._opening, None
            stream = await self._client._do(opening)
            assert isinstance(stream, ReplyStream)
            self._stream = stream
            if self._items is not None:
                self._feed = self._client._feed(stream, self._items)
        return self._stream


class ClientSubscription:
    """What `Client.subscribe` gives. Iterating waits for the next event; it ends when it is closed.

    Attributes:
        pattern: Subject or pattern.
        queue: The queue group, or empty.
    """

    def __init__(self, client: Client, inbox: Inbox, handler: Callable[[ClientEvent], Any] | None) -> None:
        self.pattern = inbox.pattern
        self.queue = inbox.queue
        self._client = client
        self._inbox = inbox
        self._task: asyncio.Task[None] | None = None
        if handler is not None:
            assert client._loop is not None
            self._task = client._loop.create_task(self._handle_all(handler), name=f"fdn-client-{self.pattern}")

    async def __aenter__(self) -> "ClientSubscription":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __aiter__(self) -> "ClientSubscription":
        return self

    async def __anext__(self) -> ClientEvent:
        event = await self._next(FOREVER)
        if event is None:
            raise StopAsyncIteration
        return event

    @property
    def unaware(self) -> tuple[str, ...]:
        """Names of the members that had not confirmed that they know of it when the node answered."""
        return self._inbox.unaware

    async def next(self, timeout: float) -> ClientEvent | None:
        """The next event, or None if none comes in so many seconds.

        Raises:
            Error: The node has ended the subscription, or is lost and the client does not reconnect.
        """
        return await self._next(time.monotonic() + timeout)

    async def close(self) -> None:
        """Want no more. Idempotent."""
        self._client._now(self._client._core.unsubscribe, self._inbox)
        if self._task is not None:
            await _end_task(self._task)

    async def _next(self, until: float) -> ClientEvent | None:
        if len(self._inbox):
            return self._inbox.take()
        found = await self._client._do(self._client._verbs.next_event(self._inbox, until))
        return found if isinstance(found, ClientEvent) else None

    async def _handle_all(self, handler: Callable[[ClientEvent], Any]) -> None:
        import inspect
        import logging

        log = logging.getLogger(__name__)
        try:
            async for event in self:
                try:
                    done = handler(event)
                    if inspect.isawaitable(done):
                        await done
                except Exception:
                    log.exception("the handler of %s failed", self.pattern)
        except Error as error:
            log.error("the subscription to %s has ended: %s", self.pattern, error)


class ClientService:
    """What `Client.serve` gives: it serves until it is withdrawn.

    Attributes:
        name: What it serves.
    """

    def __init__(self, client: Client, service: Service) -> None:
        self.name = service.name
        self._client = client
        self._service = service

    async def __aenter__(self) -> "ClientService":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.withdraw()

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._service.running

    async def withdraw(self) -> None:
        """Serve no more; what runs goes on. Idempotent."""
        self._client._now(self._client._core.withdraw, self._service)

    async def wait(self) -> None:
        """Return when it is withdrawn.

        Raises:
            Error: The node has ended it, or is lost and the client does not reconnect.
        """
        await self._client._do(self._client._verbs.ended(self._service))


async def _end_task(task: "asyncio.Task[None]") -> None:
    import asyncio

    if task is not asyncio.current_task():
        task.cancel()
        await asyncio.wait([task])


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _close(generator: Any) -> None:
    if isinstance(generator, AsyncIterable):
        await generator.aclose()  # type: ignore[attr-defined]
    else:
        generator.close()


def _failed_items(error: Exception) -> Error:
    failure = Error(f"the items could not be produced: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _chance() -> float:
    return int.from_bytes(os.urandom(7), "big") / 2.0**56


@atexit.register
def _forsake() -> None:
    """A program ended without closing its clients: nothing may hang its exit."""
    for client in list(_open):
        if client._pid == os.getpid():
            client._loop = None
            client._wires.push()
            client._core.close()
            client._wires.push()
            client._wires.close()
