"""Raft in a simulated process: the core of production, a driver for it, a store behind it, and what must always hold.

The driver keeps the core's state as a journal on the simulated disk. Whatever it reads at the start it first writes
anew and syncs: after a failed sync the kernel shows records that the disk does not hold, and to answer for those would
be to answer from memory.
"""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any, Final, assert_never

import blake3
import msgspec

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex, NodeId, Term
from consensus.raft import (
    Answer,
    Apply,
    Changed,
    ChunkRead,
    Compact,
    Configuration,
    ConnectionLost,
    Durable,
    Effect,
    Entry,
    EntryKind,
    Input,
    Outcome,
    Persist,
    Persisted,
    PersistFailed,
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
    SnapshotFailed,
    SnapshotTaken,
    StoreChunk,
    TakeSnapshot,
    Tick,
    decode,
    encode,
)
from fdn.sim.disk import DiskOutcome, Journal
from fdn.sim.kv import Command, KvStore, Reply, Request
from fdn.sim.network import DialOutcome
from fdn.sim.process import Process
from fdn.sim.report import Violation

__all__ = ("RaftMember", "RaftMemberSettings", "RaftWatch")

_RESTART_S: Final = 1.0  # a supervisor's pause before it starts a member again that gave up
_REDIAL_S: Final = 0.05


