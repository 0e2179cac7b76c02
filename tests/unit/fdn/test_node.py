import asyncio
import gc
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import fdn
from fdn.runtime.facts import MemberDead, MemberLeft, MemberSuspect, NameClash
from tests.unit.fdn.harness import Recorder, World, until, virtual


def names_by_status(node: fdn.Node) -> dict[str, str]:
    return {member.name: member.status for member in node.members()}


# -- joining


@virtual
async def test_three_nodes_see_each_other_when_the_last_has_started():
    async with World() as world:
        for name in ("n1", "n2", "n3"):
            last = await world.start(name)
        assert [(m.name, m.status, m.reachable) for m in last.members()] == [
            ("n1", "alive", True),
            ("n2", "alive", True),
            ("n3", "alive", True),
        ]
        assert [m.name for m in last.members() if m.me] == ["n3"]


@virtual
async def test_join_through_any_member():
    async with World() as world:
        _, second = await world.cluster(2)
        third = await world.start("n3", join=(second.endpoint,))
        assert names_by_status(third) == {"n1": "alive", "n2": "alive", "n3": "alive"}


@virtual
async def test_join_when_all_but_one_seed_are_down():
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", join=("memory://nobody", "memory://nowhere", first.endpoint))
        assert names_by_status(second) == {"n1": "alive", "n2": "alive"}


@virtual
async def test_a_base_address_and_a_coordination_endpoint_are_the_same_seed():
    async with World() as world:
        await world.start("n1")
        for name, seed in (("n2", "memory://n1"), ("n3", "memory://n1.coordination")):
            node = await world.start(name, join=(seed,))
            assert names_by_status(node)["n1"] == "alive"


@virtual
async def test_all_seeds_down_names_each():
    async with World() as world:
        node = world.make("n1", join=("memory://nobody", "memory://nowhere"), join_timeout_s=2.0)
        with pytest.raises(fdn.Unreachable) as caught:
            await node.start()
    assert "memory://nobody.coordination: refused" in str(caught.value)
    assert "memory://nowhere.coordination: refused" in str(caught.value)
    assert "2 s" in str(caught.value)


@virtual
async def test_a_seed_that_starts_later_is_found():
    async with World() as world:
        second = world.make("n2", join=("memory://n1",))
        starting = asyncio.create_task(second.start())
        await asyncio.sleep(3)
        await world.start("n1", join=())
        await starting
        assert names_by_status(second) == {"n1": "alive", "n2": "alive"}


@virtual
async def test_a_seed_that_is_the_node_itself():
    async with World() as world:
        node = await world.start("n1", join=("memory://n1",))
        assert names_by_status(node) == {"n1": "alive"}


@virtual
async def test_another_cluster_is_a_clear_error():
    async with World() as world:
        await world.start("n1", cluster="east")
        node = world.make("n2", cluster="west")
        with pytest.raises(fdn.ConfigError) as caught:
            await node.start()
    assert "'east'" in str(caught.value)
    assert "'west'" in str(caught.value)


@virtual
async def test_a_living_nodes_name_is_taken():
    async with World() as world:
        await world.start("n1")
        await world.start("n2")
        again = world.make("n2", bind="memory://elsewhere")
        with pytest.raises(fdn.Conflict, match="'n2' belongs to a living node"):
            await again.start()


@virtual
async def test_the_name_of_a_node_that_was_just_killed_is_free_soon():
    async with World() as world:
        first = await world.start("n1")
        world.crash(await world.start("n2"))
        again = await world.start("n2", bind="memory://elsewhere", data_dir="")  # another one of that name
        assert "alive" in [m.status for m in again.members() if m.name == "n2"]
        await until(lambda: sorted(m.status for m in first.members() if m.name == "n2") == ["alive", "dead"])


@virtual
async def test_joining_somebody_who_is_known_already_is_done_at_once():
    async with World() as world:
        first, second = await world.cluster(2)
        await first.join(second.endpoint)
        await second.join("memory://n1")


@virtual
async def test_joining_nobody_later_fails_and_leaves_the_node_well():
    async with World() as world:
        first, second = await world.cluster(2, join_timeout_s=1.0)
        await asyncio.gather(
            *(asyncio.wait_for(first.join("memory://nobody"), 5) for _ in range(3)), return_exceptions=True
        )
        with pytest.raises(fdn.Unreachable, match=r"memory://nobody\.coordination: refused"):
            await first.join("memory://nobody")
        assert len(second.reachable()) == 2


