"""Services of clients: this node offers them in the client's stead, and passes calls on.

Several clients may serve one name; a call goes to the one with the least under way. Wire format: spec 0001, section
4.7.
"""

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from fdn.context import current_meta
from fdn.errors import BadRequest, Error, NotFound, Overloaded, Unreachable, to_wire
from fdn.messaging.client_probe import ClientProbe
from fdn.messaging.dispatch import CallJob, Dispatcher
from fdn.messaging.payloads import encode
from fdn.messaging.relay import relay
from fdn.messaging.request_items import RequestItems
from fdn.messaging.services import Service
from fdn.messaging.stream_calls import OpenCall, StreamCaller
from fdn.runtime.data_plane import Origin, Ticket
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("ClientServices", "Serving")

_log = logging.getLogger(__name__)
_YEAR_S: Final = 86_400.0 * 365
_raw = msgspec.msgpack.Decoder(msgspec.Raw)


class Serving(msgspec.Struct, frozen=True):
    """The body of a client's SUBSCRIBE on `data`.

    Attributes:
        version: The service's own version.
        capabilities: Labels.
        concurrency: Calls that the client wants to have under way at once.
    """

    version: str = ""
    capabilities: tuple[str, ...] = ()
    concurrency: int = 64


_serving_decoder = msgspec.msgpack.Decoder(Serving | None)


@dataclasses.dataclass(slots=True, eq=False)
class _Provider:
    """One client that serves one name.

    Attributes:
        running: Calls that it has, and what is on its way to it.
        calls: Those that it is to answer.
    """

    session: Session
    number: int
    concurrency: int
    running: int = 0
    calls: set[OpenCall] = dataclasses.field(default_factory=set)


class _Served:
    """One name, and the clients that serve it."""

    __slots__ = ("providers", "waiting")

    def __init__(self) -> None:
        self.providers: list[_Provider] = []
        self.waiting: collections.deque[asyncio.Future[None]] = collections.deque()  # until a provider has room

    def wake_one(self) -> None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        while self.waiting:
            self.wake_one()


