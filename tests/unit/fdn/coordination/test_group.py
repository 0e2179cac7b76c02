"""Groups on a virtual clock and an in-memory network, with real logs on a real disk."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consensus.identity import LogIndex, NodeId, Term
from consensus.machine import (
    CloseSession,
    Do,
    Failure,
    Get,
    KeyValue,
    MachineLimits,
    OpenSession,
    Put,
    Txn,
    TxnResult,
)
from consensus.raft import Changed, Configuration, RaftSettings, Role, Snapshot
from consensus.storage import SqliteStorage, StorageFailed
from fdn.coordination.group import Group
from fdn.errors import Conflict, DeadlineExceeded, Error, NoQuorum, NotLeader
from fdn.runtime.storage_thread import StorageThread
from fdn.testing import until, virtual

SETTINGS = RaftSettings(snapshot_after_entries=200, trailing_entries=20)
LATENCY_S = 0.001


class Member:
    """One node's part, which can be stopped and started again."""

    def __init__(self, cluster: "Cluster", name: str, founding: Snapshot) -> None:
        self.cluster = cluster
        self.name = NodeId(name)
        self.founding = founding
        self.changes: list[Changed] = []
        self.group: Group
        self.thread: StorageThread
        self.is_up = False

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        storage = SqliteStorage(self.cluster.path / self.name, self.name, self.founding)
        self.thread = StorageThread(storage, self.name, loop, lambda error: self.group.storage_failed(error))
        opened = await self.thread.open()
        snapshot = opened.durable.snapshot
        pieces = list(storage.read_snapshot(snapshot)) if snapshot.size else None
        self.group = Group(
            self.name,
            opened,
            self.thread,
            lambda peer, body: self.cluster.post(self.name, peer, body),
            loop,
            random.Random(f"{self.name}{self.cluster.seed}"),
            settings=SETTINGS,
            limits=MachineLimits(),
            boottime=lambda: loop.time() + self.cluster.slept,
            on_changed=self.changes.append,
        )
        self.is_up = True
        self.group.start(pieces)

    async def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            self.group.close()
            await self.thread.close()


class Cluster:
    """See the module."""

    def __init__(self, path: Path, names: str, seed: int = 1) -> None:
        self.path = path
        self.seed = seed
        self.slept = 0.0
        self.cut: set[str] = set()
        self.founding = Snapshot(LogIndex(0), Term(0), Configuration(tuple(NodeId(name) for name in names)))
        self.members = {name: Member(self, name, self.founding) for name in names}

    def post(self, sender: str, receiver: str, body: bytes) -> None:
        def arrive() -> None:
            member = self.members.get(receiver)
            if member is not None and member.is_up and not {sender, receiver} & self.cut:
                member.group.receive(NodeId(sender), body)

        asyncio.get_running_loop().call_later(LATENCY_S, arrive)

    async def leader(self) -> Group:
        def leading() -> list[Group]:
            up = [it for it in self.members.values() if it.is_up and it.name not in self.cut]
            return [it.group for it in up if it.group.status().role is Role.LEADER]

        await until(leading, "somebody leads")
        return leading()[0]

    def name_of(self, group: Group) -> str:
        return next(name for name, member in self.members.items() if member.is_up and member.group is group)


Test = Callable[[Cluster], Coroutine[Any, Any, None]]


@asynccontextmanager
async def running(path: Path, names: str = "abc") -> AsyncIterator[Cluster]:
    cluster = Cluster(path, names)
    try:
        for member in cluster.members.values():
            await member.start()
        yield cluster
    finally:
        for member in cluster.members.values():
            await member.stop()


async def open_session(group: Group, ttl_s: float = 10.0) -> LogIndex:
    number = await group.propose(OpenSession("test", ttl_s), 5.0)
    assert isinstance(number, int)
    return LogIndex(number)


def put(session: LogIndex, sequence: int, key: str, value: bytes, ephemeral: bool = False) -> Do:
    return Do(session, sequence, sequence - 1, Txn(then=(Put(key, value, ephemeral),)))


