"""The proxy between real ZeroMQ sockets: who is who, what a fault does to them, and that nothing is left."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from fdn.testing.fault_proxy import FaultProxy
from transports.wire.batch import encode_batch
from transports.wire.envelope import Envelope, Kind
from transports.wire.handshake import Hello, Identity, Role

SOON_MS = 10_000
NEVER_MS = 100  # long enough to see what should not come, on an idle machine


def hello(name: str, role: Role = Role.NODE) -> bytes:
    said = Hello((1, 1), "fdn", Identity(f"{name}-0123456789abcdef", name), "data", 1, role)
    return encode_batch([Envelope(Kind.HELLO, body=msgspec.Raw(msgspec.msgpack.encode(said)))])


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as made:
        yield made


class Pair:
    """`a` dials `b`, over the proxy; both have spoken."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", proxy: FaultProxy, behind: str) -> None:
        self.context = context
        self._sockets: list[zmq.Socket[bytes]] = []
        self.b = context.socket(zmq.ROUTER)
        self.b.bind(behind)
        self.endpoint = proxy.listen("b", {"data": self.b.get_string(zmq.LAST_ENDPOINT).rstrip("\0")})["data"]
        self.a = self.dial()
        self.a.send(hello("a"))
        assert self.heard()[1] == hello("a")
        self.answer(b"welcome")
        assert self.a.poll(SOON_MS)
        assert self.a.recv() == b"welcome"

    def dial(self) -> "zmq.Socket[bytes]":
        socket = self.context.socket(zmq.DEALER)
        socket.connect(self.endpoint)
        self._sockets.append(socket)  # a socket that is forgotten warns
        return socket

    def heard(self) -> list[bytes]:
        assert self.b.poll(SOON_MS), "b has heard nothing"
        parts = self.b.recv_multipart()
        self.source = parts[0]
        return parts

    def answer(self, data: bytes) -> None:
        self.b.send_multipart([self.source, data])


@pytest.fixture(params=["tcp", "ipc"])
def pair(request: pytest.FixtureRequest, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    behind = "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path_factory.mktemp('s')}/b"
    try:
        yield Pair(context, proxy, behind)
    finally:
        context.destroy(0)


def test_faults_are_for_those_that_they_name(proxy: FaultProxy, pair: Pair) -> None:
    proxy.change("a", "b", cut=True)
    client = pair.dial()
    client.send(hello("a", Role.CLIENT))  # of whatever name
    assert pair.heard()[1] == hello("a", Role.CLIENT)
    pair.a.send(b"held")
    assert not pair.b.poll(NEVER_MS)
    proxy.heal()
    assert pair.heard()[1] == b"held"
    stats = proxy.stats()
    assert (stats["a", "b", "data"].connections, stats["a", "b", "data"].messages) == (1, 2)
    assert stats["", "b", "data"].connections == 1


def test_one_direction_may_have_a_fault_of_its_own(proxy: FaultProxy, pair: Pair) -> None:
    proxy.change("b", "a", "data", cut=True)
    pair.a.send(b"there")
    assert pair.heard()[1] == b"there"
    pair.answer(b"back")
    assert not pair.a.poll(NEVER_MS)
    proxy.heal()
    assert pair.a.poll(SOON_MS)
    assert pair.a.recv() == b"back"


def test_changes_add_up(proxy: FaultProxy, pair: Pair) -> None:
    proxy.change("a", "b", loss=1.0)
    proxy.change("a", "b", "data", delay_s=0.001)
    assert (proxy.fault("a", "b", "data").loss, proxy.fault("a", "b", "data").delay_s) == (1.0, 0.001)
    assert proxy.fault("a", "b", "gossip").delay_s == 0.0
    pair.a.send(b"lost")
    proxy.change("a", "b", loss=0.0)
    pair.a.send(b"found")
    while (got := pair.heard()[1]) == b"lost":  # it was not through yet when the loss ended
        pass
    assert got == b"found"


def test_large_messages_pass_whole(proxy: FaultProxy, pair: Pair) -> None:
    proxy.change("a", "b", bytes_per_s=1e9)
    pair.a.send_multipart([b"x" * 3_000_000, b"y"])
    assert pair.heard()[1:] == [b"x" * 3_000_000, b"y"]


def test_nothing_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    proxy = FaultProxy()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pair = Pair(context, proxy, "tcp://127.0.0.1:0")
    monitor = pair.a.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    proxy.close()
    proxy.close()
    assert monitor.poll(SOON_MS)
    context.destroy(0)
    assert threading.active_count() == before
