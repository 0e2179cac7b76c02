import os

import pytest

from transports.errors import SegmentUnavailable
from transports.shm.pool import Loan, Pool

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path)


@pytest.fixture
def one(folder) -> Pool:
    return Pool(16 * MIB, 10, 4 * MIB, folder)


@pytest.fixture
def two(folder) -> Pool:
    return Pool(16 * MIB, 3, 4 * MIB, folder)


def test_what_one_fills_the_other_receives(one, two):
    segment = one.allocate(100_000)
    segment[5:10] = b"hello"
    view = two.receive(segment.name, 5, 5)
    assert bytes(view) == b"hello"
    assert view.readonly
    assert two.receive(segment.name, 5, 5).obj is view.obj  # mapped once
    assert (two.stats().mapped, two.stats().received) == (1, 2)


def test_a_handle_in_flight_keeps_the_segment(one, two, folder):
    loan = Loan(one, "n2")
    segment = one.allocate(MIB)
    name = segment.name
    token = loan.lend(segment)
    del segment
    view = two.receive(name, 0, 10)
    assert (one.stats().own, one.stats().in_flight) == (1, 1)
    assert not one.returned(token, "n3")
    assert not one.returned(token + 1, "n2")
    assert one.returned(token, "n2")
    assert (one.stats().own, one.stats().in_flight) == (0, 0)
    one.close()
    assert len(os.listdir(folder)) == 1
    del view
    assert os.listdir(folder) == []


def test_a_connection_that_ends_gives_back_what_it_had_lent(one, folder):
    ended, lives = Loan(one, "n2"), Loan(one, "n2")
    for loan in (ended, lives):
        loan.lend(one.allocate(MIB))
    ended.end()
    assert one.stats().in_flight == 1
    assert one.stats().own == 1


def test_a_segment_that_nobody_uses_is_used_again_under_another_name(one, two):
    segment = one.allocate(MIB)
    name = segment.name
    inode = os.fstat(segment.shared_fd).st_ino
    view = two.receive(name, 0, MIB)
    del segment
    assert one.stats().spare_bytes == MIB
    busy = one.allocate(MIB)  # the reader still has it
    assert os.fstat(busy.shared_fd).st_ino != inode
    del view
    again = one.allocate(MIB - 5000)
    assert os.fstat(again.shared_fd).st_ino == inode
    assert again.name != name
    assert one.stats().spare_bytes == 0
    with pytest.raises(SegmentUnavailable):
        two.receive(name, 0, 1)
    assert two.stats().lost == 1


def test_a_spare_that_its_last_reader_removed_is_not_used(one, two, folder):
    segment = one.allocate(MIB)
    name = segment.name
    view = two.receive(name, 0, MIB)
    del segment
    busy = one.allocate(MIB)  # trying the spare costs its lock for a moment; it is taken again
    os.unlink(os.path.join(folder, name))  # as a reader does that was the last in just that moment
    del view
    fresh = one.allocate(MIB)
    assert len({busy.name, fresh.name, name}) == 3
    assert sorted(os.listdir(folder)) == sorted([busy.name, fresh.name])


def test_what_is_lent_or_referred_to_is_no_spare(one):
    loan = Loan(one, "n2")
    segment = one.allocate(MIB)
    inode = os.fstat(segment.shared_fd).st_ino
    token = loan.lend(segment)
    view = memoryview(segment)[5:]
    del segment
    for _ in range(2):
        other = one.allocate(MIB)
        assert os.fstat(other.shared_fd).st_ino != inode
        del other
        one.returned(token, "n2")  # the view is left
    del view
    assert inode in {os.fstat(each.shared_fd).st_ino for each in (one.allocate(MIB), one.allocate(MIB)) if each}


def test_spares_are_bounded(one, folder):
    segments = [one.allocate(MIB) for _ in range(8)]
    assert one.stats().spare_bytes == 0
    segments.clear()
    assert one.stats().spare_bytes == 4 * MIB
    assert len(os.listdir(folder)) == 4
    large = one.allocate(5 * MIB)
    del large
    middling = one.allocate(3 * MIB)  # the oldest give way to it
    del middling
    assert 3 * MIB <= one.stats().spare_bytes <= 4 * MIB
    assert sum(os.stat(os.path.join(folder, name)).st_size for name in os.listdir(folder)) <= 4 * MIB
    one.close()
    assert os.listdir(folder) == []


def test_the_bounds_are_kept_and_named(one, two):
    held = [one.allocate(3 * MIB) for _ in range(5)]
    with pytest.raises(SegmentUnavailable, match=r"shared\.bytes_max"):
        one.allocate(2 * MIB)
    assert one.stats().refused == 1
    del held
    other = one.allocate(16 * MIB)  # the spare makes room
    assert one.stats().spare_bytes == 0
    del other
    many = [two.allocate(1) for _ in range(3)]
    with pytest.raises(SegmentUnavailable, match=r"shared\.segments_max"):
        two.allocate(1)
    del many


def test_past_the_bound_what_comes_is_copied(one, two):
    segments = [one.allocate(10) for _ in range(4)]
    for number, segment in enumerate(segments):
        segment[0] = number
    views = [two.receive(segment.name, 0, 1) for segment in segments]
    assert [view[0] for view in views] == [0, 1, 2, 3]
    assert (two.stats().mapped, two.stats().copied) == (3, 1)
    with pytest.raises(SegmentUnavailable):
        two.receive(segments[3].name, 0, MIB)
    with pytest.raises(SegmentUnavailable):
        two.receive("fdn-" + "0" * 32, 0, 1)


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, 0), (0, 1 << 40), (4096, 1), (1 << 62, 1 << 62)])
def test_what_it_does_not_have_is_not_given(one, two, offset, length):
    segment = one.allocate(4096)
    for _ in range(2):  # mapped or not
        with pytest.raises(SegmentUnavailable):
            two.receive(segment.name, offset, length)
        two.receive(segment.name, 0, 4096)


def test_a_closed_pool_keeps_nothing(one, folder):
    segment = one.allocate(10)
    one.close()
    one.close()
    segment[0] = 1
    assert len(os.listdir(folder)) == 1
    del segment
    assert os.listdir(folder) == []


def test_files_of_killed_processes_are_swept(one, folder):
    pid = os.fork()
    if not pid:
        kept = Pool(MIB, 10, 0, folder).allocate(10)
        os._exit(0 if kept.own else 1)  # as SIGKILL would: no finalizer runs
    assert os.waitpid(pid, 0)[1] == 0
    assert len(os.listdir(folder)) == 1
    mine = one.allocate(10)
    assert one.sweep() == 1
    assert os.listdir(folder) == [mine.name]
