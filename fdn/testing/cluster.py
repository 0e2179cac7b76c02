"""Whole clusters in one event loop: real nodes on the in-memory network, without ports, threads or waiting.

Run it under `fdn.testing.virtual`, where the clock jumps: an hour of membership takes a moment. All chance comes from
one seed, so that what went wrong once goes wrong again.
"""

import asyncio
import json
import random
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from fdn.app import App
from fdn.messaging.interceptors import Interceptor
from fdn.node import Node
from fdn.testing.clock import STARTS_AT, until
from transports.limits import Limits
from transports.memory import MemoryNetwork, MemoryTransport

__all__ = ("Cluster", "Which")

_SEED_STRIDE: Final = 1_000_003  # apart, so that neighbouring seeds share no node's chance
_SETTLE_S: Final = 60.0
_MIDNIGHT: Final = 1_767_225_600.0  # of 1 January 2026, UTC: what the wall clock says when the virtual one starts
_PLANES: Final = ("coordination", "data")  # a channel of each

Which = int | str | Node  # a node by its place in `nodes`, or by its name


class _Plug(MemoryTransport):
    """A transport that can be torn out of the wall."""

    def sever(self) -> None:
        """What SIGKILL leaves of it on the network: nothing, at once, and no goodbye."""
        self._closed = True
        for listener in list(self.listeners):
            listener.close()
        for connection in list(self.connections):
            connection.close()


