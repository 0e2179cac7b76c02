"""`fdn.testing.Cluster` as our own tests use it, and a peer that knows the protocol and says what it likes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

import fdn
from fdn.settings import CallSettings, DataSettings, LinkSettings
from fdn.testing.clock import VirtualLoop, until, virtual
from fdn.testing.cluster import Cluster
from tests.unit.transports.harness import Dialled, Inbox
from transports.channel import Channel
from transports.memory import MemoryListener, MemoryTransport
from transports.transport import Batch
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Role, Welcome

__all__ = ("Mallory", "Recorder", "VirtualLoop", "World", "body", "hello", "until", "virtual")


class World(Cluster):
    """A network, and the nodes on it; sections of settings may be given as plain maps."""

    def make(
        self,
        name: str = "",
        *apps: fdn.App,
        calls: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        links: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> fdn.Node:
        """A node that is not started. It joins the first one, unless `join` says otherwise."""
        return super().make(
            name,
            *apps,
            calls=CallSettings(**calls or {}),
            data=DataSettings(**data or {}),
            links=LinkSettings(**links or {}),
            **settings,
        )

    async def cluster(self, n: int, *apps: fdn.App, **settings: Any) -> list[fdn.Node]:
        """n1, n2, ... that all see each other, and what they offer."""
        nodes = [await self.start(f"n{index + 1}", *apps, **settings) for index in range(n)]
        await self.settle()
        return nodes

    def crash(self, node: fdn.Node) -> None:
        """What SIGKILL leaves of a node: nothing, and no trace of it in `nodes`."""
        self.kill(node)
        self.nodes.remove(node)


class Mallory:
    """Somebody on the network who knows the protocol and says what it likes.

    Attributes:
        heard: By channel, what was sent to its listeners.
    """

    def __init__(self, world: World, name: str = "mallory", node: str = "mallory-0000000000000000") -> None:
        self.transport = MemoryTransport(world.network, asyncio.get_running_loop())
        self.name = name
        self.node = node
        self.endpoints: dict[str, str] = {}
        self.heard: dict[str, Inbox] = {}
        self._listeners: dict[str, MemoryListener] = {}

    def listen(self) -> None:
        """Bind all channels, and admit whoever comes."""
        for channel in Channel:
            self.heard[channel.value] = Inbox()
            listener = self.transport.listen(channel, f"memory://{self.name}.{channel.value}", self._receiver(channel))
            self._listeners[channel.value] = listener
            self.endpoints[channel.value] = listener.endpoint

    async def dial(
        self, node: fdn.Node, channel: Channel = Channel.DATA, *, greet: bool = True, **said: Any
    ) -> Dialled:
        """Connect to a node; with `greet` say HELLO and wait for the answer, whatever it is."""
        dialled = await Dialled(self.transport, node.endpoints[channel.value], channel).connected()
        if greet:
            said.setdefault("identity", Identity(self.node, self.name, (1, 0), self.endpoints))
            dialled.connection.send_exempt(hello(channel, **said))
            await dialled.inbox.count(1)
        return dialled

    def _receiver(self, channel: Channel) -> Callable[[Batch], None]:
        def receive(batch: Batch) -> None:
            first = batch.envelopes[0]
            if first.kind == Kind.HELLO:
                said = msgspec.msgpack.decode(first.body, type=Hello)
                me = Identity(self.node, self.name, (1, 0), self.endpoints)
                welcome = Welcome(1, said.cluster, me, said.epoch)
                self._listeners[channel.value].send(batch.source, Envelope(Kind.WELCOME, body=body(welcome)))
            self.heard[channel.value](batch)

        return receive


def hello(
    channel: Channel,
    *,
    identity: Identity,
    cluster: str = "fdn",
    role: Role = Role.NODE,
    versions: tuple[int, int] = (1, 1),
    epoch: int = 1,
    says: str = "",
    lane: int = 0,
    features: tuple[str, ...] = (),
) -> Envelope:
    """A HELLO; `says` is the channel that it names, when that is another one."""
    said = Hello(versions, cluster, identity, says or channel.value, epoch, role, lane=lane, features=features)
    return Envelope(Kind.HELLO, body=body(said))


def body(value: object) -> msgspec.Raw:
    """A value as the body of an envelope."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


class Recorder:
    """A service that tells what happened in it."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def note(self, what: Any) -> None:
        self.log.append(what)

    async def wait(self, seconds: float) -> str:
        self.log.append("begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        self.log.append("ended")
        return "done"
