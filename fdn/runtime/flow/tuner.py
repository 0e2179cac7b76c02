"""How large batches are, and how many lanes are used: slow decisions, each with bounds, a dead band and patience.

Batches. While a batch leaves nothing can overtake it, so it should take about `BATCH_S` at the rate of the link: 64 KiB
are 0.1 ms on a fast one and 60 ms at 1 MB/s. The size is a power of two; it changes when the right one was off by a
factor of two or more for `PATIENCE` samples on end. Inside that band nothing happens, however the rate wavers.

Lanes. One more is tried when the network, and not the receiver, has held the link up for `PATIENCE` samples: then one
connection may be what limits. If the rate does not rise by `GAIN` over the next `TRIAL` samples, the lane is given up
again, and the next attempt waits twice as long as the one before: so it ends with the number that pays, and does not
swing. A lane that is not needed goes after `QUIET` samples without any hold-up at less than half the best rate seen.
"""

import dataclasses
import math
from typing import Final

__all__ = (
    "BATCH_BYTES_MAX",
    "BATCH_BYTES_MIN",
    "BATCH_S",
    "GAIN",
    "PATIENCE",
    "QUIET",
    "TRIAL",
    "Tuner",
    "TunerSample",
)

BATCH_S: Final = 0.002
BATCH_BYTES_MIN: Final = 4 * 1024
BATCH_BYTES_MAX: Final = 64 * 1024
PATIENCE: Final = 3
GAIN: Final = 1.1
TRIAL: Final = 5
QUIET: Final = 40
_BACKOFF_MIN: Final = 20  # samples between an attempt that failed and the next; doubles
_BACKOFF_MAX: Final = 1280


@dataclasses.dataclass(frozen=True, slots=True)
class TunerSample:
    """What was seen of all lanes to one peer since the last sample.

    Attributes:
        seconds: Since the last sample.
        bytes: Sent.
        held_up: Whether the network took no more at some time, while there was credit.
        busy: Whether something waits.
    """

    seconds: float
    bytes: int
    held_up: bool
    busy: bool


class Tuner:
    """See the module.

    Args:
        lanes_max: The bound of `lanes`.
        lanes: How many there are at first.

    Attributes:
        batch_bytes: Bytes at which a batch is closed, `BATCH_BYTES_MIN` to `BATCH_BYTES_MAX`.
        lanes: 1 to `lanes_max`.
        why_batch: Why it is so.
        why_lanes: Why there are so many.
    """

    def __init__(self, lanes_max: int, lanes: int = 1) -> None:
        self._lanes_max = lanes_max
        self.lanes = lanes
        self.batch_bytes = BATCH_BYTES_MAX
        self.why_batch = "no traffic that would call for smaller ones"
        self.why_lanes = "one connection has been enough" if lanes == 1 else "so many are set"
        self._off = 0  # samples on end for which another batch size was right
        self._held_up = 0  # samples on end
        self._quiet = 0
        self._rate = 0.0  # bytes a second, smoothed
        self._best = 0.0
        self._trial = 0  # samples left of one
        self._rate_before = 0.0
        self._trial_sum = 0.0
        self._backoff = _BACKOFF_MIN
        self._rest = 0  # samples before the next attempt

    def on_sample(self, sample: TunerSample) -> bool:
        """Take one sample in. Whether anything has changed."""
        if not sample.bytes and not sample.busy:
            self._off = self._held_up = 0
            self._quiet += 1
            return self._leave()
        rate = sample.bytes / sample.seconds
        self._rate = rate if not self._rate else self._rate + 0.3 * (rate - self._rate)
        batch, lanes = self.batch_bytes, self.lanes
        self._tune_batch(sample.held_up)
        self._tune_lanes(rate, sample.held_up)
        return (batch, lanes) != (self.batch_bytes, self.lanes)

    def _tune_batch(self, held_up: bool) -> None:
        # What the link could carry is known only while it is the network that limits; else larger ones do no harm.
        wanted = BATCH_BYTES_MAX
        if held_up:
            wanted = min(BATCH_BYTES_MAX, max(BATCH_BYTES_MIN, int(self._rate / self.lanes * BATCH_S)))
        if max(wanted, self.batch_bytes) < 2 * min(wanted, self.batch_bytes):
            self._off = 0
            return
        self._off += 1
        if self._off < (PATIENCE if wanted < self.batch_bytes else 4 * PATIENCE):  # slow to trust a respite
            return
        self._off = 0
        self.batch_bytes = 1 << round(math.log2(wanted))
        took = f"{self._rate / self.lanes / 1e6:.2f} MB/s a lane"
        self.why_batch = f"{took}: a batch takes about {BATCH_S * 1000:g} ms" if held_up else "the network keeps up"

    def _tune_lanes(self, rate: float, held_up: bool) -> None:
        self._best = max(self._best * 0.999, self._rate)
        if self._rest:
            self._rest -= 1
        if self._trial:
            self._try(rate)
            return
        self._held_up = self._held_up + 1 if held_up else 0
        self._quiet = 0 if held_up or 2 * self._rate >= self._best else self._quiet + 1
        if self._held_up >= PATIENCE and not self._rest and self.lanes < self._lanes_max:
            self._held_up, self._trial, self._trial_sum, self._rate_before = 0, TRIAL, 0.0, self._rate
            self.lanes += 1
            self.why_lanes = "the network holds it up: one more is tried"
        else:
            self._leave()

    def _try(self, rate: float) -> None:
        self._trial -= 1
        self._trial_sum += rate
        if self._trial:
            return
        gained = self._trial_sum / TRIAL / self._rate_before if self._rate_before else GAIN
        if gained >= GAIN:
            self._backoff = _BACKOFF_MIN
            self.why_lanes = f"the last one brought {100 * (gained - 1):.0f} %"
        else:
            self.lanes -= 1
            self._rest, self._backoff = self._backoff, min(_BACKOFF_MAX, 2 * self._backoff)
            self.why_lanes = f"one more brought {100 * (gained - 1):.0f} %, which does not pay"

    def _leave(self) -> bool:
        """Give up a lane that has not been needed for long."""
        if self._quiet < QUIET or self.lanes == 1:
            return False
        self._quiet = 0
        self.lanes -= 1
        self._best = self._rate
        self.why_lanes = "less traffic than one more lane is for"
        return True
