"""A log on a real disk: what was acknowledged is there, and what is damaged is not believed."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import Compact, Configuration, Entry, EntryKind, Persist, Restore, Snapshot, StoreChunk
from consensus.storage import (
    DirectoryLocked,
    LogCorrupted,
    Opened,
    SqliteStorage,
    StorageFailed,
    StorageForeign,
)

ME = NodeId("a")
FOUNDING = Snapshot(LogIndex(0), Term(0), Configuration((ME,)))


class Disk:
    """A directory, opened again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = SqliteStorage(path, ME, FOUNDING)
        self.opened = self.storage.open()

    def reopen(self) -> Opened:
        self.storage.close()
        self.storage = SqliteStorage(self.path, ME, FOUNDING)
        self.opened = self.storage.open()
        return self.opened

    def append(self, first: int, last: int, term: int = 1, vote: str | None = None) -> None:
        self.storage.write([persist(first, last, term, vote)])

    def crash(self) -> "Disk":
        """What lies on the disk now, as another process would find it."""
        copy = self.path.with_name(self.path.name + "-crashed")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.path, copy)
        self.storage.close()
        return Disk(copy)


def persist(first: int, last: int, term: int = 1, vote: str | None = None) -> Persist:
    entries = tuple(
        Entry(LogIndex(index), Term(term), EntryKind.COMMAND, b"%d" % index) for index in range(first, last + 1)
    )
    return Persist(1, Term(term), None if vote is None else NodeId(vote), entries)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "raft")
    yield made
    made.storage.close()


def log(opened: Opened) -> list[tuple[int, int]]:
    return [(entry.index, entry.term) for entry in opened.durable.entries]


def test_a_new_member(disk: Disk):
    assert disk.opened.is_new
    again = disk.reopen()
    assert (again.is_new, again.durable.snapshot, again.durable.term, log(again)) == (False, FOUNDING, 0, [])


def test_term_vote_and_entries_come_back(disk: Disk):
    disk.append(1, 3, term=2, vote="b")
    disk.append(4, 4, term=3)
    found = disk.reopen()
    assert (found.durable.term, found.durable.voted_for) == (3, None)
    assert log(found) == [(1, 2), (2, 2), (3, 2), (4, 3)]
    assert found.durable.entries[1].data == b"2"
    assert found.loss == ""


def test_entries_replace_all_that_follow(disk: Disk):
    disk.append(1, 5)
    disk.append(3, 3, term=2)
    assert log(disk.reopen()) == [(1, 1), (2, 1), (3, 2)]
    disk.append(1, 1, term=3)
    assert log(disk.reopen()) == [(1, 3)]


def test_many_effects_are_one_write(disk: Disk):
    disk.storage.write([persist(1, 4), persist(3, 6, term=2), persist(5, 5, term=3, vote="c")])
    found = disk.reopen()
    assert log(found) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]
    assert found.durable.voted_for == "c"


def test_a_hole_is_refused_and_nothing_of_that_write_is_there(disk: Disk):
    disk.append(1, 2)
    with pytest.raises(StorageFailed, match="cannot follow"):
        disk.storage.write([persist(3, 3), persist(9, 9)])
    assert log(disk.reopen()) == [(1, 1), (2, 1)]


def test_compaction_keeps_what_follows_the_snapshot(disk: Disk):
    disk.append(1, 6)
    snapshot = disk.storage.save_snapshot(LogIndex(4), Term(1), Configuration((ME,)), [b"state"])
    disk.storage.write([Compact(snapshot), persist(7, 7)])
    found = disk.reopen()
    assert found.durable.snapshot == snapshot
    assert log(found) == [(5, 1), (6, 1), (7, 1)]
    assert b"".join(disk.storage.read_snapshot(snapshot)) == b"state"
    disk.append(5, 5, term=2)  # right behind the snapshot: the chain goes on from what it replaced
    assert log(disk.reopen()) == [(5, 2)]


def test_a_snapshot_that_was_never_named_does_not_count(disk: Disk):
    disk.append(1, 6)
    disk.storage.save_snapshot(LogIndex(4), Term(1), Configuration((ME,)), [b"state"])
    found = disk.crash()
    assert len(log(found.opened)) == 6
    assert not list(found.path.glob("snapshot-*")), "it is cleared away"
    found.storage.close()


