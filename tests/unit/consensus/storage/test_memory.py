import blake3
import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import Configuration, Restore, Snapshot, StoreChunk
from consensus.storage import LogCorrupted, MemoryStorage

FOUNDING = Snapshot(LogIndex(0), Term(0))


def test_it_is_new_at_every_start():
    storage = MemoryStorage(FOUNDING)
    assert storage.open().is_new
    storage.close()
    assert storage.open().is_new


def test_snapshots_taken_and_received():
    storage = MemoryStorage(FOUNDING)
    taken = storage.save_snapshot(LogIndex(3), Term(1), Configuration(), [b"ab", b"c"])
    assert b"".join(storage.read_snapshot(taken)) == b"abc"
    assert storage.read_chunk(taken, 1, 9) == b"bc"
    received = Snapshot(LogIndex(9), Term(2), size=4, digest=blake3.blake3(b"wxyz").digest())
    storage.write([StoreChunk(1, received, 0, b"w"), StoreChunk(2, received, 1, b"xyz")])
    storage.write([Restore(3, received, Term(2), None)])
    assert b"".join(storage.read_snapshot(received)) == b"wxyz"
    assert storage.read_chunk(taken, 0, 1) is None
    with pytest.raises(LogCorrupted):
        list(storage.read_snapshot(taken))


def test_what_is_not_what_its_leader_said():
    storage = MemoryStorage(FOUNDING)
    other = Snapshot(LogIndex(9), Term(2), size=4, digest=bytes(32))
    storage.write([StoreChunk(1, other, 0, b"wxyz")])
    with pytest.raises(LogCorrupted):
        storage.write([Restore(2, other, Term(2), None)])
    storage.tidy()
