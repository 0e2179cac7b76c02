"""A handful of cores, driven by hand: messages wait in a list, disks finish when told to, time passes when told to.

After every input the properties of figure 3.2 are checked, and that nothing was said that the disk does not hold.
"""

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping

import blake3
import msgspec

from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import (
    Answer,
    Apply,
    Changed,
    ChangeMembers,
    ChunkRead,
    Compact,
    Configuration,
    Durable,
    Effect,
    Entry,
    EntryKind,
    Input,
    Message,
    Persist,
    Persisted,
    Proposal,
    Propose,
    Raft,
    RaftSettings,
    Read,
    ReadChunk,
    Received,
    Restore,
    Role,
    Send,
    Snapshot,
    SnapshotTaken,
    StoreChunk,
    TakeSnapshot,
    Tick,
    TransferLeadership,
    decode,
    encode,
)
from consensus.raft.messages import AppendEntriesReply, RequestVote, RequestVoteReply

SETTINGS = RaftSettings(snapshot_after_entries=10_000)

Write = Persist | StoreChunk | Restore


def nid(name: str) -> NodeId:
    return NodeId(name)


class Disk:
    """What survives, and what is on its way."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.term = Term(0)
        self.voted_for: NodeId | None = None
        self.snapshot = snapshot
        self.entries: list[Entry] = []
        self.files: dict[LogIndex, bytes] = {}
        self.received = bytearray()
        self.pending: list[Write] = []

    def sync(self, count: int) -> int:
        """Finish the oldest writes. Returns the token of the last."""
        for _ in range(count):
            token = self._write(self.pending.pop(0))
        return token

    def _write(self, write: Write) -> int:
        match write:
            case Persist():
                self.term, self.voted_for = write.term, write.voted_for
                if write.entries:
                    first = write.entries[0].index
                    assert first <= self.last_index + 1, "a hole in the log"
                    self.entries = [it for it in self.entries if it.index < first] + list(write.entries)
            case StoreChunk():
                if write.offset == 0:
                    self.received.clear()
                assert len(self.received) == write.offset, "a hole in the snapshot"
                self.received += write.data
            case Restore():
                data = bytes(self.received)
                assert blake3.blake3(data).digest() == write.snapshot.digest
                self.term, self.voted_for = write.term, write.voted_for
                self.snapshot, self.entries = write.snapshot, []
                self.files[write.snapshot.index] = data
        return write.token

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.snapshot.index

    def holds(self, index: int, term: int) -> bool:
        """Whether this entry is here, or in the snapshot."""
        return index <= self.snapshot.index or any((it.index, it.term) == (index, term) for it in self.entries)


class Machine:
    """Applies by remembering: its state is everything that was applied."""

    def __init__(self, data: bytes = b"") -> None:
        self.values: list[tuple[int, bytes]] = (
            msgspec.msgpack.decode(data, type=list[tuple[int, bytes]]) if data else []
        )

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self.values)


class Node:
    """One core, its disk and its machine."""

    def __init__(self, cluster: "Cluster", name: NodeId, snapshot: Snapshot, settings: RaftSettings) -> None:
        self.cluster = cluster
        self.name = name
        self.settings = settings
        self.disk = Disk(snapshot)
        self.drift = 1.0  # seconds of its clock in a second
        self.floor: tuple[LogIndex, Term] = (LogIndex(0), Term(0))
        self.reads: list[ReadChunk | TakeSnapshot] = []
        self.log: list[Effect] = []  # everything, for tests that look
        self.start()

    def start(self) -> None:
        disk = self.disk
        self.is_up = True
        self.machine = Machine(disk.files.get(disk.snapshot.index, b""))
        durable = Durable(disk.snapshot, tuple(disk.entries), disk.term, disk.voted_for, floor=self.floor)
        self.raft = Raft(self.name, durable, self.settings, self.cluster.chance, self.now)
        self.seen = self.raft.status()

    @property
    def now(self) -> float:
        return self.cluster.now * self.drift

    @property
    def role(self) -> Role:
        return self.raft.status().role

    def changes(self) -> list[Changed]:
        return [it for it in self.log if isinstance(it, Changed)]


@dataclasses.dataclass(slots=True)
class Letter:
    """A message on its way."""

    sender: NodeId
    receiver: NodeId
    message: Message


class Cluster:
    """See the module."""

    def __init__(
        self,
        voters: Iterable[str],
        seed: int = 1,
        settings: RaftSettings = SETTINGS,
        own: Mapping[NodeId, RaftSettings] | None = None,
    ):
        self.chance = random.Random(seed)
        self.now = 100.0
        self.letters: list[Letter] = []
        self.answers: dict[int, Answer | int] = {}  # by request: an answer, or the index at which it was applied
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.founding = Configuration(tuple(sorted(nid(it) for it in voters)))
        snapshot = Snapshot(LogIndex(0), Term(0), self.founding)
        self.settings = settings
        self.committed: dict[int, Entry] = {}
        self.acknowledged: dict[int, int] = {}  # request -> index
        self._leaders: dict[int, NodeId] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int | None]] = {}
        self._requests = 0
        self._read_floor: dict[int, int] = {}
        self.nodes = {
            node: Node(self, node, snapshot, (own or {}).get(node, settings)) for node in self.founding.voters
        }

    def __getitem__(self, name: str) -> Raft:
        return self.nodes[nid(name)].raft

    def add(self, name: str) -> None:
        """A node that nobody told of the group yet."""
        self.nodes[nid(name)] = Node(self, nid(name), Snapshot(LogIndex(0), Term(0)), self.settings)

    # -- one input

    def give(self, name: str, item: Input) -> list[Effect]:
        node = self.nodes[nid(name)]
        effects = node.raft.handle(item, node.now)
        node.log.extend(effects)
        for effect in effects:
            self._carry_out(node, effect)
        self._check(node)
        return effects

    def _carry_out(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send():
                self._check_send(node, effect)
                message = decode(encode(effect.message))
                assert message == effect.message
                if effect.peer in self.nodes:
                    self.letters.append(Letter(node.name, effect.peer, message))
            case Persist() | StoreChunk() | Restore():
                node.disk.pending.append(effect)
                if isinstance(effect, Persist):
                    self._check_entries(node, effect.entries)
                if isinstance(effect, Restore):
                    data = bytes(node.disk.received) + b"".join(
                        it.data for it in node.disk.pending if isinstance(it, StoreChunk)
                    )
                    node.machine = Machine(data[-effect.snapshot.size :])
            case Apply():
                self._apply(node, effect)
            case Answer():
                assert effect.request not in self.answers, "answered twice"
                self.answers[effect.request] = effect
                if effect.request in self._read_floor and effect.outcome.value == "done":
                    assert effect.index >= self._read_floor[effect.request], "a stale read"
            case TakeSnapshot() | ReadChunk():
                node.reads.append(effect)
                if isinstance(effect, TakeSnapshot):
                    node.disk.files[effect.index] = node.machine.dump()
            case Compact():
                node.disk.snapshot = effect.snapshot
                node.disk.entries = [it for it in node.disk.entries if it.index > effect.snapshot.index]
            case Changed():
                if effect.role is Role.LEADER:
                    self._check_leader(node, effect)

    def _apply(self, node: Node, effect: Apply) -> None:
        for entry in effect.entries:
            assert node.disk.holds(entry.index, entry.term), "applied before it was on the disk"
            known = self.committed.setdefault(entry.index, entry)
            assert known == entry, f"state machine safety: {known} and {entry}"
            if entry.kind is EntryKind.COMMAND:
                node.machine.values.append((entry.index, entry.data))
        for index, request in effect.requests.items():
            assert request not in self.answers, "answered twice"
            self.answers[request] = self.acknowledged[request] = index

    # -- the properties

    def _check_leader(self, node: Node, changed: Changed) -> None:
        known = self._leaders.setdefault(changed.term, node.name)
        assert known == node.name, f"election safety: {known} and {node.name} in term {changed.term}"
        status = node.raft.status()
        have = {it.index: it.term for it in node.raft.entries()}
        for index, entry in self.committed.items():
            if index >= status.first_index and entry.term < changed.term:
                assert have.get(LogIndex(index)) == entry.term, f"leader completeness: {node.name} lacks {entry}"

    def _check_entries(self, node: Node, entries: tuple[Entry, ...]) -> None:
        if not entries:
            return
        terms = {it.index: it.term for it in node.raft.entries()}
        status = node.raft.status()
        previous = terms.get(LogIndex(entries[0].index - 1))
        for entry in entries:
            known, before = self._entries.setdefault((entry.index, entry.term), (entry, previous))
            assert known == entry, f"log matching: {known} and {entry}"
            if before is not None and previous is not None and entry.index > status.first_index:
                assert before == previous, f"log matching before {entry}"
            previous = entry.term

    def _check_send(self, node: Node, send: Send) -> None:
        message, disk = send.message, node.disk
        if not type(message).__name__.startswith("PreVote"):
            assert message.term <= disk.term, f"{message} before its term is on the disk"
        match message:
            case RequestVoteReply(granted=True):
                assert (disk.term, disk.voted_for) == (message.term, send.peer) or disk.term > message.term
            case RequestVote():
                assert (disk.term, disk.voted_for) == (message.term, node.name) or disk.term > message.term
                assert disk.term > message.term or disk.last_index >= message.last_index
            case AppendEntriesReply(rejected=False):
                assert disk.term > message.term or disk.last_index >= message.match_index
            case _:
                pass

    def _check(self, node: Node) -> None:
        before, after = node.seen, node.raft.status()
        node.seen = after
        assert after.term >= before.term
        assert after.commit_index >= before.commit_index
        assert after.applied_index >= before.applied_index
        assert after.snapshot_index <= after.applied_index <= after.commit_index <= after.last_index
        assert after.stable_index <= after.last_index
        if after.role is Role.LEADER and after.commit_index > before.commit_index:
            self._check_quorum(node, before.configuration, after.commit_index)

    def _check_quorum(self, node: Node, configuration: Configuration, index: LogIndex) -> None:
        """What a leader calls committed is on the disks of a majority of the configuration in force.

        That is the one from before the input: what the commit lets the leader append next comes after.
        """
        terms = {it.index: it.term for it in node.raft.entries()}
        for half in configuration.halves:
            holding = [it for it in half if self.nodes[it].disk.holds(index, terms[index])]
            assert len(holding) > len(half) // 2, f"{index} committed with {holding} of {half}"

    # -- what tests do

    def propose(self, name: str, data: bytes = b"x", count: int = 1) -> int:
        """Returns the last request."""
        first = self._requests + 1
        self._requests += count
        self.give(name, Propose(tuple(Proposal(it, data) for it in range(first, first + count))))
        return self._requests

    def read(self, name: str, lease: bool = False) -> int:
        self._requests += 1
        self._read_floor[self._requests] = max(self.acknowledged.values(), default=0)
        self.give(name, Read(self._requests, lease))
        return self._requests

    def change(self, name: str, voters: Iterable[str], learners: Iterable[str] = ()) -> int:
        self._requests += 1
        wanted = frozenset(nid(it) for it in voters), frozenset(nid(it) for it in learners)
        self.give(name, ChangeMembers(self._requests, *wanted))
        return self._requests

    def transfer(self, name: str, target: str | None = None) -> int:
        self._requests += 1
        self.give(name, TransferLeadership(self._requests, nid(target) if target else None))
        return self._requests

    def answer(self, request: int) -> Answer:
        answer = self.answers[request]
        assert isinstance(answer, Answer), f"{request} was applied at {answer}"
        return answer

    def sync(self, name: str, count: int | None = None) -> None:
        """Let writes finish: all, or the oldest."""
        node = self.nodes[nid(name)]
        count = len(node.disk.pending) if count is None else count
        if count:
            self.give(name, Persisted(node.disk.sync(count)))

    def serve(self, name: str) -> None:
        """Take and read the snapshots asked for."""
        node = self.nodes[nid(name)]
        while node.reads:
            asked = node.reads.pop(0)
            if isinstance(asked, TakeSnapshot):
                data = node.disk.files[asked.index]
                self.give(name, SnapshotTaken(asked.index, len(data), blake3.blake3(data).digest()))
            else:
                file = node.disk.files.get(asked.snapshot.index)
                piece = file[asked.offset : asked.offset + asked.length] if file is not None else None
                self.give(name, ChunkRead(asked.peer, asked.snapshot.index, asked.offset, piece))

    def deliver(self, letter: Letter) -> None:
        self.letters = [it for it in self.letters if it is not letter]
        node = self.nodes[letter.receiver]
        if node.is_up and (letter.sender, letter.receiver) not in self.cut:
            self.give(letter.receiver, Received(letter.sender, letter.message))

    def settle(self, drop: Callable[[Letter], bool] = lambda _: False) -> None:
        """Finish writes and deliver messages, in order, until nothing is left."""
        for _ in range(10_000):
            busy = False
            for name, node in self.nodes.items():
                if node.is_up and (node.disk.pending or node.reads):
                    busy = True
                    self.sync(name)
                    self.serve(name)
            for letter in list(self.letters):
                busy = True
                if drop(letter):
                    self.letters = [it for it in self.letters if it is not letter]
                else:
                    self.deliver(letter)
            if not busy:
                return
        raise AssertionError("it never settles")

    def elapse(self, seconds: float, drop: Callable[[Letter], bool] = lambda _: False) -> None:
        """Let time pass; messages and disks take none."""
        end = self.now + seconds
        while True:
            due = [
                (deadline / node.drift, name)
                for name, node in self.nodes.items()
                if node.is_up and (deadline := node.raft.next_deadline()) is not None
            ]
            at, name = min(due, default=(end, nid("")))
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at) + 1e-9
            self.give(name, Tick())
            self.settle(drop)

    def elect(self, name: str) -> None:
        """Make this one the leader: the others' patience is longer."""
        node = self.nodes[nid(name)]
        node.raft._timer.deadline = node.now
        for other in self.nodes.values():
            other.raft._timer.heard_at = float("-inf")
        self.give(name, Tick())
        self.settle()
        assert node.role is Role.LEADER, f"{name} is {node.raft.status()}"

    def isolate(self, *names: str) -> None:
        """Cut these off from everybody else, both ways."""
        inside = {nid(it) for it in names}
        for here in self.nodes:
            for there in self.nodes:
                if (here in inside) != (there in inside):
                    self.cut.add((here, there))

    def heal(self) -> None:
        self.cut.clear()

    def crash(self, name: str, kept: int = 0) -> None:
        """Stop at once. Of the writes that were out the oldest `kept` are on the disk."""
        node = self.nodes[nid(name)]
        node.is_up = False
        node.reads.clear()
        if kept:
            node.disk.sync(kept)
        node.disk.pending.clear()
        node.disk.received.clear()

    def restart(self, name: str) -> None:
        self.nodes[nid(name)].start()

    def leader(self) -> NodeId | None:
        """The one with the highest term."""
        leaders = [it for it in self.nodes.values() if it.is_up and it.role is Role.LEADER]
        return max(leaders, key=lambda it: it.raft.status().term).name if leaders else None

    def logs(self) -> dict[NodeId, list[tuple[int, int]]]:
        """(index, term) of what each holds in memory."""
        return {name: [(it.index, it.term) for it in node.raft.entries()] for name, node in self.nodes.items()}


def seed_log(cluster: Cluster, name: str, terms: Iterable[int], term: int = 0) -> None:
    """Begin this node with a log of these terms, as the figures of the paper draw them."""
    node = cluster.nodes[nid(name)]
    node.disk.entries = [
        Entry(LogIndex(at), Term(of), EntryKind.COMMAND, f"{at}/{of}".encode()) for at, of in enumerate(terms, 1)
    ]
    node.disk.term = Term(max([term, *terms], default=0)) if terms else Term(term)
    node.start()
