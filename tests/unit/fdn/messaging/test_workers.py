import asyncio
import contextvars
import gc
import importlib
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import fdn
from fdn.context import current_scope
from fdn.messaging.workers import Workers, loop_pass
from tests.unit.fdn.harness import World, until, virtual

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
Handler = Callable[[], Coroutine[Any, Any, Any]]


class Run:
    """A job: a handler, and what became of it."""

    def __init__(self, handler: Handler, deadline_at: float = 0.0) -> None:
        self.handler = handler
        self.deadline_at = deadline_at
        self.ends: list[tuple[Any, BaseException | None, bool]] = []

    @property
    def result(self) -> Any:
        return self.ends[0][0]

    @property
    def error(self) -> BaseException | None:
        return self.ends[0][1]


class Bench:
    """Workers, and jobs for them."""

    def __init__(self, concurrency: int = 2, queue_max: int = 10) -> None:
        loop = asyncio.get_running_loop()
        self.workers = Workers(self._begin, self._end, concurrency, queue_max, loop, "test")
        self.void: list[Run] = []

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.workers.close()

    def put(self, handler: Handler, deadline_at: float = 0.0) -> Run:
        run = Run(handler, deadline_at)
        assert self.workers.put(run)
        return run

    async def done(self, *runs: Run) -> None:
        await until(lambda: all(run.ends for run in runs))

    async def is_well(self) -> None:
        """All workers still take jobs, and none inherits a cancellation."""
        runs = [self.put(self._probe) for _ in range(4)]
        await self.done(*runs)
        assert [run.result for run in runs] == ["well"] * 4
        assert VARIABLE.get() == "clean"

    async def _probe(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        assert VARIABLE.get() == "clean"
        await asyncio.sleep(0.01)
        return "well"

    def _begin(self, run: Run) -> Coroutine[Any, Any, Any] | None:
        return None if run in self.void else run.handler()

    def _end(self, run: Run, result: Any, error: BaseException | None, expired: bool) -> None:
        run.ends.append((result, error, expired))


async def sleep() -> str:
    await asyncio.sleep(10)
    return "slept"


async def at_once() -> str:
    return "done"


@virtual
async def test_results_of_jobs_that_wait_and_jobs_that_do_not():
    async with Bench() as bench:
        runs = [bench.put(at_once), bench.put(sleep), bench.put(at_once)]
        await bench.done(*runs)
        assert [run.ends for run in runs] == [
            [("done", None, False)],
            [("slept", None, False)],
            [("done", None, False)],
        ]


@virtual
async def test_no_more_than_the_concurrency_run_and_no_more_than_the_queue_waits():
    running, most = 0, 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    async with Bench(concurrency=3, queue_max=5) as bench:
        runs = [bench.put(job) for _ in range(5)]
        assert not bench.workers.put(Run(job))
        await asyncio.sleep(0.1)
        runs += [bench.put(job) for _ in range(3)]
        assert bench.workers.queued == 5
        assert not bench.workers.put(Run(job))
        await bench.done(*runs)
        assert most == 3
        await bench.is_well()


@virtual
async def test_jobs_of_one_queue_begin_in_order():
    begun: list[int] = []

    def job(number: int) -> Handler:
        async def run() -> None:
            begun.append(number)
            if number % 3 == 0:
                await asyncio.sleep(0)

        return run

    async with Bench(concurrency=1, queue_max=1000) as bench:
        runs = [bench.put(job(number)) for number in range(1000)]
        await bench.done(*runs)
        assert begun == list(range(1000))


@virtual
async def test_a_flood_of_jobs_that_never_wait_leaves_the_loop_its_turns():
    turns = 0
    async with Bench(queue_max=10_000) as bench:
        runs = [bench.put(at_once) for _ in range(5000)]
        while not runs[-1].ends:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10


@virtual
async def test_a_void_job_is_skipped():
    async with Bench() as bench:
        void = Run(sleep)
        bench.void.append(void)
        assert bench.workers.put(void)
        await bench.is_well()
        assert void.ends == []


@virtual
async def test_cancel_reaches_the_handler_where_it_waits():
    seen: list[str] = []

    async def job() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("cleaned up")

    async with Bench() as bench:
        run = bench.put(job)
        assert not bench.workers.cancel(run)  # it has not begun
        await asyncio.sleep(1)
        assert bench.workers.cancel(run)
        await bench.done(run)
        assert seen == ["cancelled", "cleaned up"]
        assert isinstance(run.error, asyncio.CancelledError)
        assert not bench.workers.cancel(run)  # it has ended
        await bench.is_well()


@virtual
async def test_cancelling_twice_cancels_nobody_else():
    async with Bench(concurrency=1) as bench:
        run = bench.put(sleep)
        await asyncio.sleep(1)
        bench.workers.cancel(run)
        bench.workers.cancel(run)
        await bench.done(run)
        await bench.is_well()


@virtual
async def test_a_handler_may_swallow_its_cancellation():
    async def job() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(1)
        return "went on"

    async with Bench(concurrency=1) as bench:
        run = bench.put(job)
        await asyncio.sleep(1)
        bench.workers.cancel(run)
        await bench.done(run)
        assert run.ends == [("went on", None, False)]
        await bench.is_well()


@virtual
async def test_a_handler_that_ends_in_the_moment_of_its_cancellation():
    async with Bench(concurrency=1) as bench:
        gate = asyncio.get_running_loop().create_future()

        async def job() -> str:
            await gate
            return "ended"

        for order in ("answer first", "cancel first"):
            gate = asyncio.get_running_loop().create_future()
            run = bench.put(job)
            await asyncio.sleep(1)
            if order == "answer first":
                gate.set_result(None)
            bench.workers.cancel(run)
            await bench.done(run)
            assert len(run.ends) == 1
            await bench.is_well()


@virtual
async def test_the_deadline_cuts_a_job_short():
    loop = asyncio.get_running_loop()
    async with Bench(concurrency=1) as bench:
        run = bench.put(sleep, loop.time() + 3)
        began = loop.time()
        await bench.done(run)
        assert 3 <= loop.time() - began < 3.02  # never early, and a few ticks late at most
        assert isinstance(run.error, asyncio.CancelledError)
        assert run.ends[0][2] is True
        in_time = bench.put(sleep, loop.time() + 20)
        await bench.done(in_time)
        assert in_time.ends == [("slept", None, False)]
        await bench.is_well()


@virtual
async def test_any_exception_ends_the_job_and_not_the_worker():
    class Odd(BaseException):
        pass

    def raising(error: BaseException, wait: bool) -> Handler:
        async def job() -> None:
            if wait:
                await asyncio.sleep(1)
            raise error

        return job

    async with Bench(concurrency=1) as bench:
        for error in (ValueError("x"), Odd("x"), BaseExceptionGroup("x", [Odd()]), asyncio.CancelledError()):
            for wait in (False, True):
                run = bench.put(raising(error, wait))
                await bench.done(run)
                assert run.error is error
        await bench.is_well()


@virtual
async def test_context_variables_do_not_leak():
    seen: list[str] = []

    async def job() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("dirty")
        await asyncio.sleep(1)
        assert VARIABLE.get() == "dirty"
        VARIABLE.set("dirtier")
        await asyncio.create_task(asyncio.sleep(0))

    async def quick() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("dirty")

    async with Bench(concurrency=1) as bench:
        runs = [bench.put(job) for job in (job, quick, job, quick)]
        await bench.done(*runs)
        assert seen == ["clean"] * 4
        await bench.is_well()


@virtual
async def test_a_variable_set_to_what_cannot_be_compared_does_not_leak():
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("which element?")

        __hash__ = None  # type: ignore[assignment]

    odd: contextvars.ContextVar[Any] = contextvars.ContextVar("odd", default=None)
    odd.set(Odd())  # in the context of this test, which the workers get a copy of
    seen = []

    async def job() -> None:
        seen.append(type(odd.get()).__name__)
        odd.set([Odd()])

    async with Bench(concurrency=1) as bench:
        await bench.done(*[bench.put(job) for _ in range(3)])
    assert seen == ["Odd"] * 3


@virtual
async def test_a_task_that_a_job_leaves_behind_keeps_the_context_of_that_job():
    seen = []

    async def left(number: int) -> None:
        await asyncio.sleep(1)
        seen.append((number, VARIABLE.get()))

    async def job(number: int) -> "asyncio.Task[None]":
        VARIABLE.set(f"set by {number}")
        return asyncio.create_task(left(number))

    async with Bench(concurrency=1) as bench:
        runs = [bench.put(lambda number=number: job(number)) for number in range(3)]  # type: ignore[misc]
        await bench.done(*runs)
        await asyncio.gather(*(run.result for run in runs))
    assert sorted(seen) == [(number, f"set by {number}") for number in range(3)]


@virtual
async def test_many_that_never_wait_share_a_context_and_the_rest_have_their_own():
    made = []

    async def reads() -> None:
        made.append(VARIABLE.get())

    async def sets_and_resets() -> None:
        token = VARIABLE.set("for a moment")
        made.append(VARIABLE.get())
        VARIABLE.reset(token)

    async def sets() -> None:
        VARIABLE.set("dirty")

    async with Bench(concurrency=1, queue_max=100) as bench:
        runs = [bench.put(job) for _ in range(10) for job in (reads, sets_and_resets, reads, sets, reads)]
        await bench.done(*runs)
    assert made == ["clean", "for a moment", "clean", "clean"] * 10


@virtual
async def test_current_task_is_one_and_the_same_in_a_job():
    async def job() -> bool:
        task = asyncio.current_task()
        await asyncio.sleep(1)
        return task is not None and task is asyncio.current_task()

    async with Bench() as bench:
        run = bench.put(job)
        await bench.done(run)
        assert run.result is True


@virtual
async def test_timeouts_work_inside():
    async def outer() -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        except TimeoutError:
            await asyncio.sleep(1)
            return "timed out"
        return "?"

    async def waiting_for() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(100), 1)
        except TimeoutError:
            return "timed out"
        return "?"

    async def not_in_time() -> str:
        async with asyncio.timeout(50):
            await asyncio.sleep(1)
        return "in time"

    async with Bench(concurrency=1) as bench:
        for job, result in ((outer, "timed out"), (waiting_for, "timed out"), (not_in_time, "in time")):
            run = bench.put(job)
            await bench.done(run)
            assert run.result == result
        await bench.is_well()


