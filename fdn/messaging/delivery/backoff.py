"""How long to wait before sending again: longer with each time, and never all at once."""

import random

__all__ = ("Backoff",)


class Backoff:
    """Exponential, with equal jitter: a half that is certain and a half by chance.

    The certain half gives an acknowledgement that is under way its time; the other keeps senders that lost one receiver
    together from coming back together (Exponential Backoff and Jitter, AWS Architecture Blog, 2015).

    Args:
        least_s: Before the first repetition.
        most_s: Never longer.
        rng: The source of chance.
    """

    __slots__ = ("_least_s", "_most_s", "_random")

    def __init__(self, least_s: float, most_s: float, rng: random.Random) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._random = rng.random

    def pause(self, sends: int, usual_s: float = 0.0) -> float:
        """Seconds to wait after it was sent `sends` times, at least 1.

        Args:
            usual_s: How long an answer takes; where that is long, the first pause is, too.
        """
        longest: float = min(self._most_s, max(self._least_s, usual_s) * 2.0 ** min(sends - 1, 32))
        return longest * (0.5 + 0.5 * self._random())
