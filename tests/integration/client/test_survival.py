"""Thin clients and the deaths of their nodes: real processes, killed, paused and stopped; and clients that just end."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fdn
import fdn.sync
from fdn.testing import NodeProcess, ProcessCluster, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APP = "tests.integration.apps:app"


@pytest.fixture
def nodes(cluster: ProcessCluster) -> list[NodeProcess]:
    return cluster.start(3, app=APP)


def node_of(client: fdn.sync.Client, nodes: list[NodeProcess]) -> NodeProcess:
    return next(node for node in nodes if node.name == client.node["name"])


def remembers(client: fdn.sync.Client | fdn.Client, count: int) -> bool:
    return len(client._core.connection.addresses.remembered) == count


def test_calls_go_on_when_nodes_die_one_after_the_other(nodes: list[NodeProcess]) -> None:
    # One address is enough: the others are learnt from the node.
    with fdn.sync.Client(nodes[0].endpoint, cluster="test", timeout=20.0) as client:
        for left in (3, 2):
            eventually("it knows who else there is", lambda left=left: remembers(client, left))  # type: ignore[misc]
            victim = node_of(client, nodes)
            victim.kill()
            assert client.call("math.add", [2, 3], retry=10, timeout=20.0) == 5
            assert node_of(client, nodes) is not victim
            assert client.connections == 4 - left + 1
            survivor = node_of(client, nodes)
            eventually(
                "the others know",
                lambda survivor=survivor, victim=victim: survivor.statuses()[victim.name] == "dead",  # type: ignore[misc]
            )
            client._core._members_at = time.monotonic()  # ask again now, not in half a minute
            client.ping()


def test_what_was_under_way_is_told_apart_from_what_was_not(nodes: list[NodeProcess]) -> None:
    with fdn.sync.Client(nodes[0].endpoint, cluster="test", timeout=20.0) as client:
        failures: list[fdn.Error] = []

        def call_slow() -> None:
            try:
                client.call("slow@n2", 60.0, timeout=60.0)
            except fdn.Error as error:
                failures.append(error)

        thread = threading.Thread(target=call_slow)
        thread.start()
        with nodes[1].client() as other:
            eventually("it is under way", lambda: other.call("running@n2") == 1)
            eventually("it knows who else there is", lambda: remembers(client, 3))
            nodes[0].kill()
            thread.join(20)
            assert isinstance(failures[0], fdn.Unreachable)
            assert failures[0].facts["maybe_carried_out"] is True
            eventually("nobody works for a caller who is gone", lambda: other.call("running@n2") == 0)
        assert client.call("math.add", [1, 2]) == 3


def test_calls_that_may_be_made_again_go_on_while_their_node_stops(nodes: list[NodeProcess]) -> None:
    with fdn.sync.Client(nodes[0].endpoint, cluster="test", timeout=30.0) as client:
        client.ping()
        wrong: list[object] = []
        stop = threading.Event()

        def call_on_and_on() -> None:
            while not stop.is_set():
                try:
                    found = client.call("math.add", [2, 3], retry=3)
                except fdn.Error as error:
                    wrong.append(error)
                else:
                    if found != 5:
                        wrong.append(found)

        threads = [threading.Thread(target=call_on_and_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually("it knows who else there is", lambda: remembers(client, 3))
        assert nodes[0].stop() == 0
        eventually("it is at another node", lambda: client.connections == 2)
        assert client.call("math.add", [2, 3]) == 5
        stop.set()
        for thread in threads:
            thread.join(20)
        assert wrong == []


def test_a_node_that_is_paused_is_given_up(nodes: list[NodeProcess]) -> None:
    with fdn.sync.Client(nodes[0].endpoint, nodes[1].endpoint, cluster="test", timeout=20.0) as client:
        client.ping()
        nodes[0].pause()
        try:
            assert client.call("math.add@n2", [2, 3], timeout=30.0, retry=5) == 5
            assert client.node["name"] in ("n2", "n3")
        finally:
            nodes[0].resume()


def test_subscriptions_and_services_move_along(nodes: list[NodeProcess]) -> None:
    def whose(name: str) -> str:
        return f"hello {name}"

    def generate(n: int) -> Iterator[int]:
        yield from range(n)

    with (
        fdn.sync.Client(nodes[0].endpoint, nodes[1].endpoint, cluster="test", timeout=20.0) as serving,
        fdn.sync.Client(nodes[2].endpoint, cluster="test", timeout=20.0) as calling,
    ):
        serving.serve("greet", whose)
        serving.serve("generate", generate)
        subscription = serving.subscribe("news.>")
        eventually("it is offered", lambda: calling.call("greet", "Ada") == "hello Ada")
        assert list(calling.stream("generate", 1000)) == list(range(1000))
        calling.publish("news.a", 1)
        first = subscription.next(20.0)
        assert first is not None
        assert (first.payload, first.missed) == (1, 0)
        nodes[0].kill()
        eventually("it is offered again", lambda: calling.call("greet", "Bob") == "hello Bob", 30.0)
        assert serving.connections == 2

        def heard() -> Any:
            calling.publish("news.b", 2)
            return subscription.next(0.2)

        again = eventually("it hears again", heard)
        assert (again.payload, again.missed) == (2, -1)


def test_the_same_on_asyncio(nodes: list[NodeProcess]) -> None:
    async def generate(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def total(items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def until(what: str, probe: Any) -> Any:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await probe()
                except fdn.Error:
                    await asyncio.sleep(0.05)

    async def main() -> None:
        async with (
            fdn.Client(nodes[0].endpoint, nodes[1].endpoint, cluster="test", timeout=20.0) as serving,
            fdn.Client(nodes[2].endpoint, cluster="test", timeout=20.0) as calling,
        ):
            await serving.serve("generate", generate)
            await serving.serve("total", total)

            async def items() -> list[int]:
                return [item async for item in calling.stream("generate", 100)]

            assert await until("it is offered", items) == list(range(100))
            assert await until("it is offered", lambda: calling.call("total", items=range(1000))) == 499500
            await asyncio.to_thread(nodes[0].kill)
            assert await until("it is offered again", items) == list(range(100))
            assert serving.connections == 2
            found = await asyncio.gather(*(calling.call("math.add", [n, 1]) for n in range(500)))
            assert found == list(range(1, 501))

    asyncio.run(main())


PROGRAMS = {
    "a client": """
