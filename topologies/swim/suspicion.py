"""How long a suspect has to refute. Lifeguard section IV-B (memberlist's `suspicion.go`).

A lone accuser may itself be the one that is slow, so its word gives the suspect `max`. Each independent confirmation
makes that less likely and shortens the time, the first ones most, down to `min`:

    timeout = max - ln(c + 1) / ln(k + 1) * (max - min)        c confirmations of k wanted
"""

import math

from topologies.identity import NodeId
from topologies.swim.settings import SwimSettings

__all__ = ("Suspicion", "confirmations_wanted", "timeout_min_s", "timeout_s")


def timeout_min_s(settings: SwimSettings, member_count: int) -> float:
    """The least time to refute in a cluster of this size, seconds: news takes about log n periods to reach all."""
    return settings.suspicion_multiplier * max(1.0, math.log10(max(1, member_count))) * settings.probe_interval_s


def confirmations_wanted(settings: SwimSettings, member_count: int) -> int:
    """Lifeguard's k; 0 where there are not that many others who could confirm."""
    wanted = max(0, settings.suspicion_multiplier - 2)
    return wanted if member_count - 2 >= wanted else 0


def timeout_s(confirmed: int, wanted: int, shortest: float, longest: float) -> float:
    """Time to refute after `confirmed` of `wanted` confirmations, seconds."""
    if wanted < 1:
        return shortest
    return max(shortest, longest - math.log(confirmed + 1) / math.log(wanted + 1) * (longest - shortest))


class Suspicion:
    """The time that one suspect has.

    Args:
        accuser: Who accused first.
        member_count: Members alive or suspect, ourselves included.
        settings: For the multipliers.
        now: When we heard of it.

    Attributes:
        look_at: When we see for ourselves: infinite if never, or once we have.
    """

    def __init__(self, accuser: NodeId, member_count: int, settings: SwimSettings, now: float) -> None:
        self._shortest = timeout_min_s(settings, member_count)
        self._longest = self._shortest * settings.suspicion_max_multiplier
        self._wanted = confirmations_wanted(settings, member_count)
        self._accusers = {accuser}
        self._started = now
        self._at_latest = math.inf
        self.look_at = math.inf

    @property
    def deadline(self) -> float:
        """When the suspect is dead unless it refutes."""
        confirmed = len(self._accusers) - 1
        return min(self._at_latest, self._started + timeout_s(confirmed, self._wanted, self._shortest, self._longest))

    def confirm(self, accuser: NodeId) -> bool:
        """Another accuser. True if it was new and one was wanted: then the others should hear of it too."""
        if accuser in self._accusers or len(self._accusers) > self._wanted:
            return False
        self._accusers.add(accuser)
        return True

    def hasten(self, deadline: float) -> None:
        """There is proof: wait no longer than this."""
        self._at_latest = min(self._at_latest, deadline)

    def postpone(self, lag_s: float) -> None:
        """We ourselves were not running for a while; that time does not count against the suspect."""
        self._started += lag_s
        self._at_latest += lag_s
