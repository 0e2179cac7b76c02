"""Who should vote: replaces dead voters by spares, keeps enough of both, and never risks the majority for it. Pure.

It runs on the leader alone and proposes one change of members at a time; Raft makes it by joint consensus. Its rules
are those of HashiCorp's autopilot, but for the swap: a dead voter goes and a spare comes in one change, so there is no
moment with one vote less.

- Nothing while a change is under way, and nothing that would leave less than a majority of healthy voters.
- At most a minority of the voters is taken out at a time, and never below `voters_min`.
- Dead spares go before dead voters; a member that left goes at once, one that is dead after `dead_after_s`.
- A spare becomes a voter when it has been in contact and close behind for `stable_s`.
- Of several, one in a failure zone that has the fewest voters comes first.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping

from consensus.identity import NodeId
from consensus.raft.configuration import Configuration
from consensus.raft.interface import RaftStatus, Role

__all__ = ("Autopilot", "AutopilotSettings", "Candidate", "Plan")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AutopilotSettings:
    """How many, and how soon.

    Attributes:
        voters_target: So many vote, if there are so many members. Each costs a copy of the log and an fsync of every
            write; 5 survive two deaths at a time.
        voters_min: Dead voters are not taken out below this number: who removes the second of two decides alone.
        learners_target: Spares, which hold the log and do not vote.
        dead_after_s: A member must have been dead for so long; shorter swaps for nothing when a process restarts.
        stable_s: A spare must have been well for so long before it votes.
        contact_max_s: A member that was not heard for longer is not well.
        behind_max: Nor is one whose log ends so many entries before the leader's.
    """

    voters_target: int = 5
    voters_min: int = 3
    learners_target: int = 2
    dead_after_s: float = 5.0
    stable_s: float = 10.0
    contact_max_s: float = 0.5
    behind_max: int = 250

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{field.name} is {value}; it must be 0 or above")
        if not 1 <= self.voters_min <= self.voters_target:
            raise ValueError(
                f"voters_min is {self.voters_min}, voters_target {self.voters_target}; "
                "expected 1 <= voters_min <= voters_target"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A member of the cluster that may hold the log.

    Attributes:
        alive: What membership says; whoever it does not name any more is gone.
        zone: What fails together: a rack, a data centre; empty if it does not matter.
    """

    alive: bool
    zone: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A change of members to ask Raft for, and why."""

    voters: frozenset[NodeId]
    learners: frozenset[NodeId]
    reason: str


class Autopilot:
    """See the module."""

    def __init__(self, settings: AutopilotSettings) -> None:
        self._settings = settings
        self._well_since: dict[NodeId, float] = {}
        self._dead_since: dict[NodeId, float] = {}
        self._term = -1

    def decide(self, status: RaftStatus, candidates: Mapping[NodeId, Candidate], now: float) -> Plan | None:
        """The next change, if there should be one. To be asked every second or so.

        Args:
            status: Of this node's core.
            candidates: Every member of the cluster that may hold the log; one that has left is not among them.
            now: Monotonic seconds.
        """
        if status.role is not Role.LEADER:
            self._term = -1
            return None
        if status.term != self._term:  # what was seen before this leadership may be long ago
            self._term = status.term
            self._well_since.clear()
            self._dead_since.clear()
        self._observe(status, candidates, now)
        if status.configuration.is_joint:
            return None
        return _Chooser(self._settings, status, candidates, self, now).choose()

    def well_for(self, node: NodeId, now: float) -> float:
        """Seconds since which it has been in contact and close behind; minus one if it is not."""
        since = self._well_since.get(node)
        return -1.0 if since is None else now - since

    def dead_for(self, node: NodeId, now: float) -> float:
        """Seconds since which membership has held it dead; minus one if it does not."""
        since = self._dead_since.get(node)
        return -1.0 if since is None else now - since

    def _observe(self, status: RaftStatus, candidates: Mapping[NodeId, Candidate], now: float) -> None:
        for node in status.configuration.members:
            candidate = candidates.get(node)
            if candidate is not None and candidate.alive:
                self._dead_since.pop(node, None)
            else:
                self._dead_since.setdefault(node, now)
            if self._is_well(status, candidates, node):
                self._well_since.setdefault(node, now)
            else:
                self._well_since.pop(node, None)
        for seen in (self._well_since, self._dead_since):
            for node in seen.keys() - status.configuration.members:
                del seen[node]

    def _is_well(self, status: RaftStatus, candidates: Mapping[NodeId, Candidate], node: NodeId) -> bool:
        if node == status.leader:
            return True
        peer, candidate = status.peers.get(node), candidates.get(node)
        return (
            peer is not None
            and candidate is not None
            and candidate.alive
            and peer.contact_age_s <= self._settings.contact_max_s
            and status.last_index - peer.match_index <= self._settings.behind_max
        )


class _Chooser:
    """One decision."""

    def __init__(
        self,
        settings: AutopilotSettings,
        status: RaftStatus,
        candidates: Mapping[NodeId, Candidate],
        autopilot: Autopilot,
        now: float,
    ) -> None:
        self._settings = settings
        self._configuration: Configuration = status.configuration
        self._leader = status.leader
        self._candidates = candidates
        self._autopilot = autopilot
        self._now = now
        self._voters = frozenset(status.configuration.voters)
        self._learners = frozenset(status.configuration.learners)

    def choose(self) -> Plan | None:
        """The first of these that is called for."""
        if not self._is_majority(self._voters):
            return None  # nothing could be committed anyway
        return self._without_dead_learners() or self._replace() or self._promote() or self._recruit()

    def _without_dead_learners(self) -> Plan | None:
        gone = frozenset(node for node in self._learners if self._is_gone(node))
        return self._plan(self._voters, self._learners - gone, f"dead spares go: {_named(gone)}") if gone else None

    def _replace(self) -> Plan | None:
        dead = sorted(node for node in self._voters if self._is_gone(node))
        if not dead:
            return None
        dead = dead[: (len(self._voters) - 1) // 2]
        spares = self._spares(self._voters - frozenset(dead), len(dead))
        # Those without a spare are taken out only as far as enough remain.
        room = len(self._voters) - max(self._settings.voters_min, 1)
        taken = frozenset(dead[: len(spares) + max(0, room)])
        if not taken:
            return None
        added = frozenset(spares[: len(taken)])
        voters = (self._voters - taken) | added
        if not self._is_majority(voters):
            return None
        by = f", for them {_named(added)}" if added else ", and no spare is ready"
        return self._plan(voters, self._learners - added, f"dead voters go: {_named(taken)}{by}")

    def _promote(self) -> Plan | None:
        missing = self._settings.voters_target - len(self._voters)
        spares = frozenset(self._spares(self._voters, missing)) if missing > 0 else frozenset()
        if not spares:
            return None
        return self._plan(
            self._voters | spares,
            self._learners - spares,
            f"{len(self._voters)} of {self._settings.voters_target} vote: {_named(spares)} will, too",
        )

    def _recruit(self) -> Plan | None:
        members = self._voters | self._learners
        missing = self._settings.voters_target + self._settings.learners_target - len(members)
        outside = [node for node, it in self._candidates.items() if it.alive and node not in members]
        added = frozenset(self._spread(outside, members, missing)) if missing > 0 else frozenset()
        if not added:
            return None
        return self._plan(self._voters, self._learners | added, f"spares are wanted: {_named(added)}")

    def _spares(self, beside: frozenset[NodeId], count: int) -> list[NodeId]:
        ready = [
            node for node in self._learners if self._autopilot.well_for(node, self._now) >= self._settings.stable_s
        ]
        return self._spread(ready, beside, count)

    def _spread(self, nodes: Iterable[NodeId], beside: frozenset[NodeId], count: int) -> list[NodeId]:
        """So many of them, one after the other from the zone with the fewest."""
        zones = collections.Counter(self._zone(node) for node in beside)
        left, chosen = sorted(nodes), list[NodeId]()
        while left and len(chosen) < count:
            node = min(left, key=lambda it: (zones[self._zone(it)], it))
            left.remove(node)
            chosen.append(node)
            zones[self._zone(node)] += 1
        return chosen

    def _zone(self, node: NodeId) -> str:
        candidate = self._candidates.get(node)
        return "" if candidate is None else candidate.zone

    def _is_gone(self, node: NodeId) -> bool:
        if node == self._leader:
            return False  # whoever decides this is alive
        if node not in self._candidates:
            return True  # it has left
        return self._autopilot.dead_for(node, self._now) >= self._settings.dead_after_s

    def _is_majority(self, voters: frozenset[NodeId]) -> bool:
        """Whether a majority of these is well now."""
        well = sum(self._autopilot.well_for(node, self._now) >= 0 for node in voters)
        return 2 * well > len(voters)

    def _plan(self, voters: frozenset[NodeId], learners: frozenset[NodeId], reason: str) -> Plan:
        return Plan(voters, learners, reason)


def _named(nodes: Iterable[NodeId]) -> str:
    return ", ".join(sorted(nodes))
