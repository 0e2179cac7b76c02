"""How much one link may have under way: additive increase, multiplicative decrease of a share of the peer's credit.

Intuition: credit says what the receiver could hold, not what it is good to send. What is under way cannot be overtaken
by an urgent message, expires unseen, and could have gone to another node. So when a round trip takes far longer than it
can, when messages have to be sent again, or when what was sent would take the receiver longer than `backlog_s` to work
off, the share shrinks; and it grows back step by step when nothing of that is seen. A link that is not used has all of
its credit: at idle nothing is changed by this.

The round trip is that of a probe which overtakes what waits in our queue, but nothing that has left it (docs/spec,
section 6.1). Its floor is the least of the last five minutes, so that a path which has become longer is found to be so.

After Jacobson, "Congestion avoidance and control" (1988), and for the floor, BBR's `min_rtt` filter (Cardwell and
others, 2016). The driver hands in samples and applies `share`; it has no other duty.
"""

import dataclasses
from typing import Final

__all__ = ("SHARE_MIN", "PaceSample", "SendPace")

SHARE_MIN: Final = 1 / 32
_STEP: Final = 1 / 16  # added at most for each sample without congestion,
_STEP_OF_SHARE: Final = 1 / 8  # and so much of the share at most, or a small one would double at once
_CUT_RETRANSMIT: Final = 0.5
_CUT_INFLATED: Final = 0.7
_CUT_BACKLOG: Final = 0.8
_HOLD_S: Final = 0.1  # between two cuts at least, and a round trip: before that the first cannot have been felt
_INFLATED_TIMES: Final = 4.0
_INFLATED_S: Final = 0.025  # loops of Python hold a probe up for so long without any congestion
_FLOOR_AGE_S: Final = 30.0  # of each of the spans that the least round trip is kept for
_FLOOR_SPANS: Final = 10
_RATE_WEIGHT: Final = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class PaceSample:
    """What was seen of one link since the last sample.

    Attributes:
        now: Monotonic seconds.
        idle: Whether nothing has been sent for a while, and nothing waits.
        consumed: Taken up by the receiver's handlers since the last sample, as far as is known.
        starved: Whether it ran out of credit, or of its share.
        retransmitted: Messages sent again.
        rtt_s: Of the newest probe, if one was answered since; seconds.
        window: Messages that the peer lets us have under way, unconsumed; 0 is no limit.
    """

    now: float
    idle: bool
    consumed: int
    starved: bool
    retransmitted: int
    rtt_s: float | None
    window: int


class SendPace:
    """See the module.

    Args:
        backlog_s: Seconds of work that may be under way to the receiver.

    Attributes:
        share: Of the credit that may be used, `SHARE_MIN` to 1.
        why: What the last sample made of it.
        rtt_s: Round trip, smoothed; 0 before the first.
        floor_s: The least round trip of the last five minutes; 0 before the first.
        rate: Messages a second that the receiver takes up, smoothed.
        congested: Whether the last cut is still being felt.
    """

    def __init__(self, backlog_s: float) -> None:
        self._backlog_s = backlog_s
        self.share = 1.0
        self.why = "idle: all of the credit"
        self.rtt_s = 0.0
        self.rate = 0.0
        self.congested = False
        self._floors: list[tuple[float, float]] = []  # (begin, least) of each span, the oldest first
        self._last_at: float | None = None
        self._cut_at = float("-inf")

    @property
    def floor_s(self) -> float:
        return min((least for _, least in self._floors), default=0.0)

    def on_sample(self, sample: PaceSample) -> bool:
        """Take one sample in. Whether `share` has changed."""
        before = self.share
        if sample.rtt_s is not None:
            self._measure(sample.rtt_s, sample.now)
        if sample.idle:
            self.share, self.why, self.congested = 1.0, "idle: all of the credit", False
            self.rate, self._last_at = 0.0, sample.now
            return self.share != before
        if self._last_at is not None and sample.now > self._last_at:
            rate = sample.consumed / (sample.now - self._last_at)
            self.rate = rate if not self.rate else self.rate + _RATE_WEIGHT * (rate - self.rate)
        self._last_at = sample.now
        cut, why = self._judge(sample)
        if not cut:
            if self.share < 1.0:
                self.share = min(1.0, self.share + min(_STEP, _STEP_OF_SHARE * self.share))
                self.why = "no congestion: growing" if self.share < 1.0 else "no congestion: all of the credit"
            else:
                self.why = "no congestion: all of the credit"
            self.congested = self.congested and self.share < 1.0
        elif sample.now - self._cut_at >= max(_HOLD_S, self.rtt_s):
            self.share = max(SHARE_MIN, self.share * cut)
            self.why, self._cut_at, self.congested = why, sample.now, True
        return self.share != before

    def _judge(self, sample: PaceSample) -> tuple[float, str]:
        """By how much to cut, 0.0 for not at all, and why."""
        if sample.retransmitted:
            return _CUT_RETRANSMIT, f"{sample.retransmitted} messages had to be sent again"
        bound = max(_INFLATED_TIMES * self.floor_s, self.floor_s + _INFLATED_S)
        if sample.rtt_s is not None and sample.rtt_s > bound:
            took, least = 1000 * sample.rtt_s, 1000 * self.floor_s
            return _CUT_INFLATED, f"a round trip took {took:.1f} ms, where {least:.1f} ms is possible"
        if sample.starved and sample.window and self.rate:
            work_s = self.share * sample.window / self.rate
            if work_s > self._backlog_s + self.floor_s:
                return _CUT_BACKLOG, f"what is under way is {work_s:.2f} s of the receiver's work"
        return 0.0, ""

    def _measure(self, rtt_s: float, now: float) -> None:
        self.rtt_s = rtt_s if not self.rtt_s else self.rtt_s + 0.25 * (rtt_s - self.rtt_s)
        if not self._floors or now - self._floors[-1][0] >= _FLOOR_AGE_S:
            self._floors.append((now, rtt_s))
            del self._floors[:-_FLOOR_SPANS]
        else:
            begin, least = self._floors[-1]
            self._floors[-1] = begin, min(least, rtt_s)