@virtual
async def test_two_joins_at_once_do_not_disturb_each_other():
    async with World() as world:
        hub = await world.start("hub")
        one = await world.start("one", join=())
        two = await world.start("two", join=())
        await asyncio.gather(hub.join(one.endpoint), hub.join(two.endpoint))
        assert {m.name for m in hub.members()} == {"hub", "one", "two"}


@virtual
async def test_two_islands_become_one_cluster():
    async with World() as world:
        a1 = await world.start("a1")
        a2 = await world.start("a2")
        b1 = await world.start("b1", join=())
        b2 = await world.start("b2", join=(b1.endpoint,))
        await b2.join(a2.endpoint)
        for node in (a1, a2, b1, b2):
            await until(lambda node=node: len(node.reachable()) == 4)  # type: ignore[misc]


@virtual
async def test_two_islands_that_share_a_name_say_so():
    async with World() as world:
        hub = await world.start("hub")
        await world.start("n1")
        facts = hub.facts()
        other = await world.start("other", join=())
        await world.start("n1", bind="memory://elsewhere", join=(other.endpoint,))
        await other.join(hub.endpoint)
        async for fact in facts:
            if isinstance(fact, NameClash):
                assert fact.name == "n1"
                break
        else:
            pytest.fail("the stream ended without a clash")


# -- the end of members


@virtual
async def test_a_node_that_stops_has_left_and_is_not_dead():
    async with World() as world:
        first, second, third = await world.cluster(3)
        facts = first.facts()
        await third.stop()
        await until(lambda: names_by_status(first)["n3"] == "left" and names_by_status(second)["n3"] == "left")
        await asyncio.sleep(10)
        assert names_by_status(first) == {"n1": "alive", "n2": "alive", "n3": "left"}
        await first.stop()
        seen: list[Any] = [fact async for fact in facts]
        assert [fact.name for fact in seen if isinstance(fact, MemberLeft)] == ["n3"]
        assert not [fact for fact in seen if isinstance(fact, MemberSuspect | MemberDead)]


@virtual
async def test_a_crashed_node_is_dead_everywhere_within_a_second():
    async with World() as world:
        first, second, third = await world.cluster(3)
        crashed_at = asyncio.get_running_loop().time()
        world.crash(third)
        await until(lambda: names_by_status(first)["n3"] == "dead" and names_by_status(second)["n3"] == "dead")
        assert asyncio.get_running_loop().time() - crashed_at < 1.0  # virtual seconds
        assert {m.name for m in first.reachable()} == {"n1", "n2"}


@virtual
async def test_a_cut_between_two_heals():
    async with World() as world:
        first, second, third = await world.cluster(3)
        for other in (first, second):
            world.cut(third, other)
        await until(lambda: names_by_status(first)["n3"] == "dead" and names_by_status(third)["n1"] == "dead")
        for other in (first, second):
            world.heal(third, other)
        for node in (first, second, third):
            await until(lambda node=node: len(node.reachable()) == 3)  # type: ignore[misc]


@virtual
async def test_a_node_with_a_data_directory_is_one_member_over_its_lives(tmp_path: Path):
    async with World() as world:
        first = await world.start("n1")
        second = await world.start("n2", data_dir=str(tmp_path))
        kept = second.id
        world.crash(second)
        again = await world.start("n2", data_dir=str(tmp_path))
        assert again.id == kept
        await until(lambda: [m.incarnation[0] for m in first.members() if m.name == "n2" and m.reachable] == [2])
        assert len(first.members()) == 2


@virtual
async def test_a_data_directory_restored_from_an_old_copy_comes_back_at_another_address(tmp_path: Path):
    """The others believe in a later life of it, at an address where it is no more."""
    file = tmp_path / "identity.json"
    async with World() as world:
        first = await world.start("n1")
        world.crash(await world.start("n2", bind="memory://a", data_dir=str(tmp_path)))
        copy = file.read_bytes()
        for address in ("b", "c"):
            world.crash(await world.start("n2", bind=f"memory://{address}", data_dir=str(tmp_path)))
            await until(lambda: names_by_status(first)["n2"] == "dead")
        file.write_bytes(copy)
        again = await world.start("n2", bind="memory://d", data_dir=str(tmp_path))
        assert again._identity.generation == 2  # type: ignore[union-attr]
        for node in (first, again):
            await until(lambda node=node: len(node.reachable()) == 2)  # type: ignore[misc]
        assert len(first.members()) == 2
        assert await first.ping("n2") >= 0


