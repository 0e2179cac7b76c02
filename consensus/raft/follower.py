"""What a follower does with what its leader sends. Dissertation sections 3.5 and 5.3.

`raft` has seen to it that the sender leads our term. Answers say what is on the disk, so they wait for it.
"""

from collections.abc import Sequence

from consensus.identity import LogIndex, NodeId
from consensus.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    InstallSnapshotReply,
    SnapshotState,
)
from consensus.raft.snapshots import SnapshotReceiver
from consensus.raft.state import State

__all__ = ("Follower",)


class Follower:
    """A follower's side of replication."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._receiver: SnapshotReceiver | None = None  # outlives its leader: the next may go on where it broke off

    def on_heartbeat(self, sender: NodeId, message: Heartbeat) -> None:
        """Learn what is committed, and say that we are here."""
        state = self._state
        if not state.is_impaired:  # else the leader may hold us for longer than we are
            state.commit(min(message.commit_index, state.log.last_index))
        state.send(sender, HeartbeatReply(state.term, message.round, state.settings.priority))

    def on_append(self, sender: NodeId, message: AppendEntries) -> bool:
        """Take entries from the leader of our term.

        Returns:
            False if they contradict what is committed: no leader of ours can ask for that.
        """
        state, log = self._state, self._state.log
        prev_index, entries = message.prev_index, message.entries
        if prev_index < log.base_index:
            # What is compacted away was committed, so the leader holds the same; look at the rest only.
            entries = entries[log.base_index - prev_index :]
            prev_index = log.base_index
        elif log.term_at(prev_index) != message.prev_term:
            hint_index, hint_term = log.hint(prev_index, message.prev_term)
            state.send(
                sender,
                AppendEntriesReply(
                    state.term, LogIndex(0), True, prev_index, hint_index, hint_term, state.settings.priority
                ),
            )
            return True
        if not self._take(entries):
            return False
        last_index = LogIndex(prev_index + len(entries))
        state.commit(min(message.commit_index, last_index))
        self._accept(sender, last_index)
        return True

    def _take(self, entries: Sequence[Entry]) -> bool:
        """Append what is new. Only a conflict truncates, never mere length: an old append may come late."""
        state = self._state
        for place, entry in enumerate(entries):
            term = state.log.term_at(entry.index)
            if term == entry.term:
                continue
            if term is not None:
                if entry.index <= state.commit_index:
                    return False
                state.truncate(entry.index)
            state.append(entries[place:])
            break
        return True

    def _accept(self, sender: NodeId, match_index: LogIndex) -> None:
        state = self._state
        priority = state.settings.priority
        state.send(sender, AppendEntriesReply(state.term, match_index, priority=priority), log=True)

    def on_install_snapshot(self, sender: NodeId, message: InstallSnapshot) -> None:
        """Take a piece of a snapshot, and begin anew from it once it is whole."""
        state, snapshot = self._state, message.snapshot
        if snapshot.index <= state.commit_index or state.log.term_at(snapshot.index) == snapshot.term:
            self._receiver = None
            state.commit(snapshot.index)  # a snapshot is of committed entries, and we hold them
            self._accept(sender, state.commit_index)
            return
        if state.me not in snapshot.configuration.members:
            self._answer_snapshot(sender, snapshot.index, 0, SnapshotState.REFUSED)
            return
        receiver = self._receiver
        if receiver is None or receiver.snapshot != snapshot:
            receiver = self._receiver = SnapshotReceiver(snapshot)
        if receiver.on_chunk(message.offset, message.data):
            state.store(snapshot, message.offset, message.data)
        if not receiver.is_whole:
            self._answer_snapshot(sender, snapshot.index, receiver.offset, SnapshotState.WANTED)
            return
        self._receiver = None
        if receiver.is_genuine:
            state.restore(snapshot)
            self._accept(sender, snapshot.index)
        else:
            self._answer_snapshot(sender, snapshot.index, 0, SnapshotState.REFUSED)

    def _answer_snapshot(self, sender: NodeId, index: LogIndex, offset: int, how: SnapshotState) -> None:
        self._state.send(sender, InstallSnapshotReply(self._state.term, index, offset, how), log=True)