@virtual
async def test_a_cancellation_inside_a_timeout_is_no_timeout():
    async def job() -> None:
        async with asyncio.timeout(50):
            await asyncio.sleep(100)

    async with Bench(concurrency=1) as bench:
        run = bench.put(job)
        await asyncio.sleep(1)
        bench.workers.cancel(run)
        await bench.done(run)
        assert isinstance(run.error, asyncio.CancelledError)
        both = bench.put(job, asyncio.get_running_loop().time() + 50)  # timeout and deadline in one moment
        await bench.done(both)
        assert isinstance(both.error, asyncio.CancelledError | TimeoutError)
        await bench.is_well()


@virtual
async def test_task_groups_work_inside():
    async def sums() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(1, number)) for number in (1, 2, 3)]
        return sum(task.result() for task in tasks)

    async def fails() -> None:
        async def bad() -> None:
            await asyncio.sleep(1)
            raise ValueError("bad")

        async with asyncio.TaskGroup() as group:
            group.create_task(bad())
            group.create_task(asyncio.sleep(100))
            await asyncio.sleep(100)

    async with Bench(concurrency=1) as bench:
        good, bad, cancelled = bench.put(sums), bench.put(fails), bench.put(fails)
        await bench.done(good, bad)
        assert good.result == 6
        assert isinstance(bad.error, ExceptionGroup)
        await asyncio.sleep(0.5)
        bench.workers.cancel(cancelled)
        await bench.done(cancelled)
        assert isinstance(cancelled.error, asyncio.CancelledError)
        await bench.is_well()


