"""Clusters of real nodes, each a process of this machine: on loopback, on ephemeral ports, ended with the test.

`ProcessCluster` starts `fdn node run` in folders and with an environment of its own, kills, stops and starts again,
and with `faults=True` puts a proxy between the nodes that makes a bad network of loopback.
"""

import contextlib
import dataclasses
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from fdn.errors import Error
from fdn.local import leash
from fdn.local.cluster import describe_end
from fdn.local.views import is_whole
from fdn.sync import Client
from fdn.testing.fault_proxy import FaultProxy
from fdn.testing.relay import Traffic
from fdn.units import parse_duration, parse_size
from transports.channel import Channel
from transports.endpoint import Endpoint

__all__ = ("NodeProcess", "ProcessCluster", "Which", "eventually", "first_line")

READY_S: Final = 30.0  # a busy machine starts a process slowly; nothing is asserted about it
_END_S: Final = 30.0
_POLL_S: Final = 0.02
_TAIL_LINES: Final = 40
_T = TypeVar("_T")


def eventually(what: str, probe: Callable[[], _T], timeout_s: float = 15.0) -> _T:
    """Ask until the answer is true, and return it. An `fdn.Error` counts as no.

    Raises:
        AssertionError: It was not within `timeout_s`; says what the last answer was.
    """
    give_up_at = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < give_up_at:
        try:
            answer = probe()
            if answer:
                return answer
            last = answer
        except Error as error:
            last = error
        time.sleep(_POLL_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {last!r}")


def first_line(process: "subprocess.Popen[str]", timeout_s: float = READY_S) -> str:
    """The next line of a command's standard output, or nothing when it ends, or takes too long."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if readable else ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """How a node is started, every time."""

    app: str
    arguments: tuple[str, ...]
    bind: str
    advertise: str


class NodeProcess:
    """One node of a `ProcessCluster`, in whichever process it lives now.

    Attributes:
        name: Its name.
        ready: What it said when it was ready, see `fdn node run --json`.
        log_file: What all its processes wrote, standard output and error alike.
    """

    def __init__(self, cluster: "ProcessCluster", name: str, plan: _Plan) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self.log_file = cluster.folder / f"{name}.log"
        self._cluster = cluster
        self._plan = plan
        self._log_begins_at = 0  # of the last process
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<node {self.name}, pid {self.pid}, {'runs' if self.runs else 'ended'}>"

    # -- what it is

    @property
    def pid(self) -> int:
        """The process that it lives in, or lived in last; 0 before the first."""
        return 0 if self._process is None else self._process.pid

    @property
    def id(self) -> str:
        """The node id, the same after `restart`."""
        return str(self.ready["node"])

    @property
    def endpoint(self) -> str:
        """What others join: its coordination endpoint. New after a restart, but for a cluster with `faults`."""
        return str(self.ready["endpoint"])

    @property
    def runs(self) -> bool:
        """Whether its process has not ended. One that is paused runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What all its processes have written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def wait_log(self, pattern: str, timeout_s: float = 15.0) -> str:
        """Return the first line in its log that holds a match of the regular expression, once there is one."""
        wanted = re.compile(pattern)

        def found() -> str | None:
            return next((line for line in self.log.splitlines() if wanted.search(line)), None)

        line = eventually(f"{self.name} logs {pattern!r}", found, timeout_s)
        assert line is not None
        return line

    # -- what it says

    def client(self, timeout_s: float = 5.0) -> Client:
        """A blocking client of it, to be used as a context manager."""
        return Client(self.endpoint, cluster=self._cluster.name, timeout=timeout_s, reconnect=False)

    def members(self, timeout_s: float = 5.0) -> dict[str, dict[str, Any]]:
        """Its view of the cluster, by name; the living win a name."""
        with self.client(timeout_s) as client:
            rows = client.call("fdn.node.members", channel="coordination")
        return {row["name"]: row for row in sorted(rows, key=lambda row: row["status"] in ("alive", "suspect"))}

    def statuses(self) -> dict[str, str]:
        """Its view: name to `alive`, `suspect`, `dead` or `left`."""
        return {name: member["status"] for name, member in self.members().items()}

    # -- what befalls it

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say goodbye. Returns when its process has ended."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """SIGSTOP: its process exists and its sockets are open, and nothing in it moves."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: end a pause."""
        self.send_signal(signal.SIGCONT)

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout_s: float = _END_S) -> int:
        """SIGTERM: drain, leave and end. Returns the exit status: 0 if all went well."""
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)  # one that is paused would never hear of it
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = _END_S) -> int:
        """Return when its process has ended: the exit status, or minus the signal."""
        assert self._process is not None
        status = self._process.wait(timeout_s)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return status

    def start(self) -> None:
        """Start it again after its end, as the same member, and return when it is ready. See `settle`."""
        if self.runs:
            raise AssertionError(f"{self!r} runs already; kill or stop it first, or use restart()")
        self._cluster._launch(self)
        self._cluster._wait_ready(self)

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()


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
        for node in waits:
            self._launch(node, join)
            self._wait_ready(node)
        for node in fresh[len(waits) :]:
            self._launch(node, join)
        for node in fresh[len(waits) :]:
            self._wait_ready(node)
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

    def lossy(self, one: Which, other: Which, *, loss: float, channel: str | None = None) -> None:
        """Drop messages between two nodes, both directions: whole ones, by chance, never a handshake.

        TCP loses nothing while a connection lasts: this is harder than any network, but for gossip.

        Args:
            one: A node.
            other: Another.
            loss: Which share, 0 to 1.
            channel: As for `slow`.
        """
        if not 0 <= loss <= 1:
            raise ValueError(f"loss={loss!r}: expected a share from 0 to 1")
        self._change(self._find(one).name, self._find(other).name, channel, loss=loss)

    def traffic(self) -> dict[tuple[str, str, str], Traffic]:
        """What the proxy has passed on, by sender, receiver and channel."""
        return self._faults().stats()

    # -- other commands

    def command(self, *arguments: str, timeout_s: float = 30.0, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run one `fdn` command in `folder` to its end."""
        with _audible_interrupts():
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
        with (errors or self.folder / "stderr").open("a") as stream, _audible_interrupts():
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
        processes: list[subprocess.Popen[Any]] = [
            *(node._process for node in self._all_nodes if node._process is not None),
            *self._commands,
        ]
        for process in processes:
            if process.poll() is None:
                process.kill()
        for process in processes:
            process.wait(10)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        if self._proxy is not None:
            self._proxy.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def logs(self, lines_max: int = _TAIL_LINES) -> Iterator[tuple[str, str]]:
        """For each node what it is, and the end of its log: for the report of a test that failed."""
        for node in self._all_nodes:
            yield repr(node), _tail(node.log, lines_max)

    # -- how

    def with_faults(self) -> None:
        """Put a proxy between the nodes that are started from now on. Idempotent."""
        if self._proxy is None:
            if self.nodes:
                raise AssertionError("some nodes run without a proxy; ask for `faults` when the first is started")
            self._proxy = FaultProxy(self._seed)

    def _running(self) -> list[NodeProcess]:
        return [node for node in self.nodes if node.runs]

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
        node = NodeProcess(self, name, _Plan(app, tuple(arguments), bind, advertise))
        self.nodes.append(node)
        self._all_nodes.append(node)
        return node

    def _launch(self, node: NodeProcess, join: str | None = None) -> None:
        plan = node._plan
        if join is None:
            seeds = [other.endpoint for other in self._running() if other is not node and other.ready]
        else:
            seeds = [join] if join else []
        joins = [part for seed in seeds for part in ("--join", seed)] or ["--alone"]
        node._log_begins_at = node.log_file.stat().st_size if node.log_file.exists() else 0
        with node.log_file.open("ab") as log, _audible_interrupts():
            node._process = subprocess.Popen(
                leash.command(
                    *("fdn.cli", "node", "run", "--json", "--name", node.name, "--cluster", self.name),
                    *("--bind", plan.bind, "--data-dir", str(self.folder / f"{node.name}.data")),
                    *(("--advertise", plan.advertise) if plan.advertise else ()),
                    *plan.arguments,
                    *joins,
                    *((plan.app,) if plan.app else ()),
                ),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,  # the other end of the leash
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_ready(self, node: NodeProcess) -> None:
        node.ready = {}
        give_up_at = time.monotonic() + READY_S
        while time.monotonic() < give_up_at:
            ended = not node.runs
            with node.log_file.open("rb") as log:
                log.seek(node._log_begins_at)
                for line in log.read().splitlines(keepends=True):
                    if line.startswith(b'{"event": "ready"') and line.endswith(b"\n"):
                        node.ready = json.loads(line)
                        return
            if ended:
                break
            time.sleep(_POLL_S)
        assert node._process is not None
        status = node._process.poll()
        what = f"was not ready within {READY_S:g} s" if status is None else describe_end(status)
        raise AssertionError(f"node {node.name} {what}:\n{_tail(node.log, _TAIL_LINES)}")


def _own_environment(home: Path) -> dict[str, str]:
    """This environment without anything that could lead a process to somebody else's cluster or settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FDN_") and key != "NO_COLOR"}
    # What this process can import, its tests' apps among them, the nodes can.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return kept | {"XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": path}


@contextlib.contextmanager
def _audible_interrupts() -> Iterator[None]:
    """Start processes that can hear SIGINT, even if this one ignores it: that would be handed down."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _seconds(text: str | float) -> float:
    return parse_duration(text) if isinstance(text, str) else float(text)


def _rate(text: str | float) -> float:
    return float(parse_size(text.removesuffix("/s")) if isinstance(text, str) else text)


def _tail(text: str, lines_max: int) -> str:
    lines = text.splitlines()
    return "\n".join([*(["..."] if len(lines) > lines_max else []), *lines[-lines_max:]])
