"""Distributed Erlang beside fdn: two nodes of it, started for one measurement, where it is installed.

They get a name server (epmd) and a cookie of their own, so that they neither meet nor disturb another Erlang on this
machine, and nothing is left running.
"""

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fdn.bench.worker import Worker
from fdn.errors import Error

__all__ = ("SCRIPT", "missing", "pair")

SCRIPT: Final = Path(__file__).with_name("erlang_peer.escript")
_PROGRAMS: Final = ("escript", "epmd")
_START_S: Final = 10.0
_LOOK_S: Final = 0.02


def missing() -> str:
    """Why it cannot be measured here; nothing if it can."""
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian: erlang-base)" if lacking else ""


@contextlib.contextmanager
def pair() -> Iterator[tuple[Worker, Worker]]:
    """A receiver and a sender that are connected; ended with the block.

    Raises:
        Error: Erlang is not installed, or does not start.
    """
    if reason := missing():
        raise Error(f"Distributed Erlang cannot be measured: {reason}")
    with _name_server() as environment:
        program = ("env", *(f"{name}={value}" for name, value in environment.items()), "escript", str(SCRIPT))
        with Worker("receiver", program) as receiver:
            peer = receiver.ready["node"]
            with Worker("sender", program, peer=peer, python=sys.executable) as sender:
                yield receiver, sender


@contextlib.contextmanager
def _name_server() -> Iterator[dict[str, str]]:
    """An epmd on a port of its own; what its nodes must have in their environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["epmd", "-port", str(port), "-address", "127.0.0.1"]
    # It remarks on our looking whether it listens.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_listening(process, port)
        yield {"ERL_EPMD_PORT": str(port), "ERL_FLAGS": f"-setcookie {secrets.token_hex(16)}"}
    finally:
        process.kill()
        process.wait()


def _wait_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _START_S):
            return
        time.sleep(_LOOK_S)
    raise Error(f"epmd does not listen on port {port} within {_START_S:g} s", hint="run it by hand to see why")
