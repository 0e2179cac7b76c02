"""The blocking driver of the thin client: a lock around the core, and one thread that waits for the sockets.

A verb runs in the thread that calls it, under the lock, and sends at once; then it waits without the lock. What comes
in is taken by the client's own thread, which wakes whoever waits. No event loop anywhere.
"""

import atexit
import collections
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fdn.client.codec import wishes_of
from fdn.client.core import Core, Run, Stop
from fdn.client.inbox import ClientEvent, Inbox
from fdn.client.pending import Pending, ReplyStream
from fdn.client.serving import Job, Service
from fdn.client.signals import Wait
from fdn.client.verbs import END, FOREVER, Steps, Verbs
from fdn.client.wires import Wires
from fdn.errors import BadRequest, ConfigError, Error
from fdn.sync.workers import Workers

if TYPE_CHECKING:
    from fdn.messaging.retry import Retry

__all__ = ("Client", "ClientService", "ClientStream", "ClientSubscription")

T = TypeVar("T")
_EXIT_S: Final = 1.0  # what the end of a program may wait for one client
_open: "weakref.WeakSet[Client]" = weakref.WeakSet()


class Client:
    """A blocking client of a cluster, safe from any thread: it joins nothing and binds nothing.

    ```python
    with fdn.sync.Client("tcp://127.0.0.1:7400") as client:
        assert client.call("math.add", [2, 3]) == 5
    ```

    It is `fdn.Client` without the `await`s: the same verbs, the same promises when its node is lost. Ctrl-C interrupts
    whatever waits, and gives it up.

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
        self._lock = threading.Lock()  # around everything below, and the core
        self._watched: set[int] = set()
        self._watch_changes = 0
        self._waiter: _Waiter | None = None
        self._workers: Workers | None = None
        self._abandoned: collections.deque[ReplyStream] = collections.deque()
        self._wires = Wires(
            self._core,
            time.monotonic,
            watch=self._watch,
            unwatch=self._unwatch,
            run=self._run,
            stop=_ignore,  # a thread cannot be stopped; it notices when it sends
        )

    def __enter__(self) -> "Client":
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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

    def connect(self) -> None:
        """Say HELLO to the first seed that answers. Idempotent; every other verb does it too.

        Raises:
            Unreachable: None answers. Names them, and why.
            ConfigError: They belong to another cluster, or an address is none.
            VersionMismatch: There is no common version of the protocol.
        """
        self._do(self._verbs.connect())

    def close(self) -> None:
        """Send what is to be sent, say goodbye and close. Idempotent; a verb after it dials anew."""
        if self._pid != os.getpid() or self._waiter is None:
            return
        self._do(self._verbs.drain())
        with self._lock:
            waiter = self._end()
            context = self._wires.release()
        if waiter is not None:
            waiter.join()
        if context is not None:
            context.term()

    # -- verbs

    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | None = None,
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
            return self._do(
                self._verbs.call(
                    target, payload, timeout=timeout, headers=headers, retry=retry, channel=channel, wishes=wishes
                )
            )
        pending = self._do(
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
        try:
            self._feed(pending, items)
            return self._do(self._verbs.answer(pending))
        finally:
            self._now(self._verbs.forget, pending)

    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        priority: int = 0,
    ) -> "ClientStream":
        """Call a handler that answers with a stream: `for item in client.stream(...)`.

        Args:
            target: As in `call`.
            payload: As in `call`.
            items: The request stream, for a handler that takes one; iterated on a thread of its own.
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

    def cast(
        self,
        target: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | bytes | None = None,
        priority: int = 0,
    ) -> None:
        """Send without waiting for an answer; at most once, in order."""
        self._do(self._verbs.cast(target, payload, headers, wishes_of(key, priority)))

    def publish(
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
            self._do(self._verbs.publish_surely(subject, payload, headers, wishes, delivery))
            return
        self._do(self._verbs.publish(subject, payload, headers, wishes))

    def flush(self, timeout: float | None = None) -> None:
        """Return when the node has received all that was published here.

        Raises:
            Unreachable: The node was lost since the last flush, and maybe some of the events with it.
        """
        self._do(self._verbs.flush(timeout))

    def subscribe(
        self,
        pattern: str,
        handler: Callable[[ClientEvent], Any] | None = None,
        *,
        queue: str = "",
        timeout: float | None = None,
    ) -> "ClientSubscription":
        """Get the events of a subject, or of all that match a pattern: `for event in subscription`.

        What this client is too slow to read is dropped, the oldest first, and counted in the next event's `missed`.

        Args:
            pattern: `*` stands for one token, `>` at the end for the rest.
            handler: Called with each event, one after the other, on a thread of its own, instead of iterating. What it
                raises is logged.
            queue: A queue group: one member of it in the whole cluster gets each event.
            timeout: Seconds to wait until the members know of it; None takes the node's setting.

        Raises:
            ConfigError: The pattern or the group is not possible.
            Overloaded: The node has too many subscriptions.
        """
        inbox = self._do(self._verbs.subscribe(pattern, queue, timeout))
        return ClientSubscription(self, inbox, handler)

    def serve(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int = 8,
    ) -> "ClientService":
        """Serve a name to the whole cluster; the node offers it in this client's stead.

        Args:
            name: `service.method`, or a plain name.
            handler: A `def`, or a generator, which answers with a stream; its arguments as in
                `fdn.client.handlers.Handler`. It runs on threads of this client, several at once.
            version: The service's own.
            capabilities: Labels.
            concurrency: Calls, and threads, under way at once; further ones wait.

        Raises:
            ConfigError: It cannot be served.
            Conflict: This client serves it already.
        """
        from fdn.client.handlers import Handler

        bound = Handler(name, handler)
        if bound.is_async:
            raise ConfigError(f"handler {name} is an `async def`", hint="serve it with fdn.Client, or make it a `def`")
        service = self._do(
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

    def ping(self, channel: str = "data", timeout: float | None = None) -> float:
        """Round trip to the node on one channel, in seconds."""
        return self._do(self._verbs.ping(channel, timeout))

    # -- the driver

    def _do(self, steps: Steps[T]) -> T:
        """Run a verb to its end."""
        self._check_process()
        with self._lock:
            try:
                while True:
                    self._wait(next(steps))
            except StopIteration as done:
                result: T = done.value
                return result
            finally:
                steps.close()
                self._push()

    def _now(self, act: Callable[..., T], *arguments: Any) -> T:
        """What needs no waiting."""
        self._check_process()
        with self._lock:
            try:
                return act(*arguments)
            finally:
                self._push()

    def _wait(self, wait: Wait) -> None:
        """Send what is to be sent; return when the signal fires or the time has come. The lock is free meanwhile."""
        gate = threading.Lock()
        gate.acquire()
        wait.signal.add(gate.release)  # before sending, which may make it fire
        self._push()
        try:
            self._lock.release()  # inside: an interrupt finds it released, or was raised before
            if wait.until == FOREVER:
                gate.acquire()
            else:
                gate.acquire(timeout=max(0.0, wait.until - time.monotonic()))
        finally:
            self._lock.acquire()
            wait.signal.discard(gate.release)

    def _push(self) -> None:
        while self._abandoned:
            self._core.forget(self._abandoned.popleft())
        if self._waiter is None:
            if not self._core.has_effects:
                return  # it is closed, and stays so until something is to be dialled
            self._waiter = _Waiter(self)
            _open.add(self)
        more = self._wires.push()
        deadline = self._core.next_deadline()
        is_sooner = deadline is not None and deadline < self._waiter.until
        if more or is_sooner or self._waiter.watch_changes != self._watch_changes:
            self._waiter.wake()

    def _watch(self, descriptor: int) -> None:
        self._watched.add(descriptor)
        self._watch_changes += 1

    def _unwatch(self, descriptor: int) -> None:
        self._watched.discard(descriptor)
        self._watch_changes += 1

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise Error("this client was made before a fork", hint="make a new one in the child")

    def _end(self) -> "_Waiter | None":
        """Under the lock: give everything up; what is left is the thread, which ends soon."""
        self._core.close()
        self._wires.push()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()
        _open.discard(self)
        self._end_workers()
        return waiter

    def _end_workers(self) -> None:
        if self._workers is not None:
            self._workers.end()
            self._workers = None

    def _rest(self) -> None:
        """Nobody was reached, or the node is gone for good: keep nothing until the next verb."""
        self._waiter = None
        _open.discard(self)
        self._end_workers()
        self._wires.close()

    def _abandon(self, stream: ReplyStream) -> None:
        """From a finalizer, which may run anywhere, also where the lock is held."""
        if self._pid != os.getpid():
            return
        self._abandoned.append(stream)
        if self._lock.acquire(blocking=False):
            try:
                self._push()
            finally:
                self._lock.release()

    # -- handlers

    def _run(self, effect: Run) -> None:
        if self._workers is None:
            self._workers = Workers(f"fdn-{self.id}")
        self._workers.submit(lambda: self._serve(effect.job))

    def _serve(self, job: Job) -> None:
        handler = job.service.handler
        try:
            answer = handler.call(job, self._requests(job))
            if handler.is_generator:
                self._serve_items(job, answer)
                self._now(self._core.end_reply, job, time.monotonic())
            else:
                self._now(self._core.reply, job, answer, time.monotonic())
        except Exception as error:
            self._now(self._core.fail, job, error, time.monotonic())

    def _serve_items(self, job: Job, generator: Any) -> None:
        try:
            for item in generator:
                if not self._do(self._verbs.put_reply(job, item)):
                    return
        finally:
            generator.close()

    def _requests(self, job: Job) -> Iterator[Any]:
        while (item := self._do(self._verbs.next_request(job))) is not END:
            yield item

    # -- request streams

    def _feed(self, pending: Pending, items: Iterable[Any]) -> None:
        try:
            for item in items:
                if not self._do(self._verbs.put_item(pending, item)):
                    return
        except BaseException as error:
            self._now(self._core.end_items, pending, error)
            raise
        self._now(self._core.end_items, pending)

    def _feed_aside(self, stream: ReplyStream, items: Iterable[Any]) -> None:
        try:
            self._feed(stream, items)
        except Error as error:
            self._now(stream.fail, error)
        except Exception as error:  # of whatever produces the items
            failure = Error(f"the items could not be produced: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._now(stream.fail, failure)


class ClientStream:
    """A streamed reply. Iterate; leave it early with `with` or `close()`, and the generator over there is closed.

    It is opened when it is first read. Errors of the handler come after the items before them. For one thread.
    """

    def __init__(
        self, client: Client, opening: Steps[Pending], items: Iterable[Any] | None, timeout: float | None
    ) -> None:
        self._client = client
        self._opening: Steps[Pending] | None = opening
        self._items = items
        self._timeout = timeout
        self._stream: ReplyStream | None = None
        self._closed = False

    def __enter__(self) -> "ClientStream":
        self._begin()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> "ClientStream":
        return self

    def __next__(self) -> Any:
        stream = self._stream or self._begin()
        if self._closed or stream is None:
            raise StopIteration
        try:
            item = self._client._do(self._client._verbs.next_item(stream, self._timeout))
        except BaseException:
            self.close()
            raise
        if item is END:
            self.close()
            raise StopIteration
        return item

    def __del__(self) -> None:
        if not self._closed and self._stream is not None:
            self._client._abandon(self._stream)

    def close(self) -> None:
        """Want no more items: what produces them is stopped. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._stream is not None:
                self._client._now(self._client._verbs.forget, self._stream)

    def _begin(self) -> ReplyStream | None:
        if self._opening is not None and not self._closed:
            opening, self._opening = self._opening, None
            stream = self._client._do(opening)
            assert isinstance(stream, ReplyStream)
            self._stream = stream
            if self._items is not None:
                feed = threading.Thread(
                    target=self._client._feed_aside, args=(stream, self._items), name="fdn-client-items", daemon=True
                )
                feed.start()
        return self._stream


class ClientSubscription:
    """What `Client.subscribe` gives. Iterating waits for the next event; it ends when it is closed, by any thread.

    Attributes:
        pattern: Subject or pattern.
        queue: The queue group, or empty.
    """

    def __init__(self, client: Client, inbox: Inbox, handler: Callable[[ClientEvent], Any] | None) -> None:
        self.pattern = inbox.pattern
        self.queue = inbox.queue
        self._client = client
        self._inbox = inbox
        if handler is not None:
            name = f"fdn-client-{self.pattern}"
            threading.Thread(target=self._handle_all, args=(handler,), name=name, daemon=True).start()

    def __enter__(self) -> "ClientSubscription":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> "ClientSubscription":
        return self

    def __next__(self) -> ClientEvent:
        event = self._next(FOREVER)
        if event is None:
            raise StopIteration
        return event

    @property
    def unaware(self) -> tuple[str, ...]:
        """Names of the members that had not confirmed that they know of it when the node answered."""
        return self._inbox.unaware

    def next(self, timeout: float) -> ClientEvent | None:
        """The next event, or None if none comes in so many seconds.

        Raises:
            Error: The node has ended the subscription, or is lost and the client does not reconnect.
        """
        return self._next(time.monotonic() + timeout)

    def close(self) -> None:
        """Want no more. Idempotent."""
        self._client._now(self._client._core.unsubscribe, self._inbox)

    def _next(self, until: float) -> ClientEvent | None:
        found = self._client._do(self._client._verbs.next_event(self._inbox, until))
        return found if isinstance(found, ClientEvent) else None

    def _handle_all(self, handler: Callable[[ClientEvent], Any]) -> None:
        import logging

        log = logging.getLogger(__name__)
        try:
            for event in self:
                try:
                    handler(event)
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

    def __enter__(self) -> "ClientService":
        return self

    def __exit__(self, *exception: object) -> None:
        self.withdraw()

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._service.running

    def withdraw(self) -> None:
        """Serve no more; what runs goes on. Idempotent."""
        self._client._now(self._client._core.withdraw, self._service)

    def wait(self) -> None:
        """Return when it is withdrawn; Ctrl-C interrupts.

        Raises:
            Error: The node has ended it, or is lost and the client does not reconnect.
        """
        self._client._do(self._client._verbs.ended(self._service))


class _Waiter:
    """The client's thread: waits for the sockets, and lets the core take what comes.

    Attributes:
        until: When it wakes by itself.
        watch_changes: The client's count when it last looked.
    """

    def __init__(self, client: Client) -> None:
        self.until = 0.0
        self.watch_changes = 0
        self._client = client
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._reads, False)
        os.set_blocking(self._writes, False)
        self._watched: frozenset[int] = frozenset()
        self._thread = threading.Thread(target=self._run, name=f"fdn-{client.id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look again."""
        try:
            os.write(self._writes, b"\0")
        except BlockingIOError:
            pass  # it is full, so it wakes anyway

    def join(self) -> None:
        """Wait for its end, which is near: the client has let go of it."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        client = self._client
        poll = select.poll()
        poll.register(self._reads, select.POLLIN)
        try:
            while True:
                with client._lock:
                    if client._waiter is not self:
                        return
                    more = client._wires.pump()
                    if client._wires.is_idle and not client._core.has_effects:
                        client._rest()
                        return
                    self._watch(poll, frozenset(client._watched))
                    self.watch_changes = client._watch_changes
                    deadline = client._core.next_deadline()
                    self.until = FOREVER if deadline is None else deadline
                if not more:
                    self._sleep(poll)
        finally:
            os.close(self._reads)
            os.close(self._writes)

    def _watch(self, poll: "select.poll", wanted: frozenset[int]) -> None:
        if wanted != self._watched:
            for descriptor in self._watched - wanted:
                poll.unregister(descriptor)
            for descriptor in wanted - self._watched:
                poll.register(descriptor, select.POLLIN)
            self._watched = wanted

    def _sleep(self, poll: "select.poll") -> None:
        left_ms = None if self.until == FOREVER else max(0.0, self.until - time.monotonic()) * 1000 + 1
        poll.poll(left_ms)
        try:
            os.read(self._reads, 4096)
        except BlockingIOError:
            pass  # it was the sockets, or the time


def _ignore(effect: Stop) -> None:
    """A thread cannot be stopped: it goes on, and what it answers is dropped."""


def _chance() -> float:
    return int.from_bytes(os.urandom(7), "big") / 2.0**56


@atexit.register
def _forsake() -> None:
    """A program ended without closing its clients: say goodbye, without waiting for anything."""
    for client in list(_open):
        if client._pid == os.getpid() and client._lock.acquire(timeout=_EXIT_S):
            try:
                client._wires.push()
                client._end()
                client._wires.close()
            finally:
                client._lock.release()
