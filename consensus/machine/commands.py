"""What is put into the log, and what comes of it.

Both are MessagePack arrays that begin with a name and a version, as Raft's own messages are. Fields are only ever
appended, with defaults. A command that a version does not know fails on every node alike, so a new one is sent only
when all members know it.
"""

import enum
from typing import Final, TypeAlias

import msgspec

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex

__all__ = (
    "ABSENT",
    "CloseSession",
    "Command",
    "Compare",
    "Delete",
    "Do",
    "ExpireSessions",
    "Failure",
    "FailureCode",
    "Get",
    "KeyValue",
    "OpenSession",
    "Operation",
    "Operator",
    "Property",
    "Put",
    "Result",
    "Txn",
    "TxnResult",
    "decode_command",
    "encode_command",
)


def _name(name: str) -> str:
    return f"{name}/1"


class Property(enum.IntEnum):
    """Of a key, to compare with."""

    VALUE = 0
    CREATED = 1  # revision; ABSENT if there is no such key
    MODIFIED = 2  # revision; ABSENT if there is no such key
    VERSION = 3  # changes since it was created, which counts as the first; ABSENT if there is no such key


class Operator(enum.IntEnum):
    """How to compare: the key's property on the left."""

    EQUAL = 0
    UNEQUAL = 1
    LESS = 2
    GREATER = 3


ABSENT: Final = 0  # the revisions and version of a key that there is not


class Put(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Set a key.

    Attributes:
        ephemeral: It is deleted when the session that put it ends.
    """

    key: str
    value: bytes
    ephemeral: bool = False


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Remove a key, or all that begin with it."""

    key: str
    prefix: bool = False


class Get(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Read a key, or those that begin with it, in the order of their code points, from `start` on.

    Attributes:
        limit: Rows at most; 0 for as many as the machine's `rows_max`.
    """

    key: str
    prefix: bool = False
    start: str = ""
    limit: int = 0


class Compare(msgspec.Struct, frozen=True, array_like=True):
    """One condition. A VALUE of a key that there is not is equal to nothing."""

    key: str
    property: Property
    operator: Operator
    number: int = ABSENT
    value: bytes = b""


class Txn(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """If all conditions hold, do these in their order, else those. All or nothing, and nothing in between."""

    when: tuple[Compare, ...] = ()
    then: tuple[Put | Delete | Get, ...] = ()
    otherwise: tuple[Put | Delete | Get, ...] = ()


Operation: TypeAlias = Txn


class OpenSession(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Begin a session; its number is the index of this command.

    Attributes:
        owner: A name for people.
        ttl_s: How long it may be silent before it ends.
    """

    owner: str
    ttl_s: float


class CloseSession(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """End it: what is ephemeral of it goes. A session that there is not is closed already."""

    session: LogIndex


class ExpireSessions(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """The leader has found these silent for too long. Time enters the state in no other way."""

    sessions: tuple[LogIndex, ...]


class Do(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """Carry out an operation once, however often it is asked for. Dissertation section 6.3.

    Attributes:
        sequence: Of the request within its session, from 1.
        acknowledged: Up to here the client has its answers, so they need not be kept.
    """

    session: LogIndex
    sequence: int
    acknowledged: int
    operation: Operation


Command = OpenSession | CloseSession | ExpireSessions | Do


class FailureCode(enum.Enum):
    """Why a command changed nothing."""

    MALFORMED = "malformed"
    NO_SESSION = "no session"  # it has ended, and what was under way in it may or may not have been done
    ANSWERED = "answered"  # its answer was acknowledged, and is forgotten
    TOO_MUCH = "too much"  # one of the limits


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """It was refused, on every node alike, and nothing was changed."""

    code: FailureCode
    message: str


class KeyValue(msgspec.Struct, frozen=True, array_like=True):
    """A key as it is at a revision. Revisions are indexes of the log.

    Attributes:
        session: Whose it is, if it is ephemeral; else 0.
    """

    key: str
    value: bytes
    created: int
    modified: int
    version: int
    session: int = 0


class TxnResult(msgspec.Struct, frozen=True, array_like=True, tag=_name):
    """What a transaction did.

    Attributes:
        succeeded: Whether its conditions held.
        rows: For each operation that was carried out: of a Get what was read, of a Put and a Delete what was there.
        revision: At which it was carried out.
    """

    succeeded: bool
    rows: tuple[tuple[KeyValue, ...], ...]
    revision: int


Result = TxnResult | Failure | int | None

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def encode_command(command: Command) -> bytes:
    """Its bytes, for `Propose`."""
    return _encoder.encode(command)


def decode_command(data: bytes) -> Command:
    """The command.

    Raises:
        RemoteProtocolError: It is none that this version knows.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"{len(data)} bytes in the log are no command: {error}") from error
