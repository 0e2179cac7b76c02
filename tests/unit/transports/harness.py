"""What the tests of both transports share: a rig that makes them, and logs that can be waited for."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import zmq

from transports.channel import Channel
from transports.limits import Limits
from transports.memory import MemoryConnection, MemoryNetwork, MemoryTransport
from transports.transport import Batch, Connection, ConnectionEvent, EventKind, Listener, Transport
from transports.wire.envelope import Envelope, Kind
from transports.zmq import ZmqTransport

HARD_TIMEOUT_S = 20.0

T = TypeVar("T")


class Log(Generic[T]):
    """A callback that keeps what it is called with."""

    def __init__(self) -> None:
        self.entries: list[T] = []
        self._changed = asyncio.Event()

    def __call__(self, entry: T) -> None:
        self.entries.append(entry)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HARD_TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Inbox(Log[Batch]):
    @property
    def sizes(self) -> list[int]:
        return [len(batch.envelopes) for batch in self.entries]

    @property
    def envelopes(self) -> list[Envelope]:
        return [envelope for batch in self.entries for envelope in batch.envelopes]

    @property
    def ids(self) -> list[int]:
        return [envelope.id for envelope in self.envelopes]

    async def count(self, count: int) -> list[Envelope]:
        await self.until(lambda: len(self.envelopes) >= count)
        return self.envelopes


class Events(Log[ConnectionEvent]):
    @property
    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.entries]

    async def kind(self, kind: EventKind) -> ConnectionEvent:
        await self.until(lambda: kind in self.kinds)
        return next(event for event in self.entries if event.kind is kind)


class Dialled:
    """A connection with its logs."""

    def __init__(self, transport: Transport, endpoint: str, channel: Channel = Channel.DATA) -> None:
        self.inbox = Inbox()
        self.events = Events()
        self.connection: Connection = transport.dial(channel, endpoint, self.inbox, self.events)

    async def connected(self) -> "Dialled":
        await self.events.kind(EventKind.CONNECTED)
        return self


class Listening:
    """A listener with its log."""

    def __init__(self, transport: Transport, endpoint: str, channel: Channel = Channel.DATA) -> None:
        self.inbox = Inbox()
        self.listener: Listener = transport.listen(channel, endpoint, self.inbox)
        self.endpoint = self.listener.endpoint


class Rig:
    """Makes transports of one kind and closes them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fresh = "tcp://127.0.0.1:0" if kind == "zmq" else "memory://t:0"
        self.network = MemoryNetwork()
        self._transports: list[Transport] = []
        self._parked: list[tuple[asyncio.AbstractEventLoop, Transport]] = []

    def _make(self, loop: asyncio.AbstractEventLoop, limits: Limits | None) -> Transport:
        return ZmqTransport(loop, limits) if self.kind == "zmq" else MemoryTransport(self.network, loop, limits)

    def transport(self, limits: Limits | None = None) -> Transport:
        self._transports.append(self._make(asyncio.get_running_loop(), limits))
        return self._transports[-1]

    def parked(self, limits: Limits | None = None) -> tuple[asyncio.AbstractEventLoop, Transport]:
        """A transport whose loop does not run: connections are accepted, and nothing is ever read."""
        loop = asyncio.new_event_loop()
        self._parked.append((loop, self._make(loop, limits)))
        return self._parked[-1]

    def nowhere(self) -> str:
        """An endpoint where nobody listens any more."""
        listening = Listening(self.transport(), self.fresh)
        listening.listener.close()
        return listening.endpoint

    def pair(self, limits: Limits | None = None) -> tuple[Listening, Dialled]:
        listening = Listening(self.transport(limits), self.fresh)
        return listening, Dialled(self.transport(limits), listening.endpoint)

    async def send_raw(self, endpoint: str, *frames: bytes) -> None:
        """Send batch frames past our own encoder."""
        dialled = await Dialled(self.transport(), endpoint).connected()
        if isinstance(dialled.connection, MemoryConnection):
            for frame in frames:
                dialled.connection._pass_on(frame)
            return
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.connect(endpoint)
            for frame in frames:
                await asyncio.to_thread(socket.send, frame)
            socket.linger = 5000

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()
        for loop, transport in self._parked:
            await asyncio.to_thread(loop.run_until_complete, transport.close())
            loop.close()


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test with a `rig` on a loop of its own, bounded, and close what it has made."""

    @functools.wraps(test)
    def run(rig: Rig, **fixtures: Any) -> None:
        async def body() -> None:
            async with asyncio.timeout(HARD_TIMEOUT_S):
                try:
                    await test(rig, **fixtures)
                finally:
                    await rig.close()

        asyncio.run(body())

    return run


def cast(number: int, body: bytes = b"") -> Envelope:
    return Envelope(Kind.CAST, "t.cast", number, 0, None, body)


def reply(number: int, body: bytes | None = None) -> Envelope:
    return Envelope(Kind.REPLY, "", number, 0, None, body)


def body_of(envelope: Envelope) -> Any:
    return msgspec.msgpack.decode(envelope.body)
