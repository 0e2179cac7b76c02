"""When a call that failed may be made again, elsewhere, within the same deadline."""

import dataclasses
import random

from fdn.errors import ConfigError, Error

__all__ = ("Retry",)


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` further tries of a call that failed in a way that may pass (`Error.retryable`).

    A call whose node was lost may have run there: retry only what may run twice. The deadline covers all tries.

    Attributes:
        attempts: Further tries after the first.
        pause_s: Pause before the second further try; the first goes out at once, to another node if there is one.
            It doubles up to `pause_max_s`, with full jitter.
        pause_max_s: The cap.
    """

    attempts: int
    pause_s: float = 0.02
    pause_max_s: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 0 or self.pause_s < 0 or self.pause_max_s < self.pause_s:
            raise ConfigError(
                f"{self} is not possible",
                hint="expected attempts >= 0 and 0 <= pause_s <= pause_max_s",
            )

    def pause_before(self, attempt: int, error: Error, rng: random.Random) -> float | None:
        """Seconds to wait before further try number `attempt` (from 1), or None to give up."""
        if attempt > self.attempts or not error.retryable:
            return None
        if attempt == 1:
            return 0.0
        return rng.uniform(0.0, min(self.pause_max_s, self.pause_s * 2.0 ** (attempt - 2)))
