"""Dials whom nobody else would: the dead, in case they are not, and the seeds.

SWIM alone never heals a partition that outlasts the suspicions: each side holds the other dead, and the dead are
neither probed nor gossiped to. memberlist has this hole (its issue 222); Serf dials failed nodes every 30 s, with a
probability. Here every 1 to 2 s a few remembered endpoints are dialled, round robin; a handshake that succeeds is a
`Met` for SWIM, and what follows (refutation, push-pull) brings the sides together. One answer from the other side is
enough, so the fan may be small however many are gone.

The driver's duties, in order:

1. Hand over each `MemberChanged` of SWIM.
2. On `Dial` try the endpoint once, on the channel named at construction, and give SWIM the `Met` that a handshake
   yields. The connection need not be kept: SWIM and the overlay open what they need.
3. When a seed answered, say who it was with `SeedAnswered`, also if it was this node itself.
4. Call `handle(Tick(), now)` when `next_deadline()` has come.
"""

import dataclasses
import math
import random
from collections.abc import Iterable
from typing import assert_never

from topologies.identity import NodeId
from topologies.swim.interface import MemberChanged, Tick
from topologies.swim.messages import Status

__all__ = ("Dial", "Healer", "HealerInput", "HealerSettings", "SeedAnswered", "SeedsAdded")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealerSettings:
    """How eagerly to dial.

    Attributes:
        interval_min_s: Least time between rounds; each round waits a random time up to `interval_max_s`, so that the
            sides of a partition do not dial in step. Longer saves connection attempts and delays healing.
        interval_max_s: Most time between rounds.
        join_interval_s: The same while this node knows no other live member: it has nothing better to do. Jittered
            by half.
        fan_max: Dials a round.
    """

    interval_min_s: float = 1.0
    interval_max_s: float = 2.0
    join_interval_s: float = 0.25
    fan_max: int = 3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.interval_min_s > self.interval_max_s:
            raise ValueError(
                f"interval_min_s is {self.interval_min_s}, interval_max_s {self.interval_max_s}; "
                "the least must not be above the most"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class SeedAnswered:
    """Behind this seed is that node."""

    endpoint: str
    node: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class SeedsAdded:
    """Join through these as well."""

    endpoints: tuple[str, ...]


HealerInput = MemberChanged | SeedAnswered | SeedsAdded | Tick


@dataclasses.dataclass(frozen=True, slots=True)
class Dial:
    """Dial once. `peer` is who used to listen there, None behind a seed; whoever answers is a `Met` for SWIM."""

    endpoint: str
    peer: NodeId | None
    why: str


class Healer:
    """One node's dialling of the lost.

    Args:
        me: Our node id: a seed may turn out to be ourselves, and is then never dialled again.
        seeds: Endpoints to join through.
        channel: Which of a member's endpoints is dialled; seeds are endpoints of this channel.
        settings: See there.
        rng: For the jitter.
    """

    def __init__(
        self, me: NodeId, seeds: Iterable[str], channel: str, settings: HealerSettings, rng: random.Random
    ) -> None:
        self._me = me
        self._channel = channel
        self._settings = settings
        self._rng = rng
        self._seeds: dict[str, NodeId | None] = dict.fromkeys(seeds)  # who answered there last
        self._live: dict[NodeId, str] = {}
        self._dead: dict[NodeId, str] = {}
        self._dialled: dict[str, int] = {}  # which dial of all was an endpoint's last
        self._dial_count = 0
        self._next_at = -math.inf  # the first round is due at once

    def handle(self, input: HealerInput, now: float) -> list[Dial]:
        match input:
            case MemberChanged():
                self._on_member_changed(input, now)
                return []
            case SeedAnswered(endpoint, node):
                if endpoint in self._seeds:
                    self._seeds[endpoint] = node
                return []
            case SeedsAdded(endpoints):
                for endpoint in endpoints:
                    self._seeds.setdefault(endpoint, None)
                self._next_at = now  # whoever adds a seed waits for it
                return []
            case Tick():
                return self._on_tick(now)
            case _:
                assert_never(input)

    def next_deadline(self) -> float | None:
        return self._next_at if self._wanted() else None

    def _on_member_changed(self, change: MemberChanged, now: float) -> None:
        idle = not self._wanted()
        peer, after = change.subject, change.after
        self._live.pop(peer, None)
        self._dead.pop(peer, None)
        endpoint = after.endpoints.get(self._channel) if after is not None else None
        if after is not None and endpoint is not None and after.status is not Status.LEFT:
            (self._dead if after.status is Status.DEAD else self._live)[peer] = endpoint
        if idle:
            self._next_at = now + self._pause_s()

    def _on_tick(self, now: float) -> list[Dial]:
        wanted = self._wanted()
        if not wanted or now < self._next_at:
            return []
        self._next_at = now + self._pause_s()
        chosen = sorted(wanted, key=lambda endpoint: self._dialled.get(endpoint, 0))[: self._settings.fan_max]
        self._dialled = {endpoint: at for endpoint, at in self._dialled.items() if endpoint in wanted}
        for endpoint in chosen:
            self._dial_count += 1
            self._dialled[endpoint] = self._dial_count
        return [wanted[endpoint] for endpoint in chosen]

    def _wanted(self) -> dict[str, Dial]:
        """All that could be dialled now, by endpoint. Where a live member listens there is nobody to look for."""
        covered = set(self._live.values())
        wanted = {}
        for peer, endpoint in self._dead.items():
            if endpoint not in covered:
                wanted[endpoint] = Dial(endpoint, peer, "it was a member")
        for endpoint, node in self._seeds.items():
            if node != self._me and node not in self._live and endpoint not in covered:
                wanted[endpoint] = Dial(endpoint, None, "it is a seed")
        return wanted

    def _pause_s(self) -> float:
        if not self._live and self._seeds:
            return self._settings.join_interval_s * self._rng.uniform(0.5, 1.5)
        return self._rng.uniform(self._settings.interval_min_s, self._settings.interval_max_s)
