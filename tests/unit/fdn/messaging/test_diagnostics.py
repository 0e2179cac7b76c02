import asyncio
import threading
from typing import Any

import pytest

import fdn
from tests.unit.fdn.harness import World, virtual
from tests.unit.fdn.messaging.test_introspection import ask


@virtual
async def test_channels_tell_what_went_over_them():
    app = fdn.App()

    @app.service("echo")
    def echo(data: object) -> object:
        return data

    async with World() as world:
        first, second = await world.cluster(2, app)
        assert await first.call("echo@n2", 1) == 1
        rows = {row["channel"]: row for row in await ask(world, first, "channels")}
        assert list(rows) == ["coordination", "gossip", "data", "events"]
        assert {channel: row["endpoint"] for channel, row in rows.items()} == dict(first.endpoints)
        assert all(row["answered"] for row in rows.values())
        data = rows["data"]
        ((link,), sent) = data["links"], data["messages_sent"]
        assert (link["name"], link["node"]) == ("n2", second.id)
        assert link["messages_sent"] == sent >= 1
        assert rows["events"]["links"] == []
        assert rows["gossip"]["messages_received"] > 0


@virtual
async def test_work_is_counted_by_part():
    async with World() as world:
        first = await world.start("n1")
        await first.publish("nobody.wants.it")
        work = await ask(world, first, "work")
        assert set(work) == {"blobs", "calls", "delivery", "dispatch", "events", "shared"}
        assert work["events"]["published"] == 1
        assert work["dispatch"]["failed"] == 0


def test_stacks_show_every_thread_with_its_source():
    async def asked() -> Any:
        async with World() as world:
            return await ask(world, await world.start("n1"), "stacks")

    # Not on virtual time: the lines of source are read on a thread.
    stacks = asyncio.run(asked())
    (main,) = [stack for stack in stacks if stack["thread"] == threading.main_thread().name]
    assert any(frame["function"].endswith("run_forever") for frame in main["frames"])
    assert all(frame["code"] for frame in main["frames"] if frame["file"].endswith("base_events.py"))


@virtual
async def test_the_loop_shows_its_tasks_and_where_they_wait():
    async with World() as world:
        first = await world.start("n1")
        state: dict[str, Any] = await ask(world, first, "loop")
        assert (state["state"], state["tasks"]) == ("serving", len(state["shown"]))
        assert state["timers"] > 0
        assert any(frame["function"].startswith("test_the_loop") for task in state["shown"] for frame in task["frames"])


@virtual
async def test_round_trips_on_every_channel():
    async with World() as world:
        first, _ = await world.cluster(2)
        rows = await ask(world, first, "rtt", {"count": 3})
        assert [(row["name"], row["channel"], len(row["samples_us"]), row["error"]) for row in rows] == [
            ("n2", channel, 3, "") for channel in ("coordination", "gossip", "data", "events")
        ]
        with pytest.raises(fdn.NotFound, match="n9"):
            await ask(world, first, "rtt", {"nodes": ["n9"]})
