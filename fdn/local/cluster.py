"""Nodes as processes of this machine: started, killed, started again and ended by one parent.

Each is `fdn node run` in a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which then
drains them; and on a leash, so that none outlives the parent, however that ends.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.errors import ConfigError, Conflict, DeadlineExceeded, Error, from_wire
from fdn.local import leash
from transports.channel import Channel

__all__ = ("ClusterPlan", "LocalCluster", "LocalNode", "describe_end", "start_error")

HOST: Final = "127.0.0.1"
_START_S: Final = 20.0
_END_S: Final = 20.0  # a node drains for up to 10 s and stops within 5
_LOG_TAIL_BYTES: Final = 64 * 1024
_READY_BYTES_MAX: Final = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What to start.

    Attributes:
        folder: Holds a data directory and a log file for each node; made if missing.
        cluster: The cluster's name.
        base_port: Base port of the first node; the others follow in steps of four. 0 takes ephemeral ports.
        search: Whether a group of ports that is taken means to try the next one.
        apps: MODULE:APP that every node serves.
    """

    folder: Path
    cluster: str = "fdn"
    base_port: int = 7400
    search: bool = True
    apps: tuple[str, ...] = ()

    def bind(self, number: int) -> str:
        """Where node `number`, from 0, listens."""
        if not self.base_port:
            return f"tcp://{HOST}:0"
        return f"tcp://{HOST}:{self.base_port + number * len(Channel)}{'+' * self.search}"

    def name(self, number: int) -> str:
        """What node `number` is called."""
        return f"n{number + 1}"