@virtual
async def test_a_data_directory_in_use_is_a_conflict(tmp_path: Path):
    async with World() as world:
        await world.start("n1", data_dir=str(tmp_path))
        other = world.make("n2", data_dir=str(tmp_path), bind="memory://elsewhere")
        with pytest.raises(fdn.Conflict, match="in use by another process"):
            await other.start()


# -- life


@virtual
async def test_nothing_works_before_the_start_nor_after_the_stop():
    async with World() as world:
        node = world.make("n1")
        for state in ("new", "stopped"):
            with pytest.raises(fdn.Error, match=f"this node is {state}"):
                await node.call("any")
            with pytest.raises(fdn.Error, match=f"this node is {state}"):
                await node.cast("any")
            with pytest.raises(fdn.Error, match=f"this node is {state}"):
                node.serve("any", lambda: None)
            with pytest.raises(fdn.Error, match=f"this node is {state}"):
                await node.stats()
            with pytest.raises(fdn.Error, match=f"this node is {state}"):
                await node.drain()
            if state == "new":
                await node.start()
                await node.stop()


@virtual
async def test_a_node_starts_once():
    async with World() as world:
        node = await world.start("n1")
        with pytest.raises(fdn.Error, match="a node starts once"):
            await node.start()
        await node.stop()
        with pytest.raises(fdn.Error, match="a node starts once"):
            await node.start()


@virtual
async def test_stop_is_idempotent_and_may_be_called_by_several():
    async with World() as world:
        node = await world.start("n1")
        await asyncio.gather(node.stop(), node.stop(), node.leave(), node.wait_stopped())
        await node.stop()


@virtual
async def test_stopping_a_node_that_was_never_started():
    await fdn.Node().stop()
    await fdn.Node().wait_stopped()


@virtual
async def test_stop_goes_on_when_whoever_waits_for_it_is_cancelled():
    async with World() as world:
        recorder = Recorder()
        app = fdn.App()
        app.service("r")(recorder)
        node = await world.start("n1", app, drain_timeout_s=3.0)
        call = asyncio.create_task(node.call("r.wait", 1.0))
        await until(lambda: recorder.log)
        stop = asyncio.create_task(node.stop())
        await asyncio.sleep(0.1)
        stop.cancel()
        await node.wait_stopped()
        assert recorder.log == ["begun", "ended"]
        assert await call == "done"


@virtual
async def test_stop_during_a_start_ends_the_start():
    async with World() as world:
        node = world.make("n1", join=("memory://nobody",))
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(1)
        await asyncio.gather(node.stop(), node.stop())
        with pytest.raises(fdn.Error, match="stopped while it started"):
            await starting
        assert not starting.cancelled()
        assert not world.network.listeners


@virtual
async def test_a_cancelled_start_leaves_nothing():
    async with World() as world:
        node = world.make("n1", join=("memory://nobody",))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.start(), 1)
        assert not world.network.listeners
        assert len(asyncio.all_tasks()) == 1
        await node.wait_stopped()


@virtual
async def test_a_start_that_fails_leaves_nothing():
    async with World() as world:
        await world.start("n1", cluster="east")
        before = dict(world.network.listeners)
        with pytest.raises(fdn.ConfigError):
            await world.make("n2", cluster="west").start()
        assert world.network.listeners == before


@virtual
async def test_a_taken_endpoint_is_a_conflict():
    async with World() as world:
        await world.start("n1")
        with pytest.raises(fdn.Conflict, match=r"memory://n1\.coordination is taken"):
            await world.make("n2", bind="memory://n1", join=()).start()


@virtual
async def test_drain_finishes_what_has_begun_and_others_send_nothing_more():
    recorder = Recorder()
    app = fdn.App()
    app.service("r")(recorder)
    async with World() as world:
        first, second = await world.cluster(2, app)
        third = await world.start("n3")
        await world.settle()
        call = asyncio.create_task(third.call("r.wait@n2", 2.0))
        await until(lambda: recorder.log)
        drained = asyncio.create_task(second.drain())
        await until(lambda: [m.state for m in third.members() if m.name == "n2"] == ["draining"])
        before = (await second.stats()).dispatch.calls
        for _ in range(10):
            await third.call("r.note", "x")
        assert await drained
        assert await call == "done"
        assert (await second.stats()).dispatch.calls == before
        await first.stop()
        with pytest.raises(fdn.NotFound):
            await third.call("r.note", "x")


@virtual
async def test_drain_gives_up_in_time():
    recorder = Recorder()
    app = fdn.App()
    app.service("r")(recorder)
    async with World() as world:
        first, second = await world.cluster(2, app, drain_timeout_s=1.0)
        call = asyncio.create_task(first.call("r.wait@n2", 100.0, timeout=50))
        await until(lambda: recorder.log)
        assert not await second.drain()
        await second.stop()
        with pytest.raises(fdn.Error):
            await call
        assert recorder.log == ["begun", "cancelled"]