class Cluster:
    """Nodes n1, n2, ... that see each other. An async context manager; the nodes are stopped in the end.

    ```python
    @fdn.testing.virtual
    async def test_survives() -> None:
        async with fdn.testing.Cluster(3, app=shop.app) as cluster:
            cluster.kill(2)
            assert await cluster[0].call("orders.quote", [4]) == 10.0
    ```

    To timers by cron it is midnight (UTC) of 1 January 2026, a Thursday, when the test begins.

    Args:
        count: How many nodes to begin with.
        app: What each serves: an app, or several.
        seed: Decides all chance.
        **settings: For every node, as for `fdn.Node`.

    Attributes:
        nodes: In the order of their start, those killed included, until they are started again.
        network: What they are plugged into.
    """

    def __init__(self, count: int = 0, *, app: App | Sequence[App] = (), seed: int = 0, **settings: Any) -> None:
        self.network = MemoryNetwork()
        self.nodes: list[Node] = []
        self._count = count
        self._apps: tuple[App, ...] = (app,) if isinstance(app, App) else tuple(app)
        self._settings = settings
        self._seed = seed
        self._made = 0
        self._starts = 0
        self._recipes: dict[str, tuple[tuple[App, ...], dict[str, Any]]] = {}
        self._plugs: dict[Node, list[_Plug]] = {}
        self._killed: dict[Node, asyncio.Task[None]] = {}
        self._identities: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._count):
                await self.start()
            await self.settle()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all nodes, the last first."""
        try:
            for node in reversed(self.nodes):
                if node not in self._killed:
                    await node.stop()
            for ending in list(self._killed.values()):
                await ending
        finally:
            if self._identities is not None:
                self._identities.cleanup()

    def __getitem__(self, which: int | str) -> Node:
        return self._find(which)

    # -- nodes

    def make(
        self,
        name: str = "",
        *apps: App,
        join: Collection[str] | None = None,
        interceptors: tuple[Interceptor, ...] = (),
        **settings: Any,
    ) -> Node:
        """A node that is not started yet.

        Args:
            name: Its name; n1, n2, ... by default.
            *apps: What it serves; the cluster's app by default.
            join: Endpoints; None takes those of all that run.
            interceptors: As for `fdn.Node`.
            **settings: Over the cluster's.
        """
        self._made += 1
        name = name or f"n{self._made}"
        self._recipes[name] = apps, {"join": join, "interceptors": interceptors, **settings}
        return self._make(name)

    async def start(self, which: Which = "", *apps: App, **settings: Any) -> Node:
        """Start one more node, or one that was killed or stopped, again: as the same member, with what it had.

        It has joined when this returns; `settle` waits until everybody knows.

        Args:
            which: The name of a new one, or one there was.
            *apps: As for `make`.
            **settings: As for `make`.
        """
        former = self._former(which)
        if former is None or former in self._running():  # which may be what is tested: two of one name
            assert isinstance(which, str), f"{which!r} runs already"
            node = self.make(which, *apps, **settings)
        else:
            if former in self._killed:
                await self._killed.pop(former)
            kept_apps, kept = self._recipes[former.name]
            self._recipes[former.name] = apps or kept_apps, kept | settings
            node = self._make(former.name, self.nodes.index(former))
        await node.start()
        return node

    def kill(self, which: Which) -> None:
        """What SIGKILL does: the node is gone from the network at once, without a goodbye, and its work is cancelled.

        One process cannot take away half of itself: handlers of the killed node get a `CancelledError`, where with
        SIGKILL they would get nothing.
        """
        node = self._find(which)
        assert node not in self._killed, f"{node.name} was killed before"
        for plug in self._plugs[node]:
            plug.sever()
        if node._identity is not None:
            node._identity.release()  # its data directory is free at once, as after the end of a process
        self._killed[node] = asyncio.get_running_loop().create_task(node._tear_down(), name=f"kill {node.name}")

    async def settle(self, timeout_s: float = _SETTLE_S) -> None:
        """Return when all nodes that run see each other, and what each offers.

        Raises:
            AssertionError: They do not, within `timeout_s`.
        """
        running = self._running()
        offered = {node.id: node._dispatcher.offers().services for node in running}
        for node in running:
            await until(
                lambda node=node: len(node.reachable()) == len(running) and node.offers() == offered,  # type: ignore[misc]
                f"{node.name} sees {', '.join(other.name for other in running)}",
                timeout_s,
            )

    async def advance(self, seconds: float) -> None:
        """Let time pass, and with it all that happens in it."""
        await asyncio.sleep(seconds)

    # -- a bad network

    def partition(self, *groups: Iterable[Which]) -> None:
        """Cut every cable between nodes of different groups. Nobody is told, and nothing is lost yet.

        One group is cut off from all other nodes.
        """
        sides = [{self._find(which).name for which in group} for group in groups]
        if len(sides) == 1:
            sides.append({node.name for node in self.nodes} - sides[0])
        for number, side in enumerate(sides):
            for other in sides[number + 1 :]:
                for one in sorted(side):
                    for two in sorted(other):
                        self.cut(one, two)

    def cut(self, one: Which, other: Which) -> None:
        """Pull the cable between two nodes."""
        for mine, theirs in self._cables(one, other):
            self.network.cut(mine, theirs)

    def heal(self, one: Which | None = None, other: Which | None = None) -> None:
        """Mend the cable between two nodes, or all. What was held arrives, late and in order."""
        if one is not None and other is not None:
            pairs = [(one, other)]
        else:
            pairs = [(first, second) for first in self.nodes for second in self.nodes if first is not second]
        for pair in pairs:
            for mine, theirs in self._cables(*pair):
                self.network.heal(mine, theirs)

    # -- how

    def _running(self) -> list[Node]:
        return [node for node in self.nodes if node not in self._killed and node._state == "running"]

    def _find(self, which: Which) -> Node:
        node = self._former(which)
        if node is None:
            raise KeyError(f"no node is named {which!r}; there are {', '.join(node.name for node in self.nodes)}")
        return node

    def _former(self, which: Which) -> Node | None:
        if isinstance(which, int):
            return self.nodes[which]
        return next((node for node in self.nodes if which in (node, node.name)), None)

    def _make(self, name: str, place: int | None = None) -> Node:
        apps, given = self._recipes[name]
        settings: dict[str, Any] = {"bind": f"memory://{name}", **self._settings, **given}
        if settings["join"] is None:
            settings["join"] = tuple(node.endpoint for node in self._running())
        settings.setdefault("data_dir", self._identity(name))
        plugs: list[_Plug] = []

        def plug(loop: asyncio.AbstractEventLoop, limits: Limits) -> MemoryTransport:
            plugs.append(_Plug(self.network, loop, limits))
            return plugs[-1]

        loop = asyncio.get_running_loop()
        self._starts += 1
        node = Node(
            *(apps or self._apps),
            name=name,
            control="inline",
            transport=plug,
            rng=random.Random(self._seed * _SEED_STRIDE + self._starts),
            wall=lambda: _MIDNIGHT + loop.time() - STARTS_AT,
            **settings,
        )
        self._plugs[node] = plugs
        if place is None:
            self.nodes.append(node)
        else:
            self.nodes[place] = node
        return node

    def _identity(self, name: str) -> str:
        """A data directory with an identity that depends on the seed alone: who sorts before whom is chance, too."""
        if self._identities is None:
            self._identities = tempfile.TemporaryDirectory(prefix="fdn-")
        taken = any(node.name == name for node in self._running())
        folder = Path(self._identities.name, f"{name}.{self._starts}" if taken else name)
        if not folder.exists():
            folder.mkdir()
            bits = random.Random(f"{self._seed} {folder.name}").getrandbits(64)
            kept = {"node": f"{name}-{bits:016x}", "name": name, "generation": 0}
            Path(folder, "identity.json").write_text(json.dumps(kept))
        return str(folder)

    def _cables(self, one: Which, other: Which) -> Iterable[tuple[str, str]]:
        """Endpoints of both: one for each plane, which is what a transport is known by."""
        mine, theirs = self._find(one).endpoints, self._find(other).endpoints
        for here in _PLANES:
            for there in _PLANES:
                if here in mine and there in theirs:
                    yield mine[here], theirs[there]
