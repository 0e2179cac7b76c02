from typing import Any

import pytest

import fdn
from tests.unit.fdn.harness import World, virtual
from tests.unit.fdn.messaging.test_gateway import FrameClient
from transports.channel import Channel


async def ask(world: World, node: fdn.Node, request: str, payload: Any = None) -> Any:
    client = await FrameClient(world).connect(node, Channel.COORDINATION)
    return await client.call(f"fdn.node.{request}", payload)


@virtual
async def test_what_a_node_tells_of_itself():
    app = fdn.App()

    @app.service("math", version="2", capabilities={"cpu"})
    class Math:
        def add(self, a: int, b: int) -> int:
            return a + b

    async with World() as world:
        first, _ = await world.cluster(2, app)
        assert await ask(world, first, "ping") is None
        info = await ask(world, first, "info")
        assert (info["name"], info["node"], info["cluster"]) == ("n1", first.id, "fdn")
        assert (info["members"], info["reachable"]) == (2, 2)
        assert info["endpoints"] == dict(first.endpoints)
        members = await ask(world, first, "members")
        assert [(m["name"], m["status"], m["state"], m["reachable"]) for m in members] == [
            ("n1", "alive", "serving", True),
            ("n2", "alive", "serving", True),
        ]
        services = await ask(world, first, "services")
        assert {(s["node"], s["service"], s["version"]) for s in services} == {
            ("n1", "math", "2"),
            ("n2", "math", "2"),
        }
        stats = await ask(world, first, "stats")
        assert stats["swim"]["members"] == 1


@virtual
async def test_why_a_member_is_held_dead():
    async with World() as world:
        first, second = await world.cluster(2)
        gone = second.id
        assert await ask(world, first, "why", gone) == []
        await second.stop()
        (said,) = await ask(world, first, "why", gone)
        assert (said["status"], said["by"], said["by_name"], said["from"]) == ("left", gone, "n2", gone)
        assert said["age_ms"] >= 0
        assert await ask(world, first, "why", "nobody") == []
        with pytest.raises(fdn.BadRequest, match="takes a node id"):
            await ask(world, first, "why", 7)


@virtual
async def test_a_node_joins_when_it_is_told_to():
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", join=())
        await ask(world, first, "join", [second.endpoint])
        assert {member.name for member in first.members()} == {"n1", "n2"}


@virtual
async def test_joins_that_make_no_sense():
    async with World() as world:
        first = await world.start("n1", join_timeout_s=0.5)
        odd: list[Any] = [None, 7, "memory://n2", [7], ["nonsense"], ["tcp://*:1"], {}]
        for payload in odd:
            with pytest.raises(fdn.BadRequest):
                await ask(world, first, "join", payload)
        with pytest.raises(fdn.Unreachable, match="memory://nobody"):
            await ask(world, first, "join", ["memory://nobody"])


@virtual
async def test_a_node_leaves_when_it_is_told_to():
    async with World() as world:
        first, second = await world.cluster(2)
        await ask(world, first, "leave")
        await first.wait_stopped()
        assert [member.status for member in second.members() if member.name == "n1"] == ["left"]


@virtual
async def test_requests_that_do_not_exist():
    async with World() as world:
        first = await world.start("n1")
        with pytest.raises(fdn.NotFound, match=r"fdn\.node\.explode"):
            await ask(world, first, "explode")