def test_a_snapshot_from_the_leader_takes_the_place_of_the_log(disk: Disk):
    disk.append(1, 3)
    data = b"the leader's state"
    theirs = Snapshot(LogIndex(50), Term(4), Configuration((ME, NodeId("b"))), len(data), blake3.blake3(data).digest())
    disk.storage.write([StoreChunk(1, theirs, 0, data[:5])])
    disk.storage.write([StoreChunk(2, theirs, 5, data[5:]), Restore(3, theirs, Term(5), NodeId("b"))])
    found = disk.reopen()
    assert (found.durable.snapshot, found.durable.term, found.durable.voted_for, log(found)) == (theirs, 5, "b", [])
    disk.append(51, 52, term=5)
    assert log(disk.reopen()) == [(51, 5), (52, 5)]
    assert disk.storage.read_chunk(theirs, 4, 6) == data[4:10]


def test_tidying_changes_nothing_that_can_be_read(disk: Disk):
    disk.append(1, 100)
    wal = disk.path / "raft.sqlite-wal"
    assert wal.stat().st_size > 0
    disk.storage.tidy()
    assert wal.stat().st_size == 0
    assert len(log(disk.crash().opened)) == 100


# -- who may use it


def test_one_process_at_a_time(disk: Disk):
    with pytest.raises(DirectoryLocked):
        SqliteStorage(disk.path, ME, FOUNDING).open()
    disk.append(1, 1)


def test_another_nodes_directory_is_not_touched(disk: Disk):
    disk.append(1, 1)
    disk.storage.close()
    before = {path.name: path.read_bytes() for path in disk.path.iterdir() if path.name != "lock"}
    with pytest.raises(StorageForeign, match="belongs to node a, this is b"):
        SqliteStorage(disk.path, NodeId("b"), FOUNDING).open()
    assert {path.name: path.read_bytes() for path in disk.path.iterdir() if path.name != "lock"} == before


def test_a_storage_that_is_not_open_says_so(disk: Disk):
    disk.storage.close()
    disk.storage.close()
    with pytest.raises(StorageFailed, match="is not open"):
        disk.append(1, 1)


# -- what went wrong


def edit(disk: Disk, statement: str, *values: object) -> None:
    """Behind its back."""
    disk.storage.close()
    with sqlite3.connect(disk.path / "raft.sqlite") as database:
        database.execute(statement, values)
    database.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE log SET data = x'ff' WHERE position = 3", "entry 3"),
        ("UPDATE log SET term = 9 WHERE position = 2", "entry 2"),
        ("UPDATE log SET kind = 77 WHERE position = 2", "kind 77"),
        ("UPDATE log SET link = zeroblob(16) WHERE position = 5", "entry 5"),
        ("DELETE FROM log WHERE position = 4", "no entry 4"),
        ("DELETE FROM log WHERE position = 6", "not the one that was written"),
        ("UPDATE facts SET packed = x'80'", "do not match their checksum"),
        ("DELETE FROM facts", "is empty, and was not"),
    ],
)
def test_damage_is_found_at_the_start(disk: Disk, statement: str, says: str):
    disk.append(1, 6)
    edit(disk, statement)
    with pytest.raises(LogCorrupted, match=says):
        disk.reopen()
    with pytest.raises(LogCorrupted, match=says):
        disk.reopen()  # nothing was mended in silence


def test_a_file_that_is_no_database(disk: Disk):
    disk.append(1, 6)
    disk.storage.tidy()
    disk.storage.close()
    for path in disk.path.glob("raft.sqlite*"):
        path.write_bytes(b"not a database" * 1000)
    with pytest.raises(LogCorrupted, match="no database"):
        disk.reopen()


def test_a_database_that_has_vanished_is_not_a_new_member(disk: Disk):
    disk.append(1, 6)
    disk.storage.close()
    for path in disk.path.glob("raft.sqlite*"):
        path.unlink()
    with pytest.raises(LogCorrupted, match="is missing, and was there"):
        disk.reopen()


def test_a_snapshot_that_has_vanished(disk: Disk):
    disk.append(1, 6)
    disk.storage.write([Compact(disk.storage.save_snapshot(LogIndex(4), Term(1), Configuration((ME,)), [b"state"]))])
    for path in disk.path.glob("snapshot-0*"):
        path.unlink()
    with pytest.raises(LogCorrupted, match="is missing"):
        disk.reopen()


