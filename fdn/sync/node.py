"""A node for programs with threads: `fdn.Node` on an event loop in a thread of its own, behind blocking verbs."""

import asyncio
import atexit
import collections
import concurrent.futures
import functools
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from fdn import node as async_node
from fdn.app import App
from fdn.context import DEADLINE_S_MAX
from fdn.errors import BadRequest, Error
from fdn.messaging.blobs.blob import Blob, Progress
from fdn.messaging.blobs.blobs import BlobSource
from fdn.messaging.delivery.promise import DeliveryClass
from fdn.messaging.draining import DrainReport
from fdn.messaging.event_queue import Gap
from fdn.messaging.offers import Offer
from fdn.messaging.retry import Retry
from fdn.messaging.streams import Stream
from fdn.messaging.subscriptions import Event, Subscription
from fdn.node import NodeStats, WhenFull
from fdn.runtime.send_options import Key
from fdn.runtime.view import Member
from fdn.sync.workers import Workers

if TYPE_CHECKING:
    import numpy

__all__ = ("Node", "NodeStream", "NodeSubscription")

T = TypeVar("T")
_log = logging.getLogger(__name__)
_EXIT_S: Final = 2.0  # what the end of a program may wait for a node to say goodbye
_EVENTS_AT_ONCE_MAX: Final = 256  # fetched by one visit to the loop
_HANDLER_THREADS: Final = 4
_END: Final = object()
_running: "weakref.WeakSet[Node]" = weakref.WeakSet()