@virtual
async def test_what_others_await_works_inside():
    async def job() -> list[Any]:
        lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int]()
        asyncio.get_running_loop().call_later(1, event.set)
        async with lock:
            await event.wait()
        queue.put_nowait(5)
        shielded = await asyncio.shield(asyncio.sleep(1, "s"))
        return [await queue.get(), shielded, *await asyncio.gather(asyncio.sleep(1, 1), asyncio.sleep(2, 2))]

    async with Bench() as bench:
        run = bench.put(job)
        await bench.done(run)
        assert run.result == [5, "s", 1, 2]


@virtual
async def test_async_generators_and_context_managers_work_inside():
    async def numbers() -> Any:
        try:
            for number in range(3):
                await asyncio.sleep(0.1)
                yield number
        finally:
            await asyncio.sleep(0.1)

    async def job() -> list[int]:
        return [number async for number in numbers()]

    async with Bench() as bench:
        run = bench.put(job)
        await bench.done(run)
        assert run.result == [0, 1, 2]


@pytest.mark.skipif(importlib.util.find_spec("anyio") is None, reason="anyio is not installed")
@virtual
async def test_anyio_works_inside():
    anyio = importlib.import_module("anyio")

    async def moves_on() -> str:
        with anyio.move_on_after(1) as scope:
            await anyio.sleep(100)
        return "moved on" if scope.cancelled_caught else "?"

    async def group() -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 100)
            tasks.cancel_scope.cancel()
        return "cancelled"

    async def shielded() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
        return "shielded"

    async with Bench(concurrency=1) as bench:
        for job, result in ((moves_on, "moved on"), (group, "cancelled"), (shielded, "shielded")):
            run = bench.put(job)
            await bench.done(run)
            assert run.result == result
        await bench.is_well()


