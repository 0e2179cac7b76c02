"""A bad network for real nodes: a TCP proxy that cuts, delays, slows and drops, between those that are named to it.

Each node binds addresses that only the proxy knows and advertises the proxy's. Who dials, the proxy reads in the HELLO
on the connection, so that every pair of nodes, either way, on every channel, can have a fault of its own. Whoever is
none of its nodes, a client say, is passed on untouched.

One event loop in one thread, whatever the number of connections. What CURVE encrypts is passed on too, but whose it is
cannot be read.
"""

import asyncio
import concurrent.futures
import dataclasses
import random
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from fdn.testing.relay import Fault, Relay, Traffic
from transports.channel import Channel
from transports.endpoint import Endpoint

__all__ = ("FaultProxy",)

_HOST: Final = "127.0.0.1"
_ANSWER_S: Final = 10.0
_HEALTHY: Final = Fault()
_T = TypeVar("_T")


class FaultProxy:
    """Stands between nodes until it is closed. Its methods may be called from any thread; they return when it is so.

    Args:
        seed: Decides which messages are lost, and the jitter.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self._faults: dict[tuple[str, str, str], Fault] = {}
        self._traffic: dict[tuple[str, str, str], Traffic] = {}
        self._servers: list[asyncio.Server] = []
        self._relays: set[Relay] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fdn-fault-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def listen(self, name: str, targets: Mapping[str, str]) -> dict[str, str]:
        """Stand before a node, which need not run yet.

        Args:
            name: The node's name, as its HELLO says it.
            targets: For each channel where the node really listens: `tcp://HOST:PORT` or `ipc://PATH`.

        Returns:
            For each channel what it shall advertise.
        """
        return self._on_loop(self._listen(name, targets))

    def change(self, source: str, target: str, channel: str | None = None, **changes: Any) -> None:
        """Change what befalls traffic from one node to another.

        Args:
            source: The node that sends, whoever dialled.
            target: The node that receives.
            channel: None changes all four.
            **changes: Fields of `Fault`; the others stay.
        """

        async def apply() -> None:
            for name in [channel] if channel else [channel.value for channel in Channel]:
                key = (source, target, name)
                self._faults[key] = dataclasses.replace(self._faults.get(key, _HEALTHY), **changes)
            for relay in list(self._relays):
                if {relay.dialler, relay.listener} == {source, target}:
                    relay.faults_changed()

        self._on_loop(apply())

    def heal(self) -> None:
        """Undo every fault. What was held arrives, late and in order."""

        async def apply() -> None:
            self._faults.clear()
            for relay in list(self._relays):
                relay.faults_changed()

        self._on_loop(apply())

    def stats(self) -> dict[tuple[str, str, str], Traffic]:
        """Counters by sender, receiver and channel; clients, and who has not said HELLO, have the name ""."""

        async def copy() -> dict[tuple[str, str, str], Traffic]:
            return {key: dataclasses.replace(traffic) for key, traffic in self._traffic.items()}

        return self._on_loop(copy())

    def close(self) -> None:
        """Close all connections, and end the thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- for the relays

    def fault(self, source: str, target: str, channel: str) -> Fault:
        """What befalls this traffic now."""
        return self._faults.get((source, target, channel), _HEALTHY)

    def traffic(self, source: str, target: str, channel: str) -> Traffic:
        """Where this traffic is counted."""
        return self._traffic.setdefault((source, target, channel), Traffic())

    def relay_ended(self, relay: Relay) -> None:
        """A connection is over."""
        self._relays.discard(relay)

    # -- on the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER_S)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    async def _listen(self, name: str, targets: Mapping[str, str]) -> dict[str, str]:
        advertised = {}
        for channel, target in targets.items():
            server = await self._loop.create_server(self._accepting(name, channel, target), _HOST, 0)
            self._servers.append(server)
            advertised[channel] = f"tcp://{_HOST}:{server.sockets[0].getsockname()[1]}"
        return advertised

    def _accepting(self, name: str, channel: str, target: str) -> Callable[[], asyncio.BaseProtocol]:
        where = Endpoint.parse(target)

        async def dial(protocol: asyncio.BaseProtocol) -> None:
            if where.scheme == "ipc":
                await self._loop.create_unix_connection(lambda: protocol, where.host)
            else:
                await self._loop.create_connection(lambda: protocol, where.host, where.port)

        def accept() -> asyncio.BaseProtocol:
            relay = Relay(self, name, channel)
            self._relays.add(relay)
            dialling = self._loop.create_task(relay.connect(dial))
            self._dials.add(dialling)
            dialling.add_done_callback(self._dials.discard)
            return relay.near

        return accept

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        for relay in list(self._relays):
            relay.abort()
        for _ in range(3):  # a transport tells of its end, and closes its socket, in the turns after `abort`
            await asyncio.sleep(0)