@virtual
async def test_a_handler_that_will_not_be_cancelled_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture):
    release = asyncio.Event()
    app = fdn.App()

    @app.service("stubborn")
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with World() as world:
        first = await world.start("n1", app, drain_timeout_s=1.0, stop_timeout_s=1.0)
        second = await world.start("n2")
        call = asyncio.create_task(second.call("stubborn", timeout=60))
        await until(lambda: first._dispatcher.stats().running)
        try:
            await asyncio.wait_for(first.stop(), 5)
            assert "did not stop within" in caplog.text
            assert not [name for name in world.network.listeners if "n1" in name]
            await until(lambda: names_by_status(second)["n1"] == "left")
            with pytest.raises(fdn.Unreachable):
                await call
        finally:
            release.set()


@virtual
async def test_serve_and_withdraw_while_running():
    async with World() as world:
        first, second = await world.cluster(2)
        first.serve("late", lambda: "here", version="2")
        await until(lambda: [offer.name for offer in second.offers()[first.id]] == ["late"])
        assert await second.call("late") == "here"
        with pytest.raises(fdn.ConfigError, match="served by this node already"):
            first.serve("late", lambda: "twice")
        await first.withdraw("late")
        await until(lambda: second.offers()[first.id] == ())
        with pytest.raises(fdn.NotFound):
            await second.call("late")
        with pytest.raises(fdn.NotFound):
            await first.withdraw("late")
        first.serve("late", lambda: "again")
        await until(lambda: second.offers()[first.id])
        assert await second.call("late") == "again"


@virtual
async def test_withdraw_refuses_what_waits_and_cancels_what_runs():
    recorder = Recorder()
    async with World() as world:
        first, second = await world.cluster(2)
        first.serve("r", recorder, concurrency=1)
        await until(lambda: second.offers()[first.id])
        running = asyncio.create_task(second.call("r.wait", 50.0, timeout=60))
        await until(lambda: recorder.log)
        waiting = asyncio.create_task(second.call("r.wait", 50.0, timeout=60))
        await until(lambda: first._dispatcher.stats().queued)
        await first.withdraw("r")
        with pytest.raises(fdn.Cancelled):
            await running
        with pytest.raises(fdn.Unreachable, match="does not serve 'r' any more"):
            await waiting
        assert recorder.log == ["begun", "cancelled"]
        assert await first.drain()


@virtual
async def test_facts_begin_when_they_are_asked_for_and_end_with_the_node():
    async with World() as world:
        first = await world.start("n1")
        facts = first.facts()
        second = await world.start("n2")
        await second.stop()
        await until(lambda: names_by_status(first)["n2"] == "left")
        await first.stop()
        seen = [type(fact).__name__ async for fact in facts]
        assert seen.index("MemberAlive") < seen.index("MemberLeft")
        assert [fact async for fact in first.facts()] == []


@virtual
async def test_ping_on_every_channel():
    async with World() as world:
        first, _ = await world.cluster(2)
        for channel in ("coordination", "data", "events"):
            assert await first.ping("n2", channel) >= 0
        await until(lambda: first._control._swim.stats().probes > 1)  # type: ignore[union-attr]
        assert await first.ping("n2", "gossip") >= 0
        assert await first.ping("n1", "data") >= 0
        assert await first.ping("n1", "coordination") >= 0


@virtual
async def test_ping_that_cannot_be():
    async with World() as world:
        first, second = await world.cluster(2)
        with pytest.raises(fdn.BadRequest, match="expected one of coordination"):
            await first.ping("n2", "bogus")
        with pytest.raises(fdn.NotFound, match="no member is named 'n9'"):
            await first.ping("n9")
        world.cut(first, second)
        for channel in ("coordination", "data", "events"):
            with pytest.raises((fdn.DeadlineExceeded, fdn.Unreachable)):
                await first.ping("n2", channel, timeout=0.2)


@virtual
async def test_a_scope_around_the_start_is_not_inherited():
    app = fdn.App()
    found = []

    @app.service("deadline")
    async def left(context: fdn.Context) -> None:
        found.append(context.remaining_s())

    async with World() as world:
        with fdn.deadline(3.0):
            node = await world.start("n1", app)
            await node.call("deadline")
        await asyncio.sleep(10)
        await node.call("deadline")  # 7 s after the deadline around the start
        assert found[0] <= 3.0
        assert found[1] > 4.0


