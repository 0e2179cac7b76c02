"""What the tests of the planes share: fakes of what is around a piece, and a peer that answers as it is told."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from fdn.runtime.greeting import Greeter
from tests.unit.fdn.harness import body
from transports.channel import Channel
from transports.memory import MemoryConnection, MemoryListener, MemoryNetwork, MemoryTransport
from transports.transport import Batch, ListenerStats, OnEvent, Receive
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Bye, Hello, Identity, Refused, RefusedCode, Welcome

__all__ = (
    "GARBAGE",
    "FakeListener",
    "LoggedTransport",
    "Peer",
    "batch",
    "greeter",
    "identity",
    "refused",
    "said",
    "spin",
    "welcome",
)

GARBAGE = msgspec.Raw(b"\xc1")  # the one octet that begins no MessagePack value


def identity(name: str, *channels: Channel, generation: int = 1, at: str = "") -> Identity:
    """Node `NAME-id`, which listens for `channels` (all of them if none is named) below `memory://NAME`."""
    endpoints = {channel.value: f"memory://{at or name}.{channel.value}" for channel in channels or Channel}
    return Identity(f"{name}-id", name, (generation, 0), endpoints)


def greeter(name: str = "me", **options: Any) -> Greeter:
    return Greeter("fdn", identity(name), options.pop("fingerprint", "0123"), **options)


def welcome(hello: Hello, who: Identity, **changes: Any) -> Envelope:
    """A good answer to `hello`, but for `changes`."""
    fields: dict[str, Any] = {"version": 1, "cluster": hello.cluster, "identity": who, "epoch": hello.epoch}
    return Envelope(Kind.WELCOME, body=body(Welcome(**fields | changes)))


def refused(reason: str = "no", code: RefusedCode = RefusedCode.LEAVING, retry: bool = False) -> Envelope:
    return Envelope(Kind.REFUSED, body=body(Refused(code, reason, retry)))


def batch(*envelopes: Envelope, source: bytes = b"s1", size: int = 100) -> Batch:
    """What a listener hands up; bodies as it would have them."""
    nil = msgspec.Raw(b"\xc0")
    received = [
        envelope if envelope.body is not None else msgspec.structs.replace(envelope, body=nil) for envelope in envelopes
    ]
    return Batch(source, received, size, (), None)


def said(envelope: Envelope, type_: Any = Any) -> Any:
    """The body of an envelope."""
    return msgspec.msgpack.decode(envelope.body, type=type_)


async def spin(turns: int = 20) -> None:
    """Let everything run that is ready to, without any time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


class FakeListener:
    """A `Listener` that keeps what it is to send."""

    def __init__(self) -> None:
        self.endpoint = "memory://fake"
        self.sent: list[tuple[bytes, Envelope]] = []
        self.full = False
        self.gone = False
        self.closed = False

    @property
    def kinds(self) -> list[int]:
        return [envelope.kind for _, envelope in self.sent]

    def send(self, source: bytes, envelope: Envelope) -> bool:
        refused = self.full or self.gone
        if not refused:
            self.sent.append((source, envelope))
        return not refused

    def stats(self) -> ListenerStats:
        return ListenerStats()

    def close(self) -> None:
        self.closed = True


class LoggedTransport(MemoryTransport):
    """Keeps when and where it dialled.

    Attributes:
        dials: Loop time and endpoint of each.
    """

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__(network, asyncio.get_running_loop())
        self.dials: list[tuple[float, str]] = []

    def dial(self, channel: Channel, endpoint: str, receive: Receive, on_event: OnEvent) -> MemoryConnection:
        self.dials.append((self.loop.time(), endpoint))
        return super().dial(channel, endpoint, receive, on_event)


class Peer:
    """Another node, on one channel, that answers each HELLO as it is told.

    Attributes:
        answer: What it says to a HELLO; None says nothing.
        hellos: Those that it has heard.
        heard: Everything else.
        sources: Its diallers, the newest last.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        channel: Channel = Channel.DATA,
        *,
        name: str = "peer",
        at: str = "",
        answer: Callable[[Hello], Envelope | None] | None = None,
    ) -> None:
        self.transport = MemoryTransport(network, asyncio.get_running_loop())
        self.channel = channel
        self.who = identity(name, at=at)
        self.endpoint = self.who.endpoints[channel.value]
        self.answer = answer if answer is not None else lambda hello: welcome(hello, self.who)
        self.hellos: list[Hello] = []
        self.heard: list[Envelope] = []
        self.sources: list[bytes] = []
        self._listener: MemoryListener | None = None
        self.listen()

    @property
    def node(self) -> str:
        return self.who.node

    def listen(self) -> None:
        self._listener = self.transport.listen(self.channel, self.endpoint, self._receive)

    def crash(self) -> None:
        """Be gone, with all connections."""
        assert self._listener is not None
        self._listener.close()

    def say(self, envelope: Envelope) -> None:
        """To the newest dialler."""
        assert self._listener is not None
        self._listener.send(self.sources[-1], envelope)

    def bye(self, reason: str = "enough") -> None:
        self.say(Envelope(Kind.BYE, body=body(Bye(reason))))

    def _receive(self, received: Batch) -> None:
        for envelope in received.envelopes:
            if envelope.kind != Kind.HELLO:
                self.heard.append(envelope)
                continue
            hello = said(envelope, Hello)
            self.hellos.append(hello)
            self.sources.append(received.source)
            answer = self.answer(hello)
            if answer is not None:
                self.say(answer)
