import collections

import pytest

from fdn.sim.disk import Disk, DiskConditions, DiskOutcome, Journal
from fdn.sim.latency import Fixed
from fdn.sim.world import World

SLOW = DiskConditions(latency=Fixed(0.1))


@pytest.fixture
def world():
    return World(1)


@pytest.fixture
def disk(world):
    return Disk(world, "a", SLOW)


def write(world, disk, *records, rewrite=False, wait=True):
    outcomes: list[DiskOutcome] = []
    disk.persist(records, outcomes.append, rewrite=rewrite)
    if wait:
        world.run(1.0)
        return outcomes[0]
    return outcomes


def test_syncs_take_their_turns(world, disk):
    done = []
    for number in range(3):
        disk.persist([bytes([number])], lambda outcome, number=number: done.append((round(world.elapsed_s, 3), number)))
    world.run(1.0)
    assert done == [(0.1, 0), (0.2, 1), (0.3, 2)]
    assert disk.records() == [b"\0", b"\1", b"\2"]


def test_what_was_synced_survives_a_crash(world, disk):
    assert write(world, disk, b"one", b"two") is DiskOutcome.DURABLE
    disk.crash()
    assert disk.records() == [b"one", b"two"]


def test_what_was_not_synced_is_kept_lost_or_torn_and_nobody_is_told():
    fates: collections.Counter[str] = collections.Counter()
    for seed in range(300):
        world = World(seed)
        disk = Disk(world, "a", SLOW)
        write(world, disk, b"synced")
        outcomes = write(world, disk, b"unsynced", wait=False)
        assert disk.records() == [b"synced", b"unsynced"]
        disk.crash()
        world.run(1.0)
        first, *rest = disk.records()
        assert (first, outcomes) == (b"synced", [])
        fates["lost" if not rest else "kept" if rest == [b"unsynced"] else "torn"] += 1
        assert not rest or b"unsynced".startswith(rest[0])
    assert set(fates) == {"lost", "kept", "torn"}
    assert min(fates.values()) > 50


def test_a_killed_process_leaves_its_writes_in_the_kernel(world, disk):
    write(world, disk, b"one", wait=False)
    disk.crash(power=False)
    assert disk.records() == [b"one"]
    assert write(world, disk, b"two") is DiskOutcome.DURABLE  # and this syncs the first, too
    disk.crash()
    assert disk.records() == [b"one", b"two"]


def test_a_rewrite_is_whole_or_not_at_all():
    seen = set()
    for seed in range(20):
        world = World(seed)
        disk = Disk(world, "a", SLOW)
        write(world, disk, b"old", b"older")
        write(world, disk, b"new", rewrite=True, wait=False)
        assert disk.records() == [b"new"]
        disk.crash()
        seen.add(tuple(disk.records()))
    assert seen == {(b"old", b"older"), (b"new",)}
    assert write(world, disk, b"newest", rewrite=True) is DiskOutcome.DURABLE
    disk.crash()
    assert disk.records() == [b"newest"]


def test_after_a_failed_sync_the_next_says_yes_and_means_only_itself():
    seen = set()
    for seed in range(30):
        world = World(seed)
        disk = Disk(world, "a", SLOW)
        disk.conditions = DiskConditions(latency=Fixed(0.1), sync_failure=1.0)
        assert write(world, disk, b"lost?") is DiskOutcome.FAILED
        disk.conditions = disk.usual
        assert write(world, disk, b"later") is DiskOutcome.DURABLE
        assert disk.records() == [b"lost?", b"later"]  # as the kernel shows them
        disk.crash()
        assert disk.records()[-1] == b"later"
        seen.add(disk.records()[0])
    assert {b"lost?", b"later"} < seen


def test_a_full_disk_writes_nothing_and_takes_a_smaller_rewrite(world, disk):
    disk.conditions = DiskConditions(latency=Fixed(0.1), bytes_max=5)
    assert write(world, disk, b"1234") is DiskOutcome.DURABLE
    assert write(world, disk, b"56") is DiskOutcome.FULL
    assert disk.records() == [b"1234"]
    assert write(world, disk, b"5", rewrite=True) is DiskOutcome.DURABLE
    assert disk.records() == [b"5"]


def test_a_wiped_disk_is_empty(world, disk):
    write(world, disk, b"1")
    outcomes = write(world, disk, b"2", wait=False)
    disk.wipe()
    world.run(1.0)
    assert (disk.records(), outcomes) == ([], [])


def frames(*values):
    journal = Journal()
    return [journal.frame(value) for value in values]


def test_a_journal_is_read_up_to_the_first_broken_link():
    whole = frames(b"a", b"b", b"c", b"d")
    assert Journal(whole).values == [b"a", b"b", b"c", b"d"]
    torn = Journal([*whole[:2], whole[2][:-1], whole[3]])
    hole = Journal([whole[0], *whole[2:]])
    swapped = Journal([whole[0], whole[2], whole[1]])
    assert (torn.values, torn.broken_count) == ([b"a", b"b"], 2)
    assert (hole.values, hole.broken_count) == ([b"a"], 2)
    assert (swapped.values, swapped.broken_count) == ([b"a"], 2)
    assert Journal([b"short"]).broken_count == 1


def test_a_journal_goes_on_where_it_was_read():
    whole = frames(b"a", b"b")
    journal = Journal(whole)
    assert Journal([*whole, journal.frame(b"c")]).values == [b"a", b"b", b"c"]
