"""The node: assembly and life cycle, no logic of its own.

It picks an identity, binds four channels, starts the two planes, joins, and puts messaging on top.
"""

import asyncio
import atexit
import dataclasses
import functools
import logging
import math
import random
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from fdn import __version__
from fdn.app import App
from fdn.context import DEADLINE_S_MAX, deadline, scope_var
from fdn.errors import BadRequest, ConfigError, Error, NotFound, Overloaded
from fdn.lifespans import Lifespans
from fdn.messaging.awareness import KNOWS, OFFERS_BYTES_MAX, Awareness
from fdn.messaging.blobs.blob import Blob
from fdn.messaging.blobs.blobs import Blobs, BlobSource, BlobsStats
from fdn.messaging.blobs.holdings import blob_requests
from fdn.messaging.calls import Caller, CallerStats
from fdn.messaging.client_probe import ClientProbe
from fdn.messaging.client_services import ClientServices
from fdn.messaging.delivery.courier import Courier, CourierStats
from fdn.messaging.delivery.promise import DeliveryClass, promise
from fdn.messaging.diagnostics import diagnostics
from fdn.messaging.directory import OffersDirectory
from fdn.messaging.dispatch import Dispatcher, DispatchStats
from fdn.messaging.draining import DrainReport, DrainStage, Stage, drain
from fdn.messaging.event_gateway import EventGateway
from fdn.messaging.event_handlers import OrderedBy
from fdn.messaging.event_queue import Gap
from fdn.messaging.events import Events, EventsStats
from fdn.messaging.gateway import Gateway
from fdn.messaging.injection import given
from fdn.messaging.interceptors import Interceptor, Outgoing, Send, compose_send
from fdn.messaging.introspection import answers
from fdn.messaging.offers import Offer, Offers, encode_offers
from fdn.messaging.payloads import PLAIN, decode, decoder_of
from fdn.messaging.proxy import make_proxy
from fdn.messaging.retry import Retry
from fdn.messaging.services import Service
from fdn.messaging.stream_calls import Items, OpenCall, StreamCaller
from fdn.messaging.stream_flow import REQUEST_STREAM
from fdn.messaging.streams import Stream
from fdn.messaging.subscriptions import Event, Subscription
from fdn.runtime.binding import advertised, bind_all
from fdn.runtime.control_bulk import BULK_FEATURE
from fdn.runtime.control_plane import RELAY_FEATURE, ControlPlane, ControlPlaneStats
from fdn.runtime.data_plane import DATA_FEATURES, DataPlane, DataPlaneStats, Handler, Origin, Ticket
from fdn.runtime.data_side import LoopSide
from fdn.runtime.facts import DrainStageEnded, Fact, FactStream
from fdn.runtime.fork import ForkGuard, detach_loop
from fdn.runtime.greeting import Greeter, fingerprint
from fdn.runtime.identity import NodeIdentity, establish
from fdn.runtime.plane_thread import InlinePlane, PlaneHost, PlaneThread
from fdn.runtime.send_options import NO_OPTIONS, Key, SendOptions
from fdn.runtime.sessions import Session
from fdn.runtime.sharing import SHM, Sharing
from fdn.runtime.timers import Timers, TimersStats
from fdn.runtime.view import EMPTY_VIEW, Member, View
from fdn.settings import DataSettings, Settings
from transports.channel import Channel
from transports.limits import FRAME_SLACK_BYTES, Limits
from transports.shm.pool import PoolStats
from transports.transport import Transport
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Identity

if TYPE_CHECKING:
    import numpy

__all__ = ("Node", "NodeStats", "TransportFactory", "WhenFull")

_log = logging.getLogger(__name__)
T = TypeVar("T")
WhenFull = Literal["wait", "refuse"]
_Call = Callable[
    [str, Any, float | None, "msgspec.msgpack.Decoder[Any]", Retry | None, SendOptions | None], Coroutine[Any, Any, Any]
]  # target, payload, timeout, decoder of the result, tries, options
TransportFactory = Callable[[asyncio.AbstractEventLoop, Limits], Transport]
_SETTLE_S = 1.0  # how long a start waits for what the other members serve
_TELL_S = 2.0  # how long a node that drains waits for the members to know
_FLUSH_PAUSE_S = 0.005  # between two looks at what waits to leave
_CLOSE_LEAST_S = 0.5  # what each part gets to close when another has used up `stop_timeout_s`
_running: "weakref.WeakSet[Node]" = weakref.WeakSet()


@dataclasses.dataclass(frozen=True, slots=True)
class NodeStats:
    """One frozen snapshot of every component's counters."""

    control: ControlPlaneStats
    data: DataPlaneStats
    calls: CallerStats
    dispatch: DispatchStats
    events: EventsStats
    timers: TimersStats
    blobs: BlobsStats
    delivery: CourierStats
    shared: PoolStats


