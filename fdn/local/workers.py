"""`fdn run --workers` and `--reload`: nodes as child processes that serve one app, kept alive by their parent.

Each worker is a node with ports of its own, in a session of its own, so that Ctrl-C in the terminal reaches the parent
alone, which then drains them; and on a leash, so that none outlives the parent, however that ends. One that dies is
started again, after a pause that doubles; with `--reload` it waits for the next change of the source instead.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fdn.errors import DeadlineExceeded, Error, from_wire
from fdn.local import leash
from fdn.local.cluster import describe_end
from fdn.local.interrupt import Interrupt
from fdn.local.watching import SourceWatch, syntax_errors

__all__ = ("INTERRUPTED", "Order", "Voice", "WorkerPlan", "Workers", "supervise")

INTERRUPTED: Final = 130
_START_S: Final = 60.0  # an app may have much to set up
_PAUSE_S: Final = 0.5
_PAUSE_MAX_S: Final = 30.0
_SETTLED_S: Final = 30.0  # who lives for so long is not said to die at the start
_DEATHS_MAX: Final = 10  # one after the other, none of them settled
_LAST_WORDS_S: Final = 1.0  # a process of its own that it left behind may hold its pipes for ever
_LINE_BYTES_MAX: Final = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker: its node's name, and the arguments of `fdn` that run it, but for whom it joins."""

    name: str
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Attributes:
        plans: The workers.
        seeds: Whom they join, beside one another.
        end_s: How long a worker may take to end in good order.
        watch: Folders of source; when something changes there, all workers are replaced. None watches nothing.
    """

    plans: Sequence[WorkerPlan]
    seeds: Sequence[str] = ()
    end_s: float = 20.0
    watch: Sequence[Path] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Voice:
    """Who is told what: all workers that run, once and after each reload; and a line for the person at the terminal."""

    ready: Callable[[Sequence[Mapping[str, Any]]], None]
    note: Callable[[str], None]


class Worker:
    """One worker, in whichever process it lives now.

    Attributes:
        ready: What it said when it was ready; empty before.
        error: What it said when it could not start.
    """

    def __init__(self, plan: WorkerPlan, label: str) -> None:
        self.plan = plan
        self.label = label  # before each of its lines
        self.process: asyncio.subprocess.Process | None = None
        self.ready: Mapping[str, Any] = {}
        self.error: Error | None = None
        self.pumps: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def ended(self) -> int:
        """Return when its process has ended: its exit status, or minus the signal."""
        if self.process is None:
            return 0
        status = await self.process.wait()
        if self.pumps:  # what it said last comes before what is said of its end
            await asyncio.wait(self.pumps, timeout=_LAST_WORDS_S)
        return status

    def why(self, status: int) -> Error:
        """Why it did not become ready."""
        return self.error or Error(f"worker {self.name} {describe_end(status)} before it was ready")

    def send(self, number: signal.Signals) -> None:
        if self.runs:
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):  # it ended, and the loop has not heard yet
                self.process.send_signal(number)


class Workers:
    """The workers of one order. Its methods belong to one event loop, on the main thread."""

    def __init__(self, order: Order, note: Callable[[str], None]) -> None:
        self._order = order
        self._note = note
        several = len(order.plans) > 1
        self.workers = [Worker(plan, f"[{plan.name}] " if several else "") for plan in order.plans]

    async def start(self) -> None:
        """Start all, and return when each is ready.

        Raises:
            Error: As the worker that could not start said it.
        """
        await self._start(self.workers[0])  # the others need somebody to join
        starts = [asyncio.create_task(self._start(worker)) for worker in self.workers[1:]]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def keep(self) -> int:
        """Start again whoever dies. Return 1 when none is left; one that was told to leave is let go."""
        tends = [asyncio.create_task(self._tend(worker)) for worker in self.workers]
        try:
            await asyncio.gather(*tends)
        finally:
            for tend in tends:
                tend.cancel()
            await asyncio.gather(*tends, return_exceptions=True)
        self._note("every worker has ended")
        return 1

    async def reload(self, watch: SourceWatch, voice: Voice) -> int:
        """Replace all workers whenever the source changes. Never returns."""
        reporter = asyncio.create_task(self._report_ends())
        try:
            while True:
                changed = await watch.changed()
                names = ", ".join(path.name for path in changed[:3]) + (", ..." if len(changed) > 3 else "")
                errors = await asyncio.to_thread(syntax_errors, changed)
                if errors:
                    self._note("\n".join(errors))
                    self._note(
                        f"{names} changed and cannot be read; the workers stay as they are until the next change"
                    )
                    continue
                self._note(f"{names} changed: the workers are replaced")
                reporter.cancel()
                await self.stop(asyncio.Event())
                try:
                    await self.start()
                except Error as error:
                    self._note(f"{error}; waiting for the next change")
                else:
                    voice.ready(self.rows())
                reporter = asyncio.create_task(self._report_ends())
        finally:
            reporter.cancel()

    async def stop(self, at_once: asyncio.Event) -> bool:
        """End every worker: SIGTERM drains it; SIGKILL follows when `at_once` is set, or after `end_s`.

        Returns:
            Whether all ended by themselves.
        """
        for worker in self.workers:
            worker.send(signal.SIGTERM)
            worker.send(signal.SIGCONT)  # one that is stopped would never hear of it
        ends: asyncio.Future[Any] = asyncio.gather(*(worker.ended() for worker in self.workers))
        hurry = asyncio.create_task(at_once.wait())
        try:
            await asyncio.wait({ends, hurry}, timeout=self._order.end_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            stubborn = [worker for worker in self.workers if worker.runs]
            for worker in stubborn:
                worker.send(signal.SIGKILL)
            await ends
        return not stubborn

    def rows(self) -> list[Mapping[str, Any]]:
        """What each worker that runs said when it was ready."""
        return [worker.ready for worker in self.workers if worker.runs]

    async def _tend(self, worker: Worker) -> None:
        pause, deaths = _PAUSE_S, 0
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            status = await worker.ended()
            if status == 0:
                self._note(f"worker {worker.name} has left")
                return
            if loop.time() - since >= _SETTLED_S:
                pause, deaths = _PAUSE_S, 0
            deaths += 1
            if deaths > _DEATHS_MAX:
                self._note(f"worker {worker.name} {describe_end(status)}; {deaths} times is enough, and it is given up")
                return
            self._note(f"worker {worker.name} {describe_end(status)}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MAX_S)
            since = loop.time()
            try:
                await self._start(worker)
            except Error as error:
                self._note(f"worker {worker.name}: {error}")
            else:
                self._note(f"worker {worker.name} runs again: pid {worker.ready['pid']}, {worker.ready['endpoint']}")

    async def _report_ends(self) -> None:
        """With `--reload`: say of each worker that it has ended by itself."""
        waiting = {asyncio.create_task(worker.ended()): worker for worker in self.workers if worker.runs}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    worker = waiting.pop(task)
                    self._note(f"worker {worker.name} {describe_end(task.result())}; waiting for the next change")
        finally:
            for task in waiting:
                task.cancel()

    async def _start(self, worker: Worker) -> None:
        seeds = [*self._order.seeds]
        seeds += [
            other.ready["endpoint"] for other in self.workers if other is not worker and other.runs and other.ready
        ]
        joins = [part for seed in seeds for part in ("--join", seed)] or ["--alone"]
        worker.ready, worker.error = {}, None
        try:
            worker.process = process = await asyncio.create_subprocess_exec(
                *leash.command("fdn.cli", "--json", *worker.plan.arguments, *joins),
                # The other end of the leash, and nothing to read: the terminal is the parent's.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=_LINE_BYTES_MAX,
            )
        except OSError as error:
            raise Error(f"worker {worker.name} cannot be started: {error.strerror or error}") from error
        assert process.stdout is not None
        assert process.stderr is not None
        worker.pumps = [asyncio.create_task(_tell(process.stderr, worker))]
        try:
            async with asyncio.timeout(_START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            worker.send(signal.SIGKILL)
            raise DeadlineExceeded(
                f"worker {worker.name} was not ready within {_START_S:g} s", hint="what it said is above"
            ) from None
        finally:
            worker.pumps.append(asyncio.create_task(_copy(process.stdout)))
        if not line:
            status = await worker.ended()
            raise worker.why(status)
        worker.ready = json.loads(line)


async def supervise(order: Order, voice: Voice) -> int:
    """Run what was ordered until a signal, and end every process that was started. For the main thread.

    Returns:
        The exit status: 0 after all have drained, 1 when none was left, `INTERRUPTED` when a signal gave up the start,
        or a second one did not let them drain.

    Raises:
        Error: A worker could not start, and nothing is watched that could change it.
    """
    workers = Workers(order, voice.note)
    watch = None if order.watch is None else SourceWatch(order.watch)
    with Interrupt() as interrupt:
        status = INTERRUPTED
        try:
            start = asyncio.create_task(_start(workers, watch, voice))
            if await _finished(start, interrupt):
                start.result()
                work = workers.keep() if watch is None else workers.reload(watch, voice)
                keep = asyncio.create_task(work)
                status = keep.result() if await _finished(keep, interrupt) else 0
        finally:
            if interrupt.first.is_set():
                voice.note("the workers drain; Ctrl-C again ends them at once")
            in_order = await workers.stop(interrupt.second)
        return status if in_order else INTERRUPTED


async def _start(workers: Workers, watch: SourceWatch | None, voice: Voice) -> None:
    try:
        await workers.start()
    except Error as error:
        if watch is None:
            raise
        voice.note(f"{error}; waiting for the next change")
    else:
        voice.ready(workers.rows())
        if watch is not None:
            voice.note(f"{watch.count} files are watched for changes")


async def _finished(task: "asyncio.Task[Any]", interrupt: Interrupt) -> bool:
    """Wait for a task or for the first signal, whichever comes first. An interrupted task has been cancelled."""
    signalled = asyncio.create_task(interrupt.first.wait())
    try:
        await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        signalled.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Error):
                await task


async def _tell(stream: asyncio.StreamReader, worker: Worker) -> None:
    """What a worker says on standard error goes to ours, line by line; its own error is kept, to be told once."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # longer than `_LINE_BYTES_MAX`: dropped
        if not line:
            return
        text = line.decode("utf-8", "replace")
        if text.startswith('{"error": '):
            with contextlib.suppress(ValueError, KeyError):
                worker.error = from_wire(json.loads(text)["error"])
                continue
        sys.stderr.write(f"{worker.label}{text}")
        sys.stderr.flush()


async def _copy(stdout: asyncio.StreamReader) -> None:
    """What the app prints goes to our standard output; a pipe that nobody reads would stop it."""
    while chunk := await stdout.read(_LINE_BYTES_MAX):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