class ClientServices:
    """See the module.

    Args:
        announce: Tells the cluster what is offered here, and returns after at most so many seconds.
        give_up: Ends a client's session, for this reason.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        streams: StreamCaller,
        probe: ClientProbe,
        node: str,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        announce: Callable[[float], Awaitable[object]],
        give_up: Callable[[Session, str], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._streams = streams
        self._probe = probe
        self._node = node
        self._loop = loop
        self._announce = announce
        self._give_up = give_up
        self._announce_s = settings.events.subscribe_timeout_s
        self._max = settings.calls.client_services_max
        self._under_way_max = settings.calls.client_service_calls_max
        self._served: dict[str, _Served] = {}
        self._by_number: dict[tuple[Session, int], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on_subscribe(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A client wants to serve."""
        if not isinstance(origin, Session) or not origin.is_client:
            return
        try:
            serving = _serving_decoder.decode(envelope.body) or Serving()
            self._add(origin, envelope.id, envelope.to, serving)
        except Error as error:
            self._fail(origin, envelope.id, error)
        except (ValueError, RecursionError) as error:
            self._fail(origin, envelope.id, BadRequest(f"SUBSCRIBE cannot be read: {error}"))
        else:
            self._start(self._tell(origin, envelope.id))

    def on_unsubscribe(self, origin: Origin, envelope: Envelope, ticket: Ticket) -> None:
        """A client serves this no longer."""
        if isinstance(origin, Session):
            self._remove(origin, envelope.id)

    def session_closed(self, session: Session) -> None:
        """A client is gone, or has said goodbye."""
        for key in [key for key in self._by_number if key[0] is session]:
            self._remove(*key)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- who serves what

    def _add(self, session: Session, number: int, name: str, serving: Serving) -> None:
        if (session, number) in self._by_number:
            raise BadRequest(f"subscription {number} exists", hint="choose another id")
        if serving.concurrency < 1:
            raise BadRequest(f"concurrency={serving.concurrency}", hint="expected at least 1")
        if len(self._by_number) >= self._max:
            raise Overloaded(
                f"clients of this node serve {len(self._by_number)} names (calls.client_services_max)",
                hint="serve at another node",
            )
        served = self._served.get(name)
        if served is None:
            served = self._offer(name, serving)
        served.providers.append(_Provider(session, number, serving.concurrency))
        self._by_number[session, number] = name
        self._probe.watch(session)
        served.wake_all()

    def _offer(self, name: str, serving: Serving) -> _Served:
        served = _Served()

        def relay_job(job: Any) -> Coroutine[Any, Any, object]:
            return self._relay(served, job)

        service = Service(
            name,
            _elsewhere,
            version=serving.version,
            capabilities=serving.capabilities,
            concurrency=self._under_way_max,
            mailbox_max=self._under_way_max,
            relay=relay_job,
        )
        self._dispatcher.add(service)
        self._served[name] = served
        return served

    async def _tell(self, session: Session, number: int) -> None:
        try:
            await self._announce(self._announce_s)
        except Error as error:
            self._remove(session, number)
            self._fail(session, number, error)
        else:
            session.answer(Envelope(Kind.REPLY, "", number))

    def _remove(self, session: Session, number: int) -> None:
        name = self._by_number.pop((session, number), None)
        if name is None:
            return
        self._probe.release(session)
        served = self._served[name]
        provider = next(p for p in served.providers if p.session is session and p.number == number)
        served.providers.remove(provider)
        gone = Unreachable(f"client {session.peer} serves {name} no longer", hint="call again", maybe_carried_out=True)
        for call in list(provider.calls):
            self._streams.fail(call, gone)
        if served.providers:
            return
        served.wake_all()  # they find that there is nobody
        del self._served[name]
        # At once, so that the next who serves the name finds it free; what is under way ends behind that.
        self._start(self._withdraw(name, self._dispatcher.remove(name)))

    async def _withdraw(self, name: str, ending: Coroutine[Any, Any, None]) -> None:
        try:
            await self._announce(0.0)
        except Error as error:
            _log.warning("%s, which a client served, could not be withdrawn: %s", name, error)
        await ending

    # -- one call

    async def _relay(self, served: _Served, job: Any) -> object:
        envelope = job.envelope
        meta = {int(MetaKey.ORIGIN): job.origin.peer}
        while True:
            provider = await self._pick(served, envelope.to)
            provider.running += 1
            try:
                if isinstance(job, CallJob) and job.sender is not None:
                    return await self._pass_on(provider, job, meta)
                await self._pass_cast(provider, envelope, meta, job.deadline_at)
                return None
            except _Untaken:
                self._give_up(provider.session, "it takes nothing")
            finally:
                provider.running -= 1
                served.wake_one()

    async def _pass_on(self, provider: _Provider, job: CallJob, meta: dict[int, Any]) -> object:
        envelope, incoming, sender = job.envelope, job.incoming, job.sender
        assert sender is not None
        items = None if incoming is None else RequestItems(incoming, _raw)
        try:
            call = await self._streams.open_to_client(
                provider.session, envelope.to, envelope.body, items, meta, job.deadline_at
            )
        except Unreachable as untaken:
            raise _Untaken from untaken
        provider.calls.add(call)
        try:
            if incoming is not None:
                incoming.open()
            left_s = job.deadline_at - self._loop.time() if job.deadline_at else _YEAR_S
            return await relay(call, sender, left_s, lambda error: encode(to_wire(error, node=self._node)))
        finally:
            provider.calls.discard(call)

    async def _pass_cast(
        self, provider: _Provider, envelope: Envelope, meta: dict[int, Any], deadline_at: float
    ) -> None:
        outlet = provider.session.outlet()
        cast = Envelope(Kind.CAST, envelope.to, 0, 0, {**current_meta(), **meta}, envelope.body)
        if deadline_at:
            cast.deadline_ms = max(1, int((deadline_at - self._loop.time()) * 1000))
        try:
            while not outlet.try_send(cast):
                await outlet.wait_room()
        except Unreachable as untaken:
            raise _Untaken from untaken

    async def _pick(self, served: _Served, name: str) -> _Provider:
        """The client whose turn it is, once one has room."""
        while True:
            if not served.providers:
                raise NotFound(f"no client serves {name!r} any more", hint="`fdn service ls` shows what is offered")
            provider = min(served.providers, key=lambda provider: provider.running / provider.concurrency)
            if provider.running < provider.concurrency:
                # To the end of the line, so that those with as little to do take turns.
                served.providers.remove(provider)
                served.providers.append(provider)
                return provider
            freed = self._loop.create_future()
            served.waiting.append(freed)
            try:
                await freed
            except asyncio.CancelledError:
                if freed.done() and not freed.cancelled():
                    served.wake_one()  # it was for us, and we do not use it
                raise

    def _start(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name="fdn-client-services")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, session: Session, number: int, error: Error) -> None:
        session.answer(Envelope(Kind.ERROR, "", number, 0, None, encode(to_wire(error, node=self._node))))


class _Untaken(Exception):
    """A client has not taken what was for it: another may."""


async def _elsewhere(body: msgspec.Raw) -> None:
    """Stands in the table for what a client serves: its `relay` does the work."""
