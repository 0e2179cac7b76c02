"""A stand-in for a node that says what a test wants: three ROUTERs on a thread, loopback, ephemeral ports."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgpack
import zmq

__all__ = ("Answer", "FakeNode")

HELLO, WELCOME, REFUSED, BYE, CALL, REPLY, ERROR, ITEM, END, CANCEL, CAST = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
SUBSCRIBE, UNSUBSCRIBE, EVENT, ACK, CREDIT = 12, 13, 14, 15, 16
Answer = Callable[[str, list[Any]], Iterable[list[Any]] | bytes]


class FakeNode:
    """See the module.

    Attributes:
        answer: Given the channel and an envelope that is neither HELLO nor BYE: the envelopes to answer with, or a raw
            frame. By itself it echoes calls, confirms subscriptions, and tells of no members.
        greet: Given the body of a HELLO: the envelope to answer it with, a raw frame, or None.
        heard: All that came in, by channel, but for the questions for members.
        members: What those are answered with.
    """

    def __init__(self, name: str = "n1", credit: tuple[int, int] = (0, 0)) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._sources: dict[str, bytes] = {}
        self.name = name
        self.credit = credit
        self.members: list[dict[str, Any]] = []
        self.endpoints: dict[str, str] = {}
        for channel in ("coordination", "data", "events"):
            socket = self._context.socket(zmq.ROUTER)
            socket.linger = 0
            socket.sndhwm = 0  # a ROUTER drops what does not fit
            socket.sndhwm = 0  # a ROUTER drops without a word what a full peer cannot take
            socket.bind("tcp://127.0.0.1:*")
            self._sockets[channel] = socket
            self.endpoints[channel] = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.endpoint = self.endpoints["coordination"]
        self.heard: list[tuple[str, list[Any]]] = []
        self.said = threading.Condition()
        self.greet: Callable[[dict[str, Any]], list[Any] | bytes | None] = self.welcome
        self.answer: Answer = self.echo
        self._wake = self._context.socket(zmq.PAIR)
        self._woken = self._context.socket(zmq.PAIR)
        self._wake.bind("inproc://wake")
        self._woken.connect("inproc://wake")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._closed = False

    def welcome(self, hello: dict[str, Any]) -> list[Any]:
        identity = {
            "node": f"{self.name}-1",
            "name": self.name,
            "incarnation": [1, 0],
            "endpoints": {**self.endpoints, "gossip": ""},
        }
        body = {
            "version": 1,
            "cluster": "fdn",
            "identity": identity,
            "epoch": hello["epoch"],
            "credit": self.credit if hello["channel"] != "coordination" else (0, 0),
        }
        return [WELCOME, "", 0, 0, None, body]

    @staticmethod
    def echo(channel: str, envelope: list[Any]) -> list[list[Any]]:
        match envelope[0]:
            case 5:
                return [[REPLY, "", envelope[2], 0, None, envelope[5]]]
            case 12:
                return [[REPLY, "", envelope[2], 0, None, []]]
        return []

    def row(self) -> dict[str, Any]:
        """As `fdn.node.members` tells of it."""
        return {"node": f"{self.name}-1", "endpoints": self.endpoints, "reachable": True, "state": "serving"}

    def said_by_client(self, channel: str, *kinds: int) -> list[list[Any]]:
        return [envelope for where, envelope in self.heard if where == channel and (not kinds or envelope[0] in kinds)]

    def kinds(self, channel: str) -> list[int]:
        return [envelope[0] for envelope in self.said_by_client(channel)]

    def wait(self, condition: Callable[[], object]) -> None:
        """Return when it is true; asked again whenever something has come in."""
        with self.said:
            assert self.said.wait_for(condition, 20)

    def say(self, channel: str, *envelopes: list[Any]) -> None:
        """Send to the client that spoke last on this channel, in one batch."""
        self._wake.send(msgpack.packb([channel, envelopes]))

    def hears(self, channel: str, kind: int, count: int = 1) -> list[Any]:
        """Wait until `count` of this kind have come, and give the last."""
        self.wait(lambda: len(self.said_by_client(channel, kind)) >= count)
        return self.said_by_client(channel, kind)[count - 1]

    def close(self, linger_ms: int = 0) -> None:
        """As if it were killed: no goodbye; what was sent before has so long to go out."""
        if self._closed:
            return
        self._closed = True
        self._wake.send(b"")
        self._thread.join(20)
        for socket in (*self._sockets.values(), self._wake, self._woken):
            socket.close(linger_ms)
        self._context.term()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (*self._sockets.values(), self._woken):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            for channel, socket in self._sockets.items():
                if socket in ready:
                    self._serve(channel, socket)
            if self._woken in ready:
                wish = self._woken.recv()
                if not wish:
                    return
                channel, envelopes = msgpack.unpackb(wish, strict_map_key=False)
                frame = b"\x01" + msgpack.packb(envelopes)
                self._sockets[channel].send_multipart([self._sources[channel], frame])

    def _serve(self, channel: str, socket: "zmq.Socket[bytes]") -> None:
        source, frame = socket.recv_multipart()
        self._sources[channel] = source
        for envelope in msgpack.unpackb(frame[1:], strict_map_key=False):
            answers = self._answers(channel, envelope)
            if type(answers) is bytes:
                socket.send_multipart([source, answers])
            else:
                for answer in answers:
                    socket.send_multipart([source, b"\x01" + msgpack.packb([answer])])

    def _answers(self, channel: str, envelope: list[Any]) -> Any:
        if envelope[:2] == [CALL, "fdn.node.members"] and channel == "coordination" and self.members:
            return [[REPLY, "", envelope[2], 0, None, self.members]]
        is_question = envelope[:2] == [CALL, "fdn.node.members"] and channel == "coordination"
        with self.said:
            if not is_question:
                self.heard.append((channel, envelope))
            self.said.notify_all()
        if is_question:
            return []
        if envelope[0] == HELLO:
            greeting = self.greet(envelope[5])
            return [] if greeting is None else greeting if type(greeting) is bytes else [greeting]
        return [] if envelope[0] == BYE else self.answer(channel, envelope)