class _Base(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A record of the journal: all of it up to here."""

    snapshot: Snapshot
    data: bytes  # of the state machine
    term: Term
    voted_for: NodeId | None
    entries: tuple[Entry, ...]


class _Written(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A record of the journal: term, vote, and entries that replace everything from the first one's index on."""

    term: Term
    voted_for: NodeId | None
    entries: tuple[Entry, ...]


class _Filed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A record of the journal: a snapshot's data, which nothing refers to yet."""

    index: LogIndex
    data: bytes


_Record = _Base | _Written | _Filed
_records: msgspec.msgpack.Decoder[_Record] = msgspec.msgpack.Decoder(_Record)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RaftMemberSettings:
    """What a member is made of.

    Attributes:
        raft: Settings of the core.
        voters: The founding members.
        lease_reads: Gets are content with a lease.
    """

    raft: RaftSettings = dataclasses.field(default_factory=RaftSettings)
    voters: tuple[str, ...]
    lease_reads: bool = False

    @property
    def founding(self) -> Snapshot:
        """What every founder begins with."""
        voters = tuple(sorted(NodeId(name) for name in self.voters))
        return Snapshot(LogIndex(0), Term(0), Configuration(voters))


class RaftWatch:
    """Watches a whole group; raises when one of the properties of figure 3.2 does not hold.

    Attributes:
        leaders: By term.
        applied: What was applied at each index, by anybody.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.applied: dict[int, Entry] = {}

    def on_leader(self, name: str, raft: Raft) -> None:
        """Election safety and leader completeness."""
        status = raft.status()
        known = self.leaders.setdefault(status.term, name)
        if known != name:
            raise Violation(f"election safety: {known} and {name} both lead in term {status.term}")
        held = {entry.index: entry.term for entry in raft.entries()}
        for index, entry in self.applied.items():
            if index >= status.first_index and entry.term < status.term and held.get(LogIndex(index)) != entry.term:
                raise Violation(
                    f"leader completeness: {name}, leader of term {status.term}, lacks entry {index} of term "
                    f"{entry.term}, which was committed"
                )

    def on_applied(self, name: str, entries: Iterable[Entry]) -> None:
        """State machine safety."""
        for entry in entries:
            known = self.applied.setdefault(entry.index, entry)
            if known != entry:
                raise Violation(f"state machine safety: {name} applies {entry} where another applied {known}")


class RaftMember:
    """The program of one member. Make it with `functools.partial(RaftMember, settings, watch)`.

    Args:
        settings: See there.
        watch: Of the whole group.
        process: Where it runs; its name is the node id.

    Attributes:
        raft: The core; None while the disk is being read.
        store: The state machine.
    """

    def __init__(self, settings: RaftMemberSettings, watch: RaftWatch, process: Process) -> None:
        self._settings = settings
        self._watch = watch
        self._process = process
        self._journal = Journal()
        self._base = _Base(settings.founding, b"", Term(0), None, ())
        self._entries: list[Entry] = []  # as they will be on the disk when all that was written is
        self._inputs: collections.deque[Input] = collections.deque()
        self._is_feeding = False
        self._chunks: list[bytes] = []
        self._file: tuple[LogIndex, bytes] = (LogIndex(0), b"")  # of the newest snapshot that was taken
        self._requests: dict[int, tuple[str, Request]] = {}
        self._request_count = 0
        self._open: set[str] = set()
        self._redials: dict[str, float] = {}
        self.raft: Raft | None = None
        self.store = KvStore()

    # -- the program

    def on_start(self) -> None:
        journal = Journal(self._process.disk.records())
        for value in journal.values:
            self._replay(_records.decode(value))
        if journal.broken_count:
            self._process.note("finds a torn log", journal.broken_count)
        self._rewrite(self._on_read)

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Request):
            self._on_request(sender, message)
        elif self.raft is not None:
            try:
                self._feed(Received(NodeId(sender), decode(message)))
            except RemoteProtocolError as error:
                raise Violation(f"{self._process.name} cannot read what {sender} sent: {error}") from error

    def on_tick(self) -> None:
        now = self._process.now
        for peer in [peer for peer, at in self._redials.items() if at <= now]:
            self._dial(peer)
        due = self.raft.next_deadline() if self.raft is not None else None
        if due is not None and due <= now:
            self._feed(Tick())

    def next_deadline(self) -> float | None:
        deadlines = list(self._redials.values())
        due = self.raft.next_deadline() if self.raft is not None else None
        if due is not None:
            deadlines.append(due)
        return min(deadlines, default=None)

    def on_greeting(self, sender: str, greeting: Any) -> None:
        """Whoever dials is answered."""

    def on_closed(self, peer: str) -> None:
        self._open.discard(peer)
        self._redials[peer] = self._process.now + _REDIAL_S
        if self.raft is not None:
            self._feed(ConnectionLost(NodeId(peer)))

    # -- the disk

    def _replay(self, record: _Record) -> None:
        match record:
            case _Base():
                self._base, self._entries = record, list(record.entries)
            case _Written():
                self._take(record.term, record.voted_for, record.entries)
            case _Filed():
                pass  # whoever wrote it ended before it was used
            case _:
                assert_never(record)

    def _take(self, term: Term, voted_for: NodeId | None, entries: tuple[Entry, ...]) -> None:
        self._base = msgspec.structs.replace(self._base, term=term, voted_for=voted_for)
        if entries:
            first = entries[0].index
            self._entries = [entry for entry in self._entries if entry.index < first] + list(entries)

    def _rewrite(self, done: Any) -> None:
        """Put everything that we know in the place of what is on the disk."""
        index = self._base.snapshot.index
        entries = tuple(entry for entry in self._entries if entry.index > index)
        self._entries = list(entries)
        self._base = msgspec.structs.replace(self._base, entries=())
        self._journal = Journal()
        record = msgspec.structs.replace(self._base, entries=entries)
        self._process.persist([self._journal.frame(msgspec.msgpack.encode(record))], done, rewrite=True)

    def _append(self, record: _Record | None, done: Any) -> None:
        records = [] if record is None else [self._journal.frame(msgspec.msgpack.encode(record))]
        self._process.persist(records, done)

    def _on_read(self, outcome: DiskOutcome) -> None:
        if outcome is not DiskOutcome.DURABLE:
            self._process.fail(f"disk {outcome.value}", _RESTART_S)
            return
        base = self._base
        self.store = KvStore(base.data)
        self._file = (base.snapshot.index, base.data)
        durable = Durable(base.snapshot, tuple(self._entries), base.term, base.voted_for)
        process = self._process
        self.raft = Raft(NodeId(process.name), durable, self._settings.raft, process.rng, process.now)
        for peer in self._settings.voters:
            if peer != process.name:
                self._dial(peer)

    def _on_written(self, token: int, outcome: DiskOutcome) -> None:
        if outcome is DiskOutcome.DURABLE:
            self._feed(Persisted(token))
        else:
            self._give_up(outcome)

    def _on_filed(self, index: LogIndex, data: bytes, outcome: DiskOutcome) -> None:
        match outcome:
            case DiskOutcome.DURABLE:
                self._file = (index, data)
                self._feed(SnapshotTaken(index, len(data), blake3.blake3(data).digest()))
            case DiskOutcome.FULL:
                self._feed(SnapshotFailed(index))
            case DiskOutcome.FAILED:
                self._give_up(outcome)
            case _:
                assert_never(outcome)

    def _on_compacted(self, outcome: DiskOutcome) -> None:
        if outcome is not DiskOutcome.DURABLE:
            self._give_up(outcome)

    def _give_up(self, outcome: DiskOutcome) -> None:
        self._feed(PersistFailed(outcome.value))
        self._process.fail(f"disk {outcome.value}", _RESTART_S)

    # -- the core

    def _feed(self, input: Input) -> None:
        """Hand the core an input, and those that carrying it out brings, one after the other."""
        self._inputs.append(input)
        if self._is_feeding:
            return
        assert self.raft is not None
        self._is_feeding = True
        try:
            while self._inputs:
                for effect in self.raft.handle(self._inputs.popleft(), self._process.now):
                    self._carry_out(effect)
        finally:
            self._is_feeding = False

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                if peer in self._open:
                    self._process.send(peer, encode(message))
            case Persist(token, term, voted_for, entries):
                self._take(term, voted_for, entries)
                self._append(_Written(term, voted_for, entries), lambda outcome: self._on_written(token, outcome))
            case StoreChunk(token, _, offset, data):
                if offset == 0:
                    self._chunks.clear()
                self._chunks.append(data)
                self._append(None, lambda outcome: self._on_written(token, outcome))
            case Restore(token, snapshot, term, voted_for):
                data = b"".join(self._chunks)
                self._chunks.clear()
                self._base, self._entries = _Base(snapshot, data, term, voted_for, ()), []
                self.store = KvStore(data)
                self._file = (snapshot.index, data)
                self._rewrite(lambda outcome: self._on_written(token, outcome))
            case Apply():
                self._apply(effect)
            case Answer():
                self._answer(effect)
            case Changed():
                self._on_changed(effect)
            case TakeSnapshot(index):
                data = self.store.dump()
                self._append(_Filed(index, data), lambda outcome: self._on_filed(index, data, outcome))
            case Compact(snapshot):
                self._base = msgspec.structs.replace(self._base, snapshot=snapshot, data=self._file[1])
                self._rewrite(self._on_compacted)
            case ReadChunk(peer, snapshot, offset, length):
                index, data = self._file
                piece = data[offset : offset + length] if index == snapshot.index else None
                self._feed(ChunkRead(peer, snapshot.index, offset, piece))
            case _:
                assert_never(effect)

    def _apply(self, effect: Apply) -> None:
        self._watch.on_applied(self._process.name, effect.entries)
        for entry in effect.entries:
            if entry.kind is not EntryKind.COMMAND:
                continue
            result = self.store.apply(entry.data)
            request = effect.requests.get(entry.index)
            if request is not None:
                client, asked = self._requests.pop(request)
                self._process.send(client, Reply(asked.serial, False, result))

    def _on_changed(self, changed: Changed) -> None:
        self._process.note(changed.role.value, changed.term, changed.leader, changed.cause.value, changed.detail)
        if changed.role is Role.LEADER:
            assert self.raft is not None
            self._watch.on_leader(self._process.name, self.raft)

    # -- clients

    def _on_request(self, client: str, request: Request) -> None:
        if self.raft is None:
            self._process.send(client, Reply(request.serial, True))
            return
        self._request_count += 1
        self._requests[self._request_count] = (client, request)
        if request.op == "get":
            self._feed(Read(self._request_count, self._settings.lease_reads))
            return
        command = Command(client, request.serial, request.op, request.key, request.input)
        self._feed(Propose((Proposal(self._request_count, msgspec.msgpack.encode(command)),)))

    def _answer(self, answer: Answer) -> None:
        client, request = self._requests.pop(answer.request)
        if answer.outcome is Outcome.DONE:
            self._process.send(client, Reply(request.serial, False, self.store.get(request.key)))
        elif answer.outcome is Outcome.REFUSED:
            self._process.send(client, Reply(request.serial, True, leader=answer.leader))

    # -- links

    def _dial(self, peer: str) -> None:
        self._redials.pop(peer, None)
        self._process.dial(peer, None, lambda outcome, _: self._on_dialled(peer, outcome))

    def _on_dialled(self, peer: str, outcome: DialOutcome) -> None:
        if outcome is DialOutcome.ANSWERED:
            self._process.link(peer)
            self._open.add(peer)
        else:
            self._redials[peer] = self._process.now + _REDIAL_S
