import asyncio
import errno
import os
import socket as sockets
from pathlib import Path

import pytest

from transports.endpoint import Endpoint
from transports.transport import EventKind
from transports.zmq.probe import probe, resolve


def ask(endpoint: Endpoint) -> tuple[EventKind, str]:
    async def bounded() -> tuple[EventKind, str]:
        async with asyncio.timeout(20):
            return await probe(endpoint)

    return asyncio.run(bounded())


def test_a_port_without_a_listener_refuses():
    with sockets.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask(Endpoint("tcp", "127.0.0.1", port)) == (EventKind.REFUSED, os.strerror(errno.ECONNREFUSED))


def test_a_listener_that_came_up_meanwhile_is_no_evidence_that_it_is_gone():
    with sockets.create_server(("127.0.0.1", 0)) as server:
        kind, detail = ask(Endpoint("tcp", "127.0.0.1", server.getsockname()[1]))
    assert kind is EventKind.UNREACHABLE
    assert "a moment later" in detail


def test_a_path_without_a_listener_refuses(tmp_path: Path):
    path = str(tmp_path / "s")
    assert ask(Endpoint("ipc", path))[0] is EventKind.REFUSED
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(path)
    assert ask(Endpoint("ipc", path))[0] is EventKind.REFUSED


def test_no_route_is_not_a_refusal(monkeypatch: pytest.MonkeyPatch):
    async def no_route(self: object, sock: object, address: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "no route")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", no_route)
    assert ask(Endpoint("tcp", "127.0.0.1", 1)) == (EventKind.UNREACHABLE, os.strerror(errno.EHOSTUNREACH))


def test_names_become_addresses_each_once():
    found = asyncio.run(resolve(Endpoint("tcp", "localhost", 7400)))
    assert found
    assert len(set(found)) == len(found)
    assert {endpoint.host for endpoint in found} <= {"127.0.0.1", "::1"}
    assert all(endpoint.port == 7400 and not endpoint.is_name for endpoint in found)


def test_a_name_that_does_not_resolve_says_so():
    with pytest.raises(OSError, match=r"."):
        asyncio.run(resolve(Endpoint("tcp", "no-such-host.invalid", 7400)))