def test_frames_that_the_disk_lost_are_missed(disk: Disk):
    """SQLite ends its write-ahead log at the first bad frame without a word; the mark knows better."""
    disk.append(1, 2, term=1, vote="b")
    wal = disk.path / "raft.sqlite-wal"
    whole = wal.stat().st_size
    disk.append(3, 4, term=2, vote="c")
    disk.append(5, 6, term=2, vote="c")
    crashed = disk.path.with_name("crashed")
    shutil.copytree(disk.path, crashed)
    disk.storage.close()
    frames = bytearray((crashed / "raft.sqlite-wal").read_bytes())
    frames[whole + 100] ^= 0xFF
    (crashed / "raft.sqlite-wal").write_bytes(frames)
    found = Disk(crashed)
    assert log(found.opened) == [(1, 1), (2, 1)]
    assert found.opened.durable.floor == (6, 2)
    assert "2 writes are missing: the log ends at 2, and had come to 6 in term 2" in found.opened.loss
    assert found.reopen().durable.floor == (6, 2), "a restart does not forget it"
    found.append(3, 5, term=2)
    assert found.reopen().durable.floor == (6, 2), "nor does a log that is not so long again"
    assert found.opened.loss == ""
    found.append(6, 7, term=3)
    assert found.reopen().durable.floor == (0, 0), "what was lost has come back, in a later term"
    found.storage.close()


def test_a_crash_between_the_write_and_its_mark_is_no_loss(disk: Disk):
    disk.append(1, 2)
    mark = (disk.path / "mark").read_bytes()
    disk.append(3, 4)
    (disk.path / "mark").write_bytes(mark)
    found = disk.crash()
    assert len(log(found.opened)) == 4
    assert (found.opened.loss, found.opened.durable.floor) == ("", (0, 0))
    found.storage.close()


def test_after_a_failed_sync_nothing_is_written_any_more(disk: Disk, monkeypatch: pytest.MonkeyPatch):
    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("consensus.storage.mark._sync_data", fails)
    with pytest.raises(StorageFailed, match="Input/output error"):
        disk.append(1, 1)
    monkeypatch.undo()
    with pytest.raises(StorageFailed, match="failed before"):
        disk.append(1, 1)
    with pytest.raises(StorageFailed, match="failed before"):
        disk.storage.tidy()


FILL = """
import resource, signal, sys
from pathlib import Path
from consensus.raft import Configuration, Entry, EntryKind, Persist, Snapshot
from consensus.storage import SqliteStorage, StorageFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
storage = SqliteStorage(Path(sys.argv[1]), "a", Snapshot(0, 0, Configuration(("a",))))
storage.open()
for index in range(1, 1000):
    try:
        storage.write([Persist(index, 1, None, (Entry(index, 1, EntryKind.COMMAND, bytes(1000)),))])
    except StorageFailed as error:
        print(error, flush=True)
        break
    print(index, flush=True)
"""

WRITE = """
import sys
from pathlib import Path
from consensus.raft import Configuration, Entry, EntryKind, Persist, Snapshot
from consensus.storage import SqliteStorage
storage = SqliteStorage(Path(sys.argv[1]), "a", Snapshot(0, 0, Configuration(("a",))))
index = len(storage.open().durable.entries)
while True:
    index += 1
    storage.write([Persist(index, 1, None, (Entry(index, 1, EntryKind.COMMAND, bytes(100)),))])
    print(index, flush=True)
"""


def test_a_full_disk_ends_it_and_what_was_acknowledged_is_there(tmp_path: Path):
    path = tmp_path / "raft"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    *acknowledged, error = done.stdout.splitlines()
    assert len(acknowledged) > 10
    assert "failed" in error
    found = Disk(path)
    assert len(log(found.opened)) >= len(acknowledged)
    found.append(len(log(found.opened)) + 1, len(log(found.opened)) + 1)  # there is room now
    found.storage.close()


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path):
    path = tmp_path / "raft"
    acknowledged = 0
    for round_ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        try:
            assert writer.stdout is not None
            for _ in range(20 + 13 * round_):
                acknowledged = int(writer.stdout.readline())
        finally:
            writer.kill()
            rest, _ = writer.communicate()
        lines = rest.splitlines()
        acknowledged = max([acknowledged, *(int(line) for line in lines[:-1])])
        found = Disk(path)
        assert len(log(found.opened)) >= acknowledged
        assert found.opened.loss == ""
        found.storage.close()
    assert os.path.getsize(path / "mark") == 1024
