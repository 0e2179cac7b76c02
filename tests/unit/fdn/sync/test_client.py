"""The thin client against a stand-in for a node that says what a test wants; loopback, ephemeral ports."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import zmq

import fdn
from fdn.sync.client import Client
from fdn.errors import to_wire

HELLO, WELCOME, REFUSED, BYE, CALL, REPLY, ERROR, CAST = 1, 2, 3, 4, 5, 6, 7, 11
Answer = Callable[[str, list[Any]], list[list[Any]] | bytes]


class FakeNode:
    """Two ROUTERs on a thread of their own.

    Attributes:
        answer: Given the channel and an envelope that is no HELLO: the envelopes to answer with, or a raw frame.
        greet: Given the body of a HELLO: the envelope to answer it with, or None.
        heard: All that came in, by channel.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self.endpoints: dict[str, str] = {}
        for channel in ("coordination", "data", "events"):
            socket = self._context.socket(zmq.ROUTER)
            socket.linger = 0
            socket.bind("tcp://127.0.0.1:*")
            self._sockets[channel] = socket
            self.endpoints[channel] = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.heard: list[tuple[str, list[Any]]] = []
        self.said = threading.Condition()
        self.greet: Callable[[dict[str, Any]], list[Any] | bytes | None] = self.welcome
        self.answer: Answer = lambda channel, envelope: [[REPLY, "", envelope[2], 0, None, envelope[5]]]
        self._wake = self._context.socket(zmq.PAIR)
        self._woken = self._context.socket(zmq.PAIR)
        self._wake.bind("inproc://stop")
        self._woken.connect("inproc://stop")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def welcome(self, hello: dict[str, Any]) -> list[Any] | bytes | None:
        identity = {"node": "n1-1", "name": "n1", "incarnation": [1, 0], "endpoints": self.endpoints}
        return [
            WELCOME,
            "",
            0,
            0,
            None,
            {"version": 1, "cluster": "fdn", "identity": identity, "epoch": hello["epoch"]},
        ]

    def kinds(self, channel: str) -> list[int]:
        return [envelope[0] for where, envelope in self.heard if where == channel]

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.said:
            assert self.said.wait_for(condition, 20)

    def close(self) -> None:
        self._wake.send(b"")
        self._thread.join(20)
        for socket in (*self._sockets.values(), self._wake, self._woken):
            socket.close(0)
        self._context.term()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (*self._sockets.values(), self._woken):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._woken in ready:
                return
            for channel, socket in self._sockets.items():
                if socket in ready:
                    self._serve(channel, socket)

    def _serve(self, channel: str, socket: "zmq.Socket[bytes]") -> None:
        source, frame = socket.recv_multipart()
        (envelope,) = msgpack.unpackb(frame[1:], strict_map_key=False)
        with self.said:
            self.heard.append((channel, envelope))
            self.said.notify_all()
        if envelope[0] == HELLO:
            greeting = self.greet(envelope[5])
            answers: Any = [] if greeting is None else greeting if type(greeting) is bytes else [greeting]
        elif envelope[0] in (CALL, CAST):
            answers = self.answer(channel, envelope)
        else:
            return
        if type(answers) is bytes:
            socket.send_multipart([source, answers])
        for answer in answers if type(answers) is list else []:
            socket.send_multipart([source, b"\x01" + msgpack.packb([answer])])


@pytest.fixture
def node() -> Iterator[FakeNode]:
    made = FakeNode()
    try:
        yield made
    finally:
        made.close()


def client(node: FakeNode, **settings: Any) -> Client:
    return Client(node.endpoints["coordination"], **{"timeout": 10.0} | settings)


def test_hello_call_and_goodbye(node: FakeNode):
    with client(node) as made:
        assert made.node["name"] == "n1"
        assert made.call("math.add", [1, 2]) == [1, 2]
        assert made.call("fdn.node.ping", {"a": b"x"}, channel="coordination") == {"a": b"x"}
        made.cast("log.line", "text")
        node.wait(lambda: CAST in node.kinds("data"))
    node.wait(lambda: BYE in node.kinds("data") and BYE in node.kinds("coordination"))
    said = node.heard[0][1][5]
    assert (said["cluster"], said["role"], said["channel"]) == ("fdn", "client", "coordination")
    call = next(envelope for _, envelope in node.heard if envelope[0] == CALL)
    assert call[1] == "math.add"
    assert 0 < call[3] <= 10_000


def test_the_data_channel_opens_on_first_use(node: FakeNode):
    with client(node) as made:
        made.call("fdn.node.ping", channel="coordination")
        assert node.kinds("data") == []


def test_errors_come_back_as_what_they_are(node: FakeNode):
    with client(node) as made:
        for error in (
            fdn.NotFound("no", hint="try"),
            fdn.Denied("no"),
            fdn.Overloaded("no"),
            fdn.DeadlineExceeded("no"),
        ):
            body = to_wire(error)
            node.answer = lambda _, envelope, body=body: [[ERROR, "", envelope[2], 0, None, body]]  # type: ignore[misc]
            with pytest.raises(type(error), match="no") as caught:
                made.call("x")
            assert caught.value.code == error.code
        node.answer = lambda _, envelope: [[ERROR, "", envelope[2], 0, None, "nonsense"]]
        with pytest.raises(fdn.RemoteError):
            made.call("x")
        node.answer = lambda _, envelope: [[REPLY, "", envelope[2], 0, None, "well again"]]
        assert made.call("x") == "well again"