@virtual
async def test_a_hundred_facts_nobody_reads_cost_nothing():
    async with World() as world:
        node = await world.start("n1")
        for _ in range(100):
            node.facts()
        gc.collect()
        assert not node._facts._readers


# -- settings and construction


def test_unknown_settings_are_refused():
    with pytest.raises(fdn.ConfigError, match="takes no setting 'nmae'"):
        fdn.Node(nmae="n1")
    with pytest.raises(fdn.ConfigError, match="expected 'thread' or 'inline'"):
        fdn.Node(control="process")


def test_anything_but_loopback_needs_insecure():
    with pytest.raises(fdn.ConfigError, match="--insecure"):
        fdn.Node(bind="tcp://0.0.0.0:7400", advertise="10.0.0.1")
    fdn.Node(bind="tcp://0.0.0.0:7400", advertise="10.0.0.1", insecure=True)


@virtual
async def test_a_service_that_cannot_be_served_fails_the_start():
    app = fdn.App()

    @app.service("bad")
    def bad(*anything: int) -> None: ...

    async with World() as world:
        with pytest.raises(fdn.ConfigError, match="expected named parameters only"):
            await world.make("n1", app).start()
        assert not world.network.listeners


# -- processes


def run_program(program: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=Path(fdn.__file__).parents[1],
    )


def test_a_program_that_forgets_to_stop_its_node_exits():
    done = run_program("""
        import asyncio, fdn
        app = fdn.App()

        @app.service("math")
        class Math:
            async def add(self, a: int, b: int) -> int:
                return a + b

        async def main() -> None:
            first = fdn.Node(app, name="n1")
            await first.start()
            second = fdn.Node(name="n2", join=[first.endpoint])
            await second.start()
            print(await second.call("math.add", [1, 2]), flush=True)

        asyncio.run(main())
        print("over", flush=True)
    """)
    assert done.stdout.split() == ["3", "over"]
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


FORK = """
    import asyncio, os, sys, fdn
    app = fdn.App()

    @app.service("who")
    async def who() -> int:
        return os.getpid()

    def use(what) -> None:
        try:
            what().send(None)
        except fdn.Error as error:
            assert "before a fork" in str(error), error
        else:
            os._exit(3)

    async def main() -> None:
        async with fdn.Node(app, name="n1", data_dir=sys.argv[1]) as first:
            async with fdn.Node(name="n2", join=[first.endpoint]) as second:
                await second.call("who")
                child = os.fork()
                if child == 0:
                    use(lambda: second.call("who"))
                    use(lambda: second.cast("who"))
                    use(lambda: second.stats())
                    use(lambda: second.drain())
                    HOW
                async with asyncio.timeout(20):
                    while True:
                        pid, status = os.waitpid(child, os.WNOHANG)
                        if pid:
                            break
                        await asyncio.sleep(0.01)
                assert status == 0, status
                assert await second.call("who") == os.getpid()
                assert len(second.reachable()) == 2
        print("parent done", flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["return", "sys.exit(0)", "os._exit(0)"])
def test_a_forked_child_may_not_use_the_node_and_harms_nobody(how: str, tmp_path: Path):
    program = textwrap.dedent(FORK).replace("HOW", how)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        cwd=Path(fdn.__file__).parents[1],
    )
    assert done.stdout.split("\n") == ["parent done", ""], done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


# -- in its place


def test_a_node_is_used_on_its_own_thread_only():
    async def other(node: fdn.Node) -> list[str]:
        said = []
        for use in (
            lambda: node.cast("a.b", 1),
            lambda: node.call("a.b", 1),
            lambda: node.publish("a.b", 1),
            lambda: node.subscribe("a.b"),
            lambda: node.drain(),
        ):
            with pytest.raises(fdn.Error, match="lives on the event loop of another thread") as caught:
                await use()
            said.append(caught.value.hint)
        with pytest.raises(fdn.Error, match="lives on the event loop of another thread"):
            node.stream("a.b")
        return said

    async def main() -> None:
        async with World() as world:
            node = await world.start("n1")
            hints = await asyncio.to_thread(asyncio.run, other(node))
            assert all("fdn.sync.Node" in hint for hint in hints)

    asyncio.run(main())


@virtual
async def test_what_is_served_can_be_called_here_at_once():
    async with World() as world:
        node = await world.start("n1")
        node.serve("echo", lambda value: value)
        assert await node.call("echo", 7) == 7
        await node.withdraw("echo")
        with pytest.raises(fdn.NotFound):
            await node.call("echo", 7)
