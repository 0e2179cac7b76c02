"""The control plane's way to the user's loop: views, facts and beats handed over, nothing waited for."""

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fdn.runtime.facts import Fact
from fdn.runtime.view import View

__all__ = ("LoopSide",)

_FRAMES_SHOWN_MAX = 3


class LoopSide:
    """A `DataPlaneSide` for a data plane on an event loop of this process.

    Args:
        loop: The user's loop.
        thread_id: The thread that runs it, to name what holds it.
        on_view: Called there with each new view.
        on_fact: Called there with each fact.
        on_beat: Called there with each beat.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread_id: int,
        on_view: Callable[[View], None],
        on_fact: Callable[[Fact], None],
        on_beat: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._thread_id = thread_id
        self._on_view = on_view
        self._on_fact = on_fact
        self._on_beat = on_beat

    def view_changed(self, view: View) -> None:
        self._post(self._on_view, view)

    def fact(self, fact: Fact) -> None:
        self._post(self._on_fact, fact)

    def beat(self) -> None:
        self._post(self._on_beat)

    def where(self) -> str:
        """The innermost frames of the user's thread; inside C code, the frame that called it."""
        frame = sys._current_frames().get(self._thread_id)
        if frame is None:
            return "its thread is gone"
        stack = traceback.extract_stack(frame)[-_FRAMES_SHOWN_MAX:]
        return ", called from ".join(f"{f.name} ({os.path.basename(f.filename)}:{f.lineno})" for f in reversed(stack))

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        # The loop is closed when a program forgot to stop its node: then nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
