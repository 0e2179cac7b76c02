"""Streams between processes, and what becomes of them when one dies, is paused, or is read by nobody."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

import fdn
from fdn.testing import NodeProcess, ProcessCluster, eventually
from fdn.testing.node_process import first_line

APP = "tests.integration.node.streams:app"
_ITEMS = 100_000
_MIB = 1 << 20


def ask(node: NodeProcess, target: str, payload: Any = None, timeout: float = 60.0) -> Any:
    with node.client() as client:
        return client.call(f"{target}@{node.name}", payload, timeout=timeout)


def as_member(cluster: ProcessCluster, seed: NodeProcess, scenario: Callable[[fdn.Node], Awaitable[None]]) -> None:
    """Run it with a node of this process."""

    async def run() -> None:
        async with fdn.Node(name="caller", cluster=cluster.name, join=[seed.endpoint]) as node:
            await scenario(node)

    asyncio.run(run())


@contextmanager
def reading(node: NodeProcess, target: str, pause_s: float = 0.0) -> Iterator[None]:
    """Have `node` read a stream; that this may fail, and does not end by itself, is the point."""
    with node.client() as client:
        client.cast(f"reader.read@{node.name}", [target, pause_s])
        yield


def test_a_hundred_thousand_items_between_two_processes(cluster: ProcessCluster) -> None:
    one, two = cluster.start(2, app=APP)
    assert ask(two, "reader.check", ["n1", _ITEMS]) == _ITEMS
    assert ask(two, "reader.check", ["n2", _ITEMS]) == _ITEMS  # from itself
    assert ask(one, "reader.pass_on", "n2") == sum(range(10_000))

    async def scenario(node: fdn.Node) -> None:
        came = [number async for number in node.stream("feed.count@n2", _ITEMS, returns=int)]
        assert came == list(range(_ITEMS))
        assert await node.call("feed.sum@n1", items=range(_ITEMS), timeout=60) == sum(range(_ITEMS))

    as_member(cluster, one, scenario)


def test_a_hundred_thousand_items_to_a_client(cluster: ProcessCluster) -> None:
    one, _two = cluster.start(2, app=APP)
    with one.client() as client:
        assert list(client.stream("feed.count@n2", _ITEMS, timeout=60)) == list(range(_ITEMS))


@pytest.mark.parametrize("target", ["feed.blocks", "feed.hold"])
def test_a_killed_producer_fails_its_readers(cluster: ProcessCluster, target: str) -> None:
    one, two = cluster.start(2, app=APP)

    async def scenario(node: fdn.Node) -> None:
        stream = node.stream(f"{target}@n2", timeout=600)
        sends = asyncio.create_task(node.call("feed.sum@n2", items=node.stream("feed.hold@n1"), timeout=600))
        await anext(stream)
        await until_is(lambda: node.call("feed.open@n2"), 2)
        two.kill()
        with pytest.raises(fdn.Unreachable, match="was lost in the middle of a stream"):
            [item async for item in stream]
        with pytest.raises(fdn.Unreachable):
            await sends
        await until_is(lambda: node.call("feed.open@n1"), 0)  # what was sent on is left, too

    as_member(cluster, one, scenario)


@pytest.mark.parametrize("target", ["feed.blocks", "feed.hold"])
def test_a_killed_reader_closes_the_generator(cluster: ProcessCluster, target: str) -> None:
    one, two = cluster.start(2, app=APP)
    with reading(two, f"{target}@n1", 0.01):
        eventually("it is read", lambda: ask(one, "feed.open") == 1)
        two.kill()
    eventually("it is closed", lambda: ask(one, "feed.open") == 0)


@pytest.mark.parametrize("target", ["feed.blocks", "feed.hold"])
def test_a_killed_client_closes_the_generator(cluster: ProcessCluster, target: str) -> None:
    one, two = cluster.start(2, app=APP)
    program = (
        "import sys, time, fdn.sync\n"
        f"with fdn.sync.Client({one.endpoint!r}, cluster={cluster.name!r}) as client:\n"
        f"    stream = client.stream({target + '@n2'!r}, timeout=600)\n"
        "    next(stream)\n"
        "    print('reads', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert first_line(process) == "reads\n"
            assert ask(two, "feed.open") == 1
        finally:
            process.kill()
    eventually("it is closed", lambda: ask(two, "feed.open") == 0)


def test_a_paused_reader_costs_its_producer_one_window_and_nobody_else_anything(cluster: ProcessCluster) -> None:
    one, two = cluster.start(2, app=APP)
    with reading(two, "feed.blocks@n1"):
        eventually("it flows", lambda: ask(one, "feed.made") > 1000)
        two.pause()
        made = eventually("it stands still", lambda: standing(one))
        held = psutil.Process(one.pid).memory_info().rss
        # The window in bytes (1 MiB) and in items (1024), what is on the way, and one that waits to go.
        with one.client() as client:
            for _ in range(200):
                assert client.call("feed.made@n1") == made
            assert list(client.stream("feed.count@n1", 10_000)) == list(range(10_000))
        assert psutil.Process(one.pid).memory_info().rss - held < 16 * _MIB
        eventually("it is given up", lambda: ask(one, "feed.open") == 0, 60)
        two.resume()
    cluster.settle()
    assert ask(two, "reader.check", ["n1", 1000]) == 1000


def standing(node: NodeProcess) -> int:
    """How much it has made, if that no longer changes."""
    first, again = (ask(node, "feed.made") for _ in range(2))
    return int(first) if first == again else 0


async def until_is(probe: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(30):
        while await probe() != wanted:  # noqa: ASYNC110  # another process: there is nothing to wait for
            await asyncio.sleep(0.02)


def test_streams_that_nobody_reads_leave_their_link_to_others(cluster: ProcessCluster) -> None:
    (one,) = cluster.start(1, app=APP)

    async def scenario(node: fdn.Node) -> None:
        unread = [node.stream("feed.blocks@n1", timeout=600) for _ in range(20)]
        for stream in unread:
            await stream.__aenter__()
        await until_is(lambda: node.call("feed.open@n1"), 20)
        assert [number async for number in node.stream("feed.count@n1", 20_000)] == list(range(20_000))
        assert await asyncio.gather(*(node.call("feed.open@n1") for _ in range(200))) == [20] * 200
        for stream in unread:
            assert len(await anext(stream)) == 10_000
            await stream.aclose()
        await until_is(lambda: node.call("feed.open@n1"), 0)

    as_member(cluster, one, scenario)
