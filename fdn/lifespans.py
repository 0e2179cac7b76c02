"""The lifespans of a node's apps: what they set up around the node's work, and take down again.

All live in one task, from the start to the end: what is around a `yield` there (a task group, a timeout, a cancel
scope) may count on that.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from fdn.app import App
from fdn.errors import Error

__all__ = ("Lifespans",)

_log = logging.getLogger(__name__)


class Lifespans:
    """Enters the lifespans of some apps in order, and leaves them in reverse. Once.

    Args:
        apps: Whose.
        node: What each is given.
        on_broken: Called, in the task of the lifespans, when one of them has ended by itself: a task group around its
            `yield` has failed, say. All others have been left by then.

    Attributes:
        broken: Why they ended by themselves; None as long as they did not.
    """

    def __init__(self, apps: Sequence[App], node: Any, on_broken: Callable[[], None]) -> None:
        self._apps = apps
        self._node = node
        self._on_broken = on_broken
        self._leave = asyncio.Event()
        self._entered: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.broken: Error | None = None

    def __len__(self) -> int:
        return sum(len(app.lifespans) for app in self._apps)

    async def enter(self) -> None:
        """Return when all are entered; when one raises, those before it are left, and it is raised.

        Raises:
            Error: One of them raised; what is no `fdn.Error` is its cause.
        """
        loop = asyncio.get_running_loop()
        self._entered = loop.create_future()
        self._task = loop.create_task(self._live(), name="fdn-lifespans")
        try:
            await asyncio.shield(self._entered)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    async def leave(self) -> None:
        """Return when all are left; what one of them raises is logged. Cancelled, it cancels what is under way."""
        self._leave.set()
        if self._task is None:
            return
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    async def _live(self) -> None:
        assert self._entered is not None
        try:
            async with contextlib.AsyncExitStack() as stack:
                for app in self._apps:
                    for lifespan in app.lifespans:
                        await _enter(stack, app, lifespan(self._node))
                self._entered.set_result(None)
                await self._leave.wait()
        except Exception as error:
            if not self._entered.done():
                self._entered.set_exception(error)
            elif self._leave.is_set():
                _log.exception("a lifespan failed while it was left")
            else:
                _log.exception("a lifespan ended by itself")
                self.broken = (
                    error if isinstance(error, Error) else Error(f"a lifespan ended by itself: {_said(error)}")
                )
                self.broken.__cause__ = error
                self._on_broken()
        finally:
            self._entered.cancel()  # without an effect, if it is done


async def _enter(stack: contextlib.AsyncExitStack, app: App, lifespan: Any) -> None:
    try:
        await stack.enter_async_context(lifespan)
    except Error:
        raise
    except Exception as error:
        _log.exception("the lifespan of app %s failed", app.name, extra={"app": app.name})
        raise Error(
            f'the lifespan of app "{app.name}" failed: {_said(error)}', hint="the log shows its traceback"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
