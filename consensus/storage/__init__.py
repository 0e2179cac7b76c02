"""Where a Raft group's log lies: the one shell in this room. The core never imports it; a driver runs it on a thread.

`SqliteStorage` keeps log, term, vote and snapshots in a directory of its own; `MemoryStorage` keeps them nowhere, for
tests and for clusters that may forget.
"""

from consensus.storage.errors import (
    DirectoryLocked,
    LogCorrupted,
    StorageError,
    StorageFailed,
    StorageForeign,
)
from consensus.storage.interface import Opened, Storage, Write
from consensus.storage.memory import MemoryStorage
from consensus.storage.sqlite import SqliteStorage

__all__ = (
    "DirectoryLocked",
    "LogCorrupted",
    "MemoryStorage",
    "Opened",
    "SqliteStorage",
    "Storage",
    "StorageError",
    "StorageFailed",
    "StorageForeign",
    "Write",
)
