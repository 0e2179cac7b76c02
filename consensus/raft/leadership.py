"""What a leader does, from its election to its end. All of it is lost with the leadership, and safety needs none of it.

A leader appends, counts and commits entries of its own term only; earlier ones are committed along with them
(dissertation section 3.6.2, figure 3.7). It steps down when it has not heard a majority for an election timeout, so
that its clients do not wait for nothing (section 6.2).
"""

import dataclasses
import math

from consensus.identity import LogIndex, NodeId
from consensus.raft import configuration
from consensus.raft.configuration import Configuration
from consensus.raft.interface import (
    Answer,
    Cause,
    ChangeMembers,
    ChunkRead,
    Outcome,
    PeerStatus,
    Proposal,
    Refusal,
    TransferLeadership,
)
from consensus.raft.log import ENTRY_OVERHEAD_BYTES
from consensus.raft.membership import MemberChange, flaw_of_change
from consensus.raft.messages import (
    AppendEntriesReply,
    Entry,
    EntryKind,
    HeartbeatReply,
    InstallSnapshotReply,
    Message,
    ReadIndex,
    ReadIndexReply,
    TimeoutNow,
)
from consensus.raft.quorum import agreed
from consensus.raft.reads import LeaderReads, PendingRead, Rounds
from consensus.raft.replication import Replication
from consensus.raft.state import State

__all__ = ("Leadership", "Resignation")


@dataclasses.dataclass(frozen=True, slots=True)
class Resignation:
    """Why a leader must step down."""

    cause: Cause
    detail: str


@dataclasses.dataclass(slots=True)
class _Transfer:
    request: int
    target: NodeId
    deadline: float
    is_told: bool = False  # TimeoutNow is out


