"""The synced mark: how far the log had come, kept outside the database.

When SQLite opens a database after a crash, it takes its write-ahead log up to the first frame that is not whole and
silently drops the rest. That is right for a database, whose last transaction was never acknowledged. It is wrong when a
disk has lost a frame in the middle: what followed *was* acknowledged. The mark, written and synced after each commit,
says how many transactions there must be. Two slots are written in turn, so that a torn write leaves the one before.
"""

import os
from pathlib import Path
from typing import Final

import blake3
import msgspec

from consensus.identity import LogIndex, Term
from consensus.storage.chain import START

__all__ = ("Mark", "MarkFile")

_SLOT_BYTES: Final = 512  # a disk writes a sector as a whole, or not
_CHECK_BYTES: Final = 16
_encode = msgspec.msgpack.Encoder().encode


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Attributes:
    sequence: Transactions since the directory was made.
    term: The current one then.
    last_index: Of the log then.
    link: Of its last entry.
    """

    sequence: int = 0
    term: Term = Term(0)
    last_index: LogIndex = LogIndex(0)
    link: bytes = START


_decoder = msgspec.msgpack.Decoder(Mark)


class MarkFile:
    """See the module.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> Mark:
        """The newest that is whole; the zero mark if none is."""
        slots = os.pread(self._descriptor, 2 * _SLOT_BYTES, 0)
        marks = [_unpack(slots[:_SLOT_BYTES]), _unpack(slots[_SLOT_BYTES:])]
        return max((mark for mark in marks if mark is not None), key=lambda mark: mark.sequence, default=Mark())

    def write(self, mark: Mark) -> None:
        """Write and sync.

        Raises:
            OSError: It is not known what is there now.
        """
        packed = _encode(mark)
        check = blake3.blake3(packed).digest(length=_CHECK_BYTES)
        slot = (bytes((len(packed),)) + packed + check).ljust(_SLOT_BYTES, b"\0")
        if os.pwrite(self._descriptor, slot, _SLOT_BYTES * (mark.sequence % 2)) != _SLOT_BYTES:
            raise OSError("the mark was written in part only")
        _sync_data(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def _unpack(slot: bytes) -> Mark | None:
    if not slot:
        return None
    packed, rest = slot[1 : 1 + slot[0]], slot[1 + slot[0] :]
    if not packed or blake3.blake3(packed).digest(length=_CHECK_BYTES) != rest[:_CHECK_BYTES]:
        return None
    try:
        return _decoder.decode(packed)
    except msgspec.MsgspecError:
        return None
