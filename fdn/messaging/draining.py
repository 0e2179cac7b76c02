"""How a node stops without losing anything: stage after stage, each with a name, within one bound of time.

No stage refuses work that comes in meanwhile: the first tells the members, which from then on turn elsewhere.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

__all__ = ("DrainReport", "DrainStage", "Stage", "drain")

_log = logging.getLogger(__name__)
_CANCEL_S: Final = 0.5  # for a stage that is cut off to take notice


class Stage(msgspec.Struct, frozen=True):
    """One thing to wait for.

    Attributes:
        name: For reports.
        wait: Returns when nothing is left of it.
        left: How much is left of it now; calls, events, members: whatever the stage is about.
    """

    name: str
    wait: Callable[[], Awaitable[object]]
    left: Callable[[], int]


class DrainStage(msgspec.Struct, frozen=True):
    """What became of one stage.

    Attributes:
        name: Of the stage: `members`, `timers`, `calls`, `clients`, `events`, `deliveries`, `sends`.
        before: How much there was to finish when it began.
        left: What is left unfinished of it; 0 when it was finished in time.
        seconds: How long it took.
    """

    name: str
    before: int
    left: int
    seconds: float


class DrainReport(msgspec.Struct, frozen=True):
    """The stages in their order. True when every one was finished in time."""

    stages: tuple[DrainStage, ...]

    def __bool__(self) -> bool:
        return not any(stage.left for stage in self.stages)

    def by_name(self) -> Mapping[str, DrainStage]:
        """The stages by their names."""
        return {stage.name: stage for stage in self.stages}


async def drain(
    stages: tuple[Stage, ...],
    timeout_s: float,
    loop: asyncio.AbstractEventLoop,
    ended: Callable[[DrainStage], None],
) -> DrainReport:
    """Wait for each stage in turn. What is not finished in time is named, and left to whoever closes.

    Args:
        stages: In the order of the waiting.
        timeout_s: For all together.
        ended: Called with each stage when it has ended.
    """
    ends_at = loop.time() + timeout_s
    done: list[DrainStage] = []
    for stage in stages:
        began, before = loop.time(), stage.left()
        waiting = asyncio.ensure_future(stage.wait())
        try:
            await asyncio.wait([waiting], timeout=max(0.0, ends_at - began))
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait([waiting], timeout=_CANCEL_S)
            elif not waiting.cancelled() and waiting.exception() is not None:
                _log.error("draining: stage %s failed", stage.name, exc_info=waiting.exception())
        result = DrainStage(stage.name, before, stage.left(), loop.time() - began)
        done.append(result)
        ended(result)
    return DrainReport(tuple(done))
