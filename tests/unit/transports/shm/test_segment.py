import errno
import gc
import os

import numpy as np
import pytest

from transports.errors import SegmentUnavailable
from transports.shm.segment import make_segment, map_segment, release_segment, segment_of

PAGE = 4096


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path)


@pytest.fixture
def retire(folder):
    return lambda fd, name, size: release_segment(folder, fd, name)


def test_what_one_writes_the_other_reads_and_cannot_change(folder, retire):
    made = make_segment(folder, PAGE, retire)
    made[:5] = b"hello"
    read = map_segment(folder, made.name, 5, retire)
    assert read[:5] == b"hello"
    assert (read.nbytes, read.own, made.own) == (PAGE, False, True)
    with pytest.raises(TypeError):
        read[0] = 1


def test_it_lives_as_long_as_anything_refers_to_it(folder, retire):
    made = make_segment(folder, PAGE, retire)
    array = np.frombuffer(made, np.uint8)[10:20]
    del made
    assert len(os.listdir(folder)) == 1
    array[0] = 7
    view = memoryview(array)  # type: ignore[arg-type]  # numpy says Buffer from 3.12 on
    del array
    assert view[0] == 7
    assert len(os.listdir(folder)) == 1
    del view
    gc.collect()
    assert os.listdir(folder) == []


def test_the_last_of_several_mappings_removes_the_file(folder, retire):
    made = make_segment(folder, PAGE, retire)
    read = map_segment(folder, made.name, PAGE, retire)
    del made
    assert len(os.listdir(folder)) == 1
    del read
    assert os.listdir(folder) == []


def test_the_segment_of_a_buffer_is_found(folder, retire):
    made = make_segment(folder, PAGE, retire)
    view = memoryview(made)
    array = np.frombuffer(view, np.float64)
    for buffer in (made, view, view[5:], array, array[3:].reshape(-1, 1), array.view(np.uint8).data[8:16]):
        assert segment_of(buffer) is made
    for other in (b"x", memoryview(b"x"), np.zeros(3), None, 17):
        assert segment_of(other) is None


def test_full_memory_is_told_when_it_is_made_and_leaves_nothing(folder, retire, monkeypatch):
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SegmentUnavailable, match="No space left"):
        make_segment(folder, PAGE, retire)
    assert os.listdir(folder) == []


def test_a_system_without_shared_memory_says_so(folder, retire, monkeypatch):
    with pytest.raises(SegmentUnavailable, match="No such file"):
        make_segment("/nowhere", PAGE, retire)
    monkeypatch.delattr(os, "posix_fallocate")
    with pytest.raises(SegmentUnavailable):
        make_segment(folder, PAGE, retire)
    assert os.listdir(folder) == []


def test_what_was_not_announced_is_not_mapped(folder, retire):
    made = make_segment(folder, PAGE, retire)
    with pytest.raises(SegmentUnavailable, match="4097 were announced"):
        map_segment(folder, made.name, PAGE + 1, retire)
    os.ftruncate(made.shared_fd, 100 * PAGE)  # holes: reading one would need a page that may not be had
    with pytest.raises(SegmentUnavailable):
        map_segment(folder, made.name, PAGE, retire)
    with pytest.raises(SegmentUnavailable, match="no name"):
        map_segment(folder, "../x", 1, retire)
    with pytest.raises(SegmentUnavailable):
        map_segment(folder, "fdn-" + "0" * 32, 1, retire)


def test_a_forked_child_leaves_it_to_its_parent(folder, retire):
    made = make_segment(folder, PAGE, retire)
    pid = os.fork()
    if not pid:
        del made
        os._exit(0 if len(os.listdir(folder)) == 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    made[0] = 1
    assert len(os.listdir(folder)) == 1
