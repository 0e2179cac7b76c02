"""What the threads and the user's loop of this process are doing, seen from another thread.

Nothing here asks the user's loop: it may be stuck, and that is when these are wanted. What is read may therefore have
moved on by the time that it is shown.
"""

import asyncio
import linecache
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, Final

__all__ = ("loop_state", "source_lines", "thread_stacks")

_THREADS_MAX: Final = 256
_FRAMES_MAX: Final = 64  # of one thread or task, the innermost
_TASKS_MAX: Final = 256


def thread_stacks() -> list[dict[str, Any]]:
    """Every Python thread and its frames, the innermost last: maps of `thread`, `ident`, `daemon` and `frames`, which
    are maps of `function`, `file` and `line`.
    """
    threads = {thread.ident: thread for thread in threading.enumerate()}
    stacks = []
    for ident, frame in sorted(sys._current_frames().items())[:_THREADS_MAX]:
        thread = threads.get(ident)
        stacks.append(
            {
                "thread": "" if thread is None else thread.name,
                "ident": ident,
                "daemon": thread is not None and thread.daemon,
                "frames": [_described(place) for place in _outward(frame)][::-1],
            }
        )
    return stacks


def source_lines(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same stacks with the line of source of each frame, in `code`. Reads files: not for a loop's thread."""
    for stack in stacks:
        for frame in stack["frames"]:
            frame["code"] = linecache.getline(frame["file"], frame["line"]).strip()
    return stacks


def loop_state(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """What waits on a loop: maps of `name`, `coroutine` and `frames` for its tasks, and counts.

    `ready` and `timers` are None where the loop does not tell (uvloop).
    """
    tasks = asyncio.all_tasks(loop)
    shown = sorted(tasks, key=lambda task: task.get_name())[:_TASKS_MAX]
    ready, timers = getattr(loop, "_ready", None), getattr(loop, "_scheduled", None)
    return {
        "ready": None if ready is None else len(ready),
        "timers": None if timers is None else len(timers),
        "tasks": len(tasks),
        "shown": [_task(task) for task in shown],
    }


def _task(task: "asyncio.Task[Any]") -> dict[str, Any]:
    awaited: Any = task.get_coro()
    name = getattr(awaited, "__qualname__", "") or type(awaited).__qualname__
    frames = []
    for frame, inner in _inward(awaited):
        awaited = inner
        if frame is not None:
            frames.append(_described((frame, frame.f_lineno)))
    return {
        "name": task.get_name(),
        "coroutine": name,
        "frames": frames[-_FRAMES_MAX:],
        "waits_for": "" if awaited is None else type(awaited).__qualname__,
    }


def _inward(awaited: Any) -> Iterator[tuple[types.FrameType | None, Any]]:
    """Each frame of a chain of awaits, and what it waits for. `Task.get_stack` shows the outermost alone."""
    for _ in range(10 * _FRAMES_MAX):
        if hasattr(awaited, "cr_frame"):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif hasattr(awaited, "gi_frame"):
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        elif hasattr(awaited, "ag_frame"):
            frame, awaited = awaited.ag_frame, awaited.ag_await
        else:
            return
        yield frame, awaited


def _outward(frame: types.FrameType | None) -> Iterator[tuple[types.FrameType, int | None]]:
    for _ in range(_FRAMES_MAX):
        if frame is None:
            return
        yield frame, frame.f_lineno
        frame = frame.f_back


def _described(place: tuple[types.FrameType, int | None]) -> dict[str, Any]:
    frame, line = place
    code = frame.f_code
    return {"function": code.co_qualname, "file": code.co_filename, "line": line or 0}