class Node:
    """A member of a cluster, living on the running event loop.

    ```python
    async with fdn.Node(app, join=["tcp://127.0.0.1:7400"]) as node:
        assert await node.call("math.add", {"a": 2, "b": 3}) == 5
    ```

    Everything on it belongs to the loop that started it, except that nothing may be used in a forked child.

    Args:
        *apps: Services, subscriptions, timers and lifespans from the start.
        settings: All settings; None takes the defaults.
        interceptors: Around every send and every handler, first one outermost; those of the apps are inside.
        control: Where the control plane runs: `thread` (its own, so that user code cannot delay it) or `inline` (on
        this
            loop: for tests and virtual time).
        transport: Makes each plane's transport; None takes ZeroMQ.
        rng: The source of all chance but identities; None seeds one from the system.
        wall: The clock of timers that go by cron: seconds since 1970. Everything else goes by the loop's.
        **overrides: Single settings by name, over `settings`.

    Raises:
        ConfigError: A setting or a service is not possible.
    """

    # What every message touches; in a dict of more than 30 attributes it is slow to reach.
    __slots__ = ("__dict__", "__weakref__", "_call", "_cast", "_publish", "_thread")

    def __init__(
        self,
        *apps: App,
        settings: Settings | None = None,
        interceptors: Sequence[Interceptor] = (),
        control: str = "thread",
        transport: TransportFactory | None = None,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
        **overrides: Any,
    ) -> None:
        self.settings = _override(settings or Settings(), overrides)
        if control not in ("thread", "inline"):
            raise ConfigError(f"control={control!r}", hint="expected 'thread' or 'inline'")
        for app in apps:
            if not isinstance(app, App):
                raise ConfigError(f"Node({app!r}): expected apps, then settings", hint="a name is given as name=...")
        self._apps = apps
        self._interceptors = (*interceptors, *(one for app in apps for one in app.interceptors))
        self._inline = control == "inline"
        self._make_transport = transport or _zmq_transport
        self._rng = rng or random.Random()
        self._wall = wall
        self._lifespans = Lifespans(apps, self, self._begin_stop)
        self._guard = ForkGuard("this node")
        self._state = "new"
        self._thread = 0  # which runs our loop; not the loop itself, for which asyncio would ask the system each time
        self._facts = FactStream(self.settings.facts.queue_max)
        self._view = EMPTY_VIEW
        self._directory = OffersDirectory()
        self._identity: NodeIdentity | None = None
        self._endpoints: dict[str, str] = {}
        self._draining = False
        self._offering = False
        self._own_offers = encode_offers(Offers())
        self._stopped: asyncio.Event | None = None
        self._starting: asyncio.Task[Any] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._closers: list[Callable[[], Awaitable[object]]] = []  # in the order of opening
        self._send: Send | None = None
        self._cast: Callable[[str, Any], Awaitable[None]] = self._refuse_cast
        self._publish: Callable[[str, Any], Awaitable[int]] = self._refuse_publish
        self._call: _Call = self._refuse_call
        self._cast_with: Callable[[str, Any, SendOptions], Awaitable[None]] = self._refuse_cast
        self._publish_with: Callable[[str, Any, SendOptions], Awaitable[int]] = self._refuse_publish
        # What is sent without options has to look for its lane, too, where there are several.
        self._no_options = NO_OPTIONS if self.settings.data.parallelism > 1 else None
        self._guard.on_fork = self._disown

    # -- life

    async def __aenter__(self) -> "Node":
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind, start both planes, and join if there is anybody to join.

        Raises:
            Conflict: A port, the data directory or the name is taken.
            Unreachable: None of the seeds answered.
            ConfigError: A seed belongs to another cluster, or an address cannot be used.
            VersionMismatch: A seed speaks no common version of the protocol.
        """
        self._guard.check()
        if self._state != "new":
            raise Error(f"this node is {self._state}; a node starts once", hint="make a new Node")
        self._state = "starting"
        self._starting = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._stopped = asyncio.Event()
        token = scope_var.set(None)  # the node must not inherit a trace or deadline from whoever starts it
        try:
            self._identity = establish(self.settings.name, self.settings.data_dir)
            await self._assemble(self._identity)
            self._endpoints = advertised(
                await bind_all(self.settings, self._host, self._control, self._data), self.settings
            )
            await self._open()
            await self._begin_work()
        except BaseException as error:
            given_up = self._state == "giving up"
            await self._tear_down()
            if given_up and self._starting is not None and isinstance(error, asyncio.CancelledError):
                self._starting.uncancel()  # it was `stop` that cancelled, not whoever waits for the start
                why = self._lifespans.broken or Error("this node was stopped while it started", hint="make a new Node")
                raise why from None
            raise
        finally:
            self._starting = None
            scope_var.reset(token)
        self._state = "running"
        _running.add(self)
        _log.info("node %s runs at %s", self.name, self.endpoint, extra={"node": self.id, "endpoint": self.endpoint})

    async def drain(self) -> DrainReport:
        """Stop taking new work: tell the cluster, and finish what has begun, within `drain_timeout_s`.

        In this order: the members know that this node drains, so that new calls go elsewhere (`members`); timers; calls
        and casts, streams included (`calls`); what clients have under way through this node (`clients`); subscriptions
        (`events`); what is not acknowledged (`deliveries`); what waits to leave (`sends`). What comes in meanwhile,
        from members that did not know yet, is done too. Each stage is told in a `DrainStageEnded` fact.

        Returns:
            What each stage found and left; true if everything was finished in time.
        """
        self._check_running()
        self._draining = True
        return await drain(self._drain_stages(), self.settings.drain_timeout_s, self._loop, self._on_stage_ended)

    async def stop(self) -> None:
        """Drain, leave the cluster, and release everything. Bounded by `drain_timeout_s + stop_timeout_s`.
        Idempotent.
        """
        if self._guard.forked or self._state in ("new", "stopped"):
            return
        if self._starting is not None:
            self._give_up_start()
            assert self._stopped is not None
            await self._stopped.wait()
            return
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def leave(self) -> None:
        """The same as `stop`: a node that is stopped has left, and is not held dead."""
        await self.stop()

    async def wait_stopped(self) -> None:
        """Return when the node has stopped, for whatever reason (`fdn leave` among them).

        Raises:
            Error: The reason is that a lifespan of an app ended by itself.
        """
        if self._stopped is not None:
            await self._stopped.wait()
        if self._lifespans.broken is not None:
            raise self._lifespans.broken

    async def join(self, *seeds: str) -> None:
        """Find further members through any of `seeds` (base addresses).

        Raises:
            As `start`.
        """
        self._check_running()
        joined = Settings(join=seeds, cluster=self.settings.cluster).join
        await self._host.run(self._control.join(joined))

    # -- services

    def serve(
        self,
        name: str,
        target: Any,
        *,
        version: str = "",
        capabilities: Collection[str] = (),
        concurrency: int | None = None,
        mailbox_max: int | None = None,
        threads: int = 0,
    ) -> None:
        """Serve a class, an instance or a function under `name`, as `App.service` does.

        Raises:
            ConfigError: It cannot be served, or the name is served already.
        """
        self._check_running()
        self._add_service(name, target, version, capabilities, concurrency, mailbox_max, threads)
        self._publish_offers()

    async def withdraw(self, name: str) -> None:
        """Stop serving `name`; what runs is cancelled.

        Raises:
            NotFound: It is not served here.
        """
        self._check_running()
        await self._dispatcher.remove(name)
        self._publish_offers()

    # -- messaging

    @overload
    def cast(self, target: str, payload: Any = None) -> Awaitable[None]: ...

    @overload
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
    ) -> Awaitable[None]: ...

    def cast(self, target: str, payload: Any = None, **options: Any) -> Awaitable[None]:
        """Await it to send without waiting for an answer. See `fdn.messaging.calls.Caller.cast`.

        At most once, unless `delivery` says more. Casts from one task to one node arrive in order, as long as there is
        one lane (`data.parallelism`), nobody gives a priority and none is so large that it goes in pieces
        (`data.chunk_bytes`); those of one key and one priority always do. It waits while the receiver grants no credit.

        Args:
            target: As for `call`.
            payload: As for `call`.
            delivery: As for `publish`: with `at_least_once` one of the nodes that offer `target` gets it, and another
                one when that dies or leaves before it has acknowledged.
            confirm: As for `publish`.
            key: Messages of one key go to the same node, as long as the nodes that offer `target` stay the same, and
                arrive there in the order of sending.
            priority: -4 to 4. Higher leaves the queue to the node first; lower ones are not starved.
            latest: Takes the place of the cast of this name to the same target and node that has not left yet: for
                values of which only the newest counts.
            when_full: `wait` for room in the queue to the node, or `refuse`; None takes `data.when_full`, or with
                `delivery` what `delivery.when_full` says.

        Raises:
            NotFound: Nobody offers `target`.
            Unreachable: Nobody that offers it can be reached.
            BadRequest: The payload cannot be sent.
            Overloaded: There is no room, and it should not wait.
        """
        if get_ident() != self._thread:
            raise self._out_of_place()
        if options:  # not parameters of their own, whose defaults would cost every message as much as its envelope
            return self._cast_as(target, payload, **options)
        return self._cast(target, payload)

    def _cast_as(
        self,
        target: str,
        payload: Any,
        *,
        delivery: DeliveryClass | None = None,
        confirm: bool = False,
        key: Key | None = None,
        priority: int | None = None,
        latest: str | None = None,
        when_full: WhenFull | None = None,
    ) -> Awaitable[None]:
        if delivery is not None or confirm:
            return self._cast_surely(target, payload, delivery, confirm, key, priority, latest, when_full)
        if key is None and priority is None and latest is None and when_full is None:
            return self._cast(target, payload)
        return self._cast_with(target, payload, self._options(key, priority, latest, when_full))

    @overload
    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: type[T],
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Items | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: None = None,
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Items | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Coroutine[Any, Any, Any]: ...

    def call(
        self,
        target: str,
        payload: Any = None,
        *,
        returns: type[T] | None = None,
        timeout: float | None = None,
        retry: Retry | int | None = None,
        items: Items | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Coroutine[Any, Any, T | Any]:
        """Call `service.method`, or a plain function by its service's name, on one of the nodes that offer it.

        Nodes take turns. `@node` behind the target picks one by name or id.

        Args:
            target: `math.add`, `math.add@n2`.
            payload: The argument; a map or list for a handler that takes several.
            returns: The type of the result; None gives plain values.
            timeout: Seconds for everything; None takes `calls.timeout_s`. A tighter `fdn.deadline` wins.
            retry: Further tries elsewhere after errors that may pass; the call may then run more than once.
            items: A request stream: any iterable or async iterable, taken as fast as the handler reads, and closed in
                the end if it is a generator. A plain iterable that blocks holds up the loop. If it raises, so does this
                call, and the handler is cancelled. Such a call is made once, whatever `retry` says.
            key: As for `cast`; the first try only, if there are several.
            priority: As for `cast`.
            when_full: As for `cast`.

        Raises:
            DeadlineExceeded: No answer in time; the work is cancelled over there.
            RemoteError: The handler raised; the remote traceback is shown as a note.
            NotFound: Nobody offers `target`.
            Unreachable: Nobody that offers it can be reached, or the node was lost meanwhile.
            Overloaded: Too much is waiting, there or here.
            BadRequest: The payload or the result does not fit its type.
        """
        if get_ident() != self._thread:
            raise self._out_of_place()
        if timeout is not None:
            self._check_timeout(timeout)
        decoder: msgspec.msgpack.Decoder[Any] = PLAIN if returns is None else _decoder_for(returns)  # type: ignore[arg-type]
        tries = Retry(retry) if isinstance(retry, int) else retry
        options = self._no_options
        if key is not None or priority is not None or when_full is not None:
            options = self._options(key, priority, None, when_full)
        if items is not None:
            return self._call_with_items(target, payload, decoder, timeout, items, options)
        return self._call(target, payload, timeout, decoder, tries, options)  # not awaited here: one coroutine less

    @overload
    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Items | None = None,
        returns: type[T],
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Stream[T]: ...

    @overload
    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Items | None = None,
        returns: None = None,
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Stream[Any]: ...

    def stream(
        self,
        target: str,
        payload: Any = None,
        *,
        items: Items | None = None,
        returns: type[T] | None = None,
        timeout: float | None = None,
        key: Key | None = None,
        priority: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Stream[T] | Stream[Any]:
        """Iterate over the streamed reply of a handler that is an async generator; see `Stream`.

        ```python
        async for n in node.stream("math.countdown", 3, returns=int): ...
        ```

        Nothing is sent before it is first read. A handler with one answer is a stream of one.

        Args:
            target: As for `call`.
            payload: As for `call`.
            items: A request stream as for `call`, sent while the reply is read.
            returns: The type of the items; None gives plain values.
            timeout: The longest silence, in seconds, before the first item and between two; None takes
                `calls.timeout_s`. `fdn.deadline` bounds the whole.
            key: As for `cast`. The items of both directions go the same way.
            priority: As for `cast`, of the call itself.
            when_full: As for `cast`, of the call itself.

        Raises (when it is read):
            As `call`; and `DeadlineExceeded` when nothing came for that long.
        """
        self._check_timeout(timeout)
        self._check_running()
        decoder: msgspec.msgpack.Decoder[Any] = PLAIN if returns is None else _decoder_for(returns)  # type: ignore[arg-type]
        timeout_s = self.settings.calls.timeout_s if timeout is None else timeout
        options = self._no_options
        if key is not None or priority is not None or when_full is not None:
            options = self._options(key, priority, None, when_full)
        return Stream(
            target, lambda: self._open_call(target, payload, items, timeout_s, options), decoder, timeout_s, self._loop
        )

    def proxy(
        self, protocol: Callable[..., T], name: str, *, retry: Retry | int | None = None, timeout: float | None = None
    ) -> T:
        """A service as an object: what `protocol` declares is called at `name`, and typed as it says there.

        ```python
        class Math(Protocol):
            async def add(self, a: int, b: int) -> int: ...
            def countdown(self, n: int) -> AsyncIterator[int]: ...


        math = node.proxy(Math, "math")
        assert await math.add(2, 3) == 5
        async for n in math.countdown(3): ...
        ```

        A method that returns an `AsyncIterator` is a `stream`, and one that takes an `AsyncIterator` sends a request
        stream. A Protocol with `__call__` is for a service that is a function. Nothing is sent before a call.

        Args:
            protocol: A Protocol, or any class with annotated methods.
            name: The service; `math@n2` asks that node only.
            retry: As for `call`.
            timeout: As for `call` and `stream`.

        Raises:
            ConfigError: The protocol has something that cannot be called from afar.
        """
        # Not `type[T]`: to mypy a Protocol is no concrete class, and it would refuse to hand one over.
        proxy: T = make_proxy(self, protocol, name, retry, timeout)  # type: ignore[arg-type]
        return proxy

    @overload
    def publish(self, subject: str, payload: Any = None) -> Awaitable[int]: ...

    @overload
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
    ) -> Awaitable[int]: ...

    def publish(self, subject: str, payload: Any = None, **options: Any) -> Awaitable[int]:
        """Await it to send to every node that wants the subject: at most once, unless `delivery` says more.

        Events from one task to one subscription arrive in order, as long as there is one lane (`events.parallelism`),
        nobody gives a priority and none goes in pieces (`data.chunk_bytes`); those of one key and one priority always
        do. It waits while a receiver grants no credit, which is while a subscription there that waits
        (`policy="wait"`) is full; the others have got the event before that.

        Args:
            subject: Tokens joined by dots: `orders.eu.created`.
            payload: As for `call`.
            delivery: `at_most_once`; `at_least_once`: kept here, and sent again, until every node that wants it
                now has accepted it, or is dead, or the deadline has passed; `effectively_once`: and handed over there
                once. It returns when it is kept. See docs/explanation/delivery.md for what that promises, and what not.
            causal: A label: handed over behind every event of the label that this node had been handed, or had
                published, before. At least once.
            confirm: Return only when all have accepted it. At least once.
            key: Events of one key arrive in the order of publishing; within a queue group they go to the same node, as
                long as the group's nodes stay the same.
            priority: As for `cast`.
            latest: As for `cast`: the event of this name and subject that has not left yet is replaced.
            when_full: `wait` for room in the queues to the nodes, or `refuse`; None waits, with `delivery` it takes
                `delivery.when_full`: that is about what waits for its acknowledgement here.

        Returns:
            To how many nodes it was sent, this one included; 0, and no error, if nobody is interested. With `delivery`
            to how many nodes and members of queue groups.

        Raises:
            BadRequest: The subject is none, or the payload cannot be sent.
            DeadlineExceeded: A receiver granted no credit in time; with `confirm`: not all have accepted it in time.
            Overloaded: There is no room to a receiver, and it should not wait; the others have got it. With `delivery`:
                nobody has.
            Unreachable: With `confirm`: some were lost, and had not accepted it; it names them.
        """
        if get_ident() != self._thread:
            raise self._out_of_place()
        if options:  # not parameters of their own, whose defaults would cost every message as much as its envelope
            return self._publish_as(subject, payload, **options)
        return self._publish(subject, payload)

    def _publish_as(
        self,
        subject: str,
        payload: Any,
        *,
        delivery: DeliveryClass | None = None,
        causal: str | None = None,
        confirm: bool = False,
        key: Key | None = None,
        priority: int | None = None,
        latest: str | None = None,
        when_full: WhenFull | None = None,
    ) -> Awaitable[int]:
        if delivery is not None or causal is not None or confirm:
            return self._publish_surely(subject, payload, delivery, causal, confirm, key, priority, latest, when_full)
        if key is None and priority is None and latest is None and when_full is None:
            return self._publish(subject, payload)
        return self._publish_with(subject, payload, self._options(key, priority, latest, when_full, "wait"))

    async def flush(self, timeout: float | None = None) -> int:
        """Return when all that was sent with `delivery=` is acknowledged, or was given up.

        Args:
            timeout: Seconds; None takes `calls.timeout_s`.

        Returns:
            How many copies of messages were given up since the last flush, because their nodes died or their deadlines
            had passed; `DeliveryGivenUp` facts tell more.

        Raises:
            DeadlineExceeded: Some have not acknowledged in time; it names them.
        """
        self._check_timeout(timeout)
        self._check_running()
        return await self._courier.flush(timeout)

    @overload
    async def subscribe(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        payload: type[T],
        queue: str = "",
        policy: Literal["wait"] = "wait",
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
        timeout: float | None = None,
    ) -> Subscription[Event[T]]: ...

    @overload
    async def subscribe(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        payload: None = None,
        queue: str = "",
        policy: Literal["wait"] = "wait",
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
        timeout: float | None = None,
    ) -> Subscription[Event[Any]]: ...

    @overload
    async def subscribe(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        payload: type[T],
        queue: str = "",
        policy: str,
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
        timeout: float | None = None,
    ) -> Subscription[Event[T] | Gap]: ...

    @overload
    async def subscribe(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        payload: None = None,
        queue: str = "",
        policy: str,
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
        timeout: float | None = None,
    ) -> Subscription[Event[Any] | Gap]: ...

    async def subscribe(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        payload: type[T] | None = None,
        queue: str = "",
        policy: str = "wait",
        queue_max: int | None = None,
        concurrency: int = 1,
        ordered_by: OrderedBy | None = None,
        timeout: float | None = None,
    ) -> Subscription[Any]:
        """Get the events of a subject, or of all that match a pattern; `async for event in subscription`.

        When it returns, every member that can be reached knows of it, so that what is published anywhere from then on
        arrives; those that do not know are named in its `unaware`.

        Args:
            pattern: A subject; `*` stands for one token, `>` at the end for the rest, at least one.
            handler: Run it for each event, instead of iterating: its payload typed by its annotation, as a service's.
                A plain `def` runs where the event arrives, an `async def` one event after the other.
            payload: The type of the payload, for an iterator; None gives plain values.
            queue: A queue group: one member of it in the whole cluster gets each event.
            policy: When `queue_max` events wait: `wait` (the publishers' nodes wait, for everything that they publish
                to this node), `drop_oldest` or `drop_newest`.
            queue_max: None takes `events.queue_max`.
            concurrency: Events that an `async def` handler may work on at once; above 1 they only begin in order.
            ordered_by: Then those with the same key are still handled one after the other: the name of an attribute of
                the payload (or of a key, where it is a map; or of one of several parameters), or a function of the
                handler's arguments.
            timeout: Seconds to wait for the members; None takes `events.subscribe_timeout_s`, 0 does not wait.

        Raises:
            ConfigError: The pattern, policy, group or handler is not possible.
            Overloaded: There are too many subscriptions, or their names do not fit into the node's record.
        """
        self._check_running()
        decoder: msgspec.msgpack.Decoder[Any] = PLAIN if payload is None else _decoder_for(payload)  # type: ignore[arg-type]
        subscription = self._events.add(
            pattern,
            handler,
            queue=queue,
            policy=policy,
            queue_max=queue_max,
            concurrency=concurrency,
            ordered_by=ordered_by,
            decoder=decoder,
        )
        await self._events.announced(subscription, timeout)
        return subscription

    async def blob(self, source: BlobSource) -> Blob:
        """Make a large object of a file, a buffer, or whatever yields buffers, and hold it for others to fetch.

        It is held until it is released (`async with`, or `release`) as often as it was made, or the node stops; that
        nobody here refers to the `Blob` any more does not end it. A file is read where it lies, and must stay as it is.
        A buffer is not copied, and must not be changed. What an iterable yields is kept in a file without a name.

        Args:
            source: A path; a contiguous buffer; or an iterable or async iterable of buffers.

        Raises:
            OSError: The file cannot be read, or what comes cannot be kept.
            Conflict: The file changed while it was read.
            Overloaded: This node holds `blobs.held_max`, or too much in memory.
            BadRequest: It is none of these, or too large.
        """
        self._check_running()
        return await self._blobs.make(source)

    def shared_buffer(self, size: int) -> memoryview:
        """Memory to be filled and sent: nodes of this host get it, and slices of it, as a handle, without a copy.

        What is sent must not be changed afterwards: receivers see the same memory. It is given back when nothing in any
        process refers to it. Nodes elsewhere get the bytes in frames; so does everybody where there is no shared
        memory (macOS), it is full, or `shared.bytes_max` is reached: this is then memory of the process's own, and
        `stats().shared.refused` counts.

        May be called from any thread. A GiB of new memory takes about a third of a second; for large ones, prefer
        `await asyncio.to_thread(node.shared_buffer, size)`.

        Args:
            size: Bytes. Less than 64 KiB always goes inside the message.

        Raises:
            BadRequest: The size is negative.
        """
        self._guard.check()
        if self._state != "running":
            raise self._out_of_place()
        if size < 0:
            raise BadRequest(f"shared_buffer({size})", hint="expected a number of bytes")
        return self._sharing.allocate(size)

    def shared_array(self, shape: "int | tuple[int, ...]", dtype: Any = "float64") -> "numpy.ndarray[Any, Any]":
        """A numpy array in memory as `shared_buffer` gives it; its content is anything at first.

        Slices that are contiguous go as handles too; others, and those of arrays of objects, as anywhere else.

        Args:
            shape: As for `numpy.empty`.
            dtype: As for `numpy.empty`.

        Raises:
            BadRequest: There can be no such array.
        """
        import numpy  # whoever does not use it does not pay for it

        try:
            kind = numpy.dtype(dtype)
            dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
            if kind.hasobject or min(dimensions, default=0) < 0:
                raise ValueError("expected numbers in an array of no negative size")
            size = math.prod(dimensions) * kind.itemsize
        except (TypeError, ValueError) as error:
            raise BadRequest(f"shared_array({shape!r}, {dtype!r}): {error}", hint="as for numpy.empty") from error
        return numpy.frombuffer(self.shared_buffer(size), kind).reshape(dimensions)

    # -- what is known

    @property
    def id(self) -> str:
        """The node id: the name and 64 random bits."""
        return "" if self._identity is None else self._identity.node

    @property
    def name(self) -> str:
        """The name for people."""
        return self.settings.name if self._identity is None else self._identity.name

    @property
    def endpoint(self) -> str:
        """What others join: the coordination endpoint."""
        return self._endpoints.get(Channel.COORDINATION.value, "")

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Channel name to advertised endpoint."""
        return dict(self._endpoints)

    def members(self) -> tuple[Member, ...]:
        """Everybody that is remembered, the dead and those who left included, by name. See `reachable`."""
        return tuple(sorted(self._view.members.values(), key=lambda member: (member.name, member.node)))

    def reachable(self) -> tuple[Member, ...]:
        """The members that can be talked to now: alive, not wedged, with an open link; this node included."""
        return tuple(member for member in self.members() if member.reachable)

    def offers(self) -> Mapping[str, tuple[Offer, ...]]:
        """What each living member offers, by node id."""
        return self._directory.offers()

    def facts(self) -> AsyncIterator[Fact]:
        """What changes from now on: members, links, refusals. Bounded, see `FactsMissed`; ends with the node."""
        return self._facts.read()

    async def ping(self, node: str, channel: str = "data", timeout: float = 1.0) -> float:
        """Round trip to a member on one channel, in seconds.

        Raises:
            NotFound: No such member; or on `gossip`, one that has not been probed yet.
            Unreachable: No way there on that channel.
            DeadlineExceeded: No answer.
        """
        self._check_running()
        if channel not in tuple(Channel):
            raise BadRequest(f"channel={channel!r}", hint=f"expected one of {', '.join(Channel)}")
        member = self._view.named(node)
        if member is None:
            raise NotFound(f"no member is named {node!r}", hint="`fdn members` lists them")
        started = self._loop.time()
        if channel == Channel.COORDINATION.value:
            await self.ask(member.node, "fdn.node.ping", timeout=timeout)
        elif channel == Channel.GOSSIP.value:
            # From the control plane: a new round trip alone is no reason to publish a view.
            now = (await self._host.call(self._control.view)).members.get(member.node, member)
            if now.rtt_us is None:
                raise NotFound(f"{node} has not been probed yet", hint="try again in a second")
            return now.rtt_us / 1e6
        else:
            await self._caller.ping(member.node, Channel(channel), timeout)
        return self._loop.time() - started

    async def ask(self, node: str, request: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """Ask a member's control plane a system request (`fdn.node.info` and the like): answered even while user code
        over there is stuck.

        Raises:
            NotFound: No such member, or no such request.
            Unreachable: There is no open link to it.
            DeadlineExceeded: No answer in time.
        """
        self._check_running()
        member = self._view.named(node)
        if member is None:
            raise NotFound(f"no member is named {node!r}", hint="`fdn members` lists them")
        timeout_s = self.settings.calls.timeout_s if timeout is None else timeout
        return await self._host.run(self._control.ask(member.node, request, payload, timeout_s))

    async def stats(self) -> NodeStats:
        """Counters of every component."""
        self._check_running()
        control = await self._host.call(self._control.stats)
        return NodeStats(
            control,
            self._data.stats(),
            self._caller.stats(),
            self._dispatcher.stats(),
            self._events.stats(),
            self._timers.stats(),
            self._blobs.stats(),
            self._courier.stats(),
            self._sharing.stats(),
        )

    def _drain_stages(self) -> tuple[Stage, ...]:
        unaware = [member.name for member in self.reachable() if not member.me]

        async def tell_members() -> None:
            unaware[:] = await self._announce(min(_TELL_S, self.settings.drain_timeout_s / 2))
            self._host.post(self._control.send_clients_away)

        async def drain_clients() -> None:
            await self._gateway.drain()
            await self._event_gateway.drain()

        async def leave() -> None:
            while self._data.queued():
                await self._caller.pause(_FLUSH_PAUSE_S)

        return (
            Stage("members", tell_members, lambda: len(unaware)),
            Stage("timers", self._timers.drain, lambda: self._timers.stats().running),
            Stage("calls", self._dispatcher.drain, lambda: self._dispatcher.unfinished),
            Stage("clients", drain_clients, lambda: self._gateway.count + self._event_gateway.publishing),
            Stage("events", self._events.drain, lambda: self._events.handling),
            Stage("deliveries", self._courier.drain, lambda: self._courier.unacked),
            Stage("sends", leave, self._data.queued),
        )

    def _on_stage_ended(self, stage: DrainStage) -> None:
        self._facts.publish(
            DrainStageEnded(self._loop.time(), stage.name, stage.before, stage.left, round(stage.seconds, 6))
        )
        _log.info(
            "drain of node %s: %s, %d of %d left after %.3f s",
            self.name,
            stage.name,
            stage.left,
            stage.before,
            stage.seconds,
            extra={"node": self.id, "stage": stage.name, "left": stage.left},
        )

    def _work_stats(self) -> Mapping[str, Any]:
        return {
            "calls": self._caller.stats(),
            "dispatch": self._dispatcher.stats(),
            "events": self._events.stats(),
            "delivery": self._courier.stats(),
            "blobs": self._blobs.stats(),
            "shared": self._sharing.stats(),
        }

    def _ping(self, node: str, channel: Channel, timeout_s: float) -> Awaitable[None]:
        return self._caller.ping(node, channel, timeout_s)

    # -- assembly

    async def _assemble(self, kept: NodeIdentity) -> None:
        settings = self.settings
        identity = Identity(kept.node, kept.name, (kept.generation, 0))
        agreed = fingerprint(
            {"cluster": settings.cluster, "pace": settings.pace, "body_bytes_max": settings.data.body_bytes_max}
        )
        limits = _limits(settings.data)
        self._host: PlaneHost = InlinePlane(self._loop) if self._inline else PlaneThread(f"fdn-control-{kept.name}")
        self._closers.append(self._close_host)
        data_side = LoopSide(self._loop, get_ident(), self._on_view, self._facts.publish, self._on_beat)

        made: list[ControlPlane] = []  # a start that is given up meanwhile must find it, to close it

        def make_control() -> ControlPlane:
            control = ControlPlane(
                transport=self._make_transport(self._host.loop, limits),
                settings=settings,
                identity=identity,
                greeter=Greeter(
                    settings.cluster,
                    identity,
                    agreed,
                    object_to=lambda hello: self._control.object_to(hello),
                    features=(BULK_FEATURE, RELAY_FEATURE) if settings.relay.enabled else (BULK_FEATURE,),
                ),
                loop=self._host.loop,
                rng=random.Random(self._rng.getrandbits(64)),
                data_side=data_side,
            )
            made.append(control)
            return control

        async def close_control() -> None:
            for control in made:
                await control.close("leaving")

        self._closers.append(lambda: self._host.run(close_control()))
        self._control = await self._host.call(make_control)
        self._awareness = Awareness(self._control, self._host.loop, self._caught_up)
        self._control.requests.answers = answers(
            self._control, settings, __version__, lambda: self._endpoints, self._stop_soon
        ) | {KNOWS: self._awareness.answer}
        self._control.requests.answers |= diagnostics(
            self._control, self._loop, lambda: self._endpoints, lambda: self._data.stats(), self._work_stats, self._ping
        )
        credit = (settings.data.credit_messages, settings.data.credit_bytes)
        spin_s = settings.data.spin_s if settings.data.latency == "spin" else 0.0
        self._sharing = Sharing(kept.node, settings.shared, self._loop)
        self._closers.append(self._sharing.close)
        self._data_greeter = Greeter(
            settings.cluster,
            identity,
            agreed,
            credit,
            features=DATA_FEATURES,
            probe=self._sharing.probe,
            sees=self._sharing.sees,
            bulk=settings.data.bulk_window_bytes,
        )
        self._data = DataPlane(
            transport=self._make_transport(
                self._loop, dataclasses.replace(limits, spin_s=spin_s, io_nice=settings.data.io_nice)
            ),
            greeter=self._data_greeter,
            settings=settings,
            loop=self._loop,
            rng=self._rng,
            publish=self._facts.publish,
            limits=limits,
        )
        self._data.on_reached = lambda node, relays: self._host.post(self._control.on_reached, node, relays)
        self._data.on_undeliverable = lambda node, relays: self._host.post(self._control.on_undeliverable, node, relays)
        self._closers.append(self._data.close)
        self._data.map_shared = self._sharing.map_shared
        self._data.lender = self._sharing.lender
        self._data.protocols[SHM] = self._sharing.on_word
        self._put_messaging_on_top(kept)

    def _put_messaging_on_top(self, kept: NodeIdentity) -> None:
        settings = self.settings
        self._dispatcher = Dispatcher(
            kept.name,
            kept.node,
            settings.calls.timeout_s,
            settings.data.body_bytes_max,
            (settings.calls.stream_window_items, settings.calls.stream_window_bytes),
            self._loop,
            self._interceptors,
        )
        self._closers.append(self._dispatcher.close)
        self._caller = Caller(kept.node, self._data, self._directory, self._dispatcher, settings, self._loop, self._rng)
        self._streams = StreamCaller(self._caller, kept.node, settings, self._loop)
        self._closers.append(self._close_streams)
        self._client_probe = probe = ClientProbe(self._data.give_up, self._loop)
        self._gateway = Gateway(self._caller, self._streams, probe, kept.node, settings, self._loop)
        self._closers.append(self._gateway.close)
        self._dispatcher.for_clients = self._gateway
        self._client_services = ClientServices(
            self._dispatcher, self._streams, probe, kept.node, settings, self._loop, self._announce, self._data.give_up
        )
        self._closers.append(self._client_services.close)
        self._data.handlers[Kind.CALL] = self._dispatcher.on_call
        self._data.handlers[Kind.CAST] = self._dispatcher.on_cast
        self._data.handlers[Kind.CANCEL] = self._dispatcher.on_cancel
        self._data.handlers[Kind.REPLY] = self._caller.on_reply
        self._data.handlers[Kind.ERROR] = self._caller.on_error
        self._data.handlers[Kind.ITEM] = self._on_item
        self._data.handlers[Kind.END] = self._on_item
        self._data.on_stream_credit = self._on_stream_credit
        self._data.on_peer_lost = self._on_peer_lost
        self._data.on_rerouted = self._on_rerouted
        self._data.on_caller_gone = self._dispatcher.on_caller_gone
        self._data.on_refused = self._caller.on_refused
        self._call = self._caller.call
        self._put_blobs_on_top(kept)
        cast, cast_with = self._caller.cast, self._caller.cast_with
        self._cast, self._cast_with = cast, cast_with
        if settings.data.parallelism > 1:
            self._cast = lambda target, payload: cast_with(target, payload, NO_OPTIONS)
        self._put_events_on_top(kept)
        publish, publish_with = self._events.publish, self._events.publish_with
        self._publish, self._publish_with = publish, publish_with
        if settings.events.parallelism > 1:
            self._publish = lambda subject, payload: publish_with(subject, payload, NO_OPTIONS)
        if self._interceptors:
            self._send = compose_send(
                self._interceptors,
                lambda out: (
                    cast_with(out.target, out.payload, out.options)
                    if out.options is not None
                    else cast(out.target, out.payload)
                ),
            )
            self._cast = self._cast_with = self._send_cast
            self._call = self._send_call
            self._send_event = compose_send(
                self._interceptors,
                lambda out: (
                    publish_with(out.target, out.payload, out.options)
                    if out.options is not None
                    else publish(out.target, out.payload)
                ),
            )
            self._publish = self._publish_with = self._send_publish
        self._timers = Timers(kept.name, kept.node, self._loop, self._wall, self._rng, {Node: self})
        self._closers.append(self._timers.close)
        self._closers.append(self._lifespans.leave)
        if not self._lifespans:  # else what they set up comes first
            self._add_declared()

    def _add_declared(self) -> None:
        for app in self._apps:
            for service in app.services:
                self._add_service(**_fields(service))
            for wish in app.subscriptions:
                wanted = _fields(wish) | {"handler": given(wish.handler, {Node: self})}
                self._events.add(**wanted, decoder=PLAIN)
            for timer in app.timers:
                self._timers.add(**_fields(timer))

    def _put_blobs_on_top(self, kept: NodeIdentity) -> None:
        caller, once = self._caller, Retry(0)
        self._blobs = Blobs(
            kept.node,
            kept.name,
            self.settings.blobs,
            self._loop,
            self._rng,
            lambda node, to, payload, timeout_s, kind: caller.call(
                f"{to}@{node}", payload, timeout_s, _decoder_for(kind), once
            ),
            lambda: [member.node for member in self.reachable() if not member.me],
            lambda node: node in self._view.members,
            caller.pause,
        )
        self._closers.append(self._blobs.close)
        self._dispatcher.add(blob_requests(self._blobs.service))

    def _put_events_on_top(self, kept: NodeIdentity) -> None:
        self._events = Events(
            kept.node, kept.name, self._data, self.settings, self._loop, self._interceptors, self._announce
        )
        self._closers.append(self._events.close)
        self._courier = Courier(
            kept.node,
            self._data,
            self._directory,
            self._dispatcher,
            self._events,
            self.settings,
            self._loop,
            self._rng,
            self._facts.publish,
            self._caller.here,
        )
        self._closers.append(self._courier.close)
        self._events.on_numbered = self._dispatcher.on_numbered = self._courier.on_message
        self._data.handlers[Kind.ACK] = self._courier.on_ack
        self._event_gateway = EventGateway(self._events, self._courier, kept.node, self.settings, self._loop)
        self._closers.append(self._event_gateway.close)
        self._events.for_clients = self._event_gateway
        self._data.handlers[Kind.EVENT] = self._events.on_event
        self._data.handlers[Kind.SUBSCRIBE] = self._by_channel(
            self._client_services.on_subscribe, self._event_gateway.on_subscribe
        )
        self._data.handlers[Kind.UNSUBSCRIBE] = self._by_channel(
            self._client_services.on_unsubscribe, self._event_gateway.on_unsubscribe
        )
        self._data.on_client_session_closed = self._on_client_session_closed

    def _on_item(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        if envelope.to == REQUEST_STREAM:
            self._dispatcher.on_item(origin, envelope, ticket)
        elif envelope.kind == Kind.ITEM:
            self._streams.on_item(origin, envelope, ticket)
        else:
            self._streams.on_end(origin, envelope, ticket)

    def _on_stream_credit(self, origin: Origin, envelope: Envelope) -> None:
        if envelope.to == REQUEST_STREAM:
            self._streams.on_credit(origin, envelope)
        else:
            self._dispatcher.on_credit(origin, envelope)

    def _on_rerouted(self, node: str) -> None:
        self._caller.forget_link(node)
        self._events.forget_link(node)

    def _on_peer_lost(self, node: str, reason: str) -> None:
        self._caller.fail_peer(node, reason)
        self._dispatcher.fail_streams(node, reason)

    @staticmethod
    def _by_channel(on_data: Handler, on_events: Handler) -> Handler:
        def handle(origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
            on_data_channel = isinstance(origin, Session) and origin.channel is Channel.DATA
            (on_data if on_data_channel else on_events)(origin, envelope, ticket)

        return handle

    def _on_client_session_closed(self, session: Session) -> None:
        self._gateway.session_closed(session)
        self._event_gateway.session_closed(session)
        self._client_services.session_closed(session)

    async def _close_streams(self) -> None:
        self._streams.close()
        self._client_probe.close()

    async def _send_cast(self, target: str, payload: Any, options: SendOptions | None = None) -> None:
        assert self._send is not None
        await self._send(Outgoing(target, payload, False, None, options=options or self._no_options))

    async def _send_call(
        self,
        target: str,
        payload: Any,
        timeout: float | None,
        decoder: "msgspec.msgpack.Decoder[Any]",
        tries: Retry | None,
        options: SendOptions | None,
    ) -> Any:
        return await compose_send(
            self._interceptors,
            lambda out: self._caller.call(out.target, out.payload, out.timeout_s, decoder, tries, out.options),
        )(Outgoing(target, payload, is_call=True, timeout_s=timeout, options=options))

    async def _cast_surely(
        self,
        target: str,
        payload: Any,
        delivery: str | None,
        confirm: bool,
        key: Key | None,
        priority: int | None,
        latest: str | None,
        when_full: WhenFull | None,
    ) -> None:
        self._check_running()
        asked = promise(delivery, None, confirm, self._options_surely(delivery, key, priority, latest, when_full))
        if asked is None:
            await self._cast_with(target, payload, self._options(key, priority, latest, when_full))
            return
        if not self._interceptors:
            await self._courier.cast(target, payload, asked)
            return
        send = compose_send(self._interceptors, lambda out: self._courier.cast(out.target, out.payload, asked))
        await send(Outgoing(target, payload, is_call=False, timeout_s=None))

    async def _publish_surely(
        self,
        subject: str,
        payload: Any,
        delivery: str | None,
        causal: str | None,
        confirm: bool,
        key: Key | None,
        priority: int | None,
        latest: str | None,
        when_full: WhenFull | None,
    ) -> int:
        self._check_running()
        asked = promise(delivery, causal, confirm, self._options_surely(delivery, key, priority, latest, when_full))
        if asked is None:
            return await self._publish_with(subject, payload, self._options(key, priority, latest, when_full, "wait"))
        if not self._interceptors:
            return await self._courier.publish(subject, payload, asked)
        send = compose_send(self._interceptors, lambda out: self._courier.publish(out.target, out.payload, asked))
        sent: int = await send(Outgoing(subject, payload, is_call=False, timeout_s=None, is_event=True))
        return sent

    def _options_surely(
        self,
        delivery: str | None,
        key: Key | None,
        priority: int | None,
        latest: str | None,
        when_full: WhenFull | None,
    ) -> SendOptions:
        if latest is not None and delivery != "at_most_once":
            raise BadRequest(
                f"latest={latest!r} of what is to be acknowledged", hint="what is superseded never arrives"
            )
        return self._options(key, priority, latest, when_full, self.settings.delivery.when_full)

    async def _send_publish(self, subject: str, payload: Any, options: SendOptions | None = None) -> int:
        if options is None and self.settings.events.parallelism > 1:
            options = NO_OPTIONS
        sent: int = await self._send_event(Outgoing(subject, payload, False, None, is_event=True, options=options))
        return sent

    def _options(
        self,
        key: Key | None,
        priority: int | None,
        latest: str | None,
        when_full: WhenFull | None,
        otherwise: str = "",
    ) -> SendOptions:
        if when_full not in (None, "wait", "refuse"):
            raise BadRequest(f"when_full={when_full!r}", hint="expected 'wait' or 'refuse'")
        refuse = (when_full or otherwise or self.settings.data.when_full) == "refuse"
        return SendOptions(key, priority or 0, latest or "", refuse)

    async def _open(self) -> None:
        assert self._identity is not None
        identity = Identity(self._identity.node, self._identity.name, (self._identity.generation, 0), self._endpoints)
        self._data_greeter.now_known_as(identity)
        self._data.start()
        self._sharing.start()
        offers = self._encoded_offers()
        await self._host.call(lambda: self._control.start(identity, offers))
        if self.settings.join:
            await self._host.run(self._control.join(self.settings.join))
            await self._host.run(self._control.wait_settled(_SETTLE_S))
        self._on_view(await self._host.call(self._control.view))

    async def _begin_work(self) -> None:
        """Enter the lifespans, as a member that can call others; offer what the apps serve only then.

        A handler that was called before could not use this node yet.
        """
        self._state = "running"
        try:
            if self._lifespans:
                await self._lifespans.enter()
                self._add_declared()
            self._offering = True
            if self._apps:
                self._publish_offers()
                await self._host.run(self._awareness.wait_told(_SETTLE_S))
                self._on_view(await self._host.call(self._control.view))
        except BaseException:
            await self._host.call(lambda: self._control.leave("did not start"))
            raise
        self._timers.start()

    def _add_service(
        self,
        name: str,
        target: Any,
        version: str,
        capabilities: Collection[str],
        concurrency: int | None,
        mailbox_max: int | None,
        threads: int,
    ) -> None:
        calls = self.settings.calls
        self._dispatcher.add(
            Service(
                name,
                given(target, {Node: self}),
                version=version,
                capabilities=capabilities,
                concurrency=calls.concurrency if concurrency is None else concurrency,
                mailbox_max=calls.mailbox_max if mailbox_max is None else mailbox_max,
                threads=threads,
            )
        )

    def _publish_offers(self) -> None:
        self._own_offers = self._encoded_offers()
        self._host.post(self._control.offer, self._own_offers, self._draining)
        self._on_view(self._view)

    def _encoded_offers(self) -> bytes:
        if not self._offering:
            return encode_offers(Offers())
        return encode_offers(msgspec.structs.replace(self._dispatcher.offers(), interests=self._events.interests()))

    async def _announce(self, timeout_s: float | None) -> tuple[str, ...]:
        size = len(self._encoded_offers())
        if size > OFFERS_BYTES_MAX:
            raise Overloaded(
                f"what this node offers and wants takes {size} bytes; members accept {OFFERS_BYTES_MAX}",
                hint="prefer few subscriptions with wide patterns",
            )
        self._publish_offers()
        return () if timeout_s is None else await self._host.run(self._awareness.wait_told(timeout_s))

    async def _caught_up(self) -> None:
        """On the control plane's loop: return when this one has taken over what it was handed before."""
        caught_up = self._host.loop.create_future()

        def tell() -> None:
            if not caught_up.done():
                caught_up.set_result(None)

        self._loop.call_soon_threadsafe(self._host.post, tell)
        await caught_up

    # -- the control plane tells, by way of `_DataSide`

    def _on_view(self, view: View) -> None:
        if self._state == "stopped":
            return
        if view.offers.get(self.id) != self._own_offers:  # ours are known here before the control plane has them
            view = msgspec.structs.replace(view, offers={**view.offers, self.id: self._own_offers})
        self._view = view
        self._directory.on_view(view)
        self._data.on_view(view)
        self._events.on_view(view)
        self._courier.on_view(view)

    def _on_beat(self) -> None:
        self._host.post(self._control.on_beat)
        in_use = self._data.in_use()
        if in_use is not None:
            self._host.post(self._control.on_in_use, in_use)

    # -- the end

    async def _stop(self) -> None:
        if self._state == "running":
            await self.drain()
            try:
                async with asyncio.timeout(self.settings.stop_timeout_s):
                    await self._lifespans.leave()
            except TimeoutError:
                _log.error("a lifespan was not left within stop_timeout_s=%g", self.settings.stop_timeout_s)
            await self._host.call(lambda: self._control.leave("stopped"))
        await self._tear_down()

    async def _tear_down(self) -> None:
        """Close what was opened, last first; what does not end in time is reported and left behind."""
        self._state = "stopping"
        _running.discard(self)
        self._cast = self._cast_with = self._refuse_cast
        self._publish = self._publish_with = self._refuse_publish
        self._call = self._refuse_call
        ends_at = self._loop.time() + self.settings.stop_timeout_s
        while self._closers:
            close = self._closers.pop()
            try:
                # A handler that will not be cancelled must not cost the rest its goodbyes, nor the process its sockets.
                async with asyncio.timeout_at(max(ends_at, self._loop.time() + _CLOSE_LEAST_S)):
                    await close()
            except TimeoutError:
                _log.error("node %s did not stop within stop_timeout_s=%g", self.name, self.settings.stop_timeout_s)
        self._facts.close()
        if self._identity is not None:
            self._identity.release()
        self._state = "stopped"
        assert self._stopped is not None
        self._stopped.set()

    async def _close_host(self) -> None:
        if not await self._host.close(self.settings.stop_timeout_s):
            _log.error("the control plane of node %s does not end; its thread is left behind", self.name)

    def _give_up_start(self) -> None:
        if self._starting is not None and self._state in ("starting", "running"):
            self._state = "giving up"
            self._starting.cancel()

    def _begin_stop(self) -> None:
        if self._starting is not None:
            self._give_up_start()
        elif self._stopping is None and self._state == "running":
            self._stopping = self._loop.create_task(self._stop())

    def _stop_soon(self) -> None:
        """Asked over the network, on the control plane's loop: answer first, then go."""
        self._loop.call_soon_threadsafe(self._begin_stop)

    async def _open_call(
        self, target: str, payload: Any, items: Items | None, timeout_s: float, options: SendOptions | None
    ) -> OpenCall:
        self._check_running()
        if self._send is None:
            return await self._streams.open(target, payload, items, timeout_s, (), options)
        opened: list[OpenCall] = []
        chosen: OpenCall | None = None

        async def last(out: Outgoing) -> OpenCall:
            opened.append(await self._streams.open(out.target, out.payload, items, timeout_s, (), out.options))
            return opened[-1]

        outgoing = Outgoing(target, payload, True, timeout_s, is_stream=True, options=options)
        try:
            chosen = await compose_send(self._interceptors, last)(outgoing)
        finally:  # an interceptor may fail, or be cancelled, behind `proceed`
            for call in opened:
                if call is not chosen:
                    call.close()
        return chosen

    async def _call_with_items(
        self,
        target: str,
        payload: Any,
        decoder: "msgspec.msgpack.Decoder[Any]",
        timeout: float | None,
        items: Items,
        options: SendOptions | None,
    ) -> Any:
        timeout_s = self.settings.calls.timeout_s if timeout is None else timeout
        with deadline(timeout_s):
            call = await self._open_call(target, payload, items, timeout_s, options)
            try:
                return decode(await call.only_body(timeout_s), decoder)
            finally:
                call.close()
                await call.wait_closed()

    @staticmethod
    def _check_timeout(timeout: float | None) -> None:
        if timeout is not None and not 0 < timeout <= DEADLINE_S_MAX:
            raise BadRequest(
                f"timeout={timeout!r}", hint=f"expected a number of seconds above 0, at most {DEADLINE_S_MAX}"
            )

    async def _refuse_cast(self, target: str, payload: Any, options: SendOptions | None = None) -> None:
        self._check_running()
        raise AssertionError("unreachable: a running node casts")

    async def _refuse_call(self, target: str, *_: Any) -> Any:
        self._check_running()
        raise AssertionError("unreachable: a running node calls")

    async def _refuse_publish(self, subject: str, payload: Any, options: SendOptions | None = None) -> int:
        self._check_running()
        raise AssertionError("unreachable: a running node publishes")

    def _disown(self) -> None:
        """In a forked child: what was inherited is neither used nor closed, but the lock of the data directory."""
        self._cast = self._cast_with = self._refuse_cast
        self._publish = self._publish_with = self._refuse_publish
        self._call = self._refuse_call
        if self._state not in ("new", "stopped"):
            detach_loop(self._loop)
        if self._identity is not None:
            self._identity.release()  # our copy of it; the parent still holds its own

    def _check_running(self) -> None:
        self._guard.check()
        if self._state != "running" or get_ident() != self._thread:
            raise self._out_of_place()

    def _out_of_place(self) -> Error:
        """What to raise in another thread than that of our loop: sockets must not be touched from two."""
        self._guard.check()
        if self._state != "running":
            return Error(
                f"this node is {self._state}", hint="use it inside `async with fdn.Node(...)`, or after start()"
            )
        return Error(
            f"node {self.name} lives on the event loop of another thread",
            hint="use `fdn.sync.Node` from threads, or `asyncio.run_coroutine_threadsafe(..., loop)` with its loop",
        )


def _fields(declared: Any) -> dict[str, Any]:
    # Not `asdict`: it copies what it finds, and a service may be an instance of anything.
    return {field.name: getattr(declared, field.name) for field in dataclasses.fields(declared)}


@functools.lru_cache(maxsize=1024)
def _decoder_for(returns: Any) -> "msgspec.msgpack.Decoder[Any]":
    try:
        return decoder_of(returns)
    except TypeError as error:
        raise BadRequest(f"returns={returns!r}: {error}", hint="name a type that MessagePack can hold") from error


def _override(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    known = {field.name for field in dataclasses.fields(Settings)}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ConfigError(f"Node() takes no setting {unknown[0]!r}", hint=f"there are {', '.join(sorted(known))}")
    return dataclasses.replace(settings, **overrides) if overrides else settings


def _limits(data: DataSettings) -> Limits:
    # However small the bodies: the cores' own messages go up to 64 KiB.
    in_one_frame = max(min(data.body_bytes_max, data.frame_bytes_max), FRAME_SLACK_BYTES)
    return Limits(
        frame_bytes_max=in_one_frame + FRAME_SLACK_BYTES,
        chunk_bytes=min(data.chunk_bytes, in_one_frame),
        transfer_bytes_max=data.body_bytes_max,
        bulk_window_bytes=data.bulk_window_bytes,
        assembly_bytes_max=data.assembly_bytes_max,
        bulk_bytes_per_s=data.bulk_bytes_per_s or math.inf,
    )


def _zmq_transport(loop: asyncio.AbstractEventLoop, limits: Limits) -> Transport:
    from transports.zmq import ZmqTransport  # here, so that a test on the in-memory twin needs no ZeroMQ

    return ZmqTransport(loop, limits)


@atexit.register
def _forsake() -> None:
    """A program ended without stopping its node: nothing may hang its exit. The peers will find out."""
    for node in list(_running):
        if not node._guard.forked:
            node._host.post(node._host.loop.stop)
