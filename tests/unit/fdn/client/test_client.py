"""The asyncio client against stand-ins for nodes; loopback, ephemeral ports."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import fdn
from fdn.client.client import ClientStream
from fdn.client.inbox import ClientEvent
from tests.unit.fdn.client.fake_node import (
    CALL,
    CANCEL,
    CAST,
    CREDIT,
    END,
    ERROR,
    EVENT,
    ITEM,
    REPLY,
    SUBSCRIBE,
    UNSUBSCRIBE,
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


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(25):
            await main()

    asyncio.run(bounded())


async def hears(node: FakeNode, channel: str, kind: int, count: int = 1) -> list[Any]:
    return await asyncio.to_thread(node.hears, channel, kind, count)


def test_hello_verbs_and_goodbye(node: FakeNode):
    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            assert client.node["name"] == "n1"
            assert client.endpoint == node.endpoint
            assert client.connections == 1
            assert await client.call("math.add", [1, 2]) == [1, 2]
            assert await client.call("fdn.node.ping", {"a": b"x"}, channel="coordination") == {"a": b"x"}
            await client.cast("log.line", "text", headers={"h": "1"})
            await client.publish("a.b", 1)
            await client.flush()
            assert 0 < await client.ping() < 20
        cast = await hears(node, "data", CAST)
        assert cast[1:] == ["log.line", 0, 0, {11: {"h": "1"}}, "text"]
        for channel in ("coordination", "data", "events"):
            await hears(node, channel, 4)

    run(main)


def test_calls_at_once_share_one_connection(node: FakeNode):
    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            found = await asyncio.gather(*(client.call("echo", number) for number in range(1000)))
            assert found == list(range(1000))
        assert node.kinds("data").count(1) == 1

    run(main)


def test_a_timeout_and_a_cancelled_task_cancel_the_call(node: FakeNode):
    node.answer = lambda channel, envelope: []

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            with pytest.raises(fdn.DeadlineExceeded):
                await client.call("x", timeout=0.05)
            first = await hears(node, "data", CANCEL)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.call("x")
            second = await hears(node, "data", CANCEL, 2)
            assert [first[2], second[2]] == [each[2] for each in node.said_by_client("data", CALL)]

    run(main)


def test_errors_are_what_they_are(node: FakeNode):
    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            body = {"code": "not_found", "message": "no"}
            node.answer = lambda channel, envelope: [[ERROR, "", envelope[2], 0, None, body]]
            with pytest.raises(fdn.NotFound, match="no"):
                await client.call("x")
            with pytest.raises(fdn.BadRequest):
                await client.call("x", object())
        with pytest.raises(fdn.BadRequest, match="address"):
            fdn.Client()

    run(main)


def countdown(channel: str, envelope: list[Any]) -> list[list[Any]]:
    number = envelope[2]
    if envelope[0] != CALL:
        return []
    return [[ITEM, "", number, 0, None, n] for n in range(envelope[5])] + [[END, "", number, 0, None, None]]


def test_a_streamed_reply(node: FakeNode):
    node.answer = countdown

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            assert [item async for item in client.stream("count", 5)] == [0, 1, 2, 3, 4]
            assert [item async for item in client.stream("count", 0)] == []
            node.answer = lambda channel, envelope: [[REPLY, "", envelope[2], 0, None, "one"]]
            assert [item async for item in client.stream("one")] == ["one"]

    run(main)


def test_a_stream_left_early_is_cancelled(node: FakeNode):
    node.answer = lambda channel, envelope: countdown(channel, envelope)[:-1]

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            async with client.stream("count", 5) as stream:
                async for item in stream:
                    if item == 2:
                        break
            await hears(node, "data", CANCEL)
            assert [item async for item in stream] == []
            abandoned: ClientStream | None = client.stream("count", 5)
            assert abandoned is not None
            assert await anext(abandoned) == 0
            abandoned = None
            gc.collect()
            await hears(node, "data", CANCEL, 2)
            silent = client.stream("count", 0, timeout=0.05)
            with pytest.raises(fdn.DeadlineExceeded, match="no item"):
                await anext(silent)
            await hears(node, "data", CANCEL, 3)

    run(main)


def adds(node: FakeNode) -> Callable[[str, list[Any]], list[list[Any]]]:
    """A callee that wants items, and answers with their sum, or item by item with `double`."""
    totals: dict[int, int] = {}

    def answer(channel: str, envelope: list[Any]) -> list[list[Any]]:
        kind, to, number, body = envelope[0], envelope[1], envelope[2], envelope[5]
        if kind == CALL:
            totals[number] = 0
            return [[CREDIT, "request", number, 0, None, [1000, 10**6]]]
        if kind == ITEM and to == "request":
            totals[number] += body
            return [[ITEM, "", number, 0, None, 2 * body]] if node.name == "double" else []
        if kind == END and body is None:
            return [
                [
                    END if node.name == "double" else REPLY,
                    "",
                    number,
                    0,
                    None,
                    None if node.name == "double" else totals[number],
                ]
            ]
        return [[ERROR, "", number, 0, None, {"code": "error", "message": "no sum"}]] if kind == END else []

    return answer


def test_request_streams(node: FakeNode):
    node.answer = adds(node)

    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            assert await client.call("sum", items=range(100)) == 4950
            assert await client.call("sum", items=numbers()) == 10
            with pytest.raises(fdn.Error, match="could not be produced: ValueError: no more") as caught:
                await client.call("sum", items=broken())
            assert isinstance(caught.value.__cause__, ValueError)
            node.name = "double"
            assert [item async for item in client.stream("double", items=numbers())] == [0, 2, 4, 6, 8]

    run(main)


def test_a_subscription(node: FakeNode):
    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            async with await client.subscribe("a.>", queue="q") as subscription:
                asked = await hears(node, "events", SUBSCRIBE)
                assert (asked[1], asked[5]["queue"], subscription.unaware) == ("a.>", "q", ())
                node.say("events", *([EVENT, "a.b", asked[2], 0, {7: "n1-1"}, n] for n in range(3)))
                assert await anext(subscription) == ClientEvent("a.b", 0, "n1-1", 0)
                assert [(await subscription.next(20.0)).payload for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
                assert await subscription.next(0.01) is None
            assert [event async for event in subscription] == []
            await hears(node, "events", UNSUBSCRIBE)

    run(main)


def test_a_handler_of_events(node: FakeNode, caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        heard: list[Any] = []
        enough = asyncio.Event()

        async def handler(event: ClientEvent) -> None:
            if event.payload == 1:
                raise ValueError("not this one")
            heard.append(event.payload)
            if event.payload == 2:
                enough.set()

        async with fdn.Client(node.endpoint) as client:
            subscription = await client.subscribe("a", handler)
            asked = await hears(node, "events", SUBSCRIBE)
            node.say("events", *([EVENT, "a", asked[2], 0, None, n] for n in range(3)))
            await enough.wait()
            await subscription.close()
            assert heard == [0, 2]
            assert "not this one" in caplog.text
            plain = await client.subscribe("b", lambda event: heard.append(event.payload))
            asked = await hears(node, "events", SUBSCRIBE, 2)
            node.say(
                "events", [EVENT, "b", asked[2], 0, None, "plain"], [ERROR, "", asked[2], 0, None, {"code": "denied"}]
            )
            assert plain._task is not None
            await asyncio.wait([plain._task])
            assert heard[-1] == "plain"
            assert "has ended" in caplog.text

    run(main)


def test_what_it_serves(node: FakeNode):
    stopped = asyncio.Event()

    async def upper(text: str) -> str:
        return text.upper()

    async def generate(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def total(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    def plain(n: int) -> Iterator[int]:
        yield from range(n)

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            services = {}
            handlers: dict[str, Callable[..., Any]] = {"upper": upper, "lower": lambda text: text.lower()}
            handlers |= {"generate": generate, "plain": plain, "total": total, "stuck": stuck}
            for name, handler in handlers.items():
                services[name] = await client.serve(name, handler, version="1")
            node.say(
                "data",
                [CALL, "upper", 1, 0, None, "a"],
                [CALL, "lower", 2, 0, None, "A"],
                [CAST, "upper", 0, 0, None, "a"],
            )
            await hears(node, "data", REPLY, 2)
            assert {each[2]: each[5] for each in node.said_by_client("data", REPLY)} == {1: "A", 2: "a"}
            for number, name in enumerate(("generate", "plain"), start=1):
                node.say("data", [CALL, name, 10, 0, {18: [100, 1000]}, 3])
                await hears(node, "data", END, number)
                assert [each[5] for each in node.said_by_client("data", ITEM)] == [0, 1, 2] * number
            node.say("data", [CALL, "total", 20, 0, {19: True}, None])
            await hears(node, "data", CREDIT)
            node.say(
                "data", *([ITEM, "request", 20, 0, None, n] for n in range(5)), [END, "request", 20, 0, None, None]
            )
            assert (await hears(node, "data", REPLY, 3))[5] == 10
            node.say("data", [CALL, "upper", 30, 0, None, None])
            assert (await hears(node, "data", ERROR))[5]["traceback"]
            node.say("data", [CALL, "stuck", 31, 0, None, None])
            while not services["stuck"].running:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
            node.say("data", [CANCEL, "", 31, 0, None, None])
            await stopped.wait()
            with pytest.raises(fdn.Conflict):
                await client.serve("upper", upper)
            with pytest.raises(fdn.ConfigError, match="async def"):
                await client.serve("more", lambda_with_items)
            await services["upper"].withdraw()
            await services["upper"].wait()
            await hears(node, "data", UNSUBSCRIBE)
            async with await client.serve("upper", upper):
                pass

    run(main)


def lambda_with_items(items: Iterator[int]) -> int:
    return 1


def test_handlers_that_run_are_cancelled_at_the_end(node: FakeNode):
    stopped = []

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(1)

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            service = await client.serve("stuck", stuck)
            node.say("data", [CALL, "stuck", 1, 0, None, None])
            while not service.running:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        assert stopped == [1]

    run(main)


def test_another_node_when_its_own_is_gone(node: FakeNode, caplog: pytest.LogCaptureFixture):
    other = FakeNode("n2")
    node.members = [node.row(), other.row()]

    async def main() -> None:
        try:
            async with fdn.Client(node.endpoint) as client:
                subscription = await client.subscribe("a")
                await client.serve("x", lambda: 5)
                while not client._core.connection.addresses.remembered:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
                node.answer = lambda channel, envelope: []
                lost, again = (asyncio.create_task(client.call("y", 1, retry=retry)) for retry in (0, 1))
                await hears(node, "data", CALL, 2)
                await asyncio.to_thread(node.close)
                with pytest.raises(fdn.Unreachable, match="was lost before it answered y") as caught:
                    await lost
                assert caught.value.facts["maybe_carried_out"]
                assert await again == 1
                assert (client.node["name"], client.connections) == ("n2", 2)
                asked = await hears(other, "events", SUBSCRIBE)
                other.say("events", [EVENT, "a", asked[2], 0, None, 1])
                assert (await anext(subscription)).missed == -1
                await hears(other, "data", SUBSCRIBE)
                other.say("data", [CALL, "x", 1, 0, None, None])
                assert (await hears(other, "data", REPLY))[5] == 5
        finally:
            other.close()

    run(main)
    assert "trying 2 addresses" in caplog.text


def test_without_reconnecting_it_is_the_end_of_everything(node: FakeNode):
    async def main() -> None:
        client = fdn.Client(node.endpoint, reconnect=False, timeout=10.0)
        subscription = await client.subscribe("a")
        service = await client.serve("x", lambda: 5)
        await asyncio.to_thread(node.close)
        with pytest.raises(fdn.Unreachable, match="while events were waited for"):
            await anext(subscription)
        with pytest.raises(fdn.Unreachable, match="not served any more"):
            await service.wait()
        with pytest.raises(fdn.Unreachable, match="refused"):
            await client.call("x")
        await subscription.close()
        await client.close()

    run(main)


def test_nothing_is_kept_of_a_connection_that_failed(node: FakeNode):
    node.close()

    async def main() -> None:
        client = fdn.Client(node.endpoint)
        for _ in range(3):
            with pytest.raises(fdn.Unreachable):
                await client.connect()
            assert client._wires._context is None

    run(main)


def test_closed_and_used_again_also_by_another_loop(node: FakeNode):
    client = fdn.Client(node.endpoint)

    async def main() -> None:
        for _ in range(2):
            assert await client.call("x", 1) == 1
            await client.close()
            await client.close()

    run(main)
    run(main)


def test_it_belongs_to_one_loop(node: FakeNode):
    client = fdn.Client(node.endpoint)

    async def use() -> None:
        assert await client.call("x", 1) == 1

    async def elsewhere() -> None:
        with pytest.raises(fdn.Error, match="another event loop"):
            await client.call("x", 1)

    async def main() -> None:
        await use()
        await asyncio.to_thread(asyncio.run, elsewhere())
        await client.close()

    run(main)


def test_what_waits_when_it_is_closed_is_told(node: FakeNode):
    node.answer = lambda channel, envelope: []

    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            call = asyncio.create_task(client.call("x"))
            await hears(node, "data", CALL)
        with pytest.raises(fdn.Error, match="closed meanwhile"):
            await call

    run(main)


def test_a_forked_child_makes_its_own(node: FakeNode):
    async def main() -> None:
        async with fdn.Client(node.endpoint) as client:
            assert await client.call("x", 1) == 1
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    client._bind()
                except fdn.Error as error:
                    status = 0 if "before a fork" in str(error) else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222
            assert await client.call("x", 3) == 3

    run(main)