from fdn.sync import Client
client = Client(sys.argv[1], cluster="test")
assert client.call("math.add", [1, 2]) == 3
subscription = client.subscribe("a.>", print)
client.serve("served.by.script", lambda: 1)
client.cast("math.add", [1, 2])
""",
    "a client on asyncio": """
import asyncio, fdn
async def main():
    client = fdn.Client(sys.argv[1], cluster="test")
    assert await client.call("math.add", [1, 2]) == 3
    subscription = await client.subscribe("a.>", print)
    await client.serve("served.by.script", lambda: 1)
    asyncio.get_running_loop().create_task(client.call("slow", 60.0, timeout=60.0))
    await asyncio.sleep(0)
    {end}
asyncio.run(main())
""",
    "a thread that waits": """
import threading
from fdn.sync import Client
client = Client(sys.argv[1], cluster="test", timeout=60.0)
client.connect()
threading.Thread(target=lambda: client.call("slow", 60.0), daemon=True).start()
""",
    "a node": """
import fdn.sync
node = fdn.sync.Node(cluster="test", join=[sys.argv[1]])
node.start()
assert node.call("math.add", [1, 2]) == 3
subscription = node.subscribe("a.>", print)
node.serve("served.by.script", lambda: 1)
""",
}
ENDS = {
    "just ends": ("pass", 0, ""),
    "raises": ("raise ValueError('of the script')", 1, "ValueError: of the script"),
    "exits": ("sys.exit(3)", 3, ""),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_ends_without_closing_neither_hangs_nor_complains(
    cluster: ProcessCluster, program: str, end: str
) -> None:
    (node,) = cluster.start(1, app=APP)
    line, status, said = ENDS[end]
    text = "import sys\n" + PROGRAMS[program]
    text = text.replace("{end}", line) if "{end}" in text else text + line
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text, node.endpoint],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == status, done.stderr
    # On a busy machine the first step, which imports the client, is slow enough for asyncio's debug mode to say so.
    lines = [each for each in done.stderr.strip().splitlines() if not each.startswith("Executing <")]
    assert lines[-1:] == ([said] if said else [])
    assert done.stderr.count("Traceback") == (1 if said else 0), done.stderr
