"""One Raft group's member on this node: the core, its storage thread, its state machine, and whoever waits for them.

The loop never waits for the disk: `Persist` goes to the storage thread, and the core hears `Persisted` later. Whatever
this node proposes or reads within one pass of the loop goes to the core at once, and so shares a write and a message.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from consensus.errors import RemoteProtocolError
from consensus.identity import LogIndex, NodeId
from consensus.machine import (
    Command,
    ExpireSessions,
    Get,
    KeyValue,
    Leases,
    Machine,
    MachineLimits,
    Result,
    encode_command,
)
from consensus.raft import (
    Answer,
    Apply,
    Changed,
    ChangeMembers,
    ChunkRead,
    ClockJumped,
    Compact,
    ConnectionLost,
    Effect,
    Input,
    Outcome,
    Persist,
    Persisted,
    PersistFailed,
    Proposal,
    Propose,
    Raft,
    RaftSettings,
    RaftStatus,
    Read,
    ReadChunk,
    Received,
    Refusal,
    Restore,
    Role,
    Send,
    Snapshot,
    SnapshotFailed,
    SnapshotTaken,
    StoreChunk,
    TakeSnapshot,
    Tick,
    TransferLeadership,
    decode,
    encode,
)
from consensus.storage import Opened, Storage, StorageError, Write
from fdn.errors import BadRequest, Conflict, DeadlineExceeded, Error, NoQuorum, NotLeader, Overloaded

__all__ = ("Group", "GroupStorage")

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_JUMP_S: Final = 0.5  # a machine that slept, or was paused with its clock: more than any tick is late


class GroupStorage(Protocol):
    """What a group needs of `fdn.runtime.storage_thread.StorageThread`."""

    def write(self, write: Write, done: Callable[[], None] | None = None) -> None: ...

    def on_files(self, job: Callable[[Storage], _T], done: Callable[[_T | StorageError], None]) -> None: ...


class Group:
    """See the module. All of it belongs to one loop.

    Args:
        me: This node.
        opened: What the storage found.
        storage: Where the log lies.
        send: Sends an encoded message to a peer, if there is a way to it; never waits.
        loop: The control plane's.
        rng: Chance.
        boottime: Seconds of a clock that goes on while the machine sleeps; leases do not survive a jump between it and
            the loop's.
        on_changed: Told of each change of role, term or leader.

    Attributes:
        malformed: Messages that were none.
    """

    def __init__(
        self,
        me: NodeId,
        opened: Opened,
        storage: GroupStorage,
        send: Callable[[NodeId, bytes], None],
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        *,
        settings: RaftSettings | None = None,
        limits: MachineLimits | None = None,
        boottime: Callable[[], float],
        on_changed: Callable[[Changed], None] = lambda changed: None,
    ) -> None:
        self._storage = storage
        self._send = send
        self._loop = loop
        self._on_changed = on_changed
        self._boottime = boottime
        self._jump = boottime() - loop.time()
        self._settings = settings or RaftSettings()
        self._raft = Raft(me, opened.durable, self._settings, rng, loop.time())
        self._machine = Machine(limits or MachineLimits(), on_session=self._on_session)
        self._leases = Leases()
        self._leads = False
        self._requests = 0
        self._proposed: list[Proposal] = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._elections: set[asyncio.Future[NodeId]] = set()  # who waits for one
        self._expiring: dict[int, tuple[LogIndex, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.malformed = 0

    def start(self, snapshot: Iterable[bytes] | None = None) -> None:
        """Begin; `snapshot` is the one that the storage names, if it has one."""
        if snapshot is not None:
            self._machine.load(snapshot)
        self._rearm()

    def close(self) -> None:
        """Take part no longer. Whoever waits hears that it may have been done. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for request in list(self._waiting):
            self._fail(request, _unknown("this node stopped"))
        for known in self._elections:
            if not known.done():
                known.set_exception(_ended())

    # -- what others tell

    def receive(self, sender: NodeId, body: bytes) -> None:
        """A message came in. What is none is counted and dropped."""
        try:
            message = decode(body)
        except RemoteProtocolError:
            self.malformed += 1
            return
        self._give(Received(sender, message))

    def lost(self, peer: NodeId, detail: str = "") -> None:
        """The connection to a peer ended, or it is held dead."""
        self._give(ConnectionLost(peer, detail))

    def storage_failed(self, error: StorageError) -> None:
        """Nothing is known of the disk any more: this node takes part in nothing until it is started anew."""
        _log.error("the storage of consensus failed, and this node takes no part any more: %s", error)
        self._give(PersistFailed(str(error)))

    # -- what this node asks

    async def propose(self, command: Command, timeout_s: float) -> Result:
        """Put a command into the log, and return what came of it once it is applied here.

        Raises:
            NotLeader: Ask the one named; nothing was done.
            Overloaded: Too much is under way; nothing was done.
            NoQuorum: It did not get through in time, and may yet; names whom the leader does not hear.
            Error: This node's part in consensus has ended.
        """
        request, answer = self._ask()
        self._proposed.append(Proposal(request, encode_command(command)))
        if len(self._proposed) == 1:
            self._loop.call_soon(self._propose_gathered)
        result: Result = await self._wait(request, answer, timeout_s)
        return result

    async def get(self, wanted: Get, timeout_s: float, *, lease: bool = False) -> tuple[KeyValue, ...]:
        """Read what is there, having seen everything that was answered before this was called (linearizable).

        Args:
            wanted: See there.
            timeout_s: Seconds to wait for the leader and a majority.
            lease: A lease of the leader will do, if there is one: no round trip, and right as long as clocks drift no
                more than `RaftSettings.clock_drift_max`.

        Raises:
            NoQuorum: Nobody confirmed in time that this is the newest.
            Error: As `propose`.
        """
        gives_up_at = self._loop.time() + timeout_s
        while True:
            await self.leader(gives_up_at - self._loop.time())
            request, answer = self._ask()
            self._give(Read(request, lease))
            try:
                await self._wait(request, answer, gives_up_at - self._loop.time())
            except NotLeader:
                continue  # it was lost just then; a read may be made again
            return self._machine.get(wanted)

    async def leader(self, timeout_s: float) -> NodeId:
        """Who leads, as far as this node knows; waits for an election if nobody does.

        Raises:
            NoQuorum: Nobody did in time.
        """
        if self._closed:
            raise _ended()
        status = self._raft.status()
        if status.leader is not None:
            return status.leader
        known = self._loop.create_future()
        self._elections.add(known)
        try:
            async with asyncio.timeout(timeout_s):
                found: NodeId = await known
                return found
        except TimeoutError:
            raise self._no_answer(timeout_s) from None
        finally:
            self._elections.discard(known)

    def get_local(self, wanted: Get) -> tuple[tuple[KeyValue, ...], LogIndex]:
        """What this node holds, however old, and the revision of it."""
        return self._machine.get(wanted), self._machine.index

    async def change_members(self, voters: Iterable[NodeId], learners: Iterable[NodeId], timeout_s: float) -> None:
        """Make these the voters and the learners; returns when the change is complete.

        Raises:
            Conflict: Another change is under way.
            BadRequest: It makes no sense.
            Error: As `propose`.
        """
        request, answer = self._ask()
        self._give(ChangeMembers(request, frozenset(voters), frozenset(learners)))
        await self._wait(request, answer, timeout_s)

    async def transfer(self, target: NodeId | None, timeout_s: float) -> None:
        """Hand leadership over; to whoever is furthest along if nobody is named.

        Raises:
            Error: As `propose`.
        """
        request, answer = self._ask()
        self._give(TransferLeadership(request, target))
        await self._wait(request, answer, timeout_s)

    def renew(self, session: LogIndex) -> bool:
        """The owner of a session was heard, by the leader. False: it has ended, or will, or this node does not lead."""
        return self._leases.renew(session, self._loop.time())

    @property
    def machine(self) -> Machine:
        """The state: to be read only."""
        return self._machine

    def status(self) -> RaftStatus:
        """Where this member stands."""
        return self._raft.status()

    def unheard(self) -> list[NodeId]:
        """The voters that this node, if it leads, has not heard for an election timeout."""
        status = self._raft.status()
        limit = self._settings.election_timeout_s
        return sorted(
            node
            for node in (*status.configuration.voters, *status.configuration.outgoing)
            if node in status.peers and status.peers[node].contact_age_s > limit
        )

    # -- requests

    def _ask(self) -> tuple[int, "asyncio.Future[Any]"]:
        if self._closed:
            raise _ended()
        self._requests += 1
        answer = self._waiting[self._requests] = self._loop.create_future()
        return self._requests, answer

    async def _wait(self, request: int, answer: "asyncio.Future[Any]", timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise self._no_answer(timeout_s) from None
        finally:
            self._waiting.pop(request, None)

    def _no_answer(self, timeout_s: float) -> Error:
        status = self._raft.status()
        voters = ", ".join(status.configuration.voters) or "nobody"
        unheard = self.unheard()
        if unheard:
            who = f"{', '.join(unheard)} of {voters} do not answer"
        elif status.leader is None:
            who = f"none of {voters} leads"
        else:
            return DeadlineExceeded(
                f"consensus did not answer within {timeout_s:g} s", hint="it may yet be carried out; ask again"
            )
        return NoQuorum(
            f"no majority answered within {timeout_s:g} s: {who}",
            hint="it may yet be carried out, once they are back",
            maybe_carried_out=True,
        )

    def _propose_gathered(self) -> None:
        proposed, self._proposed = self._proposed, []
        if not self._closed:
            self._give(Propose(tuple(proposed)))

    def _answer(self, answer: Answer) -> None:
        expired = self._expiring.pop(answer.request, None)
        if expired is not None:
            if answer.outcome is Outcome.REFUSED:
                self._leases.undone(expired, self._loop.time())
        elif answer.outcome is Outcome.DONE:
            waiting = self._waiting.get(answer.request)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer.index)
        else:
            self._fail(answer.request, _error_of(answer))

    def _fail(self, request: int, error: Error) -> None:
        waiting = self._waiting.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    # -- the core

    def _give(self, item: Input) -> None:
        if self._closed:
            return
        for effect in self._raft.handle(item, self._loop.time()):
            self._carry_out(effect)
        self._rearm()

    def _carry_out(self, effect: Effect) -> None:
        storage = self._storage
        match effect:
            case Send(peer=peer, message=message):
                self._send(peer, encode(message))
            case Persist(token=token) | StoreChunk(token=token):
                storage.write(effect, lambda: self._give(Persisted(token)))
            case Apply():
                self._apply(effect)
            case Answer():
                self._answer(effect)
            case Changed():
                self._on_role(effect)
            case Compact():
                storage.write(effect)
            case TakeSnapshot(index=index, term=term, configuration=configuration):
                pieces = self._machine.dump()
                storage.on_files(
                    lambda files: files.save_snapshot(index, term, configuration, pieces),
                    lambda saved: self._on_saved(index, saved),
                )
            case ReadChunk(peer=peer, snapshot=snapshot, offset=offset, length=length):
                storage.on_files(
                    lambda files: files.read_chunk(snapshot, offset, length),
                    lambda data: self._give(ChunkRead(peer, snapshot.index, offset, _bytes_of(data))),
                )
            case Restore(token=token, snapshot=snapshot):
                storage.write(effect, lambda: self._load(snapshot, token))

    def _load(self, snapshot: Snapshot, token: int) -> None:
        def loaded(pieces: list[bytes] | StorageError) -> None:
            if isinstance(pieces, StorageError):
                self.storage_failed(pieces)
                return
            self._machine.load(pieces)
            self._give(Persisted(token))

        self._storage.on_files(lambda files: list(files.read_snapshot(snapshot)), loaded)

    def _on_saved(self, index: LogIndex, saved: Snapshot | StorageError) -> None:
        if isinstance(saved, StorageError):
            _log.warning("no snapshot could be taken, the log grows on: %s", saved)
            self._give(SnapshotFailed(index))
        else:
            self._give(SnapshotTaken(index, saved.size, saved.digest))

    def _apply(self, effect: Apply) -> None:
        for entry in effect.entries:
            result = self._machine.apply(entry)
            request = effect.requests.get(entry.index)
            if request is None:
                continue
            self._expiring.pop(request, None)
            waiting = self._waiting.get(request)
            if waiting is not None and not waiting.done():
                waiting.set_result(result)

    def _on_role(self, changed: Changed) -> None:
        if changed.role is Role.LEADER and not self._leads:
            self._leads = True
            self._leases.lead(self._machine.sessions, self._loop.time())
        elif changed.role is not Role.LEADER and self._leads:
            self._leads = False
            self._leases.follow()
        if changed.leader is not None:
            for known in self._elections:
                if not known.done():
                    known.set_result(changed.leader)
        self._on_changed(changed)

    def _on_session(self, session: LogIndex, ttl_s: float | None) -> None:
        if ttl_s is None:
            self._leases.close(session)
        elif self._leads:
            self._leases.open(session, ttl_s, self._loop.time())

    # -- time

    def _rearm(self) -> None:
        deadlines = [at for at in (self._raft.next_deadline(), self._leases.next_deadline()) if at is not None]
        at = min(deadlines, default=None)
        if self._timer is not None:
            if at is not None and self._timer.when() <= at and not self._timer.cancelled():
                return  # it comes earlier, and looks again then
            self._timer.cancel()
        self._timer = None if at is None or self._closed else self._loop.call_at(at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        jump = self._boottime() - now
        if abs(jump - self._jump) > _JUMP_S:
            _log.warning("the clock jumped by %.3f s: leases that were counted with it do not hold", jump - self._jump)
            self._jump = jump
            self._give(ClockJumped())
        expired = self._leases.expired(now)
        if expired:
            self._requests += 1
            self._expiring[self._requests] = expired
            self._give(Propose((Proposal(self._requests, encode_command(ExpireSessions(expired))),)))
        due = self._raft.next_deadline()
        if due is not None and due <= now:
            self._give(Tick())
        self._rearm()


def _bytes_of(data: bytes | StorageError | None) -> bytes | None:
    return None if isinstance(data, StorageError) else data


def _ended() -> Error:
    return Error("this node's part in consensus has ended", hint="its log says why; start the node anew")


def _unknown(why: str) -> Error:
    return Error(
        f"{why} while a request to consensus was under way",
        hint="it may yet be carried out; ask again within the same session",
        maybe_carried_out=True,
    )


def _error_of(answer: Answer) -> Error:
    detail = f": {answer.detail}" if answer.detail else ""
    if answer.outcome is Outcome.UNKNOWN:
        return _unknown(f"leadership ended{detail}")
    match answer.refusal:
        case Refusal.NOT_LEADER:
            where = f"node {answer.leader} does" if answer.leader else "and nobody is known to"
            return NotLeader(f"this node does not lead, {where}", hint="ask the leader", leader=answer.leader or "")
        case Refusal.OVERLOADED:
            return Overloaded(f"consensus has too much under way{detail}", hint="ask again in a moment")
        case Refusal.NO_ANSWER | Refusal.TIMED_OUT | Refusal.NOT_CAUGHT_UP:
            return NoQuorum(f"consensus: {answer.refusal.value}{detail}", hint="are the voters running, and reachable?")
        case Refusal.CHANGE_UNDER_WAY | Refusal.TRANSFERRING | Refusal.SUPERSEDED:
            return Conflict(f"consensus: {answer.refusal.value}{detail}", hint="ask again when that is done")
        case Refusal.STOPPED:
            return _ended()
    reason = "refused" if answer.refusal is None else answer.refusal.value
    return BadRequest(f"consensus: {reason}{detail}", hint="its voters are what they were")
