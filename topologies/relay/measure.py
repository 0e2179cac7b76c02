"""How good the direct way to one member is, from probes: the median of the last few, and how many were lost since."""

import collections
import statistics
from typing import Final

__all__ = ("Direct",)

_SAMPLES: Final = 5  # a median of five follows a step after three samples, and one outlier does not move it


class Direct:
    """The measured way to one member.

    Attributes:
        missed: Probes lost in a row.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._samples: collections.deque[float] = collections.deque(maxlen=_SAMPLES)
        self._sent: dict[int, float] = {}

    @property
    def rtt_s(self) -> float | None:
        """Median round trip in seconds, None until there was one."""
        return statistics.median(self._samples) if self._samples else None

    def on_sent(self, seq: int, now: float) -> None:
        """A probe has left."""
        self._sent[seq] = now

    def on_echo(self, seq: int, now: float) -> bool:
        """An answer came. Returns whether it was awaited."""
        sent = self._sent.pop(seq, None)
        if sent is None:
            return False
        self._samples.append(now - sent)
        self.missed = 0
        return True

    def expire(self, now: float, timeout_s: float) -> None:
        """Count what was not answered in time; it took at least that long."""
        for seq in [seq for seq, sent in self._sent.items() if now - sent >= timeout_s]:
            del self._sent[seq]
            self._samples.append(timeout_s)
            self.missed += 1

    def forget(self) -> None:
        """The link was made anew: what was measured on the former says nothing of it."""
        self._samples.clear()
        self._sent.clear()
        self.missed = 0
