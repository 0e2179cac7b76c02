"""One change of members, from the request to its end.

1. Newcomers become learners, which changes no majority, and catch up (dissertation section 4.2.1): the leader times
   rounds of replication, each up to where the log ended at its start, until one takes no longer than an election
   timeout.
2. The joint configuration is appended; elections and commits need both majorities.
3. Once that is committed, the final one is appended; once that is, the request is done, and a leader that is no voter
   in it steps down.

Only the request and the catching up live here, and die with the leader. A new leader finds a joint configuration in its
log and goes on at step 3 by itself; newcomers that were still learning stay learners.
"""

import dataclasses

from consensus.identity import LogIndex, NodeId
from consensus.raft.configuration import Configuration, flaw
from consensus.raft.interface import ChangeMembers

__all__ = ("MemberChange", "flaw_of_change")


@dataclasses.dataclass(slots=True)
class _Round:
    upto: LogIndex
    began_at: float


class MemberChange:
    """A request under way.

    Attributes:
        wanted: What was asked for.
        deadline: When newcomers must have caught up.
        is_catching_up: Whether step 1 lasts.
    """

    def __init__(
        self, wanted: ChangeMembers, newcomers: frozenset[NodeId], last_index: LogIndex, now: float, timeout_s: float
    ) -> None:
        self.wanted = wanted
        self.deadline = now + timeout_s
        self._rounds = {node: _Round(last_index, now) for node in newcomers}

    @property
    def is_catching_up(self) -> bool:
        return bool(self._rounds)

    @property
    def laggards(self) -> list[NodeId]:
        return sorted(self._rounds)

    def on_match(
        self, node: NodeId, match_index: LogIndex, last_index: LogIndex, now: float, round_max_s: float
    ) -> None:
        """A member's log grew."""
        round_ = self._rounds.get(node)
        if round_ is None or match_index < round_.upto:
            return
        if now - round_.began_at <= round_max_s:
            del self._rounds[node]
        else:
            self._rounds[node] = _Round(last_index, now)


def flaw_of_change(current: Configuration, change: ChangeMembers) -> str | None:
    """Why a change cannot be asked for, or None."""
    if not change.voters:
        return "no voters would be left"
    both = change.voters & change.learners
    if both:
        return f"{', '.join(sorted(both))} cannot both vote and learn"
    everyone = current.members | change.voters | change.learners
    return flaw(Configuration(tuple(sorted(everyone))))  # the most that is in force at one time
