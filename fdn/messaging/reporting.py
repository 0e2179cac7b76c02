"""Failures that nobody waits to hear of: the log is where they show, one line at most in a second."""

import asyncio
import logging
import traceback

from fdn.errors import Error

__all__ = ("FailureLog",)

_logger = logging.getLogger(__name__)
_INTERVAL_S = 1.0


class FailureLog:
    """Counts failures and tells them, a flood of them in one line.

    Args:
        sentence: Takes how many, what the last one was about, and its error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sentence: str) -> None:
        self._loop = loop
        self._sentence = sentence
        self._unreported = 0
        self._reported_at = -_INTERVAL_S

    def report(self, about: str, error: BaseException) -> None:
        """One more. An error of ours is told in its words, any other with its traceback."""
        self._unreported += 1
        now = self._loop.time()
        if now - self._reported_at < _INTERVAL_S:
            return
        count, self._unreported, self._reported_at = self._unreported, 0, now
        told = error if isinstance(error, Error) else "".join(traceback.format_exception(error))
        _logger.error(self._sentence, count, about, told, extra={"target": about, "failed": count})
