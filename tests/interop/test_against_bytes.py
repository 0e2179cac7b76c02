"""The programs against a listener that sends what no well-behaved node would, and counts what a node does not show."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.interop.conftest import StartPeer
from tests.interop.peers import Failure, Peer

HELLO, WELCOME, CALL, REPLY, ITEM, CANCEL, CAST, SUBSCRIBE, CREDIT = 1, 2, 5, 6, 8, 10, 11, 12, 16
PATIENCE_MS = 20_000


class Listener:
    """One ROUTER for all channels. Grants three messages on each connection, and no more by itself."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self.hellos: dict[str, dict[str, Any]] = {}  # by channel
        self._routing: dict[str, bytes] = {}

    def read(self) -> list[Any]:
        """The next envelope that is no HELLO; those are answered."""
        while True:
            assert self._socket.poll(PATIENCE_MS), "nothing came"
            routing_id, frame = self._socket.recv_multipart()
            assert frame[0] == 1
            [envelope] = msgpack.unpackb(frame[1:], strict_map_key=False)
            if envelope[0] != HELLO:
                return list(envelope)
            hello = envelope[5]
            self.hellos[hello["channel"]] = hello
            self._routing[hello["channel"]] = routing_id
            endpoints = dict.fromkeys(("coordination", "gossip", "data", "events"), self.endpoint)
            welcome = {
                "version": 1,
                "cluster": hello["cluster"],
                "identity": {"node": "fake-0123456789abcdef", "name": "fake", "endpoints": endpoints},
                "epoch": hello["epoch"],
                "credit": [3, 1 << 20],
                "of a later version": None,
            }
            self.send(hello["channel"], [WELCOME, "", 0, 0, None, welcome])
            if hello["channel"] == "coordination":
                return list(envelope)

    def send(self, channel: str, *envelopes: Any) -> None:
        self.send_bytes(channel, b"\x01" + msgpack.packb(envelopes))

    def send_bytes(self, channel: str, frame: bytes) -> None:
        self._socket.send_multipart([self._routing[channel], frame])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with zmq.Context() as context:
        opened = Listener(context)
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture
def greeted(start: StartPeer, listener: Listener) -> Peer:
    peer = start()
    number = peer.tell("connect", endpoints=[listener.endpoint], cluster="bytes", name="script")
    assert listener.read()[0] == HELLO
    peer.result(number)
    return peer


def test_says_who_it_is(greeted: Peer, listener: Listener) -> None:
    greeted.tell("call", to="a.b")
    listener.read()
    first, second = listener.hellos["coordination"], listener.hellos["data"]
    for hello in (first, second):
        assert (hello["versions"], hello["cluster"], hello["role"]) == ([1, 1], "bytes", "client")
        assert hello["identity"]["node"].startswith("script-")
        assert not hello["identity"].get("endpoints")
    assert first["identity"] == second["identity"]
    assert second["epoch"] > first["epoch"] > 0


def test_keeps_to_the_credit_and_what_needs_none_goes_ahead(greeted: Peer, listener: Listener) -> None:
    for number in range(5):
        greeted.tell("cast", to="a.b", body=number)
    assert [listener.read()[5] for _ in range(3)] == [0, 1, 2]
    greeted.tell("serve", to="a.c", **{"as": "echo"})
    assert listener.read()[0] == SUBSCRIBE
    epoch = listener.hellos["data"]["epoch"]
    # Of another life, and too little for more: neither changes anything.
    listener.send("data", [CREDIT, "", 0, 0, None, [epoch + 1, 100, 1 << 30]], [CREDIT, "", 0, 0, None, [epoch, 2, 1]])
    greeted.tell("serve", to="a.d", **{"as": "echo"})
    assert listener.read()[0] == SUBSCRIBE
    listener.send("data", [CREDIT, "", 0, 0, None, [epoch, 4, 1 << 20]])
    assert listener.read()[5] == 3
    listener.send("data", [CREDIT, "", 0, 0, None, [epoch, 100, 1 << 20]])
    assert listener.read()[5] == 4


def test_reads_many_in_a_batch_and_passes_over_what_it_cannot_read(greeted: Peer, listener: Listener) -> None:
    asked = {greeted.tell("call", to="a.b", body=body): body for body in ("one", "two")}
    calls = [listener.read() for _ in asked]
    for junk in (b"", b"\x02\x90", b"GET / HTTP/1.1", b"\x01\xdd\xff\xff\xff\xff", b"\x01\x91\xc1"):
        listener.send_bytes("data", junk)
    replies = [[REPLY, "", call[2], 0, {99: "of a later version"}, call[5].upper(), "and a seventh"] for call in calls]
    listener.send("data", [4711, "", 0, 0, None, None], replies[0], None, [REPLY, 7], replies[1])
    assert [greeted.result(number) for number in asked] == ["ONE", "TWO"]
    listener.send("data", [REPLY, "", calls[0][2], 0, None, "twice"], [CREDIT, "", 0, 0, None, "of no shape"])
    assert greeted.ask("nothing") is None


def test_an_item_beyond_the_window_ends_the_stream(greeted: Peer, listener: Listener) -> None:
    number = greeted.tell("stream", to="a.b", window=[2, 1000], read=1)
    call = listener.read()
    assert call[4][18] == [2, 1000]
    items = [[ITEM, "", call[2], 0, None, item] for item in range(5)]
    listener.send("data", *items)
    while (heard := listener.read())[0] == CREDIT:
        pass  # for what was read by then
    assert (heard[0], heard[2]) == (CANCEL, call[2])
    greeted.tell("read", of=number, count=10)
    with pytest.raises(Failure) as failed:
        greeted.result(number)
    assert failed.value.code == "bad_request"


def test_credit_of_a_stream_is_of_totals(greeted: Peer, listener: Listener) -> None:
    number = greeted.tell("stream", to="a.b", window=[4, 1000])
    call = listener.read()
    listener.send("data", *([ITEM, "", call[2], 0, None, item] for item in range(4)))
    last = [4, 1000]
    while last[0] < 8:
        credit = listener.read()
        assert credit[:3] == [CREDIT, "reply", call[2]]
        assert credit[5] > last
        last = credit[5]
    assert last == [8, 1004]  # four items of one octet were read
    listener.send("data", [9, "", call[2], 0, None, None])
    assert greeted.items(number) == [0, 1, 2, 3]
