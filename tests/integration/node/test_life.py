"""Nodes on real sockets in this process: ports and addresses, the thin client, and that nothing is left behind."""

import asyncio
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

import fdn
import fdn.sync
from tests.integration.ports import free_base

HARD_TIMEOUT_S = 30.0
app = fdn.App()


@app.service("math")
class Math:
    async def add(self, a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


@app.service("files", threads=1)
def read(name: str) -> str:
    return name.upper()


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(HARD_TIMEOUT_S):
            return await main()

    return asyncio.run(bounded())


async def begun(node: fdn.Node) -> None:
    """Return when a call runs on `node`."""
    while not node._dispatcher.stats().running:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# -- ports and addresses


def test_a_base_port_and_the_three_above():
    base = free_base()

    async def main() -> None:
        async with fdn.Node(app, name="n1", bind=f"tcp://127.0.0.1:{base}") as first:
            assert list(first.endpoints.values()) == [f"tcp://127.0.0.1:{base + offset}" for offset in range(4)]
            async with fdn.Node(name="n2", join=[f"127.0.0.1:{base}"]) as second:
                assert await second.call("math.add", [1, 2]) == 3

    run(main)


def test_a_taken_port_is_a_conflict_and_a_plus_takes_the_next_group():
    base = free_base()

    async def main() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", base + 2))
            other.listen()
            with pytest.raises(fdn.Conflict, match=f"127.0.0.1:{base + 2} is taken"):
                await fdn.Node(bind=f"tcp://127.0.0.1:{base}").start()
            async with fdn.Node(bind=f"tcp://127.0.0.1:{base}+") as node:
                assert node.endpoint == f"tcp://127.0.0.1:{base + 4}"
        async with fdn.Node(bind=f"tcp://127.0.0.1:{base}") as node:  # what was bound in vain is free again
            assert node.endpoint == f"tcp://127.0.0.1:{base}"

    run(main)


def test_ports_are_free_as_soon_as_a_node_has_stopped():
    base = free_base()

    async def main() -> None:
        for _ in range(5):
            async with (
                fdn.Node(app, name="n1", bind=f"tcp://127.0.0.1:{base}") as first,
                fdn.Node(name="n2", join=[first.endpoint]) as second,
            ):
                assert await second.call("math.add", [1, 2]) == 3

    run(main)


def test_an_address_of_another_machine_is_a_clear_error():
    async def main() -> None:
        with pytest.raises(fdn.ConfigError, match="cannot listen"):
            await fdn.Node(bind="tcp://192.0.2.1:0", insecure=True).start()

    run(main)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6():
    base = free_base("::1")

    async def main() -> None:
        async with (
            fdn.Node(app, name="n1", bind="tcp://[::1]:0") as first,
            fdn.Node(app, name="n2", bind=f"tcp://[::1]:{base}", join=[first.endpoint]) as second,
        ):
            assert first.endpoint.startswith("tcp://[::1]:")
            assert second.endpoint == f"tcp://[::1]:{base}"
            assert await first.call("math.add@n2", [1, 2]) == 3
            assert await second.call("math.add@n1", [1, 2]) == 3
            assert await asyncio.to_thread(ask, second.endpoint, "math.add", [3, 4]) == 7

    run(main)


def test_advertised_apart_from_bound():
    base = free_base()

    async def main() -> None:
        where = ",".join(
            f"{channel}=tcp://localhost:{base + offset}"
            for offset, channel in enumerate(("coordination", "gossip", "data", "events"))
        )
        async with (
            fdn.Node(app, name="n1", bind=f"tcp://127.0.0.1:{base}", advertise=where) as first,
            fdn.Node(name="n2", bind="tcp://127.0.0.1:0", advertise="localhost", join=[first.endpoint]) as second,
        ):
            assert first.endpoint == f"tcp://localhost:{base}"
            assert second.endpoint.startswith("tcp://localhost:")
            assert [member.reachable for member in second.members()] == [True, True]
            assert await second.call("math.add", [1, 2]) == 3
            assert await first.ping("n2", "events") > 0

    run(main)


def test_all_seeds_down_names_each():
    base = free_base()

    async def main() -> None:
        seeds = [f"tcp://127.0.0.1:{base}", f"tcp://127.0.0.1:{base + 1}"]
        with pytest.raises(fdn.Unreachable) as caught:
            await fdn.Node(join=seeds, join_timeout_s=0.5).start()
        for seed in seeds:
            assert f"{seed}: refused" in str(caught.value)

    run(main)


# -- the thin client


def ask(endpoint: str, target: str, payload: Any = None, **settings: Any) -> Any:
    with fdn.sync.Client(endpoint, timeout=10.0) as client:
        return client.call(target, payload, **settings)


def test_the_client_of_a_real_node():
    async def main() -> None:
        async with fdn.Node(name="n1") as first, fdn.Node(app, name="n2", join=[first.endpoint]):
            assert await asyncio.to_thread(ask, first.endpoint, "math.add", [1, 2]) == 3
            assert await asyncio.to_thread(ask, first.endpoint, "files", "x") == "X"
            members = await asyncio.to_thread(ask, first.endpoint, "fdn.node.members", channel="coordination")
            assert [member["name"] for member in members] == ["n1", "n2"]
            with pytest.raises(fdn.NotFound, match=r"no node offers 'math\.ad'"):
                await asyncio.to_thread(ask, first.endpoint, "math.ad")
            with pytest.raises(fdn.DeadlineExceeded):
                await asyncio.to_thread(ask, first.endpoint, "math.slow", 20.0, timeout=0.1)
            with pytest.raises(fdn.ConfigError, match="'fdn'"):
                await asyncio.to_thread(lambda: fdn.sync.Client(first.endpoint, cluster="west").connect())
            with pytest.raises(fdn.Unreachable, match="refused this client"):
                await asyncio.to_thread(lambda: fdn.sync.Client(first.endpoints["data"]).connect())

    run(main)


def test_a_client_learns_that_its_node_stops():
    async def main() -> None:
        node = fdn.Node(app, name="n1", drain_timeout_s=0.1)
        await node.start()
        asked = asyncio.create_task(asyncio.to_thread(ask, node.endpoint, "math.slow", 20.0))
        await begun(node)
        await node.stop()
        with pytest.raises(fdn.Error) as caught:
            await asked
        assert not isinstance(caught.value, fdn.DeadlineExceeded)

    run(main)


# -- nothing is left behind


def left() -> tuple[int, set[str]]:
    gc.collect()
    threads = {thread.name for thread in threading.enumerate()}
    return psutil.Process().num_fds(), threads


def test_nothing_is_left_after_twenty_lives():
    async def life(number: int) -> None:
        async with fdn.Node(app, name="n1") as first, fdn.Node(app, name="n2", join=[first.endpoint]) as second:
            assert await second.call("math.add@n1", [1, 2]) == 3
            assert await first.call("files@n2", "x") == "X"
            await second.cast("math.add@n1", [1, 2])
            await first.ping("n2", "events")
            if number % 2:  # stopped in the middle of something
                call = asyncio.create_task(first.call("math.slow@n2", 20.0))
                await begun(second)
                call.cancel()

    async def main() -> None:
        await life(0)  # whatever is made once and kept
        before, tasks = left(), asyncio.all_tasks()
        for number in range(20):
            await life(number)
        assert asyncio.all_tasks() == tasks
        fds, threads = left()
        assert fds <= before[0]
        assert not [name for name in threads if name.startswith(("fdn-", "zmq"))]

    before = left()
    run(main)
    assert left()[0] <= before[0]


def test_nothing_is_left_of_starts_that_fail():
    base = free_base()

    async def main() -> None:
        async def fail() -> None:
            odd: list[dict[str, Any]] = [
                {"join": [f"127.0.0.1:{base}"], "join_timeout_s": 0.1},
                {"bind": "tcp://192.0.2.1:0", "insecure": True},
            ]
            for settings in odd:
                with pytest.raises(fdn.Error):
                    await fdn.Node(app, **settings).start()

        await fail()
        before, tasks = left(), asyncio.all_tasks()
        for _ in range(5):
            await fail()
        assert asyncio.all_tasks() == tasks
        fds, threads = left()
        assert fds <= before[0]
        assert not [name for name in threads if name.startswith(("fdn-", "zmq"))]

    run(main)


def test_stop_during_the_start():
    base = free_base()

    async def main() -> None:
        for turns in range(1, 30):
            node = fdn.Node(app, join=[f"127.0.0.1:{base}"])
            starting = asyncio.create_task(node.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await node.stop()
            with pytest.raises(fdn.Error, match="stopped while it started"):
                await starting

    run(main)
