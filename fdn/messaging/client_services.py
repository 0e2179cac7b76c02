"""Services of clients: this node offers them in the client's stead, and passes calls on.

Several clients may serve one name; a call goes to the one with the least under way. A client that dies says nothing,
and libzmq tells of it only when something is sent: so each that serves is sent a word without meaning now and then.
Wire format: spec 0001, section 4.7.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from fdn.errors import BadRequest, Error, NotFound, Overloaded, Unreachable, to_wire
from fdn.messaging.dispatch import CallJob, Dispatcher, RequestItems
from fdn.messaging.payloads import encode
from fdn.messaging.relay import relay
from fdn.messaging.services import Service
from fdn.messaging.stream_calls import StreamCaller
from fdn.runtime.data_plane import Origin, Ticket
from fdn.runtime.sessions import Session
from fdn.settings import Settings
from transports.wire.envelope import Envelope, Kind, MetaKey

__all__ = ("ClientServices", "Serving")

_log = logging.getLogger(__name__)
_PROBE_S: Final = 1.0  # between two words to a client that serves
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
    """One client that serves one name."""

    session: Session
    number: int
    concurrency: int
    running: int = 0


class _Served:
    """One name, and the clients that serve it."""

    __slots__ = ("freed", "providers")

    def __init__(self) -> None:
        self.providers: list[_Provider] = []
        self.freed: list[asyncio.Future[None]] = []  # who waits until a provider has room

    def wake(self) -> None:
        freed, self.freed = self.freed, []
        for waiter in freed:
            if not waiter.done():
                waiter.set_result(None)


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
        node: str,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        announce: Callable[[float], Awaitable[object]],
        give_up: Callable[[Session, str], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._streams = streams
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
        self._probe: asyncio.TimerHandle | None = None

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
        """Stop probing, and give up what is under way."""
        if self._probe is not None:
            self._probe.cancel()
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
            served = _Served()
            service = Service(
                name,
                _elsewhere,
                version=serving.version,
                capabilities=serving.capabilities,
                concurrency=self._under_way_max,
                mailbox_max=self._under_way_max,
            )
            for method in service.methods.values():
                method.relay = lambda job, served=served: self._relay(served, job)
            self._dispatcher.add(service)
            self._served[name] = served
        served.providers.append(_Provider(session, number, serving.concurrency))
        self._by_number[session, number] = name
        served.wake()
        if self._probe is None:
            self._probe = self._loop.call_later(_PROBE_S, self._probe_all)

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
        served = self._served[name]
        served.providers = [p for p in served.providers if p.session is not session or p.number != number]
        gone = Unreachable(f"client {session.peer} serves {name} no longer", hint="call again", maybe_carried_out=True)
        if not any(key[0] is session for key in self._by_number):
            self._streams.fail_peer(session, gone)
        served.wake()
        if not served.providers:
            del self._served[name]
            self._start(self._withdraw(name))

    async def _withdraw(self, name: str) -> None:
        try:
            await self._dispatcher.remove(name)
            await self._announce(0.0)
        except Error as error:
            _log.warning("%s, which a client served, could not be withdrawn: %s", name, error)

    def _probe_all(self) -> None:
        self._probe = None
        for session in {key[0]: None for key in self._by_number}:
            if not session.listener.send(session.source, _MEANINGLESS):
                self._give_up(session, "nothing can be sent to it")
        if self._by_number:
            self._probe = self._loop.call_later(_PROBE_S, self._probe_all)

    # -- one call

    async def _relay(self, served: _Served, job: Any) -> object:
        envelope, incoming = job.envelope, getattr(job, "incoming", None)
        meta = {int(MetaKey.ORIGIN): job.origin.peer}
        while True:
            provider = await self._pick(served, envelope.to)
            session = provider.session
            provider.running += 1
            try:
                if not isinstance(job, CallJob) or job.sender is None:
                    if not session.listener.send(
                        session.source, Envelope(Kind.CAST, envelope.to, 0, 0, meta, envelope.body)
                    ):
                        self._give_up(session, "nothing can be sent to it")
                        continue
                    return None
                items = None if incoming is None else RequestItems(incoming, _raw)
                try:
                    call = self._streams.open_to_client(
                        session, envelope.to, envelope.body, items, meta, job.deadline_at
                    )
                except Unreachable:
                    self._give_up(session, "nothing can be sent to it")
                    continue
                if incoming is not None:
                    incoming.open()
                left_s = job.deadline_at - self._loop.time() if job.deadline_at else _YEAR_S
                return await relay(call, job.sender, left_s, lambda error: encode(to_wire(error, node=self._node)))
            finally:
                provider.running -= 1
                served.wake()

    async def _pick(self, served: _Served, name: str) -> _Provider:
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
            served.freed.append(freed)
            await freed

    def _start(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name="fdn-client-services")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, session: Session, number: int, error: Error) -> None:
        session.answer(Envelope(Kind.ERROR, "", number, 0, None, encode(to_wire(error, node=self._node))))


# A CREDIT of an epoch that never was: section 6 has it ignored.
_MEANINGLESS: Final = Envelope(Kind.CREDIT, "", 0, 0, None, encode((0, 0, 0)))


async def _elsewhere(body: msgspec.Raw) -> None:
    """Stands in the table for what a client serves: its `relay` does the work."""
