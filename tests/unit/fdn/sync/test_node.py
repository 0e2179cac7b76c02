"""The blocking node: the verbs of `fdn.Node` from any thread; real sockets on loopback."""

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fdn
import fdn.sync

pytestmark = pytest.mark.timeout(60)
app = fdn.App("test")


@app.service("math")
class Math:
    async def add(self, a: int, b: int) -> int:
        return a + b

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def fails(self) -> None:
        raise ValueError("no")

    async def hangs(self, context: fdn.Context) -> None:
        await fdn_never()


async def fdn_never() -> None:
    import asyncio

    await asyncio.Event().wait()


@app.service("headers")
def headers(context: fdn.Context) -> dict[str, str]:
    return dict(context.headers)


@app.service("sum")
def total_of(array: Any) -> int:
    return int(array.sum())


@app.service("same")
def same(blob: fdn.Blob) -> fdn.Blob:
    return blob


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[fdn.sync.Node, fdn.sync.Node]]:
    with fdn.sync.Node(app, name="n1") as first, fdn.sync.Node(name="n2", join=[first.endpoint]) as second:
        yield first, second


Nodes = tuple[fdn.sync.Node, fdn.sync.Node]


def test_calls(nodes: Nodes):
    _, node = nodes
    assert node.call("math.add", {"a": 2, "b": 3}) == 5
    assert node.call("math.add", [2, 3], returns=float, timeout=5.0, retry=1) == 5.0
    with pytest.raises(fdn.RemoteError, match="no"):
        node.call("math.fails")
    with pytest.raises(fdn.DeadlineExceeded):
        node.call("math.hangs", timeout=0.05)
    with pytest.raises(fdn.NotFound):
        node.call("math.ad")
    node.cast("math.add", [1, 2])
    with fdn.headers({"tenant": "a"}):
        assert node.call("headers") == {"tenant": "a"}


def test_many_threads_at_once(nodes: Nodes):
    _, node = nodes
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(node.call("math.add", [number, 1])))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == list(range(1, 21))


def test_streams(nodes: Nodes):
    _, node = nodes
    assert list(node.stream("math.count", 5)) == [0, 1, 2, 3, 4]
    assert list(node.stream("math.count", 3, returns=float)) == [0.0, 1.0, 2.0]
    with node.stream("math.count", 10**9) as stream:
        assert next(stream) == 0
    assert list(stream) == []
    assert node.call("math.total", items=range(100)) == 4950
    assert node.call("math.total", items=(number for number in range(100))) == 4950


def test_an_iterator_that_blocks_blocks_nobody_else(nodes: Nodes):
    _, node = nodes
    go = threading.Event()

    def slowly() -> Iterator[int]:
        yield 1
        go.wait(20)
        yield 2

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(node.call("math.total", items=slowly(), timeout=20.0)))
    thread.start()
    assert node.call("math.add", [1, 1]) == 2
    go.set()
    thread.join(20)
    assert found == [3]


def test_items_that_fail(nodes: Nodes):
    _, node = nodes

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(Exception, match="no more"):
        node.call("math.total", items=broken())


def test_events(nodes: Nodes):
    first, second = nodes
    with second.subscribe("a.>", payload=int) as subscription:
        assert (subscription.pattern, subscription.unaware) == ("a.>", ())
        for number in range(500):
            assert first.publish("a.b", number) == 1
        found = [subscription.next(20.0) for _ in range(500)]
        assert [event.payload for event in found if isinstance(event, fdn.Event)] == list(range(500))
        assert subscription.next(0.01) is None
        first.publish("a.b", 7)
        event = next(subscription)
        assert isinstance(event, fdn.Event)
        assert event.payload == 7
        with pytest.raises(fdn.BadRequest):
            subscription.next(-1)
    assert list(subscription) == []


def test_what_is_acknowledged(nodes: Nodes):
    first, second = nodes
    with second.subscribe("sure.*", payload=int) as subscription:
        assert first.publish("sure.a", 1, delivery="effectively_once", key="k", confirm=True) == 1
        assert first.publish("sure.a", 2, causal="label", confirm=True) == 1
        assert first.flush() == 0
        found = [subscription.next(20.0) for _ in range(2)]
        assert [event.payload for event in found if isinstance(event, fdn.Event)] == [1, 2]
        with pytest.raises(fdn.BadRequest, match="delivery='never'"):
            first.cast("math.add", [1, 2], delivery="never")  # type: ignore[arg-type]  # the point of the test