class Node:
    """A member of a cluster, for any thread.

    ```python
    with fdn.sync.Node(app, join=["tcp://127.0.0.1:7400"]) as node:
        assert node.call("math.add", {"a": 2, "b": 3}) == 5
    ```

    It has the verbs of `fdn.Node` without the `await`s. Handlers run as that node runs them: `async def` on its loop,
    where nothing may block; those that `serve` and `subscribe` are given here, on threads. Ctrl-C interrupts whatever
    waits, and gives it up.

    Args:
        *apps: Services, subscriptions, timers and lifespans from the start.
        **settings: As for `fdn.Node`.
    """

    def __init__(self, *apps: App, **settings: Any) -> None:
        self._node = async_node.Node(*apps, **settings)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Node":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- life

    def start(self) -> None:
        """Start the thread, and the node on it.

        Raises:
            Error: As `fdn.Node.start`.
        """
        if self._thread is not None:
            raise Error("this node was started already; a node starts once", hint="make a new Node")
        started = threading.Event()
        self._thread = threading.Thread(target=self._run_loop, args=(started,), name="fdn-sync-node", daemon=True)
        self._thread.start()
        started.wait()
        _running.add(self)
        try:
            self._do(self._node.start)
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Drain, leave the cluster, and release everything. Idempotent."""
        if self._pid != os.getpid() or self._loop is None or self._loop.is_closed():
            return
        try:
            self._do(self._node.stop)
        finally:
            self._end()

    def leave(self) -> None:
        """The same as `stop`: a node that is stopped has left, and is not held dead."""
        self.stop()

    def wait_stopped(self) -> None:
        """Return when the node has stopped, for whatever reason (`fdn leave` among them); Ctrl-C interrupts."""
        self._do(self._node.wait_stopped)

    def drain(self) -> DrainReport:
        """Stop taking new work, and finish what has begun. See `fdn.Node.drain`."""
        return self._do(self._node.drain)

    def join(self, *seeds: str) -> None:
        """Find further members through any of `seeds` (base addresses)."""
        self._do(lambda: self._node.join(*seeds))

    # -- messaging

    @overload
    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: type[T],
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> T: ...

    @overload
    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: None = None,
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Any: ...

    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: type[T] | None = None,
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> T | Any:
        """Call `service.method` on one of the nodes that offer it. See `fdn.Node.call`."""
        return self._do(
            lambda: self._node.call(
                target,
                payload,
                returns=returns,
                timeout=timeout,
                retry=retry,
                items=self._items(items),
                key=key,
                priority=priority,
                when_full=when_full,
            )
        )

    def cast(
        self,
        target: str,
        payload: Any = None,
        *,
        delivery: DeliveryClass | None = None,
        confirm: bool = False,
        key: Key | None = None,
        priority: int | None = None,
        latest: str | None = None,
        when_full: WhenFull | None = None,
    ) -> None:
        """Send without waiting for an answer; at most once, unless `delivery` says more. See `fdn.Node.cast`."""

        async def cast() -> None:
            await self._node.cast(
                target,
                payload,
                delivery=delivery,
                confirm=confirm,
                key=key,
                priority=priority,
                latest=latest,
                when_full=when_full,
            )

        self._do(cast)

    def publish(
        self,
        subject: str,
        payload: Any = None,
        *,
        delivery: DeliveryClass | None = None,
        causal: str | None = None,
        confirm: bool = False,
        key: Key | None = None,
        priority: int | None = None,
        latest: str | None = None,
        when_full: WhenFull | None = None,
    ) -> int:
        """Send to every node that wants the subject: to how many. See `fdn.Node.publish`."""

        async def publish() -> int:
            return await self._node.publish(
                subject,
                payload,
                delivery=delivery,
                causal=causal,
                confirm=confirm,
                key=key,
                priority=priority,
                latest=latest,
                when_full=when_full,
            )

        return self._do(publish)

    def blob(self, source: BlobSource) -> Blob:
        """Make a large object, and hold it for others to fetch. See `fdn.Node.blob`; `blob.release` ends it."""
        return self._do(lambda: self._node.blob(source))

    def read_blob(self, blob: Blob, progress: Progress | None = None) -> memoryview:
        """Its content in memory. See `fdn.Blob.read`; `progress` is called on the node's thread."""
        return self._do(lambda: blob.read(progress))

    def save_blob(
        self, blob: Blob, path: str | os.PathLike[str], progress: Progress | None = None, hold: bool = False
    ) -> None:
        """Fetch it into a file. See `fdn.Blob.save`; `progress` is called on the node's thread."""
        self._do(lambda: blob.save(path, progress, hold))

    def shared_buffer(self, size: int) -> memoryview:
        """Memory that nodes of this host get as a handle. See `fdn.Node.shared_buffer`."""
        return self._node.shared_buffer(size)

    def shared_array(self, shape: "int | tuple[int, ...]", dtype: Any = "float64") -> "numpy.ndarray[Any, Any]":
        """An array in such memory. See `fdn.Node.shared_array`."""
        return self._node.shared_array(shape, dtype)

    def flush(self, timeout: float | None = None) -> int:
        """Return when all that was sent with `delivery=` is acknowledged or given up. See `fdn.Node.flush`."""
        return self._do(lambda: self._node.flush(timeout))

    @overload
    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        returns: type[T],
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> "NodeStream[T]": ...

    @overload
    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        returns: None = None,
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> "NodeStream[Any]": ...

    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Iterable[Any] | AsyncIterable[Any] | None = None,
        returns: type[T] | None = None,
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> "NodeStream[T] | NodeStream[Any]":
        """Iterate over the streamed reply of a generator. See `fdn.Node.stream`."""

        async def make() -> Stream[Any]:
            return self._node.stream(
                target,
                payload,
                items=self._items(items),
                returns=returns,
                timeout=timeout,
                key=key,
                priority=priority,
                when_full=when_full,
            )

        return NodeStream(self, self._do(make))

    @overload
    def subscribe(
        self,
        pattern: str,
        handler: Callable[["Event[Any] | Gap"], Any] | None = None,
        *,
        payload: type[T],
        queue: str = "",
        policy: str = "wait",
        queue_max: int | None = None,
        timeout: float | None = None,
    ) -> "NodeSubscription[T]": ...

    @overload
    def subscribe(
        self,
        pattern: str,
        handler: Callable[["Event[Any] | Gap"], Any] | None = None,
        *,
        payload: None = None,
        queue: str = "",
        policy: str = "wait",
        queue_max: int | None = None,
        timeout: float | None = None,
    ) -> "NodeSubscription[Any]": ...

    def subscribe(
        self,
        pattern: str,
        handler: Callable[["Event[Any] | Gap"], Any] | None = None,
        *,
        payload: type[T] | None = None,
        queue: str = "",
        policy: str = "wait",
        queue_max: int | None = None,
        timeout: float | None = None,
    ) -> "NodeSubscription[T] | NodeSubscription[Any]":
        """Get the events of a subject, or of all that match a pattern: `for event in subscription`.

        Args:
            pattern: As for `fdn.Node.subscribe`, as are the others.
            handler: Called with each event (or `Gap`), one after the other, on a thread of its own, instead of
                iterating. What it raises is logged.
            payload: The type of the payload; None gives plain values.
            queue: A queue group.
            policy: What happens when `queue_max` events wait.
            queue_max: None takes the setting.
            timeout: Seconds to wait until the members know.
        """

        async def subscribe() -> Subscription[Any]:
            wanted = self._node.subscribe(
                pattern,
                payload=payload,
                queue=queue,
                policy=policy,
                queue_max=queue_max,
                timeout=timeout,
            )
            return await wanted

        return NodeSubscription(self, self._do(subscribe), handler)

    def serve(
        self,
        name: str,
        target: Any,
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int | None = None,
        mailbox_max: int | None = None,
        threads: int = _HANDLER_THREADS,
    ) -> None:
        """Serve a class, an instance or a function under `name`. See `fdn.Node.serve`.

        Args:
            name: As there, as are the others.
            target: What serves.
            version: The service's own.
            capabilities: Labels.
            concurrency: None takes the setting.
            mailbox_max: None takes the setting.
            threads: For handlers that are plain functions, so that they may block; 0 runs them on the node's loop.
        """

        async def serve() -> None:
            self._node.serve(
                name,
                target,
                version=version,
                capabilities=capabilities,
                concurrency=concurrency,
                mailbox_max=mailbox_max,
                threads=threads,
            )

        self._do(serve)

    def withdraw(self, name: str) -> None:
        """Stop serving `name`; what runs is cancelled."""
        self._do(lambda: self._node.withdraw(name))

    # -- what is known

    @property
    def id(self) -> str:
        """The node id: the name and 64 random bits."""
        return self._node.id

    @property
    def name(self) -> str:
        """The name for people."""
        return self._node.name

    @property
    def endpoint(self) -> str:
        """What others join: the coordination endpoint."""
        return self._node.endpoint

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Channel name to advertised endpoint."""
        return self._node.endpoints

    def members(self) -> tuple[Member, ...]:
        """Everybody that is remembered, by name. See `fdn.Node.members`."""
        return self._node.members()

    def reachable(self) -> tuple[Member, ...]:
        """The members that can be talked to now."""
        return self._node.reachable()

    def offers(self) -> Mapping[str, tuple[Offer, ...]]:
        """What each living member offers, by node id."""
        return self._on_loop(self._node.offers)

    def ping(self, node: str, channel: str = "data", timeout: float = 1.0) -> float:
        """Round trip to a member on one channel, in seconds."""
        return self._do(lambda: self._node.ping(node, channel, timeout))

    def ask(self, node: str, request: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """Ask a member's control plane a system request. See `fdn.Node.ask`."""
        return self._do(lambda: self._node.ask(node, request, payload, timeout=timeout))

    def stats(self) -> NodeStats:
        """Counters of every component."""
        return self._do(self._node.stats)

    # -- the thread

    def _do(self, make: Callable[[], Coroutine[Any, Any, T]], timeout: float | None = None) -> T:
        """Run a coroutine on the loop, with the context of this thread, and wait for its result."""
        loop = self._check()

        async def run() -> T:
            return await make()

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return future.result(timeout)
        except concurrent.futures.CancelledError:
            raise Error("this node was stopped meanwhile", hint="make a new Node") from None
        except BaseException:
            future.cancel()  # an interrupt, or the timeout: nobody waits any more
            raise

    def _on_loop(self, act: Callable[[], T]) -> T:
        async def run() -> T:
            return act()

        return self._do(run)

    def _check(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            raise Error("this node was made before a fork", hint="start a new one here")
        if self._loop is None or self._loop.is_closed():
            raise Error(
                "this node does not run", hint="use it inside `with fdn.sync.Node(...)`, or between start and stop"
            )
        if threading.current_thread() is self._thread:
            raise Error(
                "a blocking verb on the node's own loop would wait for itself",
                hint="in a handler that runs there use `fdn.Node`, or serve it with threads=",
            )
        return self._loop

    def _items(self, items: Iterable[Any] | AsyncIterable[Any] | None) -> Any:
        """A request stream, whose iterator may block, so that it must not run on the loop."""
        return items if items is None or isinstance(items, AsyncIterable | list | tuple) else _aside(iter(items))

    def _run_loop(self, started: threading.Event) -> None:
        async def until_ended() -> None:
            self._loop = asyncio.get_running_loop()
            self._ended = asyncio.Event()
            started.set()
            await self._ended.wait()

        try:
            asyncio.run(until_ended())
        finally:
            _running.discard(self)

    def _end(self) -> None:
        """Let the thread end."""
        if self._loop is not None and self._thread is not None:
            try:
                self._loop.call_soon_threadsafe(self._ended.set)
            except RuntimeError:
                pass  # another thread was first
            self._thread.join()


class NodeStream(Generic[T]):
    """A streamed reply. Iterate; left early with `with` or `close()`, the generator over there is closed."""

    def __init__(self, node: Node, stream: Stream[T]) -> None:
        self._node = node
        self._stream = stream

    def __enter__(self) -> "NodeStream[T]":
        self._node._do(self._stream.__aenter__)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> "NodeStream[T]":
        return self

    def __next__(self) -> T:
        async def read() -> Any:
            return await anext(self._stream, _END)

        item = self._node._do(read)
        if item is _END:
            raise StopIteration
        return item  # type: ignore[no-any-return]  # what `anext` gives unless it is `_END`

    def close(self) -> None:
        """Want no more items. Idempotent."""
        if self._node._loop is not None and not self._node._loop.is_closed():
            self._node._do(self._stream.aclose)


class NodeSubscription(Generic[T]):
    """What `Node.subscribe` gives. Iterating waits for the next event, or `Gap`; it ends with the node, or when closed.

    For one thread; any thread may close it.
    """

    def __init__(
        self, node: Node, subscription: Subscription[Event[T] | Gap], handler: Callable[[Event[Any] | Gap], Any] | None
    ) -> None:
        self._node = node
        self._subscription = subscription
        self._fetched: collections.deque[Event[T] | Gap] = collections.deque()
        if handler is not None:
            name = f"fdn-sync-{subscription.pattern}"
            threading.Thread(target=self._handle_all, args=(handler,), name=name, daemon=True).start()

    def __enter__(self) -> "NodeSubscription[T]":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> "NodeSubscription[T]":
        return self

    def __next__(self) -> Event[T] | Gap:
        event = self._next(None)
        if event is None:
            raise StopIteration
        return event

    @property
    def pattern(self) -> str:
        """Subject or pattern."""
        return self._subscription.pattern

    @property
    def unaware(self) -> tuple[str, ...]:
        """Names of the members that had not confirmed that they know of it."""
        return self._subscription.unaware

    def next(self, timeout: float) -> Event[T] | Gap | None:
        """The next event or gap, or None if none comes in so many seconds, or none will come any more."""
        if not 0 <= timeout <= DEADLINE_S_MAX:
            raise BadRequest(f"timeout={timeout!r}", hint="expected seconds, not below 0")
        return self._next(timeout)

    def close(self) -> None:
        """Want no more. Idempotent."""
        self._fetched.clear()
        if self._node._loop is not None and not self._node._loop.is_closed():
            self._node._do(self._subscription.close)

    def _next(self, timeout: float | None) -> Event[T] | Gap | None:
        if not self._fetched:
            self._node._do(lambda: self._fetch(timeout))
        return self._fetched.popleft() if self._fetched else None

    async def _fetch(self, timeout: float | None) -> None:
        """On the loop: wait for one, and take with it what else is there; a visit costs far more than an event."""
        try:
            async with asyncio.timeout(timeout):
                self._fetched.append(await anext(self._subscription))
                while self._subscription.pending and len(self._fetched) < _EVENTS_AT_ONCE_MAX:
                    self._fetched.append(await anext(self._subscription))
        except (TimeoutError, StopAsyncIteration):
            pass  # none in time, or no more

    def _handle_all(self, handler: Callable[[Event[Any] | Gap], Any]) -> None:
        try:
            for event in self:
                try:
                    handler(event)
                except Exception:
                    _log.exception("the handler of %s failed", self.pattern)
        except Error as error:
            _log.debug("the subscription to %s has ended: %s", self.pattern, error)


async def _aside(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Iterate on a thread of its own: the loop's end would wait for one of its threads that an iterator blocks."""
    workers = Workers("fdn-sync-items")
    try:
        while True:
            read: concurrent.futures.Future[Any] = concurrent.futures.Future()
            workers.submit(functools.partial(_read, items, read))
            item = await asyncio.wrap_future(read)
            if item is _END:
                return
            yield item
    finally:
        workers.end()


def _read(items: Iterator[Any], read: "concurrent.futures.Future[Any]") -> None:
    if read.set_running_or_notify_cancel():
        try:
            read.set_result(next(items, _END))
        except Exception as error:
            read.set_exception(error)


@atexit.register
def _forsake() -> None:
    """A program ended without stopping its nodes: say goodbye, but do not wait for long."""
    for node in list(_running):
        if node._pid != os.getpid() or node._loop is None or node._loop.is_closed():
            continue
        try:
            node._do(node._node.stop, _EXIT_S)
        except Exception as error:
            # The peers will find out. What its pending tasks say as they are torn down is of no use to anybody.
            node._loop.set_exception_handler(lambda loop, context: None)
            _log.debug("the node was left behind: %r", error)