class LocalNode:
    """One node, in whichever process it lives now.

    Attributes:
        name: Its name.
        folder: Its data directory.
        log: What it and the processes before it wrote, in this run.
        ready: What it said when it was ready; empty before.
        starts: How many processes it has had.
    """

    def __init__(self, name: str, folder: Path, log: Path, bind: str) -> None:
        self.name = name
        self.folder = folder
        self.log = log
        self.bind = bind
        self.ready: Mapping[str, Any] = {}
        self.starts = 0
        self.process: asyncio.subprocess.Process | None = None
        self.pump: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process that it lives in, or lived in last."""
        return 0 if self.process is None else self.process.pid

    @property
    def id(self) -> str:
        return str(self.ready.get("node", ""))

    @property
    def endpoint(self) -> str:
        """Its base address."""
        return str(self.ready.get("endpoint", ""))

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def ended(self) -> int:
        """Return when its process has ended: its exit status, or minus the signal."""
        return 0 if self.process is None else await self.process.wait()

    def describe(self) -> dict[str, Any]:
        """What a program needs to know of it."""
        known = {key: self.ready.get(key) for key in ("node", "endpoint", "endpoints")}
        return {"name": self.name, "pid": self.pid, **known, "data_dir": str(self.folder), "log": str(self.log)}


class LocalCluster:
    """The nodes of one plan. Its methods belong to one event loop, on the main thread."""

    def __init__(self, plan: ClusterPlan) -> None:
        self.plan = plan
        self.nodes: list[LocalNode] = []

    async def start(self, count: int) -> None:
        """Start `count` nodes and return when each is ready; they may not have met all others yet.

        Raises:
            ConfigError: The folder cannot be used.
            Error: As the node that could not start said it.
        """
        for number in range(count):
            name = self.plan.name(number)
            folder = self.plan.folder / name
            node = LocalNode(name, folder, self.plan.folder / f"{name}.log", self.plan.bind(number))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                node.log.write_bytes(b"")
            except OSError as error:
                raise ConfigError(
                    f"{folder} cannot be used for node {name}: {error.strerror or error}",
                    hint="set XDG_STATE_HOME to a directory that this user may write to",
                ) from error
            self.nodes.append(node)
        await self._start(self.nodes[0])  # the others need somebody to join
        starts = [asyncio.create_task(self._start(node)) for node in self.nodes[1:]]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def restart(self, node: LocalNode) -> None:
        """Start an ended node again, on its ports and with its data directory; return when it is ready.

        Raises:
            Error: As the node said it.
        """
        assert not node.runs
        if self.plan.base_port:
            node.bind = f"tcp://{HOST}:{node.endpoint.rpartition(':')[2]}{'+' * self.plan.search}"
        await self._finish_pump(node)
        await self._start(node)

    def kill(self, node: LocalNode) -> None:
        """Send SIGKILL: the node gets no chance to say goodbye."""
        _send(node, signal.SIGKILL)

    async def close(self, at_once: asyncio.Event) -> bool:
        """End every node: SIGTERM drains it; SIGKILL follows when `at_once` is set, or after `_END_S`.

        Returns:
            Whether all ended by themselves.
        """
        for node in self.nodes:
            _send(node, signal.SIGTERM)
            _send(node, signal.SIGCONT)  # one that is stopped would never hear of it
        ends: asyncio.Future[Any] = asyncio.gather(*(node.ended() for node in self.nodes))
        hurry = asyncio.create_task(at_once.wait())
        try:
            await asyncio.wait({ends, hurry}, timeout=_END_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            stubborn = [node for node in self.nodes if node.runs]
            for node in stubborn:
                self.kill(node)
            await ends
            await asyncio.gather(*(self._finish_pump(node) for node in self.nodes))
        return not stubborn

    async def _start(self, node: LocalNode) -> None:
        seeds = [other.endpoint for other in self.nodes if other is not node and other.runs and other.endpoint]
        command = leash.command("fdn.cli", "node", "run", *self._arguments(node, seeds))
        log_size = node.log.stat().st_size
        with node.log.open("ab") as log:
            node.process = await asyncio.create_subprocess_exec(
                *command,
                # The other end of the leash, and nothing to read: the terminal is not for the nodes.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(os.environ),
                start_new_session=True,
            )
        node.starts += 1
        assert node.process.stdout is not None
        try:
            async with asyncio.timeout(_START_S):
                line = await node.process.stdout.readline()
        except TimeoutError:
            self.kill(node)  # or it would be counted among those that run
            raise DeadlineExceeded(
                f"node {node.name} was not ready within {_START_S:g} s", hint=f"its log is {node.log}"
            ) from None
        if not line:
            status = await node.process.wait()
            raise start_error(node.name, status, _tail(node.log, log_size), node.log, self.plan)
        node.ready = json.loads(line)
        node.pump = asyncio.create_task(_copy(node.process.stdout, node.log))

    def _arguments(self, node: LocalNode, seeds: Sequence[str]) -> list[str]:
        joins = [part for seed in seeds for part in ("--join", seed)] or ["--alone"]
        return [
            *("--json", "--name", node.name, "--cluster", self.plan.cluster, "--bind", node.bind),
            *("--advertise", HOST, "--data-dir", str(node.folder), *joins, *self.plan.apps),
        ]

    async def _finish_pump(self, node: LocalNode) -> None:
        if node.pump is not None:
            await node.pump
            node.pump = None


def describe_end(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def start_error(name: str, status: int, written: str, log: Path, plan: ClusterPlan) -> Error:
    """Why a node did not start, from what it wrote on standard error: its own error if it named one."""
    for line in reversed(written.splitlines()):
        if not line.startswith('{"error": '):
            continue
        with contextlib.suppress(ValueError, KeyError):
            body = json.loads(line)["error"]
            cause = from_wire({**body, "message": f"node {name} did not start: {body['message']}"})
            cause.add_note(f"its log is {log}")
            if isinstance(cause, Conflict) and "tcp://" in cause.message:
                cause.hint = f"name another first port with --base-port (now {plan.base_port}), or 0 for any"
            return cause
    last = next((line for line in reversed(written.splitlines()) if line.strip()), "it wrote nothing")
    return Error(f"node {name} {describe_end(status)} before it was ready: {last}", hint=f"its log is {log}")


def _send(node: LocalNode, number: signal.Signals) -> None:
    if node.runs:
        assert node.process is not None
        with contextlib.suppress(ProcessLookupError):  # it ended, and the loop has not heard yet
            node.process.send_signal(number)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Ours, but for the context: that one names the cluster which commands talk to, and may be another."""
    return {key: value for key, value in env.items() if key != "FDN_CONTEXT"}


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(start, log.stat().st_size - _LOG_TAIL_BYTES))
        return stream.read().decode("utf-8", "replace")


async def _copy(stdout: asyncio.StreamReader, log: Path) -> None:
    """What the node's apps print goes to its log; a pipe that nobody reads would stop them."""
    with log.open("ab", buffering=0) as stream:
        while chunk := await stdout.read(_READY_BYTES_MAX):
            stream.write(chunk)
