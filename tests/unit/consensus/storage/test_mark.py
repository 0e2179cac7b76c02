import os
from pathlib import Path

import pytest

from consensus.identity import LogIndex, Term
from consensus.storage.mark import Mark, MarkFile


def mark(sequence: int) -> Mark:
    return Mark(sequence, Term(sequence), LogIndex(10 * sequence), bytes([sequence]) * 16)


def test_the_newest_is_read(tmp_path: Path):
    file = MarkFile(tmp_path / "mark")
    assert file.read() == Mark()
    for sequence in (1, 2, 3):
        file.write(mark(sequence))
        assert file.read() == mark(sequence)
    file.close()
    file.close()
    again = MarkFile(tmp_path / "mark")
    assert again.read() == mark(3)
    again.close()


@pytest.mark.parametrize("at", [0, 1, 5, 30])
def test_a_torn_write_leaves_the_one_before(tmp_path: Path, at: int):
    path = tmp_path / "mark"
    file = MarkFile(path)
    file.write(mark(2))
    file.write(mark(3))
    slots = bytearray(path.read_bytes())
    slots[512 + at] ^= 0xFF  # an odd sequence lies in the second slot
    path.write_bytes(slots)
    assert file.read() == mark(2)
    file.close()


def test_a_mark_written_in_part_only_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = MarkFile(tmp_path / "mark")
    monkeypatch.setattr(os, "pwrite", lambda *_: 100)
    with pytest.raises(OSError, match="in part"):
        file.write(mark(1))
    file.close()
