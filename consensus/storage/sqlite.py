"""Log, term and vote in SQLite; the mark and the snapshots beside it.

The write-ahead log of SQLite, with `synchronous=FULL`, makes a transaction durable with one fsync; the mark costs a
second. Both are shared by everything that gathers while the disk works. Automatic checkpoints are off: one in the
middle of a burst would stop it for as long as its own fsyncs take, so `tidy` does it in a quiet moment.

Nothing is believed that was read: each entry carries a chained checksum, the other facts one of their own, and the mark
says how much must be there.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import blake3
import msgspec

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft.configuration import Configuration
from consensus.raft.interface import Compact, Durable, Persist, Restore, StoreChunk
from consensus.raft.messages import Entry, EntryKind, Snapshot
from consensus.storage.chain import START, link, seal
from consensus.storage.directory import LockedDirectory
from consensus.storage.errors import LogCorrupted, StorageError, StorageFailed, StorageForeign
from consensus.storage.interface import Opened, Write
from consensus.storage.mark import Mark, MarkFile
from consensus.storage.snapshot_files import SnapshotFiles

__all__ = ("SqliteStorage",)

_FORMAT: Final = 1
_DATABASE: Final = "raft.sqlite"
_MARK: Final = "mark"
_CHECK_BYTES: Final = 16
_WAL_BYTES_KEPT: Final = 64 << 20  # of a write-ahead log that a checkpoint has emptied

_NO_FLOOR: Final = (LogIndex(0), Term(0))

_PRAGMAS: Final = (
    "PRAGMA locking_mode=EXCLUSIVE",  # no shared-memory file, and nobody reads beside us
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=0",
    f"PRAGMA journal_size_limit={_WAL_BYTES_KEPT}",
)
_SCHEMA: Final = (
    "CREATE TABLE facts (one INTEGER PRIMARY KEY CHECK (one = 1), packed BLOB NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE log (position INTEGER PRIMARY KEY, term INTEGER, kind INTEGER, data BLOB, link BLOB)",
)


class _Facts(msgspec.Struct, frozen=True):
    """Everything but the log. One row, written whole with each transaction."""

    format: int
    node: str
    sequence: int  # of the transaction that wrote it
    term: Term
    voted_for: NodeId | None
    snapshot: Snapshot  # what to restart from
    base_link: bytes  # of the entry at its index
    floor: tuple[LogIndex, Term] = _NO_FLOOR


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Facts)


class SqliteStorage:
    """See the module and `consensus.storage.Storage`.

    Args:
        path: A directory of this node alone; made if it is not there.
        node: Whose it is.
        founding: What a new member begins with: for each member of a new group the same, at index 0; for one that
            will be added, an empty configuration.
    """

    def __init__(self, path: Path, node: NodeId, founding: Snapshot) -> None:
        self._path = path
        self._node = node
        self._founding = founding
        self._directory: LockedDirectory | None = None
        self._database: sqlite3.Connection | None = None
        self._mark: MarkFile | None = None
        self._files: SnapshotFiles
        self._facts: _Facts
        self._last = Mark()
        self._failure = ""

    def open(self) -> Opened:
        """See `Storage.open`."""
        self._directory = LockedDirectory(self._path)
        try:
            return self._open(self._directory)
        except (OSError, sqlite3.Error) as error:
            self.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise LogCorrupted(f"{self._path / _DATABASE} is no database any more: {error}") from error
            raise StorageFailed(f"{self._path} cannot be opened: {error}") from error
        except StorageError:
            self.close()
            raise

    def write(self, writes: Sequence[Write]) -> None:
        """See `Storage.write`."""
        database = self._usable()
        try:
            facts, last = self._facts, self._last
            restored: Snapshot | None = None
            database.execute("BEGIN IMMEDIATE")
            changed = False
            for write in writes:
                match write:
                    case StoreChunk():
                        self._files.store_chunk(write.offset, write.data)
                        continue
                    case Persist():
                        facts = msgspec.structs.replace(facts, term=write.term, voted_for=write.voted_for)
                        last = self._append(database, facts, last, write.entries)
                    case Compact(snapshot=snapshot):
                        facts = self._compact(database, facts, snapshot)
                        restored = snapshot
                    case Restore(snapshot=snapshot):
                        self._files.accept(snapshot)
                        database.execute("DELETE FROM log")
                        base = seal(snapshot)
                        facts = msgspec.structs.replace(
                            facts, term=write.term, voted_for=write.voted_for, snapshot=snapshot, base_link=base
                        )
                        last = msgspec.structs.replace(last, last_index=snapshot.index, link=base)
                        restored = snapshot
                changed = True
            if not changed:
                database.execute("COMMIT")
                return
            facts = msgspec.structs.replace(facts, sequence=facts.sequence + 1, floor=_floor(facts, last.last_index))
            self._put_facts(database, facts)
            database.execute("COMMIT")
            self._facts = facts
            self._note(msgspec.structs.replace(last, sequence=facts.sequence, term=facts.term))
            if restored is not None:
                self._files.keep_only(restored)
        except (OSError, sqlite3.Error, LogCorrupted) as error:
            self._fail(error)

    def save_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, pieces: Iterable[bytes]
    ) -> Snapshot:
        """See `Storage.save_snapshot`. One that cannot be written harms nothing, so the storage stays usable."""
        self._usable()
        try:
            return self._files.save(index, term, configuration, pieces)
        except OSError as error:
            raise StorageFailed(f"the snapshot of {index} cannot be written to {self._path}: {error}") from error

    def read_snapshot(self, snapshot: Snapshot) -> Iterator[bytes]:
        """See `Storage.read_snapshot`."""
        return self._files.read(snapshot)

    def read_chunk(self, snapshot: Snapshot, offset: int, length: int) -> bytes | None:
        """See `Storage.read_chunk`."""
        return self._files.read_chunk(snapshot, offset, length)

    def tidy(self) -> None:
        """See `Storage.tidy`."""
        database = self._usable()
        try:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self._fail(error)

    def close(self) -> None:
        """See `Storage.close`."""
        if self._database is not None:
            self._database.close()
        if self._mark is not None:
            self._mark.close()
        if self._directory is not None:
            self._directory.close()
        self._database = self._mark = self._directory = None

    # -- the start

    def _open(self, directory: LockedDirectory) -> Opened:
        self._files = SnapshotFiles(directory)
        self._mark = MarkFile(self._path / _MARK)
        is_new = not (self._path / _DATABASE).exists()
        mark = self._mark.read()
        if is_new and mark.sequence:
            raise LogCorrupted(f"{self._path / _DATABASE} is missing, and was there: {_where(mark)}")
        # Used by one thread at a time, which need not be the one that opens it.
        database = sqlite3.connect(self._path / _DATABASE, isolation_level=None, check_same_thread=False)
        self._database = database
        for pragma in _PRAGMAS:
            database.execute(pragma)
        row = None
        if database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'facts'").fetchone()[0]:
            row = database.execute("SELECT packed, checksum FROM facts").fetchone()
        if row is None:
            if mark.sequence:
                raise LogCorrupted(f"{self._path / _DATABASE} is empty, and was not: {_where(mark)}")
            self._found(database, directory)
            return Opened(Durable(self._founding), is_new=True)
        self._facts = facts = self._read_facts(*row)
        entries, last = self._read_log(database, facts)
        loss = self._compare(facts, last, mark)
        self._last = msgspec.structs.replace(last, sequence=self._facts.sequence, term=facts.term)
        snapshot = facts.snapshot
        if snapshot.size:
            self._files.check_there(snapshot)
        self._files.keep_only(snapshot)  # a crash may have left one that never counted
        durable = Durable(snapshot, tuple(entries), facts.term, facts.voted_for, floor=self._facts.floor)
        return Opened(durable, is_new=False, loss=loss)

    def _found(self, database: sqlite3.Connection, directory: LockedDirectory) -> None:
        self._facts = facts = _Facts(_FORMAT, self._node, 1, Term(0), None, self._founding, START)
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            database.execute(statement)
        self._put_facts(database, facts)
        database.execute("COMMIT")
        self._note(Mark(1, Term(0), self._founding.index, START))
        directory.sync()

    def _read_facts(self, packed: bytes, checksum: bytes) -> _Facts:
        if _checksum(packed) != checksum:
            raise LogCorrupted(f"term, vote and snapshot in {self._path} do not match their checksum")
        try:
            version = msgspec.msgpack.decode(packed)["format"]
            if version != _FORMAT:
                raise StorageForeign(f"{self._path} has format {version}; this version knows {_FORMAT}")
            facts = _decoder.decode(packed)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise LogCorrupted(f"term, vote and snapshot in {self._path} cannot be read: {error}") from error
        if facts.node != self._node:
            raise StorageForeign(
                f"{self._path} belongs to node {facts.node}, this is {self._node}; give it a directory of its own"
            )
        return facts

    def _read_log(self, database: sqlite3.Connection, facts: _Facts) -> tuple[list[Entry], Mark]:
        entries: list[Entry] = []
        index, before = facts.snapshot.index, facts.base_link
        for position, term, kind, data, kept in database.execute(
            "SELECT position, term, kind, data, link FROM log ORDER BY position"
        ):
            index = LogIndex(index + 1)
            if position != index:
                raise LogCorrupted(f"the log in {self._path} has no entry {index}: the next is {position}")
            try:
                entry = Entry(index, Term(term), EntryKind(kind), data)
            except ValueError:
                raise LogCorrupted(f"entry {index} in {self._path} is of kind {kind}, which there is not") from None
            before = link(before, entry)
            if before != kept:
                raise LogCorrupted(f"entry {index} of term {term} in {self._path} does not match its checksum")
            entries.append(entry)
        return entries, Mark(facts.sequence, facts.term, index, before)

    def _compare(self, facts: _Facts, last: Mark, mark: Mark) -> str:
        """What the mark knows and the database does not."""
        if facts.sequence == mark.sequence and (last.last_index, last.link) != (mark.last_index, mark.link):
            raise LogCorrupted(f"the log in {self._path} is not the one that was written: {_where(mark)}")
        if facts.sequence >= mark.sequence:
            return ""
        # Transactions are missing at the end. What follows must not be taken for them.
        floor = (max(facts.floor[0], mark.last_index), max(facts.floor[1], mark.term))
        self._facts = msgspec.structs.replace(facts, sequence=mark.sequence, floor=floor)
        return (
            f"{mark.sequence - facts.sequence} writes are missing: the log ends at {last.last_index}, "
            f"and had come to {mark.last_index} in term {mark.term}"
        )

    # -- one transaction

    def _append(self, database: sqlite3.Connection, facts: _Facts, last: Mark, entries: Sequence[Entry]) -> Mark:
        if not entries:
            return last
        first = entries[0].index
        before = last.link
        if first <= last.last_index:
            before = self._link_at(database, facts, first - 1)
            database.execute("DELETE FROM log WHERE position >= ?", (first,))
        elif first != last.last_index + 1:
            raise LogCorrupted(f"entry {first} cannot follow {last.last_index}")
        rows = []
        for entry in entries:
            before = link(before, entry)
            rows.append((entry.index, entry.term, int(entry.kind), entry.data, before))
        database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)
        return msgspec.structs.replace(last, last_index=entries[-1].index, link=before)

    def _compact(self, database: sqlite3.Connection, facts: _Facts, snapshot: Snapshot) -> _Facts:
        base = self._link_at(database, facts, snapshot.index)
        database.execute("DELETE FROM log WHERE position <= ?", (snapshot.index,))
        return msgspec.structs.replace(facts, snapshot=snapshot, base_link=base)

    def _link_at(self, database: sqlite3.Connection, facts: _Facts, index: int) -> bytes:
        if index == facts.snapshot.index:
            return facts.base_link
        row = database.execute("SELECT link FROM log WHERE position = ?", (index,)).fetchone()
        if row is None:
            raise LogCorrupted(f"the log in {self._path} has no entry {index}")
        found: bytes = row[0]
        return found

    def _put_facts(self, database: sqlite3.Connection, facts: _Facts) -> None:
        packed = _encode(facts)
        database.execute("INSERT OR REPLACE INTO facts VALUES (1, ?, ?)", (packed, _checksum(packed)))

    def _note(self, mark: Mark) -> None:
        assert self._mark is not None
        self._mark.write(mark)
        self._last = mark

    def _usable(self) -> sqlite3.Connection:
        if self._failure:
            raise StorageFailed(f"{self._path} failed before: {self._failure}; restart the node")
        if self._database is None:
            raise StorageFailed(f"{self._path} is not open")
        return self._database

    def _fail(self, error: Exception) -> None:
        self._failure = str(error)
        raise StorageFailed(f"writing to {self._path} failed: {error}") from error


def _floor(facts: _Facts, last_index: LogIndex) -> tuple[LogIndex, Term]:
    """The floor, until what was lost has come back, in a later term."""
    index, term = facts.floor
    return _NO_FLOOR if last_index >= index and facts.term > term else facts.floor


def _checksum(packed: bytes) -> bytes:
    digest: bytes = blake3.blake3(packed).digest(length=_CHECK_BYTES)
    return digest


def _where(mark: Mark) -> str:
    return f"{mark.sequence} writes, the log at {mark.last_index} in term {mark.term}"
