"""NATS as a contestant in `bench events`: connected clients, each a process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fdn.bench.events import Contestant
from fdn.bench.worker import Worker
from tools.peers import servers

__all__ = ("contestant",)

_WORKER: Final = Path(__file__).with_name("nats_worker.py")


@contextlib.contextmanager
def contestant(python: Path, processes: int) -> Iterator[Contestant]:
    """A server, one publishing client and so many that subscribe; ended with the block."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(servers.nats(python.with_name("nats-server")))
        program = (str(python), str(_WORKER))
        publisher = stack.enter_context(Worker("publisher", program, server=server))
        subscribers = [stack.enter_context(Worker("subscriber", program, server=server)) for _ in range(processes)]
        yield Contestant(publisher, subscribers)
