"""What members of a Raft group say to one another, and the bounds within which it is believed.

Messages are MessagePack arrays that begin with their name and version. Fields are only ever appended, with defaults,
and unknown ones at the end are ignored; what could not be read that way would be a new message beside the old one.
Every message carries the sender's term first, save `PreVote`, which carries the one that it would like to begin.
"""

import enum
from typing import Final

import msgspec

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex, Term
from consensus.raft import configuration
from consensus.raft.configuration import Configuration

__all__ = (
    "CHUNK_BYTES_MAX",
    "ENTRIES_MAX",
    "NUMBER_MAX",
    "AppendEntries",
    "AppendEntriesReply",
    "Entry",
    "EntryKind",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "InstallSnapshotReply",
    "Message",
    "PreVote",
    "PreVoteReply",
    "ReadIndex",
    "ReadIndexReply",
    "RequestVote",
    "RequestVoteReply",
    "Snapshot",
    "SnapshotState",
    "TimeoutNow",
    "decode",
    "encode",
    "flaw",
)

# What no honest node exceeds; past these a message is refused at the door.
NUMBER_MAX: Final = 2**53  # of terms and indexes: exact in every language's numbers
ENTRIES_MAX: Final = 65_536  # in one message
CHUNK_BYTES_MAX: Final = 4_194_304
_DIGEST_BYTES: Final = 32
_LEASE_MAX_S: Final = 3600.0


class EntryKind(enum.IntEnum):
    """What an entry is for."""

    COMMAND = 0  # of the state machine
    EMPTY = 1  # a leader's first: it commits what earlier terms left behind
    CONFIGURATION = 2  # `data` is an encoded Configuration


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One place in the log. Index and term together name it: two logs that hold it agree on all before it."""

    index: LogIndex
    term: Term
    kind: EntryKind
    data: bytes = b""


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot is of, and how to know its bytes."""

    index: LogIndex  # the last entry that it replaces
    term: Term  # of that entry
    configuration: Configuration = Configuration()  # in force there
    size: int = 0  # bytes
    digest: bytes = b""  # BLAKE3 of all of them


def _name(name: str) -> str:
    return f"{name}/1"


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Vote for me. Dissertation section 3.4."""

    term: Term
    last_index: LogIndex
    last_term: Term
    transfer: bool = False  # the leader asked me to: do not refuse because you heard it a moment ago. Section 4.2.3.


class RequestVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Whether the voter voted for us, in that term and for good."""

    term: Term
    granted: bool


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Would you vote for me? Changes nobody's term. Dissertation section 9.6."""

    term: Term  # that I would begin: one above mine
    last_index: LogIndex
    last_term: Term


class PreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Whether the voter would; a majority of such voters is worth a campaign."""

    term: Term  # granted: the one asked for; refused: the voter's own
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Entries that follow `prev_index`. Dissertation section 3.5."""

    term: Term
    prev_index: LogIndex
    prev_term: Term
    commit_index: LogIndex
    entries: tuple[Entry, ...] = ()


class AppendEntriesReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """How far the follower's log, as it is on its disk, agrees with the leader's; or where to look for that."""

    term: Term
    match_index: LogIndex  # of an acceptance
    rejected: bool = False
    prev_index: LogIndex = LogIndex(0)  # of a rejection: what did not match
    hint_index: LogIndex = LogIndex(0)  # of a rejection: nothing above it can match
    hint_term: Term = Term(0)  # the follower's term there
    priority: int = 0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """I lead. Its answers confirm reads and extend the lease. Dissertation section 6.4."""

    term: Term
    commit_index: LogIndex  # no higher than what this follower is known to hold
    round: int  # rises with each broadcast of one leader, echoed in the answer
    rank: int = -1  # your place in line, should I fall silent; -1 for one who does not vote
    lease_s: float = 0.0  # elect nobody else for this long after hearing this


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """I am here, and know no later leader."""

    term: Term
    round: int
    priority: int = 0


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """A piece of a snapshot; without data an offer, to learn where to begin. Dissertation section 5.3."""

    term: Term
    snapshot: Snapshot
    offset: int = 0
    data: bytes = b""


