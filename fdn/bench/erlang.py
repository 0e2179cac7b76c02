"""Distributed Erlang beside fdn: two nodes of it, started for one measurement, where it is installed.

They get a name server (epmd) and a cookie of their own, so that they neither meet nor disturb another Erlang on this
machine, and nothing is left running.
"""

import contextlib
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fdn.bench.worker import Worker
from fdn.errors import Error

__all__ = ("SCRIPT", "missing", "pair")

SCRIPT: Final = Path(__file__).with_name("erlang_peer.escript")
_PROGRAMS: Final = ("escript", "epmd")
_HOST: Final = "127.0.0.1"
_START_S: Final = 10.0
_LOOK_S: Final = 0.02


def missing() -> str:
    """Why it cannot be measured here; nothing if it can."""
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian: erlang-base)" if lacking else ""


@contextlib.contextmanager
def pair(through: Callable[[str, int], int] | None = None) -> Iterator[tuple[Worker, Worker]]:
    """A receiver and a sender that are connected; ended with the block.

    Args:
        through: Where the sender shall connect in place of the receiver's own port, given a name and that port.

    Raises:
        Error: Erlang is not installed, or does not start.
    """
    if reason := missing():
        raise Error(f"Distributed Erlang cannot be measured: {reason}")
    cookie = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_name_server())
        receiver = stack.enter_context(Worker("receiver", _program(port, cookie)))
        peer = receiver.ready["node"]
        if through is not None:
            # A sender finds the receiver where its own name server says that it is.
            name = peer.partition("@")[0]
            there = through(name, _registered(port, name))
            port = stack.enter_context(_name_server())
            stack.enter_context(_register(port, name, there))
        sender = Worker("sender", _program(port, cookie), peer=peer, python=sys.executable)
        yield receiver, stack.enter_context(sender)


def _program(port: int, cookie: str) -> tuple[str, ...]:
    return ("env", f"ERL_EPMD_PORT={port}", f"ERL_FLAGS=-setcookie {cookie}", "escript", str(SCRIPT))


def _registered(epmd: int, name: str) -> int:
    """The port under which a node is registered (PORT_PLEASE2_REQ of the Erlang distribution protocol)."""
    with socket.create_connection((_HOST, epmd), _START_S) as asking:
        asking.sendall(struct.pack("!HB", 1 + len(name), 122) + name.encode())
        answer = asking.recv(4)
    if len(answer) < 4 or answer[1]:
        raise Error(f"epmd does not know {name}")
    port: int = struct.unpack("!H", answer[2:])[0]
    return port


@contextlib.contextmanager
def _register(epmd: int, name: str, port: int) -> Iterator[None]:
    """Register a node in its stead (ALIVE2_REQ), for as long as the block lasts."""
    # A visible node ("M"), TCP over IPv4, distribution versions 6 to 5.
    request = struct.pack("!BHBBHHH", 120, port, ord("M"), 0, 6, 5, len(name)) + name.encode() + b"\0\0"
    with socket.create_connection((_HOST, epmd), _START_S) as registering:
        registering.sendall(struct.pack("!H", len(request)) + request)
        answer = registering.recv(8)
        if len(answer) < 2 or answer[1]:
            raise Error(f"epmd does not register {name}")
        yield


@contextlib.contextmanager
def _name_server() -> Iterator[int]:
    """An epmd; its port."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port = free.getsockname()[1]
    command = ["epmd", "-port", str(port), "-address", _HOST]
    # It remarks on our looking whether it listens.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_listening(process, port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    give_up_at = time.monotonic() + _START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), _START_S):
            return
        time.sleep(_LOOK_S)
    raise Error(f"epmd does not listen on port {port} within {_START_S:g} s", hint="run it by hand to see why")
