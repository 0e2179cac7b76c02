"""Ctrl-C in two steps: the first asks for an orderly end, the second for an end at once."""

import asyncio
import signal
from typing import Final

__all__ = ("Interrupt",)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """While used as a context manager, takes SIGINT, SIGTERM and SIGHUP of this process. For the main thread.

    Attributes:
        first: Set by the first of them.
        second: Set by the second.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> "Interrupt":
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self.on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    def on_signal(self) -> None:
        """Count one signal."""
        (self.second if self.first.is_set() else self.first).set()