class SnapshotState(enum.IntEnum):
    """How a follower does with a snapshot."""

    WANTED = 0  # go on at `offset`
    REFUSED = 1  # the bytes were not what their digest says, or we are no member in it


class InstallSnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Where to go on. A snapshot that is installed is answered with an `AppendEntriesReply`."""

    term: Term
    index: LogIndex  # of the snapshot
    offset: int
    state: SnapshotState = SnapshotState.WANTED


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Campaign at once: I hand over to you. Dissertation section 3.10."""

    term: Term


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """From which index on may I read? Dissertation section 6.4.1."""

    term: Term
    context: int  # echoed
    lease: bool = False  # a lease will do


class ReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Everything answered before the question is applied once this index is."""

    term: Term
    context: int
    index: LogIndex


Message = (
    RequestVote
    | RequestVoteReply
    | PreVote
    | PreVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | msgspec.Raw) -> Message:
    """The message in these bytes, in bounds.

    Raises:
        RemoteProtocolError: They hold none, or an absurd one.
    """
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"no Raft message: {error}") from error
    problem = flaw(message)
    if problem is not None:
        raise RemoteProtocolError(f"no {type(message).__name__} that makes sense: {problem}")
    return message


def flaw(message: Message) -> str | None:
    """What makes a message absurd, or None if it may be handled."""
    if not 0 <= message.term <= NUMBER_MAX:
        return f"term {message.term} is out of range"
    match message:
        case AppendEntries():
            return _flaw_of_append(message)
        case AppendEntriesReply():
            return _out_of_range(message.match_index, message.prev_index, message.hint_index, message.hint_term)
        case InstallSnapshot():
            return _flaw_of_chunk(message)
        case RequestVote() | PreVote():
            return _out_of_range(message.last_index, message.last_term)
        case Heartbeat():
            if not 0.0 <= message.lease_s <= _LEASE_MAX_S:
                return f"a lease of {message.lease_s} s is out of range"
            return _out_of_range(message.commit_index, message.round)
        case HeartbeatReply():
            return _out_of_range(message.round)
        case InstallSnapshotReply():
            return _out_of_range(message.index, message.offset)
        case ReadIndexReply():
            return _out_of_range(message.index)
        case RequestVoteReply() | PreVoteReply() | TimeoutNow() | ReadIndex():
            return None


def _out_of_range(*numbers: int) -> str | None:
    absurd = [number for number in numbers if not 0 <= number <= NUMBER_MAX]
    return f"{absurd[0]} is out of range" if absurd else None


def _flaw_of_append(message: AppendEntries) -> str | None:
    if len(message.entries) > ENTRIES_MAX:
        return f"{len(message.entries)} entries are more than {ENTRIES_MAX}"
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        if entry.index != index + 1 or not term <= entry.term <= message.term:
            return f"entry ({entry.index}, {entry.term}) follows ({index}, {term}) in an append of term {message.term}"
        index, term = entry.index, entry.term
        if entry.kind is EntryKind.CONFIGURATION:
            try:
                configuration.decode(entry.data)
            except RemoteProtocolError as error:
                return str(error)
    return _out_of_range(message.prev_index, message.prev_term, message.commit_index, index)


def _flaw_of_chunk(message: InstallSnapshot) -> str | None:
    snapshot = message.snapshot
    if len(snapshot.digest) != _DIGEST_BYTES:
        return f"a digest of {len(snapshot.digest)} bytes, expected {_DIGEST_BYTES}"
    if len(message.data) > CHUNK_BYTES_MAX:
        return f"{len(message.data)} bytes are more than {CHUNK_BYTES_MAX}"
    if message.offset + len(message.data) > snapshot.size:
        return f"bytes up to {message.offset + len(message.data)} of a snapshot of {snapshot.size}"
    if snapshot.term > message.term:
        return f"a snapshot of term {snapshot.term} from a leader of term {message.term}"
    return configuration.flaw(snapshot.configuration) or _out_of_range(
        snapshot.index, snapshot.term, snapshot.size, message.offset
    )
