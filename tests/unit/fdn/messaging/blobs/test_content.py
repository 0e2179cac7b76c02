import array
import os

import pytest

from fdn.errors import Conflict
from fdn.messaging.blobs.content import FileContent, MemoryContent, Spool
from fdn.messaging.blobs.outline import OutlineHasher

PIECE = 64 * 1024


def outline_of(data: bytes):
    hasher = OutlineHasher(PIECE)
    hasher.update(data)
    return hasher.finish()


def test_memory_is_not_copied_and_read_by_the_byte():
    data = bytearray(b"0123456789")
    content = MemoryContent(data)
    data[3] = ord("x")
    assert bytes(content.read(2, 3)) == b"2x4"
    assert content.outline(PIECE) == outline_of(bytes(data))
    assert (content.memory, content.blocks) == (10, False)


def test_any_contiguous_buffer_is_bytes():
    numbers = array.array("d", [1.0, 2.0])
    assert MemoryContent(numbers).memory == 16  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        MemoryContent(memoryview(b"0123")[::2])


def test_a_file_is_read_where_it_lies(tmp_path):
    data = os.urandom(3 * 1024 * 1024 + 5)
    path = tmp_path / "x"
    path.write_bytes(data)
    content = FileContent.open(path)
    assert content.outline(PIECE) == outline_of(data)
    assert content.read(1_000_000, 17) == data[1_000_000:1_000_017]
    path.unlink()  # an open file stays
    assert content.read(len(data) - 3, 3) == data[-3:]
    content.close()


@pytest.mark.parametrize("change", ["truncated", "rewritten"])
def test_a_file_that_changes_is_noticed(tmp_path, change):
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    content = FileContent.open(path)
    if change == "truncated":
        os.truncate(path, 50)
    else:
        path.write_bytes(b"x" * 100)
        os.utime(path, ns=(1, 1))
    with pytest.raises(Conflict, match="has changed"):
        content.read(0, 10)
    content.close()


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(OSError, match="no regular file"):
            FileContent.open(path)


def test_a_spool_keeps_what_comes_in_a_file_without_a_name(tmp_path):
    spool = Spool(str(tmp_path), PIECE)
    spool.write(b"abc")
    spool.write(bytearray(b"def"))
    content, outline = spool.finish()
    assert list(tmp_path.iterdir()) == []
    assert outline == outline_of(b"abcdef")
    assert content.read(2, 3) == b"cde"
    content.close()
