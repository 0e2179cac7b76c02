"""The blocking client against a stand-in for a node that says what a test wants; loopback, ephemeral ports."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fdn
from fdn.client.inbox import ClientEvent
from fdn.errors import to_wire
from fdn.sync import Client
from tests.unit.fdn.client.fake_node import (
    BYE,
    CALL,
    CANCEL,
    CAST,
    CREDIT,
    END,
    ERROR,
    EVENT,
    ITEM,
    REFUSED,
    REPLY,
    SUBSCRIBE,
    UNSUBSCRIBE,
    WELCOME,
    FakeNode,
)

pytestmark = pytest.mark.timeout(30)


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


def test_nothing_is_kept_of_a_connection_that_failed():
    free = FakeNode()
    free.close()
    before = threading.active_count()
    some = [Client(free.endpoint, timeout=15.0) for _ in range(3)]
    for made in some:
        with pytest.raises(fdn.Unreachable):
            made.connect()
    give_up_at = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < give_up_at
    assert all(made._wires._context is None for made in some)


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


# -- threads


def test_many_threads_share_one_connection(node: FakeNode):
    wrong: list[Any] = []

    def work(number: int) -> None:
        wrong.extend(n for n in range(100) if made.call("x", [number, n]) != [number, n])

    with client(node) as made:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert wrong == []
    assert node.kinds("data").count(1) == 1


def test_closing_from_another_thread_wakes_who_waits(node: FakeNode):
    node.answer = lambda channel, envelope: []
    made = client(node)

    def close_soon() -> None:
        node.hears("data", CALL)
        made.close()

    closer = threading.Thread(target=close_soon)
    closer.start()
    with pytest.raises(fdn.Error, match="closed meanwhile"):
        made.call("x")
    closer.join(20)
    assert not [thread for thread in threading.enumerate() if thread.name == f"fdn-{made.id}"]


def test_ctrl_c_interrupts_a_wait_and_cancels(node: FakeNode):
    node.answer = lambda channel, envelope: []

    def interrupt() -> None:
        node.hears("data", CALL)
        os.kill(os.getpid(), signal.SIGINT)  # to the process, as the terminal does

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with client(node) as made:
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                made.call("x", timeout=20.0)
            thread.join(20)
            node.hears("data", CANCEL)
            node.answer = node.echo
            assert made.call("x", 1) == 1
    finally:
        signal.signal(signal.SIGINT, before)


# -- streams, events, services


def countdown(channel: str, envelope: list[Any]) -> list[list[Any]]:
    number = envelope[2]
    if envelope[0] != CALL:
        return []
    return [[ITEM, "", number, 0, None, n] for n in range(envelope[5])] + [[END, "", number, 0, None, None]]


def test_a_streamed_reply_and_leaving_it_early(node: FakeNode):
    node.answer = countdown
    with client(node) as made:
        assert list(made.stream("count", 5)) == [0, 1, 2, 3, 4]
        node.answer = lambda channel, envelope: countdown(channel, envelope)[:-1]
        with made.stream("count", 5) as stream:
            assert next(stream) == 0
        node.hears("data", CANCEL)
        assert list(stream) == []
        for item in made.stream("count", 5):
            if item == 2:
                break
        gc.collect()
        node.hears("data", CANCEL, 2)
        with pytest.raises(fdn.DeadlineExceeded, match="no item"):
            next(made.stream("count", 0, timeout=0.05))


def test_request_streams(node: FakeNode):
    def answer(channel: str, envelope: list[Any]) -> list[list[Any]]:
        kind, to, number, body = envelope[0], envelope[1], envelope[2], envelope[5]
        if kind == CALL:
            return [[CREDIT, "request", number, 0, None, [1000, 10**6]]]
        if kind == ITEM:
            return [[ITEM, "", number, 0, None, 2 * body]] if node.name == "double" else []
        if kind == END and body is None:
            return [[END, "", number, 0, None, None] if node.name == "double" else [REPLY, "", number, 0, None, to]]
        return []

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    node.answer = answer
    with client(node) as made:
        assert made.call("sum", items=range(100)) == "request"
        with pytest.raises(ValueError, match="no more"):
            made.call("sum", items=broken())
        node.name = "double"
        assert list(made.stream("double", items=iter(range(5)))) == [0, 2, 4, 6, 8]
        with pytest.raises(fdn.Error, match="could not be produced"):
            list(made.stream("double", items=broken()))


def test_a_subscription(node: FakeNode):
    heard: list[Any] = []
    enough = threading.Event()

    def handler(event: ClientEvent) -> None:
        heard.append(event.payload)
        if event.payload == 0:
            raise ValueError("not this one")
        enough.set()

    with client(node) as made:
        with made.subscribe("a.>", queue="q") as subscription:
            asked = node.hears("events", SUBSCRIBE)
            node.say("events", *([EVENT, "a.b", asked[2], 0, {7: "n1-1"}, n] for n in range(3)))
            assert next(subscription) == ClientEvent("a.b", 0, "n1-1", 0)
            assert [event.payload for event in (subscription.next(20.0), subscription.next(20.0)) if event] == [1, 2]
            assert subscription.next(0.01) is None
        assert list(subscription) == []
        node.hears("events", UNSUBSCRIBE)
        made.subscribe("b", handler)
        asked = node.hears("events", SUBSCRIBE, 2)
        node.say("events", *([EVENT, "b", asked[2], 0, None, n] for n in range(2)))
        assert enough.wait(20)
        assert heard == [0, 1]
        made.publish("a.b", 1, headers={"h": "1"})
        made.flush()
        assert node.hears("events", EVENT)[4] == {11: {"h": "1"}}


def test_what_it_serves(node: FakeNode):
    together = threading.Barrier(2)

    def meet() -> str:
        together.wait(20)
        return "met"

    def generate(n: int) -> Iterator[int]:
        yield from range(n)

    def total(items: Iterator[int]) -> int:
        return sum(items)

    async def coroutine() -> None: ...

    with client(node) as made:
        handlers: dict[str, Callable[..., Any]] = {"meet": meet, "generate": generate, "total": total}
        handlers["fails"] = lambda: 1 / 0
        services = {name: made.serve(name, handler) for name, handler in handlers.items()}
        node.say("data", [CALL, "meet", 1, 0, None, None], [CALL, "meet", 2, 0, None, None])
        assert node.hears("data", REPLY, 2)[5] == "met"
        node.say("data", [CALL, "generate", 3, 0, {18: [100, 1000]}, 3])
        node.hears("data", END)
        assert [each[5] for each in node.said_by_client("data", ITEM)] == [0, 1, 2]
        node.say("data", [CALL, "total", 4, 0, {19: True}, None])
        node.hears("data", CREDIT)
        node.say("data", *([ITEM, "request", 4, 0, None, n] for n in range(5)), [END, "request", 4, 0, None, None])
        assert node.hears("data", REPLY, 3)[5] == 10
        node.say("data", [CALL, "fails", 5, 0, None, None])
        assert "ZeroDivisionError" in node.hears("data", ERROR)[5]["traceback"]
        with pytest.raises(fdn.ConfigError, match="async def"):
            made.serve("more", coroutine)
        services["meet"].withdraw()
        services["meet"].wait()
        node.hears("data", UNSUBSCRIBE)


def test_a_generator_whose_reader_has_left_is_closed(node: FakeNode):
    closed = threading.Event()

    def forever() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with client(node) as made:
        made.serve("forever", forever)
        node.say("data", [CALL, "forever", 1, 0, {18: [2, 1000]}, None])
        node.hears("data", ITEM, 2)
        node.say("data", [CANCEL, "", 1, 0, None, None])
        assert closed.wait(20)


def test_another_node_when_its_own_is_gone(node: FakeNode):
    other = FakeNode("n2")
    try:
        with Client(node.endpoint, other.endpoint, timeout=10.0) as made:
            made.serve("x", lambda: 5)
            subscription = made.subscribe("a")
            node.answer = lambda channel, envelope: []

            def dies() -> None:
                node.hears("data", CALL)
                node.close()

            threading.Thread(target=dies).start()
            assert made.call("y", 1, retry=1) == 1
            assert (made.node["name"], made.connections) == ("n2", 2)
            asked = other.hears("events", SUBSCRIBE)
            other.say("events", [EVENT, "a", asked[2], 0, None, 1])
            assert next(subscription).missed == -1
            other.hears("data", SUBSCRIBE)
            other.say("data", [CALL, "x", 1, 0, None, None])
            assert other.hears("data", REPLY)[5] == 5
    finally:
        other.close()


def test_without_reconnecting_who_waits_is_told(node: FakeNode):
    made = client(node, reconnect=False)
    subscription, service = made.subscribe("a"), made.serve("x", lambda: 5)
    threading.Thread(target=node.close).start()
    with pytest.raises(fdn.Unreachable, match="while events were waited for"):
        next(subscription)
    with pytest.raises(fdn.Unreachable, match="not served any more"):
        service.wait()
    with pytest.raises(fdn.Unreachable, match="refused"):
        made.call("x")
    subscription.close()
    made.close()


def test_importing_it_is_cheap():
    heavy = "asyncio", "msgspec", "logging", "inspect", "socket", "concurrent.futures", "fdn.node", "fdn.runtime"
    look = f"import sys; print([name for name in {heavy} if name in sys.modules])"
    for line in ("from fdn.sync import Client", "import fdn; fdn.Client"):
        done = subprocess.run(
            [sys.executable, "-c", f"{line}; {look}"], capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.stdout.strip(), done.stderr) == ("[]", "")
