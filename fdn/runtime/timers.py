"""Timers: functions that a node runs by itself, again and again.

A timer never overlaps with itself: what falls due while it runs is skipped, and counted. A run that raises is logged
and counted, and the next one comes as planned.
"""

import asyncio
import contextvars
import dataclasses
import inspect
import logging
import random
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from fdn.context import Context, Scope, new_span, new_trace, scope_var
from fdn.errors import ConfigError
from fdn.runtime.schedule import Schedule

__all__ = ("Timers", "TimersStats", "wants")

_log = logging.getLogger(__name__)
# While a timer that goes by the wall clock waits, somebody may set that clock: it is read again at least this often.
_RECHECK_S: Final = 60.0
_SET_BACK_S: Final = 3600.0  # less than this, and no run is repeated


@dataclasses.dataclass(frozen=True, slots=True)
class TimersStats:
    """Counters since the start."""

    timers: int
    running: int  # runs under way now
    runs: int  # begun
    failed: int  # raised something
    skipped: int  # fell due while the one before was running, or the machine was asleep


class Timers:
    """All timers of one node.

    Args:
        node_name: For contexts.
        node: Node id, for contexts.
        loop: Where they run, and the clock of those that go by an interval.
        wall: The clock of those that go by a cron expression: seconds since 1970.
        rng: For jitter.
        givens: Type to value: what a handler is given where it asks by annotation, beside its `fdn.Context`.
    """

    def __init__(
        self,
        node_name: str,
        node: str,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], float],
        rng: random.Random,
        givens: Mapping[type, object],
    ) -> None:
        self._node_name = node_name
        self._node = node
        self._loop = loop
        self._wall = wall
        self._rng = rng
        self._givens = givens
        self._timers: list[_Timer] = []

    def add(
        self, name: str, handler: Callable[..., Any], schedule: Schedule, jitter_s: float = 0.0, at_once: bool = False
    ) -> None:
        """Have `handler` run by `schedule` from `start` on.

        Raises:
            ConfigError: It takes something that nobody can give it.
        """
        wanted = wants(f"timer {name}", handler, {*self._givens, Context})
        given = {parameter: self._givens[kind] for parameter, kind in wanted.items() if kind is not Context}
        contexts = [parameter for parameter, kind in wanted.items() if kind is Context]
        clock = self._wall if schedule.by_wall_clock else self._loop.time

        def call() -> Any:
            trace, span = new_trace(), new_span()
            scope_var.set(Scope(trace, span))  # what it calls is one trace
            context = Context(
                node=self._node_name,
                caller=self._node,
                target=name,
                trace_id=trace.hex(),
                span_id=span.hex(),
                deadline_at=float("inf"),
            )
            return handler(**given, **dict.fromkeys(contexts, context))

        self._timers.append(_Timer(name, call, schedule, jitter_s, at_once, self._loop, clock, self._rng))

    def start(self) -> None:
        """Begin. Each runs for the first time when it is first due, or now if it is to run at once."""
        for timer in self._timers:
            timer.start()

    async def drain(self) -> None:
        """Begin no further run, and return when none is under way. Bound it with a timeout."""
        tasks = [timer.task for timer in self._timers if timer.stop() and timer.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Begin no further run, and cancel what is under way."""
        tasks = [timer.task for timer in self._timers if timer.stop() and timer.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def stats(self) -> TimersStats:
        return TimersStats(
            timers=len(self._timers),
            running=sum(timer.task is not None for timer in self._timers),
            runs=sum(timer.n_runs for timer in self._timers),
            failed=sum(timer.n_failed for timer in self._timers),
            skipped=sum(timer.n_skipped + timer.missed() for timer in self._timers),
        )


class _Timer:
    """One timer. Its task is the run that is under way; between two runs it has none."""

    def __init__(
        self,
        name: str,
        call: Callable[[], Any],
        schedule: Schedule,
        jitter_s: float,
        at_once: bool,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._name = name
        self._call = call
        self._schedule = schedule
        self._jitter_s = jitter_s
        self._at_once = at_once
        self._loop = loop
        self._clock = clock
        self._rng = rng
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = False
        self._due = self._begins_at = self._looked_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self.n_runs = self.n_failed = self.n_skipped = 0

    def start(self) -> None:
        now = self._clock()
        self._plan(now if self._at_once else self._schedule.first(now))

    def stop(self) -> bool:
        """Begin no further run. Returns whether one is under way."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return self.task is not None

    def missed(self) -> int:
        """How many runs the one that is under way has cost by now."""
        return 0 if self.task is None else self._schedule.after(self._due, self._clock())[1]

    def _plan(self, due: float) -> None:
        self._due = due
        self._begins_at = due + self._rng.uniform(0.0, self._jitter_s)
        self._wait()

    def _wait(self) -> None:
        self._looked_at = self._clock()
        pause_s = max(0.0, self._begins_at - self._looked_at)
        if self._schedule.by_wall_clock:
            pause_s = min(pause_s, _RECHECK_S)
        self._handle = self._loop.call_later(pause_s, self._look)

    def _look(self) -> None:
        now = self._clock()
        if self._schedule.by_wall_clock and now < self._looked_at - _SET_BACK_S:
            _log.warning(
                "the clock was set back by %.0f s; timer %s goes by the new time", self._looked_at - now, self._name
            )
            self._plan(self._schedule.first(now))
        elif now < self._begins_at:
            self._wait()
        else:
            self._handle = None
            self.n_runs += 1
            self.task = self._loop.create_task(
                self._run(), name=f"fdn-timer-{self._name}", context=contextvars.copy_context()
            )
            self.task.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            result = self._call()
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as error:
            if self._stopped and isinstance(error, asyncio.CancelledError):
                raise
            # A cancellation that nobody here asked for is the handler's own: it awaited something that was cancelled.
            self.n_failed += 1
            _log.exception("timer %s failed", self._name, extra={"timer": self._name})

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.task = None
        if self._stopped:
            return
        due, missed = self._schedule.after(self._due, self._clock())
        if missed:
            self.n_skipped += missed
            _log.warning(
                "timer %s: %d skipped, because the run before was not done, or the machine asleep",
                self._name,
                missed,
                extra={"timer": self._name, "skipped": missed},
            )
        self._plan(due)


def wants(what: str, handler: Callable[..., Any], kinds: typing.Collection[type]) -> dict[str, type]:
    """Which parameters of a handler want which of `kinds`, by their annotations.

    Raises:
        ConfigError: It takes a parameter that wants none of them, and has no default.
    """
    try:
        hints = typing.get_type_hints(handler)
        parameters = inspect.signature(handler).parameters
    except (TypeError, NameError, ValueError) as error:
        raise ConfigError(f"{what} cannot be read: {error}", hint="import what its annotations name") from error
    wanted = {name: hints[name] for name in parameters if hints.get(name) in kinds}
    for name, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not named or (name not in wanted and parameter.default is parameter.empty):
            names = " or ".join(sorted(f"fdn.{kind.__name__}" for kind in kinds))
            raise ConfigError(f"{what} takes {parameter}, and nobody gives it that", hint=f"annotate it as {names}")
    return wanted
