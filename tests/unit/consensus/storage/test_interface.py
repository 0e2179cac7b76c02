from pathlib import Path

from consensus.identity import NodeId
from consensus.raft import Snapshot
from consensus.storage import MemoryStorage, SqliteStorage, Storage


def test_both_are_storages(tmp_path: Path):
    founding = Snapshot(index=0, term=0)  # type: ignore[arg-type]
    storages: list[Storage] = [MemoryStorage(founding), SqliteStorage(tmp_path / "raft", NodeId("a"), founding)]
    for storage in storages:
        opened = storage.open()
        assert opened.is_new
        assert opened.loss == ""
        assert opened.durable.snapshot == founding
        storage.close()
