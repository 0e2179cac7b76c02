"""A NATS server of our own, and connected clients of it, each a process; all ended by their ids."""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fdn.bench.events import Contestant
from fdn.bench.worker import Worker
from tools.progress import StepFailedError

__all__ = ("SERVER_FLAGS", "contestant")

# Any free port of the loopback, told in a file; all else is the server's default.
SERVER_FLAGS: Final = ("--addr", "127.0.0.1", "--port", "-1")
_START_S: Final = 15.0
_LOOK_S: Final = 0.02
_WORKER: Final = Path(__file__).with_name("nats_worker.py")


@contextlib.contextmanager
def contestant(python: Path, processes: int) -> Iterator[Contestant]:
    """A server, one publishing client and so many that subscribe; ended with the block."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(python.with_name("nats-server")))
        program = (str(python), str(_WORKER))
        publisher = stack.enter_context(Worker("publisher", program, server=server))
        subscribers = [stack.enter_context(Worker("subscriber", program, server=server)) for _ in range(processes)]
        yield Contestant(publisher, subscribers)


@contextlib.contextmanager
def _server(program: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="fdn-peers-") as name:
        folder = Path(name)
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [str(program), *SERVER_FLAGS, "--ports_file_dir", name], stdout=log, stderr=log, process_group=0
            )
        try:
            yield _url(process, folder)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        for file in folder.glob("*.ports"):
            with contextlib.suppress(ValueError, LookupError):  # it is being written
                return str(json.loads(file.read_text(encoding="utf-8"))["nats"][0])
        time.sleep(_LOOK_S)
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")
    raise StepFailedError(f"nats-server did not start within {_START_S:g} s. It said\n{log}")
