"""What goes into the Raft core and what comes out of it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.configuration import Configuration
from consensus.raft.messages import Entry, Message, Snapshot

__all__ = (
    "Answer",
    "Apply",
    "Cause",
    "ChangeMembers",
    "Changed",
    "ChunkRead",
    "ClockJumped",
    "Compact",
    "ConnectionLost",
    "Durable",
    "Effect",
    "Input",
    "Outcome",
    "PeerStatus",
    "Persist",
    "PersistFailed",
    "Persisted",
    "ProgressState",
    "Proposal",
    "Propose",
    "RaftStatus",
    "Read",
    "ReadChunk",
    "Received",
    "Refusal",
    "Restore",
    "Role",
    "Send",
    "SnapshotFailed",
    "SnapshotTaken",
    "StoreChunk",
    "TakeSnapshot",
    "Tick",
    "TransferLeadership",
)


_ZERO_TERM: Final = Term(0)
_ZERO_INDEX: Final = LogIndex(0)


class Role(enum.Enum):
    """What a node is in its group. A learner is a follower that does not vote."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"  # asks whether it would be elected
    CANDIDATE = "candidate"
    LEADER = "leader"
    STOPPED = "stopped"  # its disk failed, or it found its log in contradiction: it takes part in nothing any more


class Cause(enum.Enum):
    """Why a role, a term or a leader changed."""

    STARTED = "started"
    ELECTION_TIMEOUT = "no leader was heard for an election timeout"
    CONNECTION_LOST = "the connection to the leader was lost"
    TRANSFER = "the leader handed over"
    PRE_VOTE_WON = "a majority would vote for us"
    ELECTED = "a majority voted for us"
    ELECTION_LOST = "a majority refused its vote"
    LEADER_HEARD = "a leader was heard"
    HIGHER_TERM = "a higher term was seen"
    QUORUM_LOST = "no majority was heard for an election timeout"
    REMOVED = "the new configuration does not let us vote"
    STORAGE_FAILED = "the disk failed"
    LOG_CONTRADICTED = "a leader contradicted what is committed"


class Outcome(enum.Enum):
    """What became of a request."""

    DONE = "done"
    REFUSED = "refused"  # certainly without effect
    UNKNOWN = "unknown"  # it may yet take effect


class Refusal(enum.Enum):
    """Why a request was refused."""

    NOT_LEADER = "not the leader"  # ask `leader`, if there is one
    NO_ANSWER = "no answer from the leader"
    OVERLOADED = "too much is under way"
    TOO_LARGE = "too large"
    TRANSFERRING = "leadership is being handed over"
    CHANGE_UNDER_WAY = "another change of members is under way"
    INVALID = "makes no sense here"
    NOT_CAUGHT_UP = "a newcomer did not catch up"
    TIMED_OUT = "timed out"
    SUPERSEDED = "another request took its place"
    STOPPED = "this node has stopped"


class ProgressState(enum.Enum):
    """How a leader sends to one follower."""

    PROBE = "probe"  # one append at a time, until we know where its log agrees with ours
    REPLICATE = "replicate"  # many at a time
    SNAPSHOT = "snapshot"  # none: it receives a snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class Durable:
    """What the disk holds at the start.

    For a new group every founding member gets the same `snapshot`: index 0, term 0 and the founding configuration. A
    node that will be added to a group starts with an empty configuration, which never campaigns.
    """

    snapshot: Snapshot
    entries: tuple[Entry, ...] = ()
    term: Term = _ZERO_TERM
    voted_for: NodeId | None = None
    applied_index: LogIndex = _ZERO_INDEX  # what the state machine kept, if it is on the disk; else the snapshot's
    # The log once reached this (index, term) on the disk, and may have lost what it answered for since. Until it is
    # that long again the node neither votes nor campaigns, and it never votes in that term.
    floor: tuple[LogIndex, Term] = (_ZERO_INDEX, _ZERO_TERM)


# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message came in. `sender` is who the connection's handshake said it is."""

    sender: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """A command for the state machine. `request` is the driver's number for it."""

    request: int
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Propose:
    """Put these into the log, in this order. Give all that came in one pass at once: they share a write."""

    proposals: tuple[Proposal, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """From when on may the state machine be read, so that all that was answered before is seen?"""

    request: int
    lease: bool = False  # a lease will do, if there is one


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeMembers:
    """Make these the voters and these the learners."""

    request: int
    voters: frozenset[NodeId]
    learners: frozenset[NodeId] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Hand over to a voter; to the one furthest along if none is named."""

    request: int
    target: NodeId | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Persisted:
    """The write with this token and all before it are on the disk."""

    token: int


@dataclasses.dataclass(frozen=True, slots=True)
class PersistFailed:
    """A write failed. Nothing is known of the disk any more."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection to a peer ended, or a failure detector gave it up."""

    peer: NodeId
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The snapshot asked for by `TakeSnapshot` is on the disk."""

    index: LogIndex
    size: int
    digest: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """It could not be taken."""

    index: LogIndex


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkRead:
    """The piece asked for by `ReadChunk`; None if that snapshot is not there any more."""

    peer: NodeId
    index: LogIndex
    offset: int
    data: bytes | None


@dataclasses.dataclass(frozen=True, slots=True)
class ClockJumped:
    """The clocks disagree about how much time passed: no lease that was counted with them holds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """`next_deadline` has come."""


Input = (
    Received
    | Propose
    | Read
    | ChangeMembers
    | TransferLeadership
    | Persisted
    | PersistFailed
    | ConnectionLost
    | SnapshotTaken
    | SnapshotFailed
    | ChunkRead
    | ClockJumped
    | Tick
)

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send to `peer` if there is a way to it; may be lost."""

    peer: NodeId
    message: Message


@dataclasses.dataclass(frozen=True, slots=True)
class Persist:
    """Write term, vote and entries to the disk, at once or not at all, then give `Persisted(token)`.

    The entries replace everything in the log from the first one's index on.
    """

    token: int
    term: Term
    voted_for: NodeId | None
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Apply:
    """These are committed, and on our disk. `requests` are the proposals of this node among them, to be answered."""

    entries: tuple[Entry, ...]
    requests: Mapping[LogIndex, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request other than a proposal that was applied.

    A read that is DONE may be carried out now: everything up to `index` went out as `Apply` before.
    """

    request: int
    outcome: Outcome
    refusal: Refusal | None = None
    leader: NodeId | None = None  # as far as we know
    index: LogIndex = _ZERO_INDEX
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """Our role, term or leader is another one."""

    role: Role
    term: Term
    leader: NodeId | None
    cause: Cause
    at: float
    by: NodeId | None = None  # whose message it was
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Take a snapshot of the state machine as it is after the last `Apply`, then give `SnapshotTaken`.

    Keep index, term and configuration with it: a restart needs them.
    """

    index: LogIndex
    term: Term
    configuration: Configuration


@dataclasses.dataclass(frozen=True, slots=True)
class Compact:
    """`snapshot` is the one to restart from. Entries up to its index may be deleted, in the same write or later."""

    snapshot: Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class ReadChunk:
    """Read a piece of a snapshot of ours, then give `ChunkRead`."""

    peer: NodeId
    snapshot: Snapshot
    offset: int
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class StoreChunk:
    """Write a piece of a snapshot that we receive, then give `Persisted(token)`; it need not survive a crash.

    At offset 0 it replaces what was received before.
    """

    token: int
    snapshot: Snapshot
    offset: int
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Restore:
    """The snapshot received is whole. Make it the one to restart from, with an empty log, and load it.

    Then give `Persisted(token)`.
    """

    token: int
    snapshot: Snapshot
    term: Term
    voted_for: NodeId | None


Effect = Send | Persist | Apply | Answer | Changed | TakeSnapshot | Compact | ReadChunk | StoreChunk | Restore

# -- what can be asked of it


@dataclasses.dataclass(frozen=True, slots=True)
class PeerStatus:
    """One follower as its leader sees it."""

    state: ProgressState
    match_index: LogIndex
    next_index: LogIndex
    inflight_messages: int
    contact_age_s: float  # since it was last heard


@dataclasses.dataclass(frozen=True, slots=True)
class RaftStatus:
    """Where a node stands."""

    role: Role
    term: Term
    leader: NodeId | None
    voted_for: NodeId | None
    configuration: Configuration
    first_index: LogIndex
    last_index: LogIndex
    stable_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    snapshot_index: LogIndex
    peers: Mapping[NodeId, PeerStatus]  # of a leader
    history: tuple[Changed, ...]  # the last role changes, oldest first
    elections: int  # that we began, since the start
    messages_ignored: int  # stale, from strangers, or nonsense where we are