def values(rows: tuple[KeyValue, ...]) -> list[bytes]:
    return [row.value for row in rows]


@virtual
async def _writes_and_reads(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader)
        done = await leader.propose(put(session, 1, "k", b"1"), 5.0)
        assert isinstance(done, TxnResult)
        for member in cluster.members.values():  # a follower asks the leader when it may answer
            assert values(await member.group.get(Get("k"), 5.0)) == [b"1"]
        assert values(await leader.get(Get("k"), 5.0, lease=True)) == [b"1"]
        rows, revision = leader.get_local(Get("k"))
        assert (values(rows), revision) == ([b"1"], done.revision)
        again = await leader.propose(put(session, 1, "k", b"1"), 5.0)
        assert again == done, "once, however often it is asked for"


def test_what_is_written_can_be_read_everywhere(tmp_path: Path):
    _writes_and_reads(tmp_path)


@virtual
async def _who_does_not_lead(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        await open_session(leader)
        follower = next(it.group for it in cluster.members.values() if it.group is not leader)
        with pytest.raises(NotLeader) as told:
            await follower.propose(OpenSession("test", 10.0), 5.0)
        assert told.value.leader == cluster.name_of(leader)
        with pytest.raises(NotLeader):
            await follower.transfer(None, 5.0)
        follower.receive(NodeId("x"), b"nonsense")
        assert follower.malformed == 1


def test_who_does_not_lead_says_who_does(tmp_path: Path):
    _who_does_not_lead(tmp_path)


@virtual
async def _restart(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader, 600.0)
        for sequence in range(1, 400):  # beyond a snapshot
            await leader.propose(put(session, sequence, f"k{sequence % 50}", b"%d" % sequence), 5.0)
        assert any(cluster.path.rglob("snapshot-0*"))
        for member in cluster.members.values():
            await member.stop()
        for member in cluster.members.values():
            await member.start()
        leader = await cluster.leader()
        assert values(await leader.get(Get("k49"), 5.0)) == [b"399"]
        assert len(await leader.get(Get("k", prefix=True), 5.0)) == 50
        answer = await leader.propose(put(session, 399, "k49", b"399"), 5.0)
        assert isinstance(answer, TxnResult), "sessions survive with what was answered"


def test_everything_is_there_after_all_were_stopped(tmp_path: Path):
    _restart(tmp_path)


@virtual
async def _failover(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader)
        await leader.propose(put(session, 1, "k", b"1"), 5.0)
        former = cluster.members[cluster.name_of(leader)]
        await former.stop()
        for member in cluster.members.values():
            if member.is_up:
                member.group.lost(former.name)
        leader = await cluster.leader()
        assert cluster.members[cluster.name_of(leader)].changes[-1].role is Role.LEADER
        await leader.propose(put(session, 2, "k", b"2"), 5.0)
        await former.start()
        assert values(await former.group.get(Get("k"), 5.0)) == [b"2"]


def test_another_leads_when_the_leader_is_gone(tmp_path: Path):
    _failover(tmp_path)


@virtual
async def _no_quorum(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader)
        others = [name for name, it in cluster.members.items() if it.group is not leader]
        cluster.cut |= set(others)
        with pytest.raises((NoQuorum, Error)) as told:
            await leader.propose(put(session, 1, "k", b"1"), 0.2)
        assert isinstance(told.value, DeadlineExceeded | NoQuorum)
        await until(lambda: leader.status().role is not Role.LEADER, "it steps down")
        with pytest.raises(NoQuorum, match="none of a, b, c leads"):
            await leader.get(Get("k"), 1.0)
        cluster.cut.clear()
        leader = await cluster.leader()
        await leader.propose(put(session, 1, "k", b"1"), 5.0)
        assert values(await leader.get(Get("k"), 5.0)) == [b"1"], "once, whether or not it was carried out before"


def test_without_a_majority_nothing_is_decided_and_it_says_so(tmp_path: Path):
    _no_quorum(tmp_path)


@virtual
async def _sessions(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        kept, silent = await open_session(leader, 3.0), await open_session(leader, 3.0)
        await leader.propose(put(kept, 1, "kept", b"", ephemeral=True), 5.0)
        await leader.propose(put(silent, 1, "silent", b"", ephemeral=True), 5.0)
        for _ in range(5):
            await asyncio.sleep(1.0)
            assert leader.renew(kept)
        assert not leader.renew(silent)
        assert [row.key for row in leader.get_local(Get("", prefix=True))[0]] == ["kept"]
        told = await leader.propose(put(silent, 2, "silent", b""), 5.0)
        assert isinstance(told, Failure)
        await leader.transfer(None, 5.0)
        await until(lambda: leader.status().role is not Role.LEADER)
        assert not leader.renew(kept), "only the leader renews"
        leader = await cluster.leader()
        assert leader.renew(kept), "and the next one gives everybody the whole time again"
        await leader.propose(CloseSession(kept), 5.0)
        assert leader.get_local(Get("", prefix=True))[0] == ()


def test_sessions_end_by_silence_and_what_is_ephemeral_of_them_goes(tmp_path: Path):
    _sessions(tmp_path)


@virtual
async def _newcomer(path: Path) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader, 600.0)
        for sequence in range(1, 300):
            await leader.propose(put(session, sequence, "k", b"%d" % sequence), 5.0)
        newcomer = cluster.members["d"] = Member(cluster, "d", Snapshot(LogIndex(0), Term(0)))
        await newcomer.start()
        voters = [NodeId(name) for name in "abcd"]
        await leader.change_members(voters, [], 10.0)
        assert set(leader.status().configuration.voters) == set(voters)
        assert newcomer.group.status().snapshot_index > 0, "it was behind what the log still held"
        assert values(await newcomer.group.get(Get("k"), 5.0)) == [b"299"]
        with pytest.raises(Error, match="no voters would be left"):
            await leader.change_members([], [], 5.0)
        first = asyncio.create_task(leader.change_members(voters[:3], [], 10.0))
        await asyncio.sleep(0)
        with pytest.raises(Conflict, match="under way"):
            await leader.change_members(voters, [], 10.0)
        await first


def test_a_newcomer_is_sent_a_snapshot_and_votes(tmp_path: Path):
    _newcomer(tmp_path)


@virtual
async def _bad_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(path) as cluster:
        leader = await cluster.leader()
        session = await open_session(leader)
        storage = cluster.members[cluster.name_of(leader)].thread._storage

        def fails(writes: object) -> None:
            raise StorageFailed("Input/output error")

        monkeypatch.setattr(storage, "write", fails)
        with pytest.raises(Error):
            await leader.propose(put(session, 1, "k", b"1"), 5.0)
        assert leader.status().role is Role.STOPPED
        other = await cluster.leader()
        assert other is not leader
        await other.propose(put(session, 1, "k", b"1"), 5.0)
        with pytest.raises(Error, match="has ended"):
            await leader.propose(put(session, 2, "k", b"2"), 5.0)


def test_a_node_whose_disk_fails_stops_leading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _bad_disk(tmp_path, monkeypatch)


@virtual
async def _closing(path: Path) -> None:
    async with running(path, "a") as cluster:
        leader = await cluster.leader()
        session = await open_session(leader)
        asked = asyncio.create_task(leader.propose(put(session, 1, "k", b"1"), 5.0))
        await asyncio.sleep(0)
        leader.close()
        with pytest.raises(Error, match="this node stopped"):
            await asked
        with pytest.raises(Error, match="has ended"):
            await leader.get(Get("k"), 5.0)
        leader.close()


def test_whoever_waits_when_it_closes_is_told(tmp_path: Path):
    _closing(tmp_path)


@virtual
async def _clock(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(path) as cluster:
        await cluster.leader()
        cluster.slept = 3600.0
        await asyncio.sleep(1.0)
        leader = await cluster.leader()
        await open_session(leader)
        assert "the clock jumped by 3600.000 s" in caplog.text


def test_a_machine_that_slept_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    _clock(tmp_path, caplog)
