"""Whole nodes without a network or a clock: one loop, the in-memory transport, time that jumps to the next timer.

`@virtual` runs a coroutine as a test. A minute of heartbeats takes milliseconds, and comes out the same each time.
"""

import asyncio
import functools
import random
import selectors
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

import fdn
from fdn.messaging.interceptors import Interceptor
from fdn.settings import CallSettings, DataSettings, LinkSettings
from tests.unit.transports.harness import Dialled, Inbox
from transports.channel import Channel
from transports.limits import Limits
from transports.memory import MemoryListener, MemoryNetwork, MemoryTransport
from transports.transport import Batch
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Role, Welcome

__all__ = ("Mallory", "Recorder", "VirtualLoop", "World", "body", "hello", "until", "virtual")


_REAL_S_MAX = 20.0  # a loop that never comes to rest would otherwise swallow whatever is meant to end the test


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, it lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._ends_at = time.monotonic() + _REAL_S_MAX

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if time.monotonic() > self._ends_at:
            raise RuntimeError(f"{_REAL_S_MAX:g} real seconds brought no end, at {self.now - 1000.0:.3f} virtual ones")
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is left that could ever wake the loop")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function: it runs on a `VirtualLoop`, and no fault of a callback goes unseen."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        faults: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
            await test(*arguments, **keywords)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(watched())
        assert not faults

    return run


async def until(condition: Callable[[], object], what: str = "", timeout_s: float = 60.0) -> None:
    """Return when `condition()` is true. For virtual time."""
    loop = asyncio.get_running_loop()
    gives_up_at = loop.time() + timeout_s
    while not condition():
        assert loop.time() < gives_up_at, f"not within {timeout_s:g} virtual seconds: {what or condition}"
        await asyncio.sleep(0.005)


class World:
    """A network, and the nodes on it; they are stopped in the end."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.nodes: list[fdn.Node] = []
        self._seed = 0

    async def __aenter__(self) -> "World":
        return self

    async def __aexit__(self, *exception: object) -> None:
        for node in reversed(self.nodes):
            await node.stop()

    def make(
        self,
        name: str,
        *apps: fdn.App,
        join: tuple[str, ...] | None = None,
        calls: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        links: Mapping[str, Any] | None = None,
        interceptors: tuple[Interceptor, ...] = (),
        **settings: Any,
    ) -> fdn.Node:
        """A node that is not started. It joins the first one, unless `join` says otherwise."""
        if join is None:
            join = tuple(node.endpoint for node in self.nodes[:1])
        self._seed += 1
        settings.setdefault("bind", f"memory://{name}")
        node = fdn.Node(
            *apps,
            name=name,
            join=join,
            calls=CallSettings(**calls or {}),
            data=DataSettings(**data or {}),
            links=LinkSettings(**links or {}),
            control="inline",
            transport=self.transport,
            rng=random.Random(self._seed),
            interceptors=interceptors,
            **settings,
        )
        self.nodes.append(node)
        return node

    def transport(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> MemoryTransport:
        return MemoryTransport(self.network, loop, limits)

    async def start(self, name: str, *apps: fdn.App, **settings: Any) -> fdn.Node:
        node = self.make(name, *apps, **settings)
        await node.start()
        return node

    async def cluster(self, n: int, *apps: fdn.App, **settings: Any) -> list[fdn.Node]:
        """n1, n2, ... that all see each other, and what they offer."""
        nodes = [await self.start(f"n{index + 1}", *apps, **settings) for index in range(n)]
        await self.settle()
        return nodes

    async def settle(self) -> None:
        running = [node for node in self.nodes if node.members()]
        for node in running:
            await until(lambda node=node: len(node.reachable()) == len(running))  # type: ignore[misc]
            await until(lambda node=node: len(node.offers()) == len(running))  # type: ignore[misc]

    def crash(self, node: fdn.Node) -> None:
        """What SIGKILL leaves of a node on the network: nothing, at once, and no goodbye."""
        for plane in (node._data, node._control):
            transport = plane._transport
            assert isinstance(transport, MemoryTransport)
            transport._closed = True
            for listener in list(transport.listeners):
                listener.close()
            for connection in list(transport.connections):
                connection.close()
        node._control._closed = True
        node._control._set_timer()
        for timer in (node._control._timer, node._data._sweep):
            if timer is not None:
                timer.cancel()
        assert node._identity is not None
        node._identity.release()
        self.nodes.remove(node)

    def cut(self, one: fdn.Node, other: fdn.Node) -> None:
        """Pull the cable between two nodes, both planes."""
        for mine in (one.endpoints["coordination"], one.endpoints["data"]):
            for theirs in (other.endpoints["coordination"], other.endpoints["data"]):
                self.network.cut(mine, theirs)

    def heal(self, one: fdn.Node, other: fdn.Node) -> None:
        for mine in (one.endpoints["coordination"], one.endpoints["data"]):
            for theirs in (other.endpoints["coordination"], other.endpoints["data"]):
                self.network.heal(mine, theirs)


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
) -> Envelope:
    """A HELLO; `says` is the channel that it names, when that is another one."""
    said = Hello(versions, cluster, identity, says or channel.value, epoch, role)
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
