"""Threads that run handlers: begun when they are needed, kept for the next, and never waited for at the end."""

import queue
import threading
from collections.abc import Callable

__all__ = ("Workers",)


class Workers:
    """As many threads as there were acts at once; whoever submits bounds them.

    They are daemons: a program that ends does not wait for a handler that does not.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._acts: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._ended = False

    @property
    def threads(self) -> int:
        """Threads begun so far."""
        return self._threads

    def submit(self, act: Callable[[], object]) -> None:
        """Run it on a thread of its own. It must not raise."""
        with self._lock:
            self._acts.put(act)
            if self._idle:
                self._idle -= 1
                return
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def end(self) -> None:
        """No further acts: each thread ends when it has finished its own. Idempotent."""
        with self._lock:
            if not self._ended:
                self._ended = True
                for _ in range(self._threads):
                    self._acts.put(None)

    def _work(self) -> None:
        while (act := self._acts.get()) is not None:
            act()
            with self._lock:
                self._idle += 1
