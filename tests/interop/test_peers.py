"""The Node.js and the C program, each written from the specification alone, through the same list.

They talk to nodes that run as processes. `README.md` tells how the programs are laid out.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fdn
import fdn.sync
from fdn.testing import NodeProcess, ProcessCluster, eventually
from tests.interop.conftest import APP, StartPeer
from tests.interop.peers import LANGUAGES, Failure, Peer
from tests.interop.test_vectors import VECTORS, fields

pytestmark = pytest.mark.slow

MANY = 100_000  # more than any window holds


@pytest.fixture
def script(town: list[NodeProcess]) -> Iterator[fdn.sync.Client]:
    """A thin client in Python, at the other node."""
    with town[1].client() as client:
        yield client


def serve(peer: Peer, script: fdn.sync.Client, what: str, **options: Any) -> str:
    """Let the peer serve, and return the name once the other node knows it."""
    name = peer.name(what)
    peer.ask("serve", to=name, **{"as": what}, **options)
    eventually(f"{name} is known", lambda: offered(script, name))
    return name


def offered(script: fdn.sync.Client, name: str) -> bool:
    rows = script.call("fdn.node.services", channel="coordination")
    return any(name in (row["service"], *(f"{row['service']}.{method}" for method in row["methods"])) for row in rows)


def state(script: fdn.sync.Client, name: str) -> int:
    """What the services of the first node have counted."""
    return int(script.call("state@n1", name))


# --- the golden bytes -------------------------------------------------------------------------------------------------


def test_reads_and_writes_the_golden_bytes(start: StartPeer) -> None:
    peer = start()
    number = peer.tell("vectors", file=str(Path(__file__).with_name("vectors.json")))
    assert peer.result(number) == len(VECTORS["batches"]) + len(VECTORS["refused"])
    lines = {line["vector"]: line for line in peer.said(number, "vector")}
    for vector in VECTORS["batches"]:
        read = lines[vector["name"]]
        assert [[*envelope.values()] for envelope in read["envelopes"]] == [*map(fields, vector["envelopes"])]
        assert read["malformed"] == vector["malformed"]
        if vector["canonical"]:
            assert read["rewritten"] == vector["hex"]
    for vector in VECTORS["refused"]:
        assert lines[vector["name"]]["refused"] == vector["error"]


# --- connecting -------------------------------------------------------------------------------------------------------


def test_is_welcome(start: StartPeer, town: list[NodeProcess]) -> None:
    peer = start()
    assert peer.ask("connect", endpoints=[town[0].endpoint], cluster="test") == {"node": town[0].id, "name": "n1"}


def test_is_refused_by_another_cluster(start: StartPeer, town: list[NodeProcess]) -> None:
    with pytest.raises(Failure, match="other") as refused:
        start().ask("connect", endpoints=[town[0].endpoint], cluster="other")
    assert refused.value.code == "wrong_cluster"
    assert "test" in refused.value.body["message"]


def test_passes_over_a_node_that_is_not_there(start: StartPeer, town: list[NodeProcess]) -> None:
    endpoints = ["tcp://127.0.0.1:1", town[0].endpoint]
    assert start().ask("connect", endpoints=endpoints, cluster="test")["name"] == "n1"
    with pytest.raises(Failure) as lost:
        start().ask("connect", endpoints=endpoints[:1], cluster="test")
    assert lost.value.code == "unreachable"


# --- calling ----------------------------------------------------------------------------------------------------------


def test_calls(peer: Peer) -> None:
    assert peer.ask("call", to="math.add", body={"a": 2, "b": 3}) == 5
    body: dict[str, Any] = {
        "text": "Zoë",
        "bytes": {"bin": "00ff"},
        "large": {"int": str(2**64 - 1)},
        "list": [None, -1.5],
    }
    assert peer.ask("call", to="echo", body=body) == {
        "text": "Zoë",
        "bytes": b"\x00\xff",
        "large": 2**64 - 1,
        "list": [None, -1.5],
    }
    assert peer.ask("call", to="echo", body="x" * 300_000) == "x" * 300_000


def test_an_error_has_code_and_hint(peer: Peer) -> None:
    with pytest.raises(Failure, match="bread is sold out") as failed:
        peer.ask("call", to="buy", body="bread")
    assert failed.value.code == "overloaded"
    assert failed.value.body["hint"] == "come back tomorrow"
    with pytest.raises(Failure) as failed:
        peer.ask("call", to=peer.name("nobody"))
    assert failed.value.code == "not_found"


def test_headers_go_along(peer: Peer) -> None:
    assert peer.ask("call", to="headers", headers={"tenant": "blue", "Zoë": "é"}) == {"tenant": "blue", "Zoë": "é"}


def test_casts(peer: Peer, script: fdn.sync.Client) -> None:
    peer.ask("cast", to="note@n1", body=peer.name("cast"))
    eventually("it arrived", lambda: state(script, peer.name("cast")) == 1)


def test_deadline_ends_the_wait_and_the_work(peer: Peer, script: fdn.sync.Client) -> None:
    with pytest.raises(Failure) as failed:
        peer.ask("call", to="slow@n1", body=peer.name("late"), timeout_ms=200)
    assert failed.value.code == "deadline_exceeded"
    eventually("the work has ended", lambda: state(script, peer.name("late")) == 0)


def test_expired_work_is_not_done(peer: Peer, script: fdn.sync.Client) -> None:
    first = peer.tell("call", to="queue@n1", body={"seconds": 0.8, "name": peer.name("first")})
    with pytest.raises(Failure) as failed:
        peer.ask("call", to="queue@n1", body={"seconds": 0, "name": peer.name("expired")}, timeout_ms=200)
    assert failed.value.code == "deadline_exceeded"
    peer.result(first)
    # What was sent behind it is done, so it was passed over.
    peer.ask("call", to="queue@n1", body={"seconds": 0, "name": peer.name("behind")})
    assert [state(script, peer.name(name)) for name in ("first", "expired", "behind")] == [1, 0, 1]


def test_cancels(peer: Peer, script: fdn.sync.Client) -> None:
    number = peer.tell("call", to="slow@n1", body=peer.name("unwanted"), timeout_ms=60_000)
    eventually("it runs", lambda: state(script, peer.name("unwanted")) == 1)
    peer.ask("cancel", of=number)
    with pytest.raises(Failure) as failed:
        peer.result(number)
    assert failed.value.code == "cancelled"
    eventually("it has ended", lambda: state(script, peer.name("unwanted")) == 0)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_receives_a_streamed_reply(peer: Peer) -> None:
    number = peer.tell("stream", to="count", body={"n": 1000}, window=[16, 1000])
    assert peer.items(number) == [*range(1000)]
    assert peer.result(number) == "end"
    assert peer.items(peer.tell("stream", to="count", body={"n": 0})) == []


def test_one_answer_is_a_stream_of_one(peer: Peer) -> None:
    assert peer.items(peer.tell("stream", to="math.add", body={"a": 2, "b": 3})) == [5]


def test_one_answer_is_wanted_and_a_stream_comes(peer: Peer, script: fdn.sync.Client) -> None:
    name = peer.name("surprise")
    with pytest.raises(Failure) as failed:
        peer.ask("call", to="count@n1", body={"n": MANY, "name": name})
    assert failed.value.code == "bad_request"
    eventually("the generator is closed", lambda: state(script, f"{name}.closed") == 1)
    assert state(script, f"{name}.produced") < MANY


def test_a_stream_fails_after_its_items(peer: Peer) -> None:
    number = peer.tell("stream", to="run_dry", body=3)
    with pytest.raises(Failure, match="only 3 left") as failed:
        peer.result(number)
    assert [peer.next(number, "item") for _ in range(3)] == [0, 1, 2]
    assert (failed.value.code, failed.value.body["hint"]) == ("overloaded", "order some")


def test_the_window_holds_a_stream_back(peer: Peer, script: fdn.sync.Client) -> None:
    name = peer.name("held")
    number = peer.tell("stream", to="count@n1", body={"n": MANY, "name": name}, window=[8, 1 << 20], read=8)
    peer.next(number, "read")
    assert [peer.next(number, "item") for _ in range(8)] == [*range(8)]
    # Others go on, and what is not read is not produced.
    assert peer.ask("call", to="echo", body=1) == 1
    assert state(script, f"{name}.produced") < MANY / 10
    peer.ask("read", of=number, count=MANY // 10)
    peer.next(number, "read")
    assert state(script, f"{name}.produced") >= MANY / 10
    peer.ask("cancel", of=number)
    eventually("the generator is closed", lambda: state(script, f"{name}.closed") == 1)
    assert state(script, f"{name}.produced") < MANY


def test_leaves_a_stream_early(peer: Peer, script: fdn.sync.Client) -> None:
    name = peer.name("left")
    number = peer.tell("stream", to="count@n1", body={"n": MANY, "name": name}, read=3)
    peer.next(number, "read")
    peer.ask("read", of=number, count=0)
    assert peer.result(number) == "left"
    eventually("the generator is closed", lambda: state(script, f"{name}.closed") == 1)


def test_sends_a_request_stream(peer: Peer) -> None:
    assert peer.ask("call", to="total", items=[*range(2000)]) == sum(range(2000))
    assert peer.ask("call", to="total", items=[]) == 0
    with pytest.raises(Failure) as failed:
        peer.ask("call", to="math.add", body={"a": 2, "b": 3}, items=[1])
    assert failed.value.code == "bad_request"


def test_streams_both_ways(peer: Peer) -> None:
    number = peer.tell("stream", to="double", items=[*range(2000)], window=[10, 1000])
    assert peer.items(number) == [2 * number for number in range(2000)]


# --- serving ----------------------------------------------------------------------------------------------------------


def test_serves_a_call(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "echo", version="1.2", capabilities=["fast"], concurrency=4)
    value = {"a": [1, None, "é", b"\x00", 2**64 - 1, -1.5]}
    assert script.call(name, value) == value
    assert script.call(name, b"x" * 300_000) == b"x" * 300_000
    assert peer.ask("call", to=name, body=7) == 7


def test_its_error_has_code_and_hint(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "fail")
    with pytest.raises(fdn.Error, match="no bread left") as failed:
        script.call(name, "bread")
    assert (failed.value.wire_code, failed.value.hint) == ("out_of_stock", "order some")
    with pytest.raises(Failure) as heard:
        peer.ask("call", to=name, body="bread")
    assert heard.value.code == "out_of_stock"


def test_hears_headers_origin_and_deadline(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "headers")
    heard = script.call(name, headers={"tenant": "blue"}, timeout=7.0)
    assert heard["headers"] == {"tenant": "blue"}
    assert heard["origin"]
    assert 0 < heard["deadline_ms"] <= 7000


def test_takes_a_cast(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "note")
    script.cast(name, "hello")
    assert peer.news("noted")["noted"] == "hello"


def test_hears_that_nobody_waits(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "forever")
    with pytest.raises(fdn.DeadlineExceeded):
        script.call(name, timeout=0.3)
    assert peer.news("cancelled")["cancelled"] == name


def test_serves_a_streamed_reply(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "count")
    assert [*script.stream(name, 3000)] == [*range(3000)]
    assert peer.news("produced") == {"produced": 3000, "stopped": False}
    dry = serve(peer, script, "break")
    read: list[int] = []
    with pytest.raises(fdn.Error, match="only 3 left"):
        read.extend(script.stream(dry, 3))  # what comes before the failure is not lost
    assert read == [0, 1, 2]


def test_stops_a_stream_that_nobody_reads(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "count")
    with script.stream(name, MANY) as stream:
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
    news = peer.news("produced")
    assert news["stopped"]
    assert news["produced"] < MANY


def test_takes_a_request_stream(peer: Peer, script: fdn.sync.Client) -> None:
    assert script.call(serve(peer, script, "sum"), 1000, items=range(2000)) == 1000 + sum(range(2000))
    with pytest.raises(fdn.Error):
        script.call(peer.name("sum"), 1000)


def test_serves_both_ways(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "double")
    assert [*script.stream(name, items=range(2000))] == [2 * number for number in range(2000)]


def test_withdraws_a_service(peer: Peer, script: fdn.sync.Client) -> None:
    name = peer.name("gone")
    number = peer.tell("serve", to=name, **{"as": "echo"})
    peer.result(number)
    eventually("it is known", lambda: offered(script, name))
    peer.ask("withdraw", of=number)
    eventually("it is withdrawn", lambda: not offered(script, name))
    with pytest.raises(fdn.NotFound):
        script.call(name)


def test_serves_an_asyncio_client_too(peer: Peer, script: fdn.sync.Client, town: list[NodeProcess]) -> None:
    echo, count, double = (serve(peer, script, what) for what in ("echo", "count", "double"))

    async def numbers() -> AsyncIterator[int]:
        for number in range(300):
            yield number

    async def run() -> None:
        async with fdn.Client(town[1].endpoint, cluster="test") as client:
            assert await asyncio.gather(*(client.call(echo, number) for number in range(50))) == [*range(50)]
            assert [item async for item in client.stream(count, 300)] == [*range(300)]
            assert [item async for item in client.stream(double, items=numbers())] == [2 * n for n in range(300)]
            async with client.stream(count, MANY) as stream:
                assert await anext(stream) == 0

    asyncio.run(run())
    while not peer.news("produced")["stopped"]:
        pass


def test_the_languages_call_one_another(start: StartPeer, town: list[NodeProcess], script: fdn.sync.Client) -> None:
    one, other = start(town[0], other="node"), start(town[1], other="c")
    for serving, calling in ((one, other), (other, one)):
        assert calling.ask("call", to=serve(serving, script, "echo"), body=["é", 1]) == ["é", 1]
        doubled = calling.tell("stream", to=serve(serving, script, "double"), items=[*range(600)], window=[7, 500])
        assert calling.items(doubled) == [2 * number for number in range(600)]


# --- events -----------------------------------------------------------------------------------------------------------


def test_publishes_and_hears(peer: Peer, start: StartPeer, town: list[NodeProcess]) -> None:
    listener = start(town[1])
    heard = listener.tell("subscribe", to=f"{peer.name('orders')}.*.created", timeout_ms=5000)
    assert listener.result(heard) == []
    peer.ask("publish", to=f"{peer.name('orders')}.eu.paid", body=1)
    peer.ask("publish", to=f"{peer.name('orders')}.eu.created", body={"total": 12.5}, headers={"tenant": "blue"})
    peer.ask("flush")
    line = listener.wait(lambda line: line.get("re") == heard and "event" in line)
    assert (line["event"], line["to"]) == ({"total": 12.5}, f"{peer.name('orders')}.eu.created")
    assert (line["origin"], line["missed"], line["headers"]) == (town[0].id, 0, {"tenant": "blue"})


def test_hears_python(peer: Peer, script: fdn.sync.Client) -> None:
    heard = peer.tell("subscribe", to=f"{peer.name('news')}.>")
    assert peer.result(heard) == []
    for number in range(500):
        script.publish(f"{peer.name('news')}.a.b", number)
    assert [peer.next(heard, "event") for _ in range(500)] == [*range(500)]
    peer.ask("withdraw", of=heard)


def test_a_queue_group_shares_the_work(peer: Peer, start: StartPeer, town: list[NodeProcess]) -> None:
    publisher, other = start(town[1]), start(town[1])
    subject = peer.name("jobs")
    groups = [(worker, worker.tell("subscribe", to=subject, queue="workers")) for worker in (peer, other)]
    for worker, number in groups:
        assert worker.result(number) == []
    last = peer.tell("subscribe", to=f"{subject}.end"), other.tell("subscribe", to=f"{subject}.end")
    assert (peer.result(last[0]), other.result(last[1])) == ([], [])
    for job in range(200):
        publisher.ask("publish", to=subject, body=job)
    publisher.ask("publish", to=f"{subject}.end", body="end")
    shares = []
    for (worker, number), end in zip(groups, last, strict=True):
        worker.next(end, "event")  # comes behind all jobs: events of one publisher keep their order
        shares.append([line["event"] for line in worker.said(number, "event")])
    assert sorted(shares[0] + shares[1]) == [*range(200)]
    assert all(shares)


def test_is_told_how_many_it_missed(peer: Peer, script: fdn.sync.Client) -> None:
    subject = peer.name("flood")
    heard = peer.tell("subscribe", to=subject)
    assert peer.result(heard) == []
    peer.ask("deaf", channel="events")
    size = 20_000
    # More than the socket buffers and the queues on the way hold.
    for number in range(4000):
        script.publish(subject, [number, b"x" * size])
    script.flush()
    peer.ask("hear", channel="events")
    last, missed, received = -1, 0, 0
    while last < 3999:
        line = peer.wait(lambda line: line.get("re") == heard and "event" in line)
        received += 1
        missed += line["missed"]
        assert line["event"][0] == last + line["missed"] + 1
        last = line["event"][0]
    assert received + missed == 4000
    assert missed > 0


# --- the end of things ------------------------------------------------------------------------------------------------


def test_goes_to_another_node_when_its_own_is_killed(start: StartPeer, cluster: ProcessCluster) -> None:
    first, second, third = cluster(3, app=APP)
    peer, listener = start(first, second), start(third)
    number = peer.tell("subscribe", to="orders.>")
    assert peer.result(number) == []
    peer.ask("serve", to="peer.echo", **{"as": "echo"})
    waiting = peer.tell("call", to=f"slow@{first.name}", body="x", timeout_ms=60_000)
    with third.client() as client:
        eventually("the call runs", lambda: client.call(f"state@{first.name}", "x") == 1)

        first.kill()
        assert peer.news("lost")
        with pytest.raises(Failure) as failed:
            peer.result(waiting)
        assert failed.value.code == "unreachable"
        peer.wait(lambda line: line.get("connected", {}).get("node") == second.id)
        assert peer.ask("call", to="math.add", body={"a": 2, "b": 3}) == 5
        # What it serves and hears is there again, without a word from whoever drives it.
        eventually("it serves", lambda: client.call("peer.echo", 7) == 7)

    def heard() -> bool:
        listener.ask("publish", to="orders.x", body="again")
        listener.ask("flush")
        return bool(peer.said(number, "event"))

    eventually("it hears events", heard)


def test_a_goodbye_of_its_node_sends_it_to_another(start: StartPeer, cluster: ProcessCluster) -> None:
    first, second = cluster(2, app=APP)
    peer = start(first, second)
    assert first.stop() == 0
    peer.wait(lambda line: line.get("connected", {}).get("node") == second.id)
    assert peer.ask("call", to="math.add", body={"a": 2, "b": 3}) == 5


def test_says_goodbye(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "echo")
    peer.ask("bye")
    assert peer.process.wait(10) == 0
    eventually("its service is withdrawn", lambda: not offered(script, name))


def test_its_service_goes_with_it_when_it_is_killed(peer: Peer, script: fdn.sync.Client) -> None:
    name = serve(peer, script, "forever")
    peer.process.kill()
    eventually("its service is withdrawn", lambda: not offered(script, name))


def test_every_language_is_driven_here() -> None:
    assert {path.name for path in Path(__file__).parent.iterdir() if any(path.glob("peer.*"))} == {*LANGUAGES}
