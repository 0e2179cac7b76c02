from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import Configuration, Snapshot
from consensus.storage.directory import LockedDirectory
from consensus.storage.errors import LogCorrupted
from consensus.storage.snapshot_files import SnapshotFiles

DATA = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LockedDirectory]:
    made = LockedDirectory(tmp_path)
    yield made
    made.close()


def of(data: bytes, index: int = 7) -> Snapshot:
    return Snapshot(LogIndex(index), Term(2), Configuration(), len(data), blake3.blake3(data).digest())


def test_what_is_saved_can_be_read_whole_and_in_pieces(directory: LockedDirectory):
    files = SnapshotFiles(directory)
    snapshot = files.save(LogIndex(7), Term(2), Configuration(), [DATA[:5], b"", DATA[5:]])
    assert snapshot == of(DATA)
    assert b"".join(files.read(snapshot)) == DATA
    assert files.read_chunk(snapshot, 100, 50) == DATA[100:150]
    assert files.read_chunk(snapshot, len(DATA), 50) == b""
    assert files.read_chunk(of(DATA, 8), 0, 50) is None
    files.check_there(snapshot)


def test_pieces_may_come_again_from_any_offset(directory: LockedDirectory):
    files = SnapshotFiles(directory)
    files.store_chunk(0, b"another one, given up")
    files.store_chunk(0, DATA[:1000])
    files.store_chunk(1000, DATA[1000:3000])
    files.store_chunk(1000, DATA[1000:])  # said again, in other pieces
    files.accept(of(DATA))
    assert b"".join(files.read(of(DATA))) == DATA


def test_what_is_not_what_its_leader_said_is_not_accepted(directory: LockedDirectory):
    files = SnapshotFiles(directory)
    files.store_chunk(0, DATA[:-1])
    with pytest.raises(LogCorrupted, match="is not the snapshot"):
        files.accept(of(DATA))
    assert files.read_chunk(of(DATA), 0, 1) is None


def test_a_bit_that_has_flipped_is_found(directory: LockedDirectory):
    files = SnapshotFiles(directory)
    snapshot = files.save(LogIndex(7), Term(2), Configuration(), [DATA])
    [path] = directory.path.glob("snapshot-0*")
    damaged = bytearray(DATA)
    damaged[1_500_000] ^= 1
    path.write_bytes(damaged)
    files.check_there(snapshot)  # which looks at its length alone
    with pytest.raises(LogCorrupted):
        list(files.read(snapshot))
    path.write_bytes(DATA[:-1])
    with pytest.raises(LogCorrupted, match="expected the 2097152 bytes"):
        files.check_there(snapshot)
    path.unlink()
    with pytest.raises(LogCorrupted, match="is missing"):
        files.check_there(snapshot)
    with pytest.raises(LogCorrupted, match="is missing"):
        list(files.read(snapshot))


def test_only_the_one_that_counts_is_kept_and_what_is_on_its_way(directory: LockedDirectory):
    files = SnapshotFiles(directory)
    for index in (5, 6, 7):
        files.save(LogIndex(index), Term(2), Configuration(), [b"data"])
    files.store_chunk(0, b"on its way")
    files.keep_only(of(b"data", 6))
    assert sorted(path.name for path in directory.path.glob("snapshot-*")) == [
        "snapshot-00000000000000000006-2",
        "snapshot-received.part",
    ]
