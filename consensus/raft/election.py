"""When to ask for votes.

A follower that has heard no leader for T up to 2T asks (dissertation section 3.4). Chance alone spreads the followers
thin: two that ask within a round trip split the vote. The leader knows better. It tells each voter its rank, those
that hold everything committed first, by priority and then by how far along they are; T to 2T is divided into as many
slots as there are voters, and chance picks a place within the slot of the rank. Whoever has no rank yet, and every
later round, draws from all of T to 2T.

A lost connection is news that a silent leader is not: the follower forgets the leader and asks after its rank's turn of
`stagger_s`. False alarms are free, for the others refuse their PreVote while they hear the leader. So a PreVote without
a majority is asked again soon, and ever later up to T: the others may simply not have noticed yet.
"""

import math
import random

from consensus.raft.settings import RaftSettings

__all__ = ("ElectionTimer",)

_RETRY_DOUBLINGS_MAX = 16  # far past T for any settings; keeps the power small


class ElectionTimer:
    """The deadline of a follower's or candidate's patience.

    Attributes:
        deadline: When to ask for votes, or to ask again.
        heard_at: When a leader was heard last; minus infinity once it is forgotten.
        rank: Our place in line, as the leader said; -1 if it did not.
    """

    def __init__(self, settings: RaftSettings, chance: random.Random, now: float) -> None:
        self._settings = settings
        self._chance = chance
        self._retries = 0
        self.heard_at = -math.inf
        self.rank = -1
        self.deadline = 0.0
        self.restart(now)

    def is_fresh(self, now: float) -> bool:
        """Whether a leader was heard within the election timeout: then nobody gets our vote."""
        return now - self.heard_at < self._settings.election_timeout_s

    def on_leader(self, now: float, voters_count: int) -> None:
        """A leader was heard."""
        self.heard_at = now
        self._retries = 0
        timeout = self._settings.election_timeout_s
        if self.rank < 0 or voters_count <= 1:
            self.restart(now)
        else:
            slot = timeout / voters_count
            self.deadline = now + timeout + (min(self.rank, voters_count - 1) + self._chance.random()) * slot

    def on_connection_lost(self, now: float) -> None:
        """The leader is forgotten. Never later than the deadline that stood."""
        self.heard_at = -math.inf
        turn = (max(self.rank, 0) + self._chance.random()) * self._settings.stagger_s
        self.deadline = min(self.deadline, now + turn)

    def restart(self, now: float) -> None:
        """Wait for T up to 2T."""
        self.deadline = now + self._settings.election_timeout_s * (1 + self._chance.random())

    def retry(self, now: float) -> None:
        """Ask again soon; each time in a row twice as late."""
        wait = self._settings.stagger_s * 2.0**self._retries
        self._retries = min(self._retries + 1, _RETRY_DOUBLINGS_MAX)
        self.deadline = now + min(wait, self._settings.election_timeout_s) * (1 + self._chance.random())
