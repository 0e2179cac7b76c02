"""One real node as a process: started on a leash, watched through its log, killed, paused, and started again."""

import contextlib
import dataclasses
import json
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from fdn.errors import Error
from fdn.local import leash
from fdn.local.cluster import describe_end
from fdn.sync import Client

__all__ = ("NodeProcess", "Plan", "audible_interrupts", "eventually", "first_line", "tail_of")

_READY_S: Final = 30.0  # a busy machine starts a process slowly; nothing is asserted about it
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


def first_line(process: "subprocess.Popen[str]", timeout_s: float = _READY_S) -> str:
    """The next line of a command's standard output, or nothing when it ends, or takes too long."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if readable else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How a node is started, every time.

    Attributes:
        folder: Where it runs, and keeps its log and its data directory.
        environment: All of it.
        cluster: The cluster's name.
        bind: Where it listens.
        advertise: What it tells others, if that differs.
        app: MODULE:APP, or empty.
        arguments: Further ones for `fdn node run`.
    """

    folder: Path
    environment: Mapping[str, str]
    cluster: str
    bind: str
    advertise: str = ""
    app: str = ""
    arguments: tuple[str, ...] = ()


class NodeProcess:
    """One node of a `ProcessCluster`, in whichever process it lives now.

    Attributes:
        name: Its name.
        ready: What it said when it was ready, see `fdn node run --json`.
        log_file: What all its processes wrote, standard output and error alike.
    """

    def __init__(self, name: str, plan: Plan, seeds: Callable[["NodeProcess"], Sequence[str]]) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self.log_file = plan.folder / f"{name}.log"
        self._plan = plan
        self._seeds = seeds  # whom it may join when it starts
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
        return Client(self.endpoint, cluster=self._plan.cluster, timeout=timeout_s, reconnect=False)

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
        self.launch(self._seeds(self))
        self.wait_ready()

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    # -- how it starts

    def launch(self, seeds: Sequence[str]) -> None:
        """Start its process; it joins any of `seeds`, or nobody if there are none. See `wait_ready`."""
        plan = self._plan
        joins = [part for seed in seeds for part in ("--join", seed)] or ["--alone"]
        self.ready = {}
        self._log_begins_at = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log, audible_interrupts():
            self._process = subprocess.Popen(
                leash.command(
                    *("fdn.cli", "node", "run", "--json", "--name", self.name, "--cluster", plan.cluster),
                    *("--bind", plan.bind, "--data-dir", str(plan.folder / f"{self.name}.data")),
                    *(("--advertise", plan.advertise) if plan.advertise else ()),
                    *plan.arguments,
                    *joins,
                    *((plan.app,) if plan.app else ()),
                ),
                cwd=plan.folder,
                env=plan.environment,
                stdin=subprocess.PIPE,  # the other end of the leash
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return when it is ready; see `ready`.

        Raises:
            AssertionError: It ended before, or takes too long; with the end of its log.
        """
        assert self._process is not None
        give_up_at = time.monotonic() + _READY_S
        while time.monotonic() < give_up_at:
            ended = not self.runs
            with self.log_file.open("rb") as log:
                log.seek(self._log_begins_at)
                for line in log.read().splitlines(keepends=True):
                    if line.startswith(b'{"event": "ready"') and line.endswith(b"\n"):
                        self.ready = json.loads(line)
                        return
            if ended:
                break
            time.sleep(_POLL_S)
        status = self._process.poll()
        what = f"was not ready within {_READY_S:g} s" if status is None else describe_end(status)
        raise AssertionError(f"node {self.name} {what}:\n{tail_of(self.log, _TAIL_LINES)}")

    def close(self) -> None:
        """Kill it if it runs. Idempotent."""
        if self._process is not None:
            self.kill()


@contextlib.contextmanager
def audible_interrupts() -> Iterator[None]:
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


def tail_of(text: str, lines_max: int) -> str:
    """The last lines of a text, and a sign that there are more before them."""
    lines = text.splitlines()
    return "\n".join([*(["..."] if len(lines) > lines_max else []), *lines[-lines_max:]])
