"""A longer way between two ends: a TCP proxy that delays, in a process of its own.

Each connection passes whole and in order, so much later, and holds no more than one window of bytes on the way in each
direction: then it reads no more, as a sender's TCP stops when the receiver's window is full. That window is why one
connection carries less the longer the way is, and several carry more.

Timers of asyncio wake up to a millisecond late, because epoll counts in milliseconds; `select` does not.

Run as a worker of the bench: `python -m tools.peers.delay_proxy proxy ARGUMENTS`.
"""

import asyncio
import collections
import selectors
from collections.abc import Mapping
from typing import Any, Final, cast

from tools.peers.lines import Answer, arguments, serve_on_loop

__all__ = ("WINDOW_BYTES", "DelayProxy", "main")

# What Linux grants a connection by default: half of net.ipv4.tcp_rmem's 6 MiB.
WINDOW_BYTES: Final = 3 * 1024 * 1024
_HOST: Final = "127.0.0.1"


class DelayProxy:
    """Listens for connections and passes them on to somebody else's port. Belongs to one event loop.

    Attributes:
        delay_s: What is read from now on passes so much later.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self._servers: list[asyncio.Server] = []
        self._dials: set[asyncio.Task[Any]] = set()
        self._transports: set[asyncio.Transport] = set()

    async def listen(self, target: int) -> int:
        """Stand before a port of the loopback, which need not be open yet; returns ours."""
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.Protocol:
            near = _End(self)
            near.peer = far = _End(self)
            far.peer = near
            dial = loop.create_task(self._dial(far, target))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)
            return near

        server = await loop.create_server(accept, _HOST, 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Listen no more, and end every connection at once."""
        for server in self._servers:
            server.close()
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        for transport in list(self._transports):
            transport.abort()
        for _ in range(3):  # a transport closes its socket in the turns after `abort`
            await asyncio.sleep(0)

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection of ours is there."""
        self._transports.add(transport)

    def closed(self, transport: asyncio.Transport | None) -> None:
        """It is over."""
        if transport is not None:
            self._transports.discard(transport)

    async def _dial(self, far: "_End", target: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: far, _HOST, target)
        except OSError:
            far.peer.close()


class _End(asyncio.Protocol):
    """One of the two sockets of a connection: what it reads goes to its peer, later."""

    peer: "_End"

    def __init__(self, proxy: DelayProxy) -> None:
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._on_the_way: collections.deque[tuple[float, bytes]] = collections.deque()
        self._bytes = 0
        self._ended = self._is_full = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.opened(self._transport)
        self.peer.pump()

    def data_received(self, data: bytes) -> None:
        self._on_the_way.append((self._loop.time() + self._proxy.delay_s, data))
        self._bytes += len(data)
        if self._bytes >= WINDOW_BYTES and self._transport is not None:
            self._transport.pause_reading()
        if self._timer is None:
            self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._proxy.closed(self._transport)
        self.pump()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.peer.pump()

    def close(self) -> None:
        """End this one; the other side hears of it after what is on the way."""
        if self._transport is not None:
            self._transport.close()

    def pump(self) -> None:
        """Pass on what has been on the way for long enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        there = self.peer._transport
        if there is None or self.peer._is_full:
            return
        now = self._loop.time()
        while self._on_the_way and self._on_the_way[0][0] <= now and not self.peer._is_full:
            data = self._on_the_way.popleft()[1]
            self._bytes -= len(data)
            if not there.is_closing():
                there.write(data)
        if self._bytes < WINDOW_BYTES and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._on_the_way and not self.peer._is_full:
            self._timer = self._loop.call_at(self._on_the_way[0][0], self._on_timer)
        elif self._ended and not self._on_the_way:
            self.peer.close()

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()


async def _work() -> None:
    proxy = DelayProxy()

    async def listen(targets: Mapping[str, int]) -> Answer:
        return {name: await proxy.listen(port) for name, port in targets.items()}

    async def delay(seconds: float) -> Answer:
        proxy.delay_s = seconds
        return {}

    await serve_on_loop({}, {"listen": listen, "delay": delay})
    await proxy.close()


def main() -> None:
    """It takes neither role nor arguments, but has them, as every worker."""
    arguments()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_work())


if __name__ == "__main__":
    main()
