"""Settings of relaying: units, and what is traded by changing them."""

import dataclasses
import math

from topologies.relay.messages import RELAYS_MAX

__all__ = ("RelaySettings",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """When a node talks to another over a third.

    Attributes:
        candidates: Neighbours that are asked for a path at a time (best of k). More find better paths, and cost two
            messages each in an interval, while a direct way is bad.
        ttl: Relays on one path at most. 1 finds paths over a common neighbour only.
        interval_s: Each member in use is probed this often, and neighbours are asked. Shorter notices sooner.
        timeout_s: A probe or question that is not answered by then is lost.
        missed_max: Probes lost in a row after which a direct way counts as down, though its link is still open.
        factor: A path must be so many times faster than the direct way to be taken while that is up.
        gain_s: ... and faster by so much: below, it is never worth it.
        hold_s: ... and both for so long; the direct way is taken again when it has been good for as long.
        asked_s: A member that others asked about is measured for so long after the last question.
        targets_max: Members that are measured at once; past it further ones have no path.
    """

    candidates: int = 3
    ttl: int = 3
    interval_s: float = 1.0
    timeout_s: float = 1.0
    missed_max: int = 3
    factor: float = 3.0
    gain_s: float = 0.02
    hold_s: float = 2.0
    asked_s: float = 5.0
    targets_max: int = 1024

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.ttl > RELAYS_MAX:
            raise ValueError(f"ttl is {self.ttl}; the wire takes {RELAYS_MAX} relays at most")
        if self.factor < 1:
            raise ValueError(f"factor is {self.factor}; below 1 every path would be preferred to every other")
