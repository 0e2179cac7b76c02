"""What a member knows whatever its role, and the effects of the input at hand.

Roles come and go; term, vote, log, commit index and what was promised to whom stay. The parts of the core (`raft`,
`leadership`, `replication`) share one `State`, change it through these methods, and `flush` turns what changed into
effects: one write for all of it, and each message either now or when what it says is on the disk.
"""

import collections
import heapq
import random
from collections.abc import Sequence

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.configuration import Configuration
from consensus.raft.durability import Durability
from consensus.raft.interface import (
    Answer,
    Apply,
    Cause,
    Changed,
    Durable,
    Effect,
    Outcome,
    Persist,
    Refusal,
    Restore,
    Role,
    Send,
    StoreChunk,
    TakeSnapshot,
)
from consensus.raft.log import Log
from consensus.raft.messages import Entry, Message, Snapshot
from consensus.raft.settings import RaftSettings

__all__ = ("State",)


class State:
    """See the module.

    Attributes:
        now: Of the input at hand.
        commit_index: What a majority holds, as far as we know.
        applied_index: What was handed over with `Apply`.
        requests: Proposals of this node that wait, by the index of their entry.
    """

    def __init__(self, me: NodeId, durable: Durable, settings: RaftSettings, chance: random.Random, now: float) -> None:
        self.me = me
        self.settings = settings
        self.chance = chance
        self.now = now
        self.log = Log(durable.snapshot, durable.entries)
        self.durability = Durability(self.log.last_index)
        self.term = durable.term
        self.voted_for = durable.voted_for
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.applied_index = LogIndex(max(durable.snapshot.index, durable.applied_index))
        assert self.applied_index <= self.log.last_index, "the state machine is ahead of the log it was made from"
        self.commit_index = self.applied_index
        self.requests: dict[LogIndex, int] = {}
        self.history: collections.deque[Changed] = collections.deque(maxlen=settings.history_count)
        self._floor = durable.floor
        self._effects: list[Effect] = []
        self._outgoing: list[tuple[Send, bool]] = []
        self._reads: list[tuple[LogIndex, int]] = []  # a heap: reads that wait until their index is applied
        self._vote_is_dirty = False
        self._snapshot_asked = LogIndex(0)  # of the snapshot under way
        self._snapshot_from = self.log.snapshot.index  # growth is counted from here
        if self.is_impaired:
            # We may have forgotten a vote along with the log. Having voted for ourselves, we refuse everybody else.
            self.set_term(Term(max(self.term, self._floor[1])), me)
        self.note(Cause.STARTED)

    # -- what is so

    @property
    def configuration(self) -> Configuration:
        return self.log.configuration

    @property
    def is_impaired(self) -> bool:
        """Whether our disk lost entries that we may have answered for, and has not got them back yet."""
        index, term = self._floor
        return self.durability.stable_index < index or self.log.last_term < term

    @property
    def is_vote_stable(self) -> bool:
        """Whether term and vote are on the disk as they are."""
        return not self._vote_is_dirty and self.durability.is_vote_stable

    @property
    def reads_count(self) -> int:
        """Reads that wait until something is applied."""
        return len(self._reads)

    @property
    def may_campaign(self) -> bool:
        return self.configuration.is_voter(self.me) and not self.is_impaired

    # -- what changes

    def set_term(self, term: Term, voted_for: NodeId | None) -> None:
        assert (term > self.term) or (term == self.term and self.voted_for in (None, voted_for)) or self.is_impaired
        self.term, self.voted_for = term, voted_for
        self._vote_is_dirty = True

    def note(self, cause: Cause, by: NodeId | None = None, detail: str = "") -> None:
        """Tell that role, term or leader changed."""
        changed = Changed(self.role, self.term, self.leader, cause, self.now, by, detail)
        self.history.append(changed)
        self._effects.append(changed)

    def append(self, entries: Sequence[Entry]) -> None:
        self.log.append(entries)

    def truncate(self, first: LogIndex) -> None:
        assert first > self.commit_index, (first, self.commit_index)
        self.log.truncate(first)
        self.durability.on_truncate(first)

    def commit(self, index: LogIndex) -> None:
        assert index <= self.log.last_index, (index, self.log.last_index)
        self.commit_index = max(self.commit_index, index)

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew after a snapshot, which the state machine will hold before it is given anything more."""
        self.durability.on_truncate(LogIndex(self.commit_index + 1))
        self.log.restore(snapshot)
        self.commit_index = self.applied_index = snapshot.index
        self._snapshot_asked, self._snapshot_from = LogIndex(0), snapshot.index
        for index in [index for index in self.requests if index <= snapshot.index]:
            self.answer(Answer(self.requests.pop(index), Outcome.UNKNOWN, leader=self.leader))
        token = self.durability.issue(snapshot.index, vote=self._vote_is_dirty)
        self._vote_is_dirty = False
        self.emit(Restore(token, snapshot, self.term, self.voted_for))

    def store(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        """Write a piece of a snapshot. Term and log are written first, so that tokens stay in order."""
        self._persist()
        token = self.durability.issue(self.durability.written_index, vote=False)
        self.emit(StoreChunk(token, snapshot, offset, data))

    # -- what goes out

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, peer: NodeId, message: Message, *, log: bool = False) -> None:
        """Send once our term and vote are on the disk; with `log`, once our log is, too."""
        self._outgoing.append((Send(peer, message), log))

    def answer(self, answer: Answer) -> None:
        self._effects.append(answer)

    def refuse(self, request: int, refusal: Refusal, detail: str = "") -> None:
        self._effects.append(Answer(request, Outcome.REFUSED, refusal, self.leader, detail=detail))

    def answer_when_applied(self, index: LogIndex, request: int) -> None:
        """A read: DONE as soon as `index` was handed over."""
        heapq.heappush(self._reads, (index, request))

    def abandon(self) -> None:
        """We stop: answer everybody who still waits for something to be applied."""
        for request in self.requests.values():
            self.answer(Answer(request, Outcome.UNKNOWN, Refusal.STOPPED))
        for _, request in self._reads:
            self.refuse(request, Refusal.STOPPED)
        self.requests.clear()
        self._reads.clear()

    def on_persisted(self, token: int) -> None:
        self._effects.extend(self.durability.on_persisted(token))

    def flush(self) -> list[Effect]:
        """Everything that is to be done now, in order."""
        self._persist()
        for send, log in self._outgoing:
            if not self.durability.hold(send, log=log):
                self._effects.append(send)
        self._outgoing.clear()
        self._apply()
        effects, self._effects = self._effects, []
        return effects

    def _persist(self) -> None:
        first, last = LogIndex(self.durability.written_index + 1), self.log.last_index
        if first > last and not self._vote_is_dirty:
            return
        entries = self.log.entries(first, last)
        token = self.durability.issue(last, vote=self._vote_is_dirty)
        self._vote_is_dirty = False
        self._effects.append(Persist(token, self.term, self.voted_for, entries))

    def _apply(self) -> None:
        upto = min(self.commit_index, self.durability.stable_index)
        bytes_max = self.settings.apply_bytes_max
        while self.applied_index < upto:
            entries = self.log.batch(LogIndex(self.applied_index + 1), upto, bytes_max, upto)
            requests = {}
            if self.requests:
                requests = {it.index: self.requests.pop(it.index) for it in entries if it.index in self.requests}
            self._effects.append(Apply(entries, requests))
            self.applied_index = entries[-1].index
        while self._reads and self._reads[0][0] <= self.applied_index:
            index, request = heapq.heappop(self._reads)
            self.answer(Answer(request, Outcome.DONE, leader=self.leader, index=index))
        if self._has_grown():
            self.take_snapshot()

    # -- snapshots of our own state machine

    def take_snapshot(self) -> None:
        """Ask for one of what was applied, unless one is under way or there is nothing new."""
        index = self.applied_index
        if self._snapshot_asked or index <= self.log.snapshot.index:
            return
        term = self.log.term_at(index)
        assert term is not None, (index, self.log.base_index)
        self._snapshot_asked = index
        self.emit(TakeSnapshot(index, term, self.log.configuration_at(index)))

    def on_snapshot_taken(self, index: LogIndex, size: int, digest: bytes) -> Snapshot | None:
        """The snapshot, now the newest; None if the leader's overtook it."""
        if index != self._snapshot_asked:
            return None
        self._snapshot_asked, self._snapshot_from = LogIndex(0), index
        term = self.log.term_at(index)
        assert term is not None, (index, self.log.base_index)
        snapshot = Snapshot(index, term, self.log.configuration_at(index), size, digest)
        self.log.compact(snapshot, self.settings.trailing_entries)
        return snapshot

    def on_snapshot_failed(self, index: LogIndex) -> None:
        """Try again when as much has been applied once more: a full disk is not helped by trying at once."""
        if index == self._snapshot_asked:
            self._snapshot_asked, self._snapshot_from = LogIndex(0), self.applied_index

    def _has_grown(self) -> bool:
        first = LogIndex(self._snapshot_from + 1)
        return (
            self.applied_index - self._snapshot_from >= self.settings.snapshot_after_entries
            or self.log.bytes_between(first, self.applied_index) >= self.settings.snapshot_after_bytes
        )
