"""Worker tasks: how `async def` handlers, and plain ones on threads, are run.

A service has up to `concurrency` long-lived tasks that take jobs from one bounded queue. Each job runs in its own
copied
context, but inside the worker's task: on Python 3.11 a coroutine stepped outside a task breaks `asyncio.timeout()`, and
one awaited in the worker's own context would leak context variables to the next job.

A job that never waits costs no task switch: the worker goes on to the next one. Most jobs leave the context as it was
when they began, and then the next one may have it too: so the worker runs its jobs as a *series*, one coroutine in one
copied context, which ends at the first job that waits or has changed the context. What is left of a job that waits is
stepped in that context with `Context.run`, and no other job ever enters it. Only then is a deadline held, and another
worker woken for the jobs behind.
"""

import asyncio
import collections
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol

from fdn.context import scope_var
from fdn.messaging.deadlines import TICK_S, Deadlines

__all__ = ("Job", "Workers", "loop_pass")

_JOBS_PER_PASS_MAX = 256  # jobs that one worker may finish without waiting before the loop gets its turn
# The caller is told of its deadline by its own timer, a tick late at most. The handler's end comes after that.
_GRACE_S = 2 * TICK_S
_MEANT_FOR_ALL = (SystemExit, KeyboardInterrupt, GeneratorExit)  # these end more than one handler


class Job(Protocol):
    """A handler's run, as the workers see it."""

    deadline_at: float  # loop time, or 0.0 for none


Begin = Callable[[Any], Coroutine[Any, Any, Any] | None]
End = Callable[[Any, Any, BaseException | None, bool], None]


class _LoopPass(Awaitable[None]):
    def __await__(self) -> Generator[None, None, None]:
        yield


def loop_pass() -> _LoopPass:
    """Await it to let everything else on the loop run once."""
    return _LoopPass()