class Leadership:
    """One term of one leader.

    Attributes:
        resignation: Set once this has to end. Nothing more is to be asked of it then.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.resignation: Resignation | None = None
        self._replication = Replication(state)
        self._rounds = Rounds()
        self._reads = LeaderReads()
        self._change: MemberChange | None = None
        self._transfer: _Transfer | None = None
        self._lease_is_over = False  # TimeoutNow left in this term: its receiver may be elected at any time, or late
        self._heartbeat_at = state.now
        self._let_go_at: LogIndex | None = None  # a final configuration: when it is committed, who left is let go
        self._first_index = LogIndex(state.log.last_index + 1)
        self._append(EntryKind.EMPTY)
        self._beat()

    # -- the log

    def _append(self, kind: EntryKind, data: bytes = b"") -> LogIndex:
        index = LogIndex(self._state.log.last_index + 1)
        self._state.append([Entry(index, self._state.term, kind, data)])
        return index

    def propose(self, proposals: tuple[Proposal, ...]) -> None:
        state, settings = self._state, self._state.settings
        if self._transfer is not None:
            for it in proposals:
                state.refuse(it.request, Refusal.TRANSFERRING, f"to {self._transfer.target}; try again")
            return
        index = state.log.last_index
        safe = min(state.commit_index, state.durability.stable_index)
        under_way = state.log.bytes_between(LogIndex(safe + 1), index)
        entries = []
        for it in proposals:
            size = len(it.data)
            if size > settings.proposal_bytes_max:
                detail = f"{size} bytes exceed proposal_bytes_max={settings.proposal_bytes_max}"
                state.refuse(it.request, Refusal.TOO_LARGE, detail)
            elif under_way >= settings.uncommitted_bytes_max:
                detail = f"{under_way} bytes are not committed, uncommitted_bytes_max={settings.uncommitted_bytes_max}"
                state.refuse(it.request, Refusal.OVERLOADED, detail)
            else:
                index = LogIndex(index + 1)
                under_way += size + ENTRY_OVERHEAD_BYTES
                entries.append(Entry(index, state.term, EntryKind.COMMAND, it.data))
                state.requests[index] = it.request
        state.append(entries)

    def _advance(self) -> None:
        """Commit what a majority holds, if it is of our term, and go on with what waited for that."""
        state = self._state
        index = agreed(state.configuration, self._replication.match_index)
        if index <= state.commit_index or state.log.term_at(index) != state.term:
            return
        state.commit(index)
        if state.log.configuration_index > index:
            return
        if state.configuration.is_joint:
            self._configure(configuration.leave(state.configuration))
        elif self._let_go_at is not None and self._let_go_at <= index:
            self._let_go_at = None
            self._replication.let_go()
            self._finish_change()
            if not state.configuration.is_voter(state.me):
                self._resign_as_removed()

    # -- messages

    def on_message(self, sender: NodeId, message: Message) -> bool:
        """An answer of our term, or a question. Returns whether it meant anything to us."""
        if isinstance(message, ReadIndex):
            self.read(PendingRead(message.context, sender), message.lease)
            return True
        progress = self._replication.followers.get(sender)
        if progress is None:
            return False
        progress.heard_at = self._state.now
        match message:
            case AppendEntriesReply():
                if self._replication.on_reply(sender, message) and self._change is not None:
                    self._on_match(sender, progress.match_index)
            case HeartbeatReply():
                self._replication.on_heartbeat_reply(sender, min(message.round, self._rounds.newest), message.priority)
            case InstallSnapshotReply():
                self._replication.on_snapshot_reply(sender, message)
            case _:
                return False
        return True

    def on_connection_lost(self, peer: NodeId) -> None:
        if peer in self._replication.followers:
            self._replication.on_connection_lost(peer)

    def on_chunk_read(self, chunk: ChunkRead) -> None:
        self._replication.on_chunk_read(chunk)

    # -- reads

    def read(self, read: PendingRead, lease: bool) -> None:
        state = self._state
        if len(self._reads) >= state.settings.reads_max:
            if read.origin is None:  # another node's question times out there
                state.refuse(read.number, Refusal.OVERLOADED, f"reads_max={state.settings.reads_max} reads wait")
        elif lease and self._knows_commit_index() and state.now < self._lease_until():
            self._serve(state.commit_index, read)
        else:
            self._reads.add(read)

    def _knows_commit_index(self) -> bool:
        return self._state.commit_index >= self._first_index

    def _lease_until(self) -> float:
        if self._lease_is_over:
            return -math.inf
        return self._rounds.lease_until(self._agreed_round(), self._state.settings)

    def void_lease(self) -> None:
        """Until a round that begins from now on is answered."""
        self._rounds.void()

    def _agreed_round(self) -> int:
        return agreed(self._state.configuration, self._round_of)

    def _round_of(self, node: NodeId) -> int:
        return self._rounds.newest if node == self._state.me else self._replication.followers[node].round

    def _serve(self, index: LogIndex, read: PendingRead) -> None:
        if read.origin is None:
            self._state.answer_when_applied(index, read.number)
        else:
            self._state.send(read.origin, ReadIndexReply(self._state.term, read.number, index))

    def _confirm_reads(self) -> None:
        """Serve whose round was answered; begin one for those that wait, unless one is out."""
        agreed_round = self._agreed_round()
        self._rounds.forget_before(agreed_round)
        if self._reads.is_waiting and self._knows_commit_index() and agreed_round == self._rounds.newest:
            self._beat()
            agreed_round = self._agreed_round()  # alone in the group we need nobody's answer
        for index, read in self._reads.on_agreed(agreed_round):
            self._serve(index, read)

    def _beat(self) -> None:
        state = self._state
        number = self._rounds.begin(state.now)
        if self._knows_commit_index():
            self._reads.on_round(number, state.commit_index)
        ranks = self._replication.ranks()
        self._replication.broadcast_heartbeat(number, lambda node: ranks.get(node, -1), state.settings.lease_s)
        self._heartbeat_at = state.now + state.settings.heartbeat_interval_s

    # -- members

    def change(self, change: ChangeMembers) -> None:
        state = self._state
        current = state.configuration
        problem = flaw_of_change(current, change)
        if problem is not None:
            state.refuse(change.request, Refusal.INVALID, problem)
        elif self._transfer is not None:
            state.refuse(change.request, Refusal.TRANSFERRING, f"to {self._transfer.target}; try again")
        elif self._change is not None or current.is_joint or not self._configuration_is_committed():
            state.refuse(change.request, Refusal.CHANGE_UNDER_WAY, "wait for it, then ask again")
        elif (change.voters, change.learners) == (frozenset(current.voters), frozenset(current.learners)):
            state.answer(Answer(change.request, Outcome.DONE, leader=state.me, index=state.commit_index))
        else:
            newcomers = change.voters - frozenset(current.voters)
            timeout_s = state.settings.catch_up_timeout_s
            self._change = MemberChange(change, newcomers, state.log.last_index, state.now, timeout_s)
            if newcomers - frozenset(current.learners):
                self._configure(configuration.with_learners(current, newcomers))
            for node in newcomers:
                if node in self._replication.followers:
                    self._on_match(node, self._replication.followers[node].match_index)

    def _configuration_is_committed(self) -> bool:
        """Also by us: until we committed something we do not know what earlier leaders left. Section 4.1, the bug."""
        return self._knows_commit_index() and self._state.log.configuration_index <= self._state.commit_index

    def _on_match(self, node: NodeId, match_index: LogIndex) -> None:
        assert self._change is not None
        state = self._state
        self._change.on_match(node, match_index, state.log.last_index, state.now, state.settings.election_timeout_s)

    def _promote(self) -> None:
        """Leave step 1 when the newcomers have caught up and are known as learners."""
        change, state = self._change, self._state
        if change is None or change.is_catching_up or state.configuration.is_joint:
            return
        if self._configuration_is_committed():
            wanted = change.wanted
            self._configure(configuration.enter(state.configuration, wanted.voters, wanted.learners))

    def _configure(self, after: Configuration) -> None:
        """Append a configuration, which is in force from then on."""
        index = self._append(EntryKind.CONFIGURATION, configuration.encode(after))
        self._replication.configure()
        change = self._change
        is_final = not after.is_joint and (change is None or not change.is_catching_up)
        self._let_go_at = index if is_final else None
        if self._transfer is not None and self._transfer.target not in after.voters:
            self._end_transfer(Refusal.INVALID, f"{self._transfer.target} votes no more")

    def _finish_change(self) -> None:
        if self._change is not None:
            request, self._change = self._change.wanted.request, None
            self._state.answer(
                Answer(request, Outcome.DONE, leader=self._state.me, index=self._state.log.configuration_index)
            )

    def _resign_as_removed(self) -> None:
        """Hand over to the voter furthest along, which need not wait for our silence. Section 4.2.2."""
        heir = self._furthest()
        if heir is not None:
            self._state.send(heir, TimeoutNow(self._state.term))
        self.resignation = Resignation(Cause.REMOVED, f"handed over to {heir}" if heir else "nobody is up to date")

    # -- handing over

    def transfer(self, wanted: TransferLeadership) -> None:
        state = self._state
        target = wanted.target or self._furthest(behind=True)
        if target is None or target == state.me or target not in state.configuration.voters:
            detail = f"{target or 'nobody'} is no voter that could take over"
            state.refuse(wanted.request, Refusal.INVALID, detail)
            return
        if self._transfer is not None:
            self._end_transfer(Refusal.SUPERSEDED, f"now to {target}")
        self._transfer = _Transfer(wanted.request, target, state.now + state.settings.election_timeout_s)

    def _furthest(self, *, behind: bool = False) -> NodeId | None:
        """The voter that holds most, and all unless `behind`; one that was heard lately, if there is any."""
        fresh_at = self._state.now - self._state.settings.election_timeout_s
        voters = [
            (it.heard_at > fresh_at, it.match_index, it.priority, it.heard_at, node)
            for node, it in self._replication.followers.items()
            if node in self._state.configuration.voters and (behind or it.match_index == self._state.log.last_index)
        ]
        return max(voters)[-1] if voters else None

    def _tell_target(self) -> None:
        transfer = self._transfer
        if transfer is None or transfer.is_told:
            return
        if self._replication.match_index(transfer.target) == self._state.log.last_index:
            transfer.is_told = True
            self._lease_is_over = True
            self._state.send(transfer.target, TimeoutNow(self._state.term))

    def _end_transfer(self, refusal: Refusal, detail: str) -> None:
        assert self._transfer is not None
        request, is_told = self._transfer.request, self._transfer.is_told
        self._transfer = None
        if is_told:  # the message cannot be called back
            self._state.answer(Answer(request, Outcome.UNKNOWN, refusal, self._state.leader, detail=detail))
        else:
            self._state.refuse(request, refusal, detail)

    # -- time

    def on_tick(self) -> None:
        state = self._state
        silent_at = self._quorum_heard_at() + state.settings.election_timeout_s
        if state.now >= silent_at:
            self.resignation = Resignation(Cause.QUORUM_LOST, f"nothing heard from {', '.join(self._silent())}")
            return
        if state.now >= self._heartbeat_at:
            self._beat()
        self._replication.on_tick()
        if self._transfer is not None and state.now >= self._transfer.deadline:
            self._end_transfer(Refusal.TIMED_OUT, f"{self._transfer.target} did not take over in time")
        change = self._change
        if change is not None and change.is_catching_up and state.now >= change.deadline:
            self._change = None
            detail = f"{', '.join(change.laggards)}; they stay learners"
            self._state.refuse(change.wanted.request, Refusal.NOT_CAUGHT_UP, detail)

    def _quorum_heard_at(self) -> float:
        return agreed(self._state.configuration, self._heard_at)

    def _heard_at(self, node: NodeId) -> float:
        return math.inf if node == self._state.me else self._replication.followers[node].heard_at

    def _silent(self) -> list[NodeId]:
        oldest = self._state.now - self._state.settings.election_timeout_s
        voters = {*self._state.configuration.voters, *self._state.configuration.outgoing}
        return sorted(node for node in voters if self._heard_at(node) <= oldest)

    def next_deadline(self) -> float:
        return min(
            self._heartbeat_at,
            self._quorum_heard_at() + self._state.settings.election_timeout_s,
            self._transfer.deadline if self._transfer is not None else math.inf,
            self._change.deadline if self._change is not None and self._change.is_catching_up else math.inf,
            *self._replication.deadlines(),
        )

    # -- at the end of each input, and of it all

    def settle(self) -> None:
        """Draw the conclusions of an input: commit, then send what that leaves to send."""
        self._advance()
        if self.resignation is not None:
            return
        self._promote()
        self._confirm_reads()
        self._replication.pump()
        self._tell_target()

    def close(self) -> tuple[int, NodeId] | None:
        """It is over: answer everybody who waits.

        Returns:
            The request and target of a transfer that was under way: the next leader tells how it ended.
        """
        state = self._state
        for read in self._reads.take_all():
            if read.origin is None:
                state.refuse(read.number, Refusal.NOT_LEADER)
        for index in [index for index in state.requests if index > state.commit_index]:
            state.answer(Answer(state.requests.pop(index), Outcome.UNKNOWN, Refusal.NOT_LEADER, state.leader))
        if self._change is not None:
            request = self._change.wanted.request
            state.answer(Answer(request, Outcome.UNKNOWN, Refusal.NOT_LEADER, state.leader))
        return (self._transfer.request, self._transfer.target) if self._transfer is not None else None

    def peers(self) -> dict[NodeId, PeerStatus]:
        now = self._state.now
        return {
            node: PeerStatus(it.state, it.match_index, it.next_index, it.inflight_messages, now - it.heard_at)
            for node, it in self._replication.followers.items()
        }