def test_answers_to_others_are_passed_over(node: FakeNode):
    def answer(channel: str, envelope: list[Any]) -> list[list[Any]]:
        return [
            [REPLY, "", envelope[2] - 1, 0, None, "an older call"],
            [99, "", envelope[2], 0, None, "an unknown kind"],
            [REPLY, "", envelope[2], 0, None, "this one"],
        ]

    node.answer = answer
    with client(node) as made:
        assert made.call("x") == "this one"


def test_no_answer_in_time(node: FakeNode):
    node.answer = lambda channel, envelope: []
    with client(node) as made:
        with pytest.raises(fdn.DeadlineExceeded, match="no answer to x"):
            made.call("x", timeout=0.05)
        node.answer = lambda _, envelope: [[REPLY, "", envelope[2], 0, None, 5]]
        assert made.call("x") == 5


def test_a_node_that_stops_says_goodbye(node: FakeNode):
    node.answer = lambda channel, envelope: [[BYE, "", 0, 0, None, {"reason": "stopping"}]]
    made = client(node)
    with pytest.raises(fdn.Unreachable, match="is stopping"):
        made.call("x")
    node.answer = lambda _, envelope: [[REPLY, "", envelope[2], 0, None, 5]]
    assert made.call("x") == 5  # it dials anew
    made.close()
    made.close()


def test_a_node_that_is_gone_is_noticed_before_the_timeout(node: FakeNode):
    other = FakeNode()
    made = Client(other.endpoints["coordination"], timeout=15.0)
    made.connect()
    other.answer = lambda channel, envelope: []

    def dies() -> None:
        other.wait(lambda: CALL in other.kinds("coordination"))
        other.close()

    death = threading.Thread(target=dies)
    death.start()
    with pytest.raises(fdn.Unreachable, match="was lost before it answered x"):
        made.call("x", channel="coordination")
    death.join(20)
    made.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("wrong_cluster", fdn.ConfigError),
        ("no_common_version", fdn.VersionMismatch),
        ("leaving", fdn.Unreachable),
        ("something new", fdn.Unreachable),
    ],
)
def test_a_refusal_says_why(node: FakeNode, code: str, error: type[fdn.Error]):
    node.greet = lambda hello: [REFUSED, "", 0, 0, None, {"code": code, "reason": "because"}]
    made = client(node)
    for _ in range(2):
        with pytest.raises(error, match="because"):
            made.connect()
    node.greet = node.welcome
    made.connect()
    made.close()


def test_somebody_who_does_not_answer(node: FakeNode):
    node.greet = lambda hello: None
    with pytest.raises(fdn.Unreachable, match="no node answers at"):
        client(node, timeout=0.05).connect()


def test_somebody_who_answers_something_else(node: FakeNode):
    node.greet = lambda hello: [REPLY, "", 0, 0, None, None]
    with pytest.raises(fdn.Unreachable, match="answered a HELLO with kind 6"):
        client(node).connect()


GARBAGE = [
    b"",
    b"\x01",
    b"\x02abc",
    b"\x01\xc1",
    b"\x01\x90",
    b"\x01\x91\xc0",
    b"\x01\x91\x90",
    b"\x01" + b"\x91" * 2000,
]


@pytest.mark.parametrize("frame", GARBAGE, ids=lambda frame: frame[:6].hex() or "empty")
def test_garbage_is_never_believed_and_never_a_strange_exception(node: FakeNode, frame: bytes):
    node.greet = lambda hello: frame
    with pytest.raises(fdn.Unreachable):
        client(node, timeout=0.1).connect()
    node.greet = node.welcome
    node.answer = lambda channel, envelope: frame
    with client(node) as made, pytest.raises(fdn.Error):
        made.call("x", timeout=0.1)


def test_a_welcome_that_leaves_out_what_matters(node: FakeNode):
    bodies: list[Any] = [{}, {"identity": {}}, {"identity": {"endpoints": {}}}, None, 7]
    for body in bodies:
        node.greet = lambda hello, body=body: [WELCOME, "", 0, 0, None, body]  # type: ignore[misc]
        with pytest.raises(fdn.Error), client(node, timeout=1.0) as made:
            made.call("x")


def test_nobody_listens_there(node: FakeNode):
    free = FakeNode()
    endpoint = free.endpoints["coordination"]
    free.close()
    with pytest.raises(fdn.Unreachable, match="refused"):
        Client(endpoint, timeout=15.0).connect()


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1", "http://x:1", ""])
def test_addresses_that_are_none(endpoint: str):
    with pytest.raises(fdn.ConfigError, match="cannot be dialled"):
        Client(endpoint, timeout=1.0).connect()


def test_what_cannot_be_sent(node: FakeNode):
    with client(node) as made:
        for payload in (object(), {1: object()}, 2**70):
            with pytest.raises(fdn.BadRequest, match="cannot be sent"):
                made.call("x", payload)
            with pytest.raises(fdn.BadRequest, match="cannot be sent"):
                made.cast("x", payload)
        assert made.call("x", 1) == 1


def test_a_forked_child_makes_its_own(node: FakeNode):
    with client(node) as made:
        assert made.call("x", 1) == 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                made.call("x", 2)
            except fdn.Error as error:
                status = 0 if "before a fork" in str(error) else 2
            finally:
                made.close()
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert made.call("x", 3) == 3
