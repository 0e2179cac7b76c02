"""How far one follower is, and how much may be on its way to it.

- PROBE: we do not know where its log agrees with ours. One append at a time, until one is accepted.
- REPLICATE: we do. Appends follow each other without waiting, up to a window of messages and bytes.
- SNAPSHOT: what it needs is compacted away. No appends until it has a snapshot.

In REPLICATE `next_index` runs ahead of what was answered, so a lost append shows as a rejection of the one after it,
and leads back to PROBE at what is known for certain.
"""

import collections
import math

from consensus.identity import LogIndex
from consensus.raft.interface import ProgressState
from consensus.raft.settings import RaftSettings
from consensus.raft.snapshots import SnapshotTransfer

__all__ = ("Progress",)


class Progress:
    """One follower.

    Attributes:
        match_index: It holds our log up to here on its disk.
        next_index: What to send next.
        commit_sent: The commit index it was last told.
        is_paused: In PROBE: an append is out, and no other leaves until an answer, or a heartbeat's, comes.
        heard_at: When anything came from it.
        round: The last of our heartbeat rounds that it answered.
        priority: Its own, once it told us.
        is_leaving: No member any more: it only gets the log up to the configuration that says so.
        transfer: In SNAPSHOT: how far that is.
        retry_at: Not before this another snapshot is offered.
    """

    __slots__ = (
        "_inflight",
        "_inflight_bytes",
        "commit_sent",
        "heard_at",
        "is_leaving",
        "is_paused",
        "match_index",
        "next_index",
        "priority",
        "retry_at",
        "round",
        "state",
        "transfer",
    )

    def __init__(self, next_index: LogIndex, now: float) -> None:
        self.state = ProgressState.PROBE
        self.match_index = LogIndex(0)
        self.next_index = next_index
        self.commit_sent = LogIndex(0)
        self.is_paused = False
        self.heard_at = now
        self.round = 0
        self.priority = 0
        self.is_leaving = False
        self.transfer: SnapshotTransfer | None = None
        self.retry_at = -math.inf
        self._inflight: collections.deque[tuple[LogIndex, int]] = collections.deque()
        self._inflight_bytes = 0

    @property
    def inflight_messages(self) -> int:
        return len(self._inflight)

    def is_full(self, settings: RaftSettings) -> bool:
        """Whether the window has no room. An append larger than the window goes when it is empty."""
        return (
            len(self._inflight) >= settings.inflight_messages_max or self._inflight_bytes >= settings.inflight_bytes_max
        )

    def on_sent(self, last_index: LogIndex, size: int) -> None:
        """An append with entries up to `last_index` went out."""
        if self.state is ProgressState.PROBE:
            self.is_paused = True
        else:
            self.next_index = LogIndex(last_index + 1)
            self._inflight.append((last_index, size))
            self._inflight_bytes += size

    def on_accepted(self, match_index: LogIndex) -> bool:
        """It holds our log up to there. Returns whether that is news."""
        while self._inflight and self._inflight[0][0] <= match_index:
            self._inflight_bytes -= self._inflight.popleft()[1]
        is_news = match_index > self.match_index
        self.match_index = max(self.match_index, match_index)
        self.next_index = max(self.next_index, LogIndex(match_index + 1))
        if self.state is ProgressState.PROBE:
            self.become_replicate()
        return is_news

    def is_stale_rejection(self, prev_index: LogIndex) -> bool:
        """Whether a rejection speaks of an append that we gave up since."""
        if self.state is ProgressState.PROBE:
            return prev_index != self.next_index - 1
        return prev_index <= self.match_index

    def on_rejected(self, next_index: LogIndex) -> None:
        """The append that was out does not fit; the next may, at `next_index`."""
        if self.state is ProgressState.PROBE:
            # Rejecting what it had accepted, it lost entries. We count it for what it has now.
            self.match_index = LogIndex(min(self.match_index, next_index - 1))
        self.become_probe(next_index)

    def become_probe(self, next_index: LogIndex = LogIndex(0)) -> None:  # noqa: B008 - a number
        """Find anew where the logs agree: at `next_index`, if that is after what is known, else right there."""
        self._become(ProgressState.PROBE)
        self.next_index = max(LogIndex(self.match_index + 1), next_index)

    def become_replicate(self) -> None:
        self._become(ProgressState.REPLICATE)
        self.next_index = LogIndex(self.match_index + 1)

    def become_snapshot(self, transfer: SnapshotTransfer) -> None:
        self._become(ProgressState.SNAPSHOT)
        self.transfer = transfer

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.is_paused = False
        self.transfer = None
        self._inflight.clear()
        self._inflight_bytes = 0
