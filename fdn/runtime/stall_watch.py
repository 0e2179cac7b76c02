"""Is the user's loop turning? The control plane beats, the data plane answers; the oldest unanswered beat is the lag.

A node whose user loop is wedged must not look healthy: the lag is gossiped, and past a limit the node is alive but not
reachable. Pure: the driver sends the beats and tells of the answers.
"""

from fdn.runtime.view import NodeState

__all__ = ("StallWatch",)


class StallWatch:
    """Times one loop from another.

    Args:
        interval_s: Seconds between beats.
        warn_s: Lag from which the node is `STALLED`.
        max_s: Lag from which it is `WEDGED`.
    """

    def __init__(self, interval_s: float, warn_s: float, max_s: float) -> None:
        self._interval_s = interval_s
        self._warn_s = warn_s
        self._max_s = max_s
        self._asked_at: float | None = None  # of the beat that is not answered yet; one is under way at a time
        self._next_at = 0.0
        self.state = NodeState.SERVING
        self.last_lag_s = 0.0
        self.worst_lag_s = 0.0

    def due(self, now: float) -> bool:
        """Whether to send a beat now; counts it as sent."""
        if self._asked_at is not None or now < self._next_at:
            return False
        self._asked_at = now
        return True

    def answered(self, now: float) -> bool:
        """The beat under way was answered. Returns whether the state has changed."""
        if self._asked_at is None:
            return False
        self.last_lag_s = now - self._asked_at
        self.worst_lag_s = max(self.worst_lag_s, self.last_lag_s)
        self._asked_at = None
        self._next_at = now + self._interval_s
        return self._become(NodeState.SERVING)

    def check(self, now: float) -> bool:
        """Returns whether the state has changed because the beat under way is overdue."""
        lag = self.lag_s(now)
        if lag < self._warn_s:
            return False
        self.worst_lag_s = max(self.worst_lag_s, lag)
        return self._become(NodeState.WEDGED if lag >= self._max_s else NodeState.STALLED)

    def lag_s(self, now: float) -> float:
        """Seconds that the beat under way has waited; 0.0 if none is."""
        return 0.0 if self._asked_at is None else now - self._asked_at

    def next_deadline(self) -> float | None:
        """When to call `due` and `check` next; None while only an answer can change anything."""
        if self._asked_at is None:
            return self._next_at
        if self.state is NodeState.WEDGED:
            return None
        return self._asked_at + (self._warn_s if self.state is NodeState.SERVING else self._max_s)

    def _become(self, state: NodeState) -> bool:
        changed = state is not self.state
        self.state = state
        return changed
