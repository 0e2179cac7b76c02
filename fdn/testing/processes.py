"""Clusters of real nodes, each a process of this machine: on loopback, on ephemeral ports, ended with the test.

`ProcessCluster` starts `fdn node run` in folders and with an environment of its own, kills, stops and starts again,
and with `faults=True` puts a proxy between the nodes that makes a bad network of loopback.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.local.views import is_whole
from fdn.testing.fault_proxy import FaultProxy
from fdn.testing.node_process import NodeProcess, Plan, audible_interrupts, eventually, tail_of
from fdn.testing.relay import Traffic
from fdn.units import parse_duration, parse_size
from transports.channel import Channel
from transports.endpoint import Endpoint

__all__ = ("ProcessCluster", "Which")

_LOG_LINES: Final = 40

Which = int | str | NodeProcess  # a node by its place in `nodes`, or by its name


class ProcessCluster:
    """Starts nodes, and ends with `close` whatever it has started. Use it on the main thread, as a context manager.

    ```python
    with fdn.testing.ProcessCluster() as cluster:
        one, two, three = cluster(3, app="shop:app")
        three.kill()
    ```

    Args:
        folder: Holds logs and data directories, and is where the processes run: an `fdn.toml` there is theirs. None
            makes a temporary one.
        faults: Put a proxy between the nodes, for `cut`, `slow` and `lossy`.
        name: The cluster's name.
        environment: Added to the processes' environment, which is this one's without `FDN_*`.
        seed: Of the proxy's chance.

    Attributes:
        nodes: In the order of their start; n1 is `nodes[0]`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        faults: bool = False,
        name: str = "test",
        environment: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        # Short, because the path of a socket may have some 100 characters.
        self._home = Path(tempfile.mkdtemp(prefix="fdn-"))
        self.folder = folder or self._home / "cluster"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = _own_environment(self._home) | dict(environment or {})
        self.name = name
        self.nodes: list[NodeProcess] = []
        self._proxy: FaultProxy | None = None
        self._seed = seed
        self._started = 0
        self._all_nodes: list[NodeProcess] = []
        self._commands: list[subprocess.Popen[str]] = []
        if faults:
            self.with_faults()

    def __enter__(self) -> "ProcessCluster":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __call__(self, n: int = 1, *arguments: str, app: str | None = None, **how: Any) -> list[NodeProcess]:
        """The same as `start`."""
        return self.start(n, *arguments, app=app, **how)

    # -- nodes

    def start(
        self,
        n: int = 1,
        *arguments: str,
        app: str | None = None,
        join: str | None = None,
        names: Sequence[str] = (),
        faults: bool = False,
    ) -> list[NodeProcess]:
        """Start `n` more nodes, and return when all that run see each other.

        Args:
            n: How many.
            *arguments: Further ones for `fdn node run`.
            app: MODULE:APP to serve; found where this process finds modules, and in `folder`.
            join: Whom to join; None takes all that run, "" nobody.
            names: Their names; n1, n2, ... by default.
            faults: Put the proxy between these and all that follow.

        Raises:
            AssertionError: One did not start, or they do not find each other; with the end of its log.
        """
        if faults:
            self.with_faults()
        fresh = []
        for index in range(n):
            self._started += 1
            fresh.append(self._make(names[index] if names else f"n{self._started}", arguments, app or ""))
        # The others need somebody to join; after that, all at once.
        waits = [] if join is not None or self._running() else fresh[:1]
        for group in (waits, fresh[len(waits) :]):
            for node in group:
                node.launch(self._seeds(node) if join is None else [join] if join else [])
            for node in group:
                node.wait_ready()
        self.settle()
        return fresh

    def settle(self, timeout_s: float = 30.0) -> None:
        """Return when every node that runs sees exactly those that run alive and reachable."""
        running = self._running()
        wanted = [node.id for node in running]
        for node in running:
            eventually(
                f"{node.name} sees exactly {', '.join(other.name for other in running)}",
                lambda node=node: is_whole(list(node.members().values()), wanted),  # type: ignore[misc]
                timeout_s,
            )

    def __getitem__(self, which: int | str) -> NodeProcess:
        return self._find(which)

    # -- a bad network

    def cut(self, one: Iterable[Which], other: Iterable[Which] | None = None, *, reset: bool = False) -> None:
        """Let nothing pass between two groups of nodes. Like a pulled cable: nobody is told, and nothing is lost yet.

        Args:
            one: The nodes on one side.
            other: Those on the other; None takes all others.
            reset: Close connections at once instead, and refuse new ones: a firewall that says no.
        """
        here = {self._find(which).name for which in one}
        there = {node.name for node in self.nodes} - here if other is None else {self._find(w).name for w in other}
        for mine in here:
            for theirs in there:
                self._change(mine, theirs, cut=True, reset=reset)

    def heal(self) -> None:
        """Undo `cut`, `slow` and `lossy`, everywhere. What was held arrives, late and in order."""
        self._faults().heal()

    def slow(
        self,
        one: Which,
        other: Which,
        *,
        delay: str | float = 0.0,
        jitter: str | float = 0.0,
        rate: str | float = 0,
        channel: str | None = None,
    ) -> None:
        """Make the way between two nodes, both directions, long or narrow.

        Args:
            one: A node.
            other: Another.
            delay: What every byte takes longer, each way: `"50ms"`, or seconds.
            jitter: At most so much more, by chance; the order stays.
            rate: What passes in a second, each way: `"1MiB/s"`, or bytes; 0 is no limit.
            channel: `coordination`, `gossip`, `data` or `events`; None means all.
        """
        self._change(
            self._find(one).name,
            self._find(other).name,
            channel,
            delay_s=_seconds(delay),
            jitter_s=_seconds(jitter),
            bytes_per_s=_rate(rate),
        )

    def lossy(
        self,
        one: Which,
        other: Which,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        channel: str | None = None,
    ) -> None:
        """Drop messages between two nodes, both directions, or let them come twice, or in another order: whole ones,
        by chance, never a handshake.

        TCP does none of this while a connection lasts: this is harder than any network, but for gossip.

        Args:
            one: A node.
            other: Another.
            loss: Which share is dropped, 0 to 1.
            duplication: Which share comes twice.
            reordering: Which share is overtaken by the message behind it.
            channel: As for `slow`.
        """
        shares = {"loss": loss, "duplication": duplication, "reordering": reordering}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share!r}: expected a share from 0 to 1")
        self._change(self._find(one).name, self._find(other).name, channel, **shares)

    def traffic(self) -> dict[tuple[str, str, str], Traffic]:
        """What the proxy has passed on, by sender, receiver and channel."""
        return self._faults().stats()

    # -- other commands

    def command(self, *arguments: str, timeout_s: float = 30.0, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run one `fdn` command in `folder` to its end."""
        with audible_interrupts():
            return subprocess.run(
                [sys.executable, "-m", "fdn.cli", *arguments],
                cwd=self.folder,
                env=self.environment,
                input=given,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )

    def spawn(
        self, *arguments: str, errors: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Start one `fdn` command, its standard output a pipe; it is killed with the cluster."""
        with (errors or self.folder / "stderr").open("a") as stream, audible_interrupts():
            process = subprocess.Popen(
                [sys.executable, "-m", "fdn.cli", *arguments],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self._commands.append(process)
        return process

    # -- the end

    def close(self) -> None:
        """Kill everything that was started, by its process id, and forget what it kept. Idempotent."""
        for command in self._commands:
            command.kill()
        for node in self._all_nodes:
            node.close()
        for command in self._commands:
            command.wait(10)
            if command.stdout is not None:
                command.stdout.close()
        if self._proxy is not None:
            self._proxy.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def logs(self, lines_max: int = _LOG_LINES) -> Iterator[tuple[str, str]]:
        """For each node what it is, and the end of its log: for the report of a test that failed."""
        for node in self._all_nodes:
            yield repr(node), tail_of(node.log, lines_max)

    # -- how

    def with_faults(self) -> None:
        """Put a proxy between the nodes that are started from now on. Idempotent."""
        if self._proxy is None:
            if self.nodes:
                raise AssertionError("some nodes run without a proxy; ask for `faults` when the first is started")
            self._proxy = FaultProxy(self._seed)

    def _running(self) -> list[NodeProcess]:
        return [node for node in self.nodes if node.runs]

    def _seeds(self, node: NodeProcess) -> list[str]:
        """Whom a node joins by itself: all that are ready."""
        return [other.endpoint for other in self._running() if other is not node and other.ready]

    def _find(self, which: Which) -> NodeProcess:
        if isinstance(which, NodeProcess):
            return which
        if isinstance(which, int):
            return self.nodes[which]
        found = [node for node in self.nodes if node.name == which]
        if not found:
            raise KeyError(f"no node is named {which!r}; there are {', '.join(node.name for node in self.nodes)}")
        return found[-1]

    def _faults(self) -> FaultProxy:
        if self._proxy is None:
            raise AssertionError("nothing stands between these nodes; start them with faults=True")
        return self._proxy

    def _change(self, one: str, other: str, channel: str | None = None, **changes: Any) -> None:
        proxy = self._faults()
        proxy.change(one, other, channel, **changes)
        proxy.change(other, one, channel, **changes)

    def _make(self, name: str, arguments: Sequence[str], app: str) -> NodeProcess:
        bind, advertise = "tcp://127.0.0.1:0", ""
        if self._proxy is not None:
            # Where nobody but the proxy looks, and where no port can be taken by somebody else meanwhile.
            base = Endpoint("ipc", str(self._home / f"s{len(self._all_nodes)}"))
            behind = {channel.value: str(base.for_channel(channel)) for channel in Channel}
            bind = str(base)
            advertise = ",".join(f"{channel}={where}" for channel, where in self._proxy.listen(name, behind).items())
        plan = Plan(self.folder, self.environment, self.name, bind, advertise, app, tuple(arguments))
        node = NodeProcess(name, plan, self._seeds)
        self.nodes.append(node)
        self._all_nodes.append(node)
        return node


def _own_environment(home: Path) -> dict[str, str]:
    """This environment without anything that could lead a process to somebody else's cluster or settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FDN_") and key != "NO_COLOR"}
    # What this process can import, its tests' apps among them, the nodes can.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return kept | {"XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": path}


def _seconds(text: str | float) -> float:
    return parse_duration(text) if isinstance(text, str) else float(text)


def _rate(text: str | float) -> float:
    return float(parse_size(text.removesuffix("/s")) if isinstance(text, str) else text)
