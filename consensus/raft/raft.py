"""Raft: one log that a group agrees on, as one member sees it.

The problem: a few nodes hold copies of a log; some of them fail, messages are lost, late, doubled and out of order;
what was once answered as done must stay done. Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014) elects
one leader a term, lets only that one append, and calls an entry committed when a majority holds it. Five properties
(figure 3.2) carry the proof, and the tests check them after every step: at most one leader a term; leaders only
append; logs that agree on an entry agree on all before it; a leader holds everything committed before its term; and
no two state machines apply different entries at one index.

Where to look: who may vote is in `configuration` and `quorum`; when to ask for votes in `election`; what a leader
does in `leadership`, how it sends in `replication` and `progress`; what waits for the disk in `durability`; reads in
`reads`; snapshots in `snapshots`; one change of members in `membership`; a follower's answers in `follower`. This
module holds the roles, and how one becomes another.

Where we go beyond the dissertation or depart from it, and why:

- A PreVote (section 9.6) and the refusal to vote while a leader is heard (section 4.2.3) come always, and a leader
  steps down without a majority (section 6.2): a node cut off for a while disturbs nobody when it comes back.
- A follower whose connection to the leader ends forgets it at once (`election`); the others then do not refuse.
- Writes are asynchronous, at the leader and at followers (section 10.2 has the leader's half); see `durability`.
- Configurations take effect when appended, as in the dissertation, and every change of voters is joint.
- A node whose disk lost its newest entries (`Durable.floor`) takes part without a vote until it has them back.
- A node whose disk failed stops for good: what it holds in memory is worth nothing to anybody.

The driver's duties, in order:

1. Build the core from what the disk holds. Never start a node with another's disk, nor without what it had.
2. For each input call `handle(input, now)`, with a clock that never goes back and counts suspended time if it can,
   and carry out the effects in their order. `Send` may fail. `Persist`, `StoreChunk` and `Restore` go to the storage
   thread, which carries them out in order and may share one fsync among several; give `Persisted` with the last token
   done. Not before the fsync returned; and if it fails, `PersistFailed`, and nothing more is written in this process.
3. `Apply` entries of kind COMMAND in order, and answer the requests named in it with their results. After `Restore`
   the state machine is the snapshot's: let later `Apply`s and reads wait until it is loaded.
4. Carry out a read when its `Answer` is DONE, against the state machine as it is then or later.
5. Keep the files of a snapshot while `ReadChunk`s ask for it; when it is gone, say so with `data=None`.
6. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
7. Give `ConnectionLost` for every connection that ended, also if the peer was back at once: it may have started anew.
8. Messages are checked with `messages.flaw` (`decode` does) before they come in here.
"""