class Workers:
    """The queue and the tasks of one service.

    Args:
        begin: Called with a job taken from the queue, in the context where it will run, whose `scope_var` is None and
            may be set; gives the coroutine, or None if the job is void (cancelled or expired meanwhile). Must not
            raise.
        end: Called with the job, its result, its error or None, and whether its deadline cut it short. Must not raise.
        concurrency: Tasks at most; they start when first needed.
        queue_max: Jobs that may wait.
        loop: Where they run.
        name: For the tasks' names.
    """

    def __init__(
        self,
        begin: Begin,
        end: End,
        concurrency: int,
        queue_max: int,
        loop: asyncio.AbstractEventLoop,
        name: str,
    ) -> None:
        self._begin = begin
        self._end = end
        self._concurrency = concurrency
        self._queue_max = queue_max
        self._loop = loop
        self._name = name
        self._jobs: collections.deque[Job] = collections.deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._task_count = 0  # ever started, for their names
        self._resting: list[asyncio.Future[None]] = []
        self._awake = 0  # workers that will look at the queue without being woken
        self._running: dict[Job, _Waiting] = {}  # jobs whose handler waits
        self._deadlines: Deadlines[_Waiting] = Deadlines(_Waiting.expire, loop)
        self._closing = False
        # A task inherits the context of whoever makes it. That may be a caller on this node, whose trace and deadline
        # every later job would then see.
        self._context = contextvars.copy_context()
        self._context.run(scope_var.set, None)

    @property
    def queued(self) -> int:
        return len(self._jobs)

    @property
    def full(self) -> bool:
        """Whether `put` would not take a job."""
        return len(self._jobs) >= self._queue_max

    @property
    def busy(self) -> bool:
        """Whether any job is queued or running."""
        return bool(self._jobs or self._running or self._awake)

    def put(self, job: Job) -> bool:
        """Queue a job. Never waits.

        Returns:
            False when `queue_max` jobs wait already, or after `refuse`: the job was not taken.
        """
        if len(self._jobs) >= self._queue_max:
            return False
        self._jobs.append(job)
        if not self._awake:
            self._wake_one()
        return True

    def cancel(self, job: Job) -> bool:
        """Cancel a job's handler at the point where it waits. False if it does not wait now."""
        waiting = self._running.get(job)
        return waiting is not None and waiting.cancel()

    def refuse(self) -> list[Any]:
        """Take no more jobs; returns those that nobody has begun."""
        self._closing = True
        self._queue_max = 0
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    async def close(self) -> None:
        """Cancel what runs and wait until the tasks have ended. What `refuse` has not taken out is dropped."""
        self.refuse()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._deadlines.close()
        if tasks:
            await asyncio.wait(tasks)  # not `gather`, which cannot be left while a handler will not be cancelled

    def _wake_one(self) -> None:
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():
                self._awake += 1
                rest.set_result(None)
                return
        if len(self._tasks) < self._concurrency and not self._closing:
            self._awake += 1
            name = f"fdn-{self._name}-{self._task_count}"
            self._tasks.add(self._loop.create_task(self._work(), name=name, context=self._context.copy()))
            self._task_count += 1

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        rest: asyncio.Future[None] | None = None
        try:
            while not self._closing:
                while self._jobs:
                    await self._run_some(task)
                self._awake -= 1
                rest = self._loop.create_future()
                self._resting.append(rest)
                await rest
        finally:
            # We are told to end, or somebody else has cancelled this task: `asyncio.run` does so with every task at
            # its end. Another worker takes our place if there is work.
            if rest is not None and rest in self._resting:
                self._resting.remove(rest)
            else:
                self._awake -= 1
            self._tasks.discard(task)
            if self._jobs and not self._awake and not self._loop.is_closed():
                self._wake_one()

    async def _run_some(self, task: asyncio.Task[None]) -> None:
        """Run jobs to their end until one waits, the queue is empty, or the loop must have its turn."""
        left = _JOBS_PER_PASS_MAX
        while self._jobs and left > 0:
            series = _Series(left)
            context = contextvars.copy_context()
            coroutine = self._run_series(series)
            try:
                waits_for = context.run(coroutine.send, None)
            except StopIteration:
                left = series.left
            else:
                await self._run_waiting(series, task, context, coroutine, waits_for)
                return  # it waited, so the loop has had its turn
        if self._jobs:
            await loop_pass()

    async def _run_series(self, series: "_Series") -> Any:
        """Run jobs in one context until one changes it, or the queue is empty. Of one that waits, return the result.

        The hot path: nothing here is made, entered or raised for a job that does not need it.
        """
        jobs, begin, end, snapshot, scope = self._jobs, self._begin, self._end, contextvars.copy_context, scope_var.get
        left = series.left
        while jobs and left:
            left -= 1
            series.job = job = jobs.popleft()
            coroutine = begin(job)
            if coroutine is not None:
                before = snapshot()
                try:
                    result = await coroutine
                except BaseException as error:
                    if series.waited:
                        raise
                    end(job, None, error, False)
                    if isinstance(error, _MEANT_FOR_ALL):
                        raise
                else:
                    if series.waited:
                        return result
                    end(job, result, None, False)
                # If no variable was set meanwhile, this is a comparison of two pointers.
                try:
                    unchanged = before == snapshot()
                except Exception:  # values need not be comparable: one was set, at any rate
                    break
                if not unchanged:
                    break
            if scope() is not None:
                scope_var.set(None)
        series.left = left
        return None

    async def _run_waiting(
        self,
        series: "_Series",
        task: asyncio.Task[None],
        context: contextvars.Context,
        coroutine: Coroutine[Any, Any, Any],
        waits_for: Any,
    ) -> None:
        job = series.job
        series.waited = True
        waiting = self._running[job] = _Waiting(task)
        self._awake -= 1
        if self._jobs and not self._awake:
            self._wake_one()
        held = self._deadlines.add(waiting, job.deadline_at + _GRACE_S) if job.deadline_at else None
        result: Any = None
        failure: BaseException | None = None
        try:
            result = await _Rest(coroutine, context.run, waits_for)
        except BaseException as error:  # a handler may raise anything, and none of it may end the worker
            failure = error
        finally:
            if held is not None:
                held.discard(waiting)
            del self._running[job]
            self._awake += 1
        for _ in range(waiting.cancels):
            task.uncancel()
        self._end(job, result, failure, waiting.expired)
        if isinstance(failure, _MEANT_FOR_ALL):
            raise failure
        if task.cancelling():
            raise asyncio.CancelledError  # not the job was meant, but its worker


class _Series:
    """Where a series of jobs has got to.

    Attributes:
        job: The one that runs.
        left: Jobs that it may still run.
        waited: Set when `job` waits: it is the last of this series.
    """

    __slots__ = ("job", "left", "waited")

    def __init__(self, left: int) -> None:
        self.job: Any = None
        self.left = left
        self.waited = False


class _Waiting:
    """A job whose handler waits, and how often we have cancelled it: those cancellations are not the worker's."""

    __slots__ = ("_task", "cancels", "expired")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self.cancels = 0
        self.expired = False

    def cancel(self) -> bool:
        self.cancels += 1
        return self._task.cancel()

    def expire(self) -> None:
        self.expired = True
        self.cancel()


class _Rest:
    """What is left of a coroutine that has begun to wait, stepped in its own context."""

    __slots__ = ("_coroutine", "_run", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._run = run
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, run, waits_for = self._coroutine, self._run, self._waits_for
        while True:
            thrown: BaseException | None = None
            sent: Any = None
            try:
                sent = yield waits_for
            except BaseException as error:  # thrown in by the task: cancellation, or the future's exception
                thrown = error
            try:
                waits_for = run(coroutine.send, sent) if thrown is None else run(coroutine.throw, thrown)
            except StopIteration as stop:
                return stop.value
