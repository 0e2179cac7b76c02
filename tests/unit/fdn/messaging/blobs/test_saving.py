import os

import pytest

from fdn.errors import Conflict, Corrupt
from fdn.messaging.blobs.outline import Outline, OutlineHasher
from fdn.messaging.blobs.saving import PartFile, part_path

PIECE = 16


def outline_of(data: bytes) -> Outline:
    hasher = OutlineHasher(PIECE)
    hasher.update(data)
    return hasher.finish()


DATA = os.urandom(PIECE * 5 + 3)
OUTLINE = outline_of(DATA)


def piece(index: int) -> bytes:
    offset, length = OUTLINE.span(index)
    return DATA[offset : offset + length]


def fill(part: PartFile, until: int = OUTLINE.count) -> None:
    for index in range(part.pieces, until):
        part.append(piece(index))


def test_the_target_appears_whole_and_at_once(tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"old")
    part = PartFile(target, OUTLINE)
    fill(part)
    assert target.read_bytes() == b"old"
    assert part_path(target, OUTLINE.id).name == f"x.{OUTLINE.id.hex()[:12]}.part"
    part.finish()
    assert target.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["x"]


def test_what_was_left_behind_is_gone_on_with(tmp_path):
    target = tmp_path / "x"
    part = PartFile(target, OUTLINE)
    fill(part, 3)
    part.close()
    part = PartFile(target, OUTLINE)
    assert (part.pieces, part.size) == (3, 3 * PIECE)
    fill(part)
    part.finish()
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("left", "good"),
    [
        (b"", 0),
        (DATA[: PIECE + 5], 1),  # torn in the middle of a piece
        (b"x" + DATA[1:], 0),
        (DATA[: 2 * PIECE] + bytes(PIECE) + DATA[3 * PIECE :], 2),
        (DATA + b"more", 6),
        (bytes(1000), 0),
    ],
)
def test_only_what_is_good_is_kept(tmp_path, left, good):
    target = tmp_path / "x"
    part_path(target, OUTLINE.id).write_bytes(left)
    part = PartFile(target, OUTLINE)
    assert part.pieces == good
    fill(part)
    part.finish()
    assert target.read_bytes() == DATA


def test_a_wrong_reference_is_found_at_the_end_and_nothing_is_left(tmp_path):
    wrong = Outline(bytes(32), OUTLINE.size, PIECE, OUTLINE.pieces)
    part = PartFile(tmp_path / "x", wrong)
    fill(part)
    with pytest.raises(Corrupt, match="has the id"):
        part.finish()
    assert os.listdir(tmp_path) == []


def test_two_transfers_do_not_write_one_file(tmp_path):
    part = PartFile(tmp_path / "x", OUTLINE)
    with pytest.raises(Conflict, match="another transfer"):
        PartFile(tmp_path / "x", OUTLINE)
    part.close()
    PartFile(tmp_path / "x", OUTLINE).close()


def test_an_empty_blob_is_an_empty_file(tmp_path):
    part = PartFile(tmp_path / "x", outline_of(b""))
    part.finish()
    assert (tmp_path / "x").read_bytes() == b""


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        PartFile(tmp_path / "none" / "x", OUTLINE)
