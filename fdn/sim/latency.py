"""How long things take: distributions that draw from a generator and print themselves."""

import dataclasses
import math
import random
from typing import Protocol

__all__ = ("Fixed", "Latency", "LogNormal", "Uniform")


class Latency(Protocol):
    """Draws one duration in seconds."""

    def draw(self, rng: random.Random) -> float: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    seconds: float

    def draw(self, rng: random.Random) -> float:
        del rng
        return self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between the two, equally likely."""

    least_s: float
    most_s: float

    def draw(self, rng: random.Random) -> float:
        return self.least_s + (self.most_s - self.least_s) * rng.random()


@dataclasses.dataclass(frozen=True, slots=True)
class LogNormal:
    """Mostly near the median, now and then far above: what networks and disks are like.

    Attributes:
        median_s: Half of all take longer.
        sigma: Width; at 0.5 one in a hundred takes 3.2 times the median, at 1.0 ten times.
        most_s: Nothing takes longer.
    """

    median_s: float
    sigma: float = 0.5
    most_s: float = math.inf

    def draw(self, rng: random.Random) -> float:
        return min(self.most_s, self.median_s * math.exp(self.sigma * rng.gauss(0.0, 1.0)))