import math
import random
from collections.abc import Sequence
from typing import assert_never

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.election import ElectionTimer
from consensus.raft.follower import Follower
from consensus.raft.interface import (
    Answer,
    Cause,
    ChangeMembers,
    ChunkRead,
    ClockJumped,
    Compact,
    ConnectionLost,
    Durable,
    Effect,
    Input,
    Outcome,
    Persisted,
    PersistFailed,
    Propose,
    RaftStatus,
    Read,
    Received,
    Refusal,
    Role,
    SnapshotFailed,
    SnapshotTaken,
    Tick,
    TransferLeadership,
)
from consensus.raft.leadership import Leadership
from consensus.raft.messages import (
    AppendEntries,
    Entry,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from consensus.raft.quorum import VoteResult, vote_result
from consensus.raft.reads import ForwardedReads, PendingRead
from consensus.raft.settings import RaftSettings
from consensus.raft.state import State

__all__ = ("Raft",)


class Raft:
    """One member of a group. See the module for the driver's duties.

    Args:
        me: Our node id, the one that configurations name.
        durable: What our disk holds.
        settings: How to behave.
        chance: Where election timeouts are drawn from.
        now: Monotonic seconds.
    """

    def __init__(self, me: NodeId, durable: Durable, settings: RaftSettings, chance: random.Random, now: float) -> None:
        self._state = State(me, durable, settings, chance, now)
        self._timer = ElectionTimer(settings, chance, now)
        if self._state.configuration.voters == (me,):
            self._timer.deadline = now  # nobody to wait for
        self._leadership: Leadership | None = None
        self._forwarded = ForwardedReads(settings.election_timeout_s, chance)
        self._follower = Follower(self._state)
        self._votes: dict[NodeId, bool] = {}
        self._unreachable: set[NodeId] = set()  # lost, and not heard since
        # We may have promised a leader just before we stopped.
        self._promised_until = now + settings.lease_s
        self._handed_over: tuple[int, NodeId] | None = None
        self._elections = 0
        self._ignored = 0

    # -- what the driver calls

    def handle(self, item: Input, now: float) -> list[Effect]:
        """Take one input; returns what is to be done, in order."""
        state = self._state
        state.now = now
        if state.role is Role.STOPPED:
            self._refuse_as_stopped(item)
            return state.flush()
        match item:
            case Received():
                self._on_message(item.sender, item.message)
            case Persisted():
                self._on_persisted(item.token)
            case Propose():
                self._on_propose(item)
            case Read():
                self._on_read(item)
            case Tick():
                self._on_tick()
            case ConnectionLost():
                self._on_connection_lost(item)
            case ChangeMembers():
                if self._leadership is None:
                    state.refuse(item.request, Refusal.NOT_LEADER)
                else:
                    self._leadership.change(item)
            case TransferLeadership():
                if self._leadership is None:
                    state.refuse(item.request, Refusal.NOT_LEADER)
                else:
                    self._leadership.transfer(item)
            case ChunkRead():
                if self._leadership is not None:
                    self._leadership.on_chunk_read(item)
            case SnapshotTaken():
                snapshot = state.on_snapshot_taken(item.index, item.size, item.digest)
                if snapshot is not None:
                    state.emit(Compact(snapshot))
            case SnapshotFailed():
                state.on_snapshot_failed(item.index)
            case ClockJumped():
                if self._leadership is not None:
                    self._leadership.void_lease()
            case PersistFailed():
                self._stop(Cause.STORAGE_FAILED, item.reason)
            case _:
                assert_never(item)
        self._settle()
        return state.flush()

    def next_deadline(self) -> float | None:
        """When `Tick` is due; None while nothing is."""
        state = self._state
        if state.role is Role.STOPPED:
            return None
        deadline = self._forwarded.deadline
        if self._leadership is not None:
            deadline = min(deadline, self._leadership.next_deadline())
        elif state.may_campaign or state.leader is not None:
            deadline = min(deadline, self._timer.deadline)
        return None if math.isinf(deadline) else deadline

    def status(self) -> RaftStatus:
        """Where we stand."""
        state = self._state
        return RaftStatus(
            role=state.role,
            term=state.term,
            leader=state.leader,
            voted_for=state.voted_for,
            configuration=state.configuration,
            first_index=LogIndex(state.log.base_index + 1),
            last_index=state.log.last_index,
            stable_index=state.durability.stable_index,
            commit_index=state.commit_index,
            applied_index=state.applied_index,
            snapshot_index=state.log.snapshot.index,
            peers=self._leadership.peers() if self._leadership is not None else {},
            history=tuple(state.history),
            elections=self._elections,
            messages_ignored=self._ignored,
        )

    def entries(self) -> tuple[Entry, ...]:
        """The log that is in memory, for tools and tests."""
        log = self._state.log
        return log.entries(LogIndex(log.base_index + 1), log.last_index)

    # -- inputs

    def _on_persisted(self, token: int) -> None:
        self._state.on_persisted(token)
        if self._state.role is Role.CANDIDATE and self._state.is_vote_stable:
            self._on_vote(self._state.me, True)

    def _on_propose(self, item: Propose) -> None:
        if self._leadership is not None:
            self._leadership.propose(item.proposals)
            return
        for proposal in item.proposals:
            self._state.refuse(proposal.request, Refusal.NOT_LEADER)

    def _on_read(self, item: Read) -> None:
        state = self._state
        if self._leadership is not None:
            self._leadership.read(PendingRead(item.request), item.lease)
        elif state.leader is None:
            state.refuse(item.request, Refusal.NOT_LEADER, "no leader is known")
        elif len(self._forwarded) + state.reads_count >= state.settings.reads_max:
            state.refuse(item.request, Refusal.OVERLOADED, f"reads_max={state.settings.reads_max} reads wait")
        else:
            self._forwarded.add(item.request, item.lease)

    def _on_connection_lost(self, item: ConnectionLost) -> None:
        state = self._state
        if item.peer in state.configuration.members:
            self._unreachable.add(item.peer)
        if self._leadership is not None:
            self._leadership.on_connection_lost(item.peer)
        elif item.peer == state.leader:
            self._timer.on_connection_lost(state.now)
            self._become_follower(state.term, None, Cause.CONNECTION_LOST, item.peer, item.detail)
        elif state.role is Role.CANDIDATE:
            self._conclude()

    def _on_tick(self) -> None:
        state = self._state
        if self._leadership is not None:
            self._leadership.on_tick()
        elif state.now >= self._timer.deadline:
            self._on_election_timeout()
        if state.now >= self._forwarded.deadline:
            for request in self._forwarded.take_all():
                state.refuse(request, Refusal.NO_ANSWER, f"from {state.leader}; read again")

    def _settle(self) -> None:
        """What follows from an input, whichever it was."""
        state = self._state
        if self._leadership is not None:
            self._leadership.settle()
            resignation = self._leadership.resignation
            if resignation is not None:
                self._become_follower(state.term, None, resignation.cause, None, resignation.detail)
        elif state.leader is not None:
            question = self._forwarded.ask(state.now)
            if question is not None:
                state.send(state.leader, ReadIndex(state.term, *question))

    # -- messages

    def _on_message(self, sender: NodeId, message: Message) -> None:
        state = self._state
        self._unreachable.discard(sender)
        if isinstance(message, PreVote):
            self._on_pre_vote(sender, message)
            return
        if isinstance(message, PreVoteReply) and message.granted:
            if state.role is Role.PRE_CANDIDATE and message.term == state.term + 1:
                self._on_vote(sender, True)
            return
        if isinstance(message, RequestVote) and not message.transfer and self._is_loyal(sender):
            self._ignored += 1  # a leader is there; its next append tells the candidate
            return
        if message.term < state.term:
            self._on_stale(sender, message)
            return
        if message.term > state.term:
            leader = sender if isinstance(message, _FROM_LEADER) else None
            detail = f"{type(message).__name__} of term {message.term}, ours was {state.term}"
            self._become_follower(message.term, leader, Cause.HIGHER_TERM, sender, detail)
        if not self._dispatch(sender, message):
            self._ignored += 1

    def _dispatch(self, sender: NodeId, message: Message) -> bool:
        """A message of our term. Returns whether it meant anything to us."""
        state = self._state
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                return self._on_leader(sender, message)
            case RequestVote():
                self._on_request_vote(sender, message)
            case RequestVoteReply():
                if state.role is not Role.CANDIDATE:
                    return False
                self._on_vote(sender, message.granted)
            case PreVoteReply():  # a refusal
                if state.role is not Role.PRE_CANDIDATE:
                    return False
                self._on_vote(sender, False)
            case TimeoutNow():
                if state.role is not Role.FOLLOWER or state.leader != sender or not state.may_campaign:
                    return False
                self._campaign(Cause.TRANSFER, by=sender)
            case ReadIndexReply():
                for request in self._forwarded.on_answer(message.context):
                    state.answer_when_applied(message.index, request)
            case _:
                return self._leadership is not None and self._leadership.on_message(sender, message)
        return True

    def _on_stale(self, sender: NodeId, message: Message) -> None:
        """A message of an earlier term. Its sender must learn of ours: a leader steps down, a candidate catches up."""
        state = self._state
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                state.send(sender, HeartbeatReply(state.term, 0, state.settings.priority))
            case RequestVote():
                state.send(sender, RequestVoteReply(state.term, False))
            case PreVoteReply() if state.role is Role.PRE_CANDIDATE:
                self._on_vote(sender, False)  # a voter that is behind us may refuse, too
            case _:
                self._ignored += 1

    # -- elections

    def _is_loyal(self, asker: NodeId) -> bool:
        """Whether we refuse to elect another, because we lead, or hear who does, or promised to."""
        state = self._state
        if asker == state.leader:
            return False  # it started anew
        if state.role is Role.LEADER or state.now < self._promised_until:
            return True
        return state.leader is not None and self._timer.is_fresh(state.now)

    def _on_pre_vote(self, sender: NodeId, message: PreVote) -> None:
        state = self._state
        granted = (
            self._could_vote(sender, message.term)
            and not self._is_loyal(sender)
            and not state.is_impaired
            and state.log.is_up_to_date(message.last_index, message.last_term)
        )
        state.send(sender, PreVoteReply(message.term if granted else state.term, granted))

    def _could_vote(self, candidate: NodeId, term: Term) -> bool:
        """Whether our vote of that term is free, or the candidate's already."""
        state = self._state
        if term != state.term:
            return term > state.term
        return state.voted_for == candidate or (state.voted_for is None and state.leader is None)

    def _on_request_vote(self, sender: NodeId, message: RequestVote) -> None:
        state = self._state
        granted = (
            self._could_vote(sender, message.term)
            and not state.is_impaired
            and state.log.is_up_to_date(message.last_index, message.last_term)
        )
        if granted:
            if state.voted_for is None:
                state.set_term(state.term, sender)
            self._timer.restart(state.now)
        state.send(sender, RequestVoteReply(state.term, granted))

    def _on_election_timeout(self) -> None:
        state = self._state
        if not state.may_campaign:
            self._timer.restart(state.now)
            if state.leader is not None:
                self._become_follower(state.term, None, Cause.ELECTION_TIMEOUT)
        elif state.now < self._promised_until:
            self._timer.deadline = self._promised_until
        else:
            self._pre_campaign()

    def _pre_campaign(self) -> None:
        state = self._state
        if state.role is not Role.PRE_CANDIDATE:
            is_lost = state.history[-1].cause is Cause.CONNECTION_LOST
            cause = Cause.CONNECTION_LOST if is_lost else Cause.ELECTION_TIMEOUT
            self._votes = {state.me: True}
            self._become(Role.PRE_CANDIDATE, cause)
        self._timer.retry(state.now)
        question = PreVote(Term(state.term + 1), state.log.last_index, state.log.last_term)
        for node in self._other_voters():
            if self._votes.get(node) is not True:
                state.send(node, question)
        self._conclude()

    def _campaign(self, cause: Cause, by: NodeId | None = None) -> None:
        state = self._state
        self._elections += 1
        state.set_term(Term(state.term + 1), state.me)
        self._votes = {}  # our own counts when it is on the disk
        self._timer.restart(state.now)
        self._become(Role.CANDIDATE, cause, by)
        transfer = cause is Cause.TRANSFER
        question = RequestVote(state.term, state.log.last_index, state.log.last_term, transfer)
        for node in self._other_voters():
            # It leaves when our vote is on the disk, and with it all that our log holds now: a vote that is given for
            # an entry must not outlive the entry.
            state.send(node, question)

    def _other_voters(self) -> list[NodeId]:
        configuration = self._state.configuration
        return sorted({*configuration.voters, *configuration.outgoing} - {self._state.me})

    def _on_vote(self, voter: NodeId, granted: bool) -> None:
        self._votes[voter] = granted
        self._conclude()

    def _conclude(self) -> None:
        """Draw the conclusion from the votes so far."""
        state = self._state
        result = vote_result(state.configuration, self._votes)
        if result is VoteResult.WON:
            if state.role is Role.PRE_CANDIDATE:
                self._campaign(Cause.PRE_VOTE_WON)
            else:
                self._lead()
        elif state.role is Role.CANDIDATE:
            # Those whose connection is lost will hardly answer: if it cannot be won without them, do not wait for T.
            silent = {node: False for node in self._unreachable if node not in self._votes}
            if vote_result(state.configuration, {**self._votes, **silent}) is VoteResult.LOST:
                self._timer.retry(state.now)
                self._become_follower(state.term, None, Cause.ELECTION_LOST, None, self._count_votes())

    def _count_votes(self) -> str:
        granted = sorted(node for node, vote in self._votes.items() if vote)
        refused = sorted(node for node, vote in self._votes.items() if not vote)
        return f"granted by {', '.join(granted) or 'nobody'}, refused by {', '.join(refused) or 'nobody'}"

    # -- roles

    def _become(self, role: Role, cause: Cause, by: NodeId | None = None, detail: str = "") -> None:
        """A candidate of some kind, or a leader."""
        state = self._state
        state.role = role
        self._set_leader(state.me if role is Role.LEADER else None)
        state.note(cause, by, detail)

    def _lead(self) -> None:
        state = self._state
        self._become(Role.LEADER, Cause.ELECTED, None, self._count_votes())
        self._leadership = Leadership(state)

    def _become_follower(
        self, term: Term, leader: NodeId | None, cause: Cause, by: NodeId | None = None, detail: str = ""
    ) -> None:
        state = self._state
        before = (state.role, state.term, state.leader)
        if term > state.term:
            state.set_term(term, None)
        state.role = Role.FOLLOWER
        state.durability.drop_candidacy()
        self._end_leadership()
        self._set_leader(leader)
        if (state.role, state.term, state.leader) != before:
            state.note(cause, by, detail)

    def _end_leadership(self) -> None:
        if self._leadership is not None:
            self._state.leader = None
            self._handed_over = self._leadership.close()
            self._leadership = None
            self._timer.restart(self._state.now)

    def _set_leader(self, leader: NodeId | None) -> None:
        """Whoever waits for another leader, or for any, learns of it."""
        state = self._state
        changed = leader != state.leader
        state.leader = leader
        if changed:
            for request in self._forwarded.take_all():
                state.refuse(request, Refusal.NO_ANSWER, "the leader changed; read again")
        if self._handed_over is not None and (leader is not None or state.role is not Role.FOLLOWER):
            request, target = self._handed_over
            self._handed_over = None
            outcome = Outcome.DONE if leader == target else Outcome.UNKNOWN
            state.answer(Answer(request, outcome, leader=leader))

    def _stop(self, cause: Cause, detail: str, by: NodeId | None = None) -> None:
        """Take part in nothing any more. What waits for the disk never leaves."""
        state = self._state
        state.role = Role.STOPPED
        self._end_leadership()
        self._set_leader(None)
        state.abandon()
        state.note(cause, by, detail)

    def _refuse_as_stopped(self, item: Input) -> None:
        match item:
            case Propose():
                requests: Sequence[int] = [it.request for it in item.proposals]
            case Read() | ChangeMembers() | TransferLeadership():
                requests = [item.request]
            case _:
                requests = []
        why = self._state.history[-1]
        for request in requests:
            self._state.refuse(request, Refusal.STOPPED, f"{why.cause.value}: {why.detail}")

    def _on_leader(self, sender: NodeId, message: AppendEntries | Heartbeat | InstallSnapshot) -> bool:
        state = self._state
        if state.role is Role.LEADER or state.leader not in (None, sender):
            return False  # two leaders in one term: not by this protocol
        if state.role is not Role.FOLLOWER or state.leader is None:
            self._become_follower(state.term, sender, Cause.LEADER_HEARD, sender)
        if isinstance(message, Heartbeat):
            self._timer.rank = message.rank
        self._timer.on_leader(state.now, len(state.configuration.voters))
        match message:
            case Heartbeat():
                self._promised_until = max(self._promised_until, state.now + message.lease_s)
                self._follower.on_heartbeat(sender, message)
            case AppendEntries():
                if not self._follower.on_append(sender, message):
                    detail = f"at or below the committed index {state.commit_index}"
                    self._stop(Cause.LOG_CONTRADICTED, detail, sender)
            case InstallSnapshot():
                self._follower.on_install_snapshot(sender, message)
            case _:
                assert_never(message)
        return True


_FROM_LEADER = (AppendEntries, Heartbeat, InstallSnapshot)
