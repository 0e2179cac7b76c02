"""What can be wrong with a storage. Whatever it is, nothing on the disk was changed after it was found."""

__all__ = ("DirectoryLocked", "LogCorrupted", "StorageError", "StorageFailed", "StorageForeign")


class StorageError(Exception):
    """A storage cannot be used."""


class DirectoryLocked(StorageError):
    """Another process uses the directory."""


class StorageForeign(StorageError):
    """The directory belongs to another node, or to a format that this version does not know."""


class LogCorrupted(StorageError):
    """What was read is not what was written: a checksum does not hold, or a piece is missing in the middle.

    It needs a decision of people: the node's directory can be moved away, and the node added as a new one.
    """


class StorageFailed(StorageError):
    """A write failed. What the disk holds is not known any more, so this storage does nothing further.

    After a failed fsync the system may have thrown the unwritten pages away and call the next one a success (the
    "fsyncgate" of PostgreSQL, 2018): only a new process, which reads back what is really there, may go on.
    """