@virtual
async def test_awaiting_what_is_not_awaitable_is_the_handlers_error():
    class Odd:
        def __await__(self) -> Any:
            yield 42  # no future

    async def job() -> None:
        await Odd()

    async with Bench(concurrency=1) as bench:
        run = bench.put(job)
        await bench.done(run)
        assert isinstance(run.error, RuntimeError)
        await bench.is_well()


@virtual
async def test_close_ends_what_runs_and_hands_back_nothing():
    async with Bench(concurrency=1) as bench:
        running, waiting = bench.put(sleep), bench.put(sleep)
        await asyncio.sleep(1)
        assert bench.workers.refuse() == [waiting]
        assert not bench.workers.put(Run(sleep))
        await bench.workers.close()
        assert isinstance(running.error, asyncio.CancelledError)
        assert waiting.ends == []
        assert len(asyncio.all_tasks()) == 1
        await bench.workers.close()


def test_a_loop_that_ends_takes_its_workers_with_it():
    """`asyncio.run` cancels every task once and waits for all: a worker that went on would hold it for ever."""
    runs: list[Run] = []

    async def main() -> None:
        bench = Bench(concurrency=2)
        runs.append(bench.put(at_once))
        await bench.done(*runs)
        runs.append(bench.put(sleep))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert runs[0].result == "done"
    assert isinstance(runs[1].error, asyncio.CancelledError)


@virtual
async def test_a_worker_that_was_cancelled_by_others_is_replaced():
    async with Bench(concurrency=1) as bench:
        first = bench.put(sleep)
        await asyncio.sleep(1)
        second = bench.put(at_once)
        workers = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(workers) == 1
        workers.pop().cancel()  # not through `Workers.cancel`
        await bench.done(first, second)
        assert isinstance(first.error, asyncio.CancelledError)
        assert second.result == "done"
        resting = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.sleep(0)
        for task in resting:
            task.cancel()
        await asyncio.sleep(0)
        await bench.is_well()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_leaving_the_program_from_a_handler(error: type[BaseException]):
    runs: list[Run] = []

    async def main() -> None:
        bench = Bench()

        async def job() -> None:
            raise error

        runs.append(bench.put(job))
        await asyncio.sleep(60)

    with pytest.raises(error):
        asyncio.run(main())
    assert isinstance(runs.pop().error, error)
    gc.collect()  # the worker's task goes unread, and says so in the log: here, and not in some later test


@virtual
async def test_a_loop_pass_lets_others_run():
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await loop_pass()
    assert ran == [1]


@virtual
async def test_workers_inherit_no_deadline_from_the_task_that_woke_them_first():
    app = fdn.App()
    seen: list[object] = []

    @app.service("look")
    async def look(number: int) -> None:
        seen.append(current_scope())

    async with World() as world:
        (node,) = await world.cluster(1, app)
        with fdn.deadline(1):
            await node.cast("look", 1)
            await until(lambda: len(seen) == 1)
        await node.cast("look", 2)
        await until(lambda: len(seen) == 2)
        assert getattr(seen[0], "deadline_at", 0.0) > 0
        assert not getattr(seen[1], "deadline_at", 0.0)
