"""The blocking client against a stand-in for a node that says what a test wants; loopback, ephemeral ports."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fdn
from fdn.errors import to_wire
from fdn.sync import Client
from tests.unit.fdn.client.fake_node import BYE, CALL, CAST, ERROR, REFUSED, REPLY, WELCOME, FakeNode


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
