"""Servers that peers need, each on any free port of the loopback, with nothing kept; ended by their ids."""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.progress import StepFailedError

__all__ = ("NATS_FLAGS", "REDIS_FLAGS", "nats", "redis")

# Any free port of the loopback, told in a file; all else is the server's default.
NATS_FLAGS: Final = ("--addr", "127.0.0.1", "--port", "-1")
# Nothing goes to the disk; and a subscriber that is behind is not disconnected for it, so that none is lost.
REDIS_FLAGS: Final = ("--save", "", "--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0")
_START_S: Final = 15.0
_LOOK_S: Final = 0.02


@contextlib.contextmanager
def nats(program: Path) -> Iterator[str]:
    """A NATS server; its URL."""

    def url(folder: Path) -> str:
        for file in folder.glob("*.ports"):
            with contextlib.suppress(ValueError, LookupError):  # it is being written
                return str(json.loads(file.read_text(encoding="utf-8"))["nats"][0])
        return ""

    with _server([str(program), *NATS_FLAGS, "--ports_file_dir"], url) as found:
        yield found


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """A Redis server; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def listening(folder: Path) -> str:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _START_S):
            return str(port)
        return ""

    program = shutil.which("redis-server") or "redis-server"
    flags = [program, "--bind", "127.0.0.1", "--port", str(port), *REDIS_FLAGS, "--dir"]
    with _server(flags, listening):
        yield port


@contextlib.contextmanager
def _server(command: Sequence[str], found: Callable[[Path], str]) -> Iterator[str]:
    """Start a server in a folder of its own, which is the command's last argument, and wait until it is found."""
    with tempfile.TemporaryDirectory(prefix="fdn-peers-") as name:
        folder = Path(name)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen([*command, name], stdout=log, stderr=log, process_group=0)
        try:
            give_up_at = time.monotonic() + _START_S
            while not (where := found(folder)):
                if time.monotonic() > give_up_at or process.poll() is not None:
                    text = (folder / "log").read_text(encoding="utf-8", errors="replace")
                    raise StepFailedError(
                        f"{Path(command[0]).name} did not start within {_START_S:g} s. It said\n{text}"
                    )
                time.sleep(_LOOK_S)
            yield where
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
