"""A leader's followers: what each is sent, and what its answers mean.

Nothing here decides what is committed. See `progress` for the three ways of sending, dissertation sections 3.5, 5.3 and
10.2 for why.
"""

from collections.abc import Callable, Iterable

from consensus.identity import LogIndex, NodeId
from consensus.raft.interface import ChunkRead, ProgressState, ReadChunk
from consensus.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    InstallSnapshot,
    InstallSnapshotReply,
    SnapshotState,
)
from consensus.raft.progress import Progress
from consensus.raft.snapshots import SnapshotTransfer
from consensus.raft.state import State

__all__ = ("Replication",)


class Replication:
    """Progress of everybody but ourselves.

    Attributes:
        followers: By node; in the order of their names, so that a run can be replayed.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.followers: dict[NodeId, Progress] = {}
        self.configure()

    def configure(self) -> None:
        """Follow a new configuration. Who is no member any more is told so before it is let go (`let_go`)."""
        members = self._state.configuration.members - {self._state.me}
        for node, progress in self.followers.items():
            progress.is_leaving = node not in members
        for node in members - self.followers.keys():
            self.followers[node] = Progress(LogIndex(self._state.log.last_index + 1), self._state.now)
        self.followers = dict(sorted(self.followers.items()))

    def let_go(self) -> None:
        """Those that are no members: the configuration that says so is committed."""
        for node in [node for node, progress in self.followers.items() if progress.is_leaving]:
            self._append(node, self.followers.pop(node))

    def match_index(self, node: NodeId) -> LogIndex:
        """What a voter holds on its disk: of ourselves, too, and then without waiting to be asked."""
        if node == self._state.me:
            return self._state.durability.stable_index
        return self.followers[node].match_index

    # -- appends

    def pump(self) -> None:
        """Send everybody what it lacks and has room for."""
        for node, progress in self.followers.items():
            self._pump(node, progress)

    def _pump(self, node: NodeId, progress: Progress) -> None:
        last_index, settings = self._state.log.last_index, self._state.settings
        match progress.state:
            case ProgressState.SNAPSHOT:
                return
            case ProgressState.PROBE:
                if not progress.is_paused:
                    self._append(node, progress)
                return
            case ProgressState.REPLICATE:
                while progress.next_index <= last_index and not progress.is_full(settings):
                    if not self._append(node, progress):
                        return
                if progress.commit_sent < self._state.commit_index and not progress.is_full(settings):
                    self._append(node, progress)

    def _append(self, node: NodeId, progress: Progress) -> bool:
        """Send one append, with entries if there are any to send; a snapshot's offer if they are gone."""
        log, settings = self._state.log, self._state.settings
        prev_index = LogIndex(progress.next_index - 1)
        prev_term = log.term_at(prev_index)
        if prev_term is None:
            self._begin_snapshot(node, progress)
            return False
        entries = log.batch(progress.next_index, log.last_index, settings.append_bytes_max, settings.append_entries_max)
        commit_index = self._state.commit_index
        self._state.send(node, AppendEntries(self._state.term, prev_index, prev_term, commit_index, entries))
        progress.commit_sent = commit_index
        if entries:
            size = log.bytes_between(entries[0].index, entries[-1].index)
            progress.on_sent(entries[-1].index, size)
        elif progress.state is ProgressState.PROBE:
            progress.is_paused = True
        return True

    def _append_without_entries(self, node: NodeId, progress: Progress) -> None:
        """Ask how far the follower is, with nothing that takes room in its window."""
        prev_index = LogIndex(progress.next_index - 1)
        prev_term = self._state.log.term_at(prev_index)
        if prev_term is None:
            progress.become_probe()  # compacted while its answers were lost: `pump` sees what it needs now
        else:
            self._state.send(node, AppendEntries(self._state.term, prev_index, prev_term, self._state.commit_index))

    def on_reply(self, node: NodeId, reply: AppendEntriesReply) -> bool:
        """An answer to an append. Returns whether the follower holds more than was known."""
        progress = self.followers[node]
        progress.priority = reply.priority
        if reply.rejected:
            if progress.state is not ProgressState.SNAPSHOT and not progress.is_stale_rejection(reply.prev_index):
                agreed_at, _ = self._state.log.hint(reply.hint_index, reply.hint_term)
                # The hint may lie above what was rejected only in a forged or confused answer: never go forward.
                progress.on_rejected(LogIndex(min(agreed_at + 1, max(reply.prev_index, 1))))
            return False
        if reply.match_index > self._state.log.last_index:
            return False  # of another life of ours; no honest follower holds more than we sent
        is_news = progress.on_accepted(reply.match_index)
        transfer = progress.transfer
        if transfer is not None and reply.match_index >= min(transfer.snapshot.index, self._state.log.base_index):
            progress.become_replicate()  # if we compacted further meanwhile, the next snapshot follows
        return is_news

    # -- heartbeats

    def broadcast_heartbeat(self, round_: int, rank: Callable[[NodeId], int], lease_s: float) -> None:
        for node, progress in self.followers.items():
            # A follower takes the commit index on trust, so it must not reach past what we know it to hold.
            commit_index = min(self._state.commit_index, progress.match_index)
            self._state.send(node, Heartbeat(self._state.term, commit_index, round_, rank(node), lease_s))

    def on_heartbeat_reply(self, node: NodeId, round_: int, priority: int) -> None:
        """The follower is there. If it is behind, an append or its answer may be lost: one is sent again."""
        progress = self.followers[node]
        progress.round = max(progress.round, round_)
        progress.priority = priority
        match progress.state:
            case ProgressState.PROBE:
                progress.is_paused = False
            case ProgressState.REPLICATE if progress.match_index < self._state.log.last_index:
                self._append_without_entries(node, progress)
            case _:
                pass

    def ranks(self) -> dict[NodeId, int]:
        """Who should ask for votes first if we fall silent: `election` says why."""
        commit_index = self._state.commit_index
        voters = [(node, it) for node, it in self.followers.items() if self._state.configuration.is_voter(node)]
        voters.sort(key=lambda it: (it[1].match_index < commit_index, -it[1].priority, -it[1].match_index, it[0]))
        return {node: rank for rank, (node, _) in enumerate(voters)}

    def on_connection_lost(self, node: NodeId) -> None:
        """What was on the way is lost."""
        progress = self.followers[node]
        if progress.state is not ProgressState.SNAPSHOT:
            progress.become_probe()

    # -- snapshots

    def _begin_snapshot(self, node: NodeId, progress: Progress) -> None:
        snapshot = self._state.log.snapshot
        if self._state.now < progress.retry_at:
            return
        if node not in snapshot.configuration.members:
            # It would refuse: as far as that snapshot tells, it is a stranger. A newer one knows it.
            if node in self._state.log.configuration_at(self._state.applied_index).members:
                self._state.take_snapshot()
            return
        progress.become_snapshot(SnapshotTransfer(snapshot, self._state.now))
        self._offer(node, progress)

    def _offer(self, node: NodeId, progress: Progress) -> None:
        transfer = progress.transfer
        assert transfer is not None
        transfer.deadline = self._state.now + self._state.settings.snapshot_chunk_timeout_s
        transfer.reading = None
        self._state.send(node, InstallSnapshot(self._state.term, transfer.snapshot))

    def on_snapshot_reply(self, node: NodeId, reply: InstallSnapshotReply) -> None:
        """Send the piece that the follower wants, or give up for a while."""
        progress = self.followers[node]
        transfer = progress.transfer
        if transfer is None or reply.index != transfer.snapshot.index or reply.offset >= transfer.snapshot.size:
            return
        if reply.state is SnapshotState.REFUSED:
            self._give_up(progress)
            return
        if reply.offset == transfer.reading:
            return  # a repeated answer
        settings = self._state.settings
        transfer.deadline = self._state.now + settings.snapshot_chunk_timeout_s
        transfer.reading = reply.offset
        length = min(settings.snapshot_chunk_bytes, transfer.snapshot.size - reply.offset)
        self._state.emit(ReadChunk(node, transfer.snapshot, reply.offset, length))

    def on_chunk_read(self, chunk: ChunkRead) -> None:
        progress = self.followers.get(chunk.peer)
        transfer = progress.transfer if progress is not None else None
        if (
            progress is None
            or transfer is None
            or (transfer.snapshot.index, transfer.reading)
            != (
                chunk.index,
                chunk.offset,
            )
        ):
            return
        if not chunk.data:
            self._give_up(progress)
            return
        transfer.deadline = self._state.now + self._state.settings.snapshot_chunk_timeout_s
        piece = InstallSnapshot(self._state.term, transfer.snapshot, chunk.offset, chunk.data)
        self._state.send(chunk.peer, piece)

    def _give_up(self, progress: Progress) -> None:
        progress.retry_at = self._state.now + self._state.settings.snapshot_chunk_timeout_s
        progress.become_probe()
        progress.is_paused = True  # until a heartbeat's answer: no faster than those, whatever is wrong

    # -- time

    def on_tick(self) -> None:
        for node, progress in self.followers.items():
            if progress.transfer is not None and self._state.now >= progress.transfer.deadline:
                self._offer(node, progress)

    def deadlines(self) -> Iterable[float]:
        return (it.transfer.deadline for it in self.followers.values() if it.transfer is not None)