def test_a_handler_of_events_may_block(nodes: Nodes, caplog: pytest.LogCaptureFixture):
    first, second = nodes
    heard: list[Any] = []
    enough = threading.Event()

    def handler(event: Any) -> None:
        heard.append((event.payload, second.call("math.add", [event.payload, 1])))
        if event.payload == 0:
            raise ValueError("not this one")
        enough.set()

    subscription = second.subscribe("b", handler)
    first.publish("b", 0)
    first.publish("b", 1)
    assert enough.wait(20)
    subscription.close()
    assert heard == [(0, 1), (1, 2)]
    assert "not this one" in caplog.text


def test_serving_a_function_that_blocks(nodes: Nodes):
    _, second = nodes
    together = threading.Barrier(2)

    def meet(name: str) -> str:
        together.wait(20)
        return name

    second.serve("meet", meet)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(second.call("meet", "a", timeout=20.0))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["a", "a"]
    second.withdraw("meet")
    with pytest.raises(fdn.NotFound):
        second.withdraw("meet")


def test_what_it_knows(nodes: Nodes):
    first, second = nodes
    assert [member.name for member in second.members()] == ["n1", "n2"]
    assert [member.name for member in second.reachable()] == ["n1", "n2"]
    assert "math" in {offer.name for offer in second.offers()[first.id]}
    assert (first.name, first.endpoints["coordination"]) == ("n1", first.endpoint)
    assert 0 < second.ping("n1") < 20
    assert second.ask("n1", "fdn.node.info")["name"] == "n1"
    assert second.stats().calls is not None


def test_a_blocking_verb_on_its_own_loop_is_refused(nodes: Nodes):
    first, _ = nodes
    first.serve("deadlock", lambda: first.call("math.add", [1, 2]), threads=0)
    with pytest.raises(fdn.Error, match="would wait for itself"):
        first.call("deadlock")
    first.withdraw("deadlock")


def test_a_life():
    node = fdn.sync.Node(name="n3")
    with pytest.raises(fdn.Error, match="does not run"):
        node.call("x")
    node.start()
    with pytest.raises(fdn.Error, match="once"):
        node.start()
    stopped = threading.Thread(target=node.wait_stopped)
    stopped.start()
    subscription, stream = node.subscribe("a"), node.stream("x")
    assert node.drain()
    node.leave()
    node.stop()
    stopped.join(20)
    assert not stopped.is_alive()
    subscription.close()
    stream.close()
    with pytest.raises(fdn.Error, match="does not run"):
        node.call("x")
    assert not [thread for thread in threading.enumerate() if thread.name == "fdn-sync-node" and not nodes_run(thread)]


def nodes_run(thread: threading.Thread) -> bool:
    """Whether it belongs to a node of another test."""
    return any(node._thread is thread for node in list(fdn.sync.node._running))


def test_a_start_that_fails_leaves_nothing():
    before = threading.active_count()
    with pytest.raises(fdn.Unreachable):
        fdn.sync.Node(join=["tcp://127.0.0.1:1"], join_timeout_s=0.2).start()
    assert threading.active_count() == before


def test_ctrl_c_interrupts_a_wait(nodes: Nodes):
    _, node = nodes
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        while not node._node._caller.stats().in_flight:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            node.call("math.hangs", timeout=20.0)
        thread.join(20)
        assert node.call("math.add", [1, 2]) == 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_child_makes_its_own(nodes: Nodes):
    _, node = nodes
    child = os.fork()
    if child == 0:
        status = 1
        try:
            node.call("math.add", [1, 2])
        except fdn.Error as error:
            status = 0 if "before a fork" in str(error) else 2
        finally:
            node.stop()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert node.call("math.add", [1, 2]) == 3


def test_blobs_are_made_passed_and_fetched(nodes: Nodes, tmp_path):
    first, second = nodes
    data = os.urandom(100_000)
    blob = first.blob(data)
    passed = second.call("same@n1", blob, returns=fdn.Blob)
    told: list[int] = []
    assert second.read_blob(passed) == data
    second.save_blob(passed, tmp_path / "copy", progress=lambda done, size: told.append(done))
    assert (tmp_path / "copy").read_bytes() == data
    assert told[-1] == len(data)
    blob.release()
    with pytest.raises(fdn.NotFound):
        second.read_blob(passed)


def test_shared_memory_is_filled_by_any_thread(nodes: Nodes):
    _, node = nodes
    array = node.shared_array((100, 1000), "int64")
    array[:] = 3
    assert node.call("sum@n1", array) == 300_000
    buffer = node.shared_buffer(10)
    buffer[:] = bytes(10)
    assert len(buffer) == 10
