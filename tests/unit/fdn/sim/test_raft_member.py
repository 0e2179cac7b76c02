import functools

import pytest

from consensus.identity import LogIndex, Term
from consensus.raft import Entry, EntryKind, RaftSettings, Role
from fdn.sim.disk import DiskConditions, Journal
from fdn.sim.history import History
from fdn.sim.kv import KvClient, KvClientSettings
from fdn.sim.raft_member import RaftMember, RaftMemberSettings, RaftWatch
from fdn.sim.report import Violation
from fdn.sim.simulation import Simulation

NAMES = ("n0", "n1", "n2")
SETTINGS = RaftMemberSettings(raft=RaftSettings(snapshot_after_entries=30, trailing_entries=5), voters=NAMES)


@pytest.fixture
def group():
    simulation = Simulation(1)
    watch = RaftWatch()
    for name in NAMES:
        simulation.add(name, functools.partial(RaftMember, SETTINGS, watch))
    return simulation


def status(simulation, name):
    return simulation.processes[name].program.raft.status()


def leader(simulation):
    return next((it.name for it in simulation.running() if is_leader(it)), None)


def is_leader(process):
    return process.program.raft is not None and process.program.raft.status().role is Role.LEADER


def load(simulation, seconds, client="c"):
    history = History(simulation.world)
    ends = simulation.world.elapsed_s + seconds
    settings = KvClientSettings(servers=NAMES, ends_at_s=ends, pause_s=0.01)
    process = simulation.add(client, functools.partial(KvClient, settings, history, 0))
    simulation.run(seconds + 2.0)
    return process.program.answered_count


def test_a_group_elects_serves_and_compacts(group):
    assert group.run(5.0, lambda: leader(group)) is not None
    assert load(group, 3.0) > 200
    stores = {group.processes[name].program.store.dump() for name in NAMES}
    assert len(stores) == 1
    assert all(status(group, name).snapshot_index > 0 for name in NAMES)
    assert all(len(group.processes[name].disk.records()) < 60 for name in NAMES)


def test_all_lose_power_at_once_and_everything_answered_is_there(group):
    group.run(5.0, lambda: leader(group))
    load(group, 2.0)
    before = group.processes["n0"].program.store.dump()
    applied = status(group, "n0").applied_index
    for name in NAMES:
        group.processes[name].crash()
    for name in NAMES:
        group.processes[name].start()
    members = [group.processes[name] for name in NAMES]
    group.run(5.0, lambda: all(it.program.raft and status(group, it.name).applied_index > applied for it in members))
    assert group.processes["n0"].program.store.dump() == before


def test_one_that_was_away_for_long_gets_a_snapshot(group):
    group.run(5.0, lambda: leader(group))
    group.processes["n2"].crash()
    group.processes["n2"].disk.wipe()
    load(group, 3.0)
    first = min(status(group, name).first_index for name in ("n0", "n1"))
    assert first > 1
    group.processes["n2"].start()  # it held nothing yet, so it may come back as it is
    group.run(5.0)
    assert group.processes["n2"].program.store.dump() == group.processes["n0"].program.store.dump()
    assert status(group, "n2").first_index > 1


@pytest.mark.parametrize("conditions", [DiskConditions(sync_failure=1.0), DiskConditions(bytes_max=0)])
def test_one_whose_disk_fails_gives_up_and_comes_back(group, conditions):
    group.run(5.0, lambda: leader(group))
    name = leader(group)
    disk = group.processes[name].disk
    disk.conditions = conditions
    load(group, 2.0)
    assert leader(group) not in (None, name)
    assert not is_leader(group.processes[name])
    disk.conditions = disk.usual
    group.run(5.0)
    assert group.processes[name].program.store.dump() == group.processes[leader(group)].program.store.dump()


def test_a_torn_tail_is_dropped_and_gone_before_anything_is_written(group):
    group.run(5.0, lambda: leader(group))
    load(group, 1.0)
    process = group.processes["n2"]
    process.crash()
    records = process.disk.records()
    process.disk.wipe()
    process.disk.persist([*records[:-1], records[-1][:-3], b"rubbish"], print)
    group.run(1.0)
    process.start()
    group.run(5.0)
    assert Journal(process.disk.records()).broken_count == 0
    assert process.program.store.dump() == group.processes["n0"].program.store.dump()
    assert any(what == "finds a torn log" for _, what, _ in group.world.notes())


def entry(index, term, data=b""):
    return Entry(LogIndex(index), Term(term), EntryKind.COMMAND, data)


def test_the_watch_sees_two_entries_at_one_index():
    watch = RaftWatch()
    watch.on_applied("n0", [entry(1, 1), entry(2, 1)])
    watch.on_applied("n1", [entry(1, 1), entry(2, 1)])
    with pytest.raises(Violation, match="state machine safety: n2"):
        watch.on_applied("n2", [entry(2, 1, b"other")])


def test_the_watch_sees_two_leaders_and_one_that_lacks_something(group):
    group.run(5.0, lambda: leader(group))
    raft = group.processes[leader(group)].program.raft
    watch = RaftWatch()
    watch.on_leader(leader(group), raft)
    with pytest.raises(Violation, match="election safety"):
        watch.on_leader("somebody else", raft)
    watch.applied[1] = entry(1, 0, b"other")
    with pytest.raises(Violation, match="leader completeness"):
        watch.on_leader(leader(group), raft)
