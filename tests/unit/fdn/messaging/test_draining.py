import asyncio

import fdn
from fdn.messaging.draining import DrainStage, Stage, drain
from fdn.runtime.facts import DrainStageEnded
from tests.unit.fdn.harness import World, until, virtual


async def never() -> None:
    await asyncio.get_running_loop().create_future()


@virtual
async def test_stages_come_in_order_and_each_is_told():
    loop = asyncio.get_running_loop()
    order: list[str] = []
    left = {"a": 3, "b": 2}

    def finish(name: str) -> Stage:
        async def wait() -> None:
            order.append(name)
            await asyncio.sleep(1.0)
            left[name] = 0

        return Stage(name, wait, lambda: left[name])

    told: list[DrainStage] = []
    report = await drain((finish("a"), finish("b")), 10.0, loop, told.append)
    assert report
    assert order == ["a", "b"]
    assert told == list(report.stages)
    assert [(stage.name, stage.before, stage.left) for stage in told] == [("a", 3, 0), ("b", 2, 0)]
    assert report.by_name()["a"].seconds >= 1.0


@virtual
async def test_what_is_not_finished_in_time_is_named_and_the_rest_still_gets_a_look():
    loop = asyncio.get_running_loop()
    done = asyncio.sleep(0)

    async def at_once() -> None:
        await done

    stages = (Stage("stuck", never, lambda: 7), Stage("quick", at_once, lambda: 0))
    report = await drain(stages, 2.0, loop, lambda stage: None)
    assert not report
    assert [(stage.name, stage.left) for stage in report.stages] == [("stuck", 7), ("quick", 0)]


@virtual
async def test_a_stage_that_fails_is_told_and_does_not_stop_the_others():
    async def fail() -> None:
        raise RuntimeError("no")

    async def fine() -> None:
        pass

    stages = (Stage("bad", fail, lambda: 1), Stage("good", fine, lambda: 0))
    report = await drain(stages, 1.0, asyncio.get_running_loop(), lambda stage: None)
    assert [(stage.name, stage.left) for stage in report.stages] == [("bad", 1), ("good", 0)]


@virtual
async def test_a_drain_under_load_loses_nothing():
    app = fdn.App()

    @app.service("slow")
    async def slow(n: int, context: fdn.Context) -> list[object]:
        await asyncio.sleep(0.05)
        return [context.node, n]

    async with World() as world:
        caller = await world.start("caller")
        for name in ("n1", "n2"):
            leaving = await world.start(name, app)
        await world.settle()
        stages: list[str] = []
        answers: list[list[object]] = []

        async def load(first: int) -> None:
            for n in range(first, first + 50):
                answers.append(await caller.call("slow", n))
                assert answers[-1][1] == n

        async def follow() -> None:
            stages.extend([fact.stage async for fact in leaving.facts() if isinstance(fact, DrainStageEnded)])

        following = asyncio.create_task(follow())
        loads = [asyncio.create_task(load(first * 50)) for first in range(20)]
        await until(lambda: len(answers) > 100)
        report = await leaving.drain()
        assert report, report
        at_end = len(answers)
        await leaving.stop()
        await asyncio.gather(*loads)
        await following
    assert stages[:7] == ["members", "timers", "calls", "clients", "events", "deliveries", "sends"]
    assert report.by_name()["calls"].before > 0 or report.by_name()["members"].seconds >= 0.05
    assert sorted(n for _, n in answers) == list(range(1000))  # type: ignore[type-var]
    assert "n2" not in {node for node, _ in answers[at_end:]}


@virtual
async def test_a_call_that_reaches_a_node_which_has_just_stopped_goes_elsewhere():
    app = fdn.App()

    @app.service("who")
    async def who(context: fdn.Context) -> str:
        return context.node

    async with World() as world:
        caller = await world.start("caller")
        nodes = [await world.start(name, app) for name in ("n1", "n2")]
        await world.settle()
        # It accepts no more, and nobody knows yet.
        nodes[0]._dispatcher._accepting = False
        assert [await caller.call("who") for _ in range(4)] == ["n2"] * 4
