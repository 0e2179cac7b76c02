"""Real processes for tests: nodes (`fdn node run`) and other commands, in a home of their own, ended with the test."""

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import fdn
import fdn.sync

__all__ = ("ROOT", "Cluster", "NodeProcess", "eventually", "first_line", "own_environment")

ROOT: Final = Path(fdn.__file__).parents[1]
READY_S: Final = 20.0  # a busy machine starts a process slowly; nothing is asserted about it
_T = TypeVar("_T")


def eventually(what: str, probe: Callable[[], _T], timeout_s: float = 15.0) -> _T:
    """Ask until the answer is true, and return it. An `fdn.Error` counts as no."""
    give_up_at = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < give_up_at:
        try:
            answer = probe()
            if answer:
                return answer
            last = answer
        except fdn.Error as error:
            last = error
        select.select([], [], [], 0.02)
    raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {last!r}")


@dataclasses.dataclass
class NodeProcess:
    """One `fdn node run --json`, ready.

    Attributes:
        ready: Its ready line.
        errors: Where its standard error goes.
    """

    process: "subprocess.Popen[str]"
    ready: dict[str, Any]
    errors: Path
    cluster: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def id(self) -> str:
        return str(self.ready["node"])

    @property
    def name(self) -> str:
        return str(self.ready["name"])

    @property
    def endpoint(self) -> str:
        return str(self.ready["endpoint"])

    def client(self, timeout_s: float = 5.0) -> fdn.sync.Client:
        """A thin client of it, to be used as a context manager."""
        return fdn.sync.Client(self.endpoint, cluster=self.cluster, timeout=timeout_s, reconnect=False)

    def members(self, timeout_s: float = 5.0) -> dict[str, dict[str, Any]]:
        """Its view, by name; the living win a name."""
        with self.client(timeout_s) as client:
            rows = client.call("fdn.node.members", channel="coordination")
        return {row["name"]: row for row in sorted(rows, key=lambda row: row["status"] in ("alive", "suspect"))}

    def statuses(self) -> dict[str, str]:
        """Its view: name to status."""
        return {name: member["status"] for name, member in self.members().items()}

    def log(self) -> str:
        return self.errors.read_text()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        self.process.terminate()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait(self, timeout_s: float = 20.0) -> int:
        """The exit status."""
        return self.process.wait(timeout_s)


class Cluster:
    """Starts nodes and other commands of one test, in a folder, home and environment of their own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.name = "test"
        self.nodes: list[NodeProcess] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._started = 0

    def start(
        self, n: int = 1, *arguments: str, app: str | None = None, join: str | None = None, names: Sequence[str] = ()
    ) -> list[NodeProcess]:
        """Start `n` more nodes, and return when all that run see each other.

        Args:
            n: How many.
            *arguments: Further ones for `fdn node run`.
            app: MODULE:APP to serve; "" or None serves nothing.
            join: Whom to join; None takes the first node that runs, "" nobody.
            names: Their names; n1, n2, ... by default.
        """
        fresh: list[NodeProcess] = []
        for index in range(n):
            running = [node for node in self.nodes if node.process.poll() is None]
            seed = join if join is not None else running[0].endpoint if running else ""
            self._started += 1
            name = names[index] if names else f"n{self._started}"
            node = self._start_one(name, [*arguments, *(["--join", seed] if seed else ["--alone"])], app)
            self.nodes.append(node)
            fresh.append(node)
        self.settle()
        return fresh

    def settle(self) -> None:
        """Return when every node that runs sees exactly those that run alive and reachable."""
        running = [node for node in self.nodes if node.process.poll() is None]
        wanted = {node.id for node in running}

        def sees_all(node: NodeProcess) -> bool:
            living = [
                member for member in node.members().values() if member["status"] == "alive" and member["reachable"]
            ]
            return {member["node"] for member in living} == wanted

        for node in running:
            eventually(f"{node.name} sees {sorted(wanted)}", lambda node=node: sees_all(node))  # type: ignore[misc]

    def command(self, *arguments: str, timeout_s: float = 30.0, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run one `fdn` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fdn.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            # A test run that ignores SIGINT would hand that down.
            preexec_fn=_ordinary_interrupt,
        )

    def spawn(
        self, *arguments: str, errors: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Start one `fdn` command; it is ended with the test. `environment` is added to the cluster's own."""
        with (errors or self.folder / "stderr").open("a") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "fdn.cli", *arguments],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
                preexec_fn=_ordinary_interrupt,
            )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End everything that was started, by its process id."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self._processes:
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    def _start_one(self, name: str, arguments: Sequence[str], app: str | None) -> NodeProcess:
        errors = self.folder / f"{name}.stderr"
        process = self.spawn(
            *("node", "run", "--json", "--name", name, "--cluster", self.name, "--bind", "tcp://127.0.0.1:0"),
            *arguments,
            *([app] if app else []),
            errors=errors,
        )
        line = first_line(process)
        assert line, f"node {name} did not start (exit status {process.poll()}): {errors.read_text()}"
        return NodeProcess(process, json.loads(line), errors, self.name)


def own_environment(home: Path) -> dict[str, str]:
    """The environment without anything that could lead a command to somebody else's cluster or settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FDN_") and key != "NO_COLOR"}
    # Processes started from there find this fdn, installed or not, and the apps of these tests.
    return environment | {"XDG_CONFIG_HOME": str(home), "PYTHONPATH": str(ROOT)}


def first_line(process: "subprocess.Popen[str]", timeout_s: float = READY_S) -> str:
    """The next line on standard output, or nothing when it ends, or takes too long."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if readable else ""


def _ordinary_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
