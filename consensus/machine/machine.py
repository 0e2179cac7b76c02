"""The state machine: one committed command after the other, the same on every node."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex
from consensus.machine.commands import (
    CloseSession,
    Do,
    ExpireSessions,
    Failure,
    FailureCode,
    Get,
    KeyValue,
    OpenSession,
    Result,
    decode_command,
)
from consensus.machine.history import History, KeyChange
from consensus.machine.limits import MachineLimits
from consensus.machine.sessions import Session, Sessions
from consensus.machine.store import Store, TooMuch
from consensus.raft.messages import Entry, EntryKind

__all__ = ("Machine",)

_FORMAT: Final = 1
_PIECE_BYTES: Final = 64 * 1024

_encode = msgspec.msgpack.Encoder().encode


class _Head(msgspec.Struct, frozen=True, array_like=True):
    format: int
    index: LogIndex
    sessions: int
    rows: int


_heads = msgspec.msgpack.Decoder(_Head)
_sessions = msgspec.msgpack.Decoder(Session)
_rows = msgspec.msgpack.Decoder(KeyValue)


class Machine:
    """See the module. Nothing in it reads a clock or draws chance.

    Args:
        limits: The same on every member.
        changes_max: How many changes are kept for watches.
        on_session: Told of each session that is opened (with its ttl, seconds) or has ended (None).

    Attributes:
        index: Of the last entry that was applied; the revision of the state.
        history: What changed.
    """

    def __init__(
        self,
        limits: MachineLimits,
        changes_max: int = 10_000,
        on_session: Callable[[LogIndex, float | None], None] = lambda number, ttl_s: None,
    ) -> None:
        self.index = LogIndex(0)
        self.history = History(changes_max)
        self._limits = limits
        self._store = Store(limits)
        self._sessions = Sessions(limits)
        self._on_session = on_session

    @property
    def sessions(self) -> Sessions:
        """Those that are open: to be read only."""
        return self._sessions

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return self._store.size

    def get(self, wanted: Get) -> tuple[KeyValue, ...]:
        """Read, without the log. How fresh that is depends on what Raft's `Read` said before."""
        return self._store.get(wanted)

    def apply(self, entry: Entry) -> Result:
        """Carry out a committed entry; they come in order, without gaps.

        Returns:
            For whoever asked. An entry that is not a command has nothing to say.
        """
        if entry.index != self.index + 1:
            raise ValueError(f"entry {entry.index} cannot be applied after {self.index}")
        self.index = entry.index
        if entry.kind is not EntryKind.COMMAND:
            return None
        try:
            command = decode_command(entry.data)
        except RemoteProtocolError as error:
            return Failure(FailureCode.MALFORMED, str(error))
        changes: list[KeyChange] = []
        result: Result = None
        match command:
            case OpenSession():
                result = self._sessions.open(entry.index, command)
                if isinstance(result, int):
                    self._on_session(entry.index, command.ttl_s)
            case CloseSession(session=session):
                changes = self._end(session)
            case ExpireSessions(sessions=sessions):
                for session in sessions:
                    changes += self._end(session)
            case Do():
                result, changes = self._do(command)
        if changes:
            self.history.add(changes)
        return result

    def dump(self) -> Iterator[bytes]:
        """A snapshot of the state as it is now, in pieces: the same bytes wherever the same entries were applied.

        What is applied afterwards does not show, and the pieces may be taken on another thread: rows never change, they
        are replaced. Answers are kept, and told, in the order in which the log gave them.
        """
        head = _Head(_FORMAT, self.index, len(self._sessions), len(self._store))
        return _pieces([_encode(head), *map(_encode, self._sessions)], list(self._store.dump()))

    def load(self, pieces: Iterable[bytes]) -> None:
        """Take over a snapshot.

        Raises:
            RemoteProtocolError: It is none that this version knows. The machine is then of no use.
        """
        frames = _unframed(pieces)
        try:
            head = _heads.decode(next(frames))
            if head.format != _FORMAT:
                raise RemoteProtocolError(f"a snapshot of format {head.format}; this version knows {_FORMAT}")
            self._sessions.load([_sessions.decode(next(frames)) for _ in range(head.sessions)])
            self._store.load([_rows.decode(next(frames)) for _ in range(head.rows)])
            if next(frames, None) is not None:
                raise RemoteProtocolError("the snapshot cannot be read: it goes on behind its end")
        except StopIteration:
            raise RemoteProtocolError("the snapshot cannot be read: it ends too early") from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise RemoteProtocolError(f"the snapshot cannot be read: {error}") from error
        self.index = head.index
        self.history.reset(head.index)

    def _do(self, command: Do) -> tuple[Result, list[KeyChange]]:
        session, answer = self._sessions.before(command)
        if session is None:
            return answer, []
        changes: list[KeyChange] = []
        result: Result
        try:
            self._store.check(command.operation)
        except TooMuch as error:
            result = Failure(FailureCode.TOO_MUCH, str(error))
        else:
            result, changes = self._store.carry_out(command.operation, self.index, session.number)
        session.answers[command.sequence] = result
        return result, changes

    def _end(self, session: LogIndex) -> list[KeyChange]:
        if not self._sessions.close(session):
            return []
        self._on_session(session, None)
        return self._store.end_session(session, self.index)


def _pieces(packed: list[bytes], rows: list[KeyValue]) -> Iterator[bytes]:
    piece = bytearray()
    for frame in itertools.chain(map(_framed, packed), (_framed(_encode(row)) for row in rows)):
        piece += frame
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _framed(packed: bytes) -> bytes:
    return len(packed).to_bytes(4, "big") + packed


def _unframed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The frames, however they were cut into pieces."""
    held = bytearray()
    for piece in pieces:
        held += piece
        start = 0
        while len(held) - start >= 4:
            end = start + 4 + int.from_bytes(held[start : start + 4], "big")
            if end > len(held):
                break
            yield bytes(held[start + 4 : end])
            start = end
        del held[:start]
    if held:
        raise ValueError(f"{len(held)} bytes at its end belong to nothing")
