"""Which writes are on the disk, and what waits for them.

The driver writes while the core goes on, so several writes may be out at once. They finish in the order of their
tokens. Three things depend on them:

- No message of a term leaves before the term and the vote in it are on the disk (dissertation section 3.8): a node that
  forgot them could vote twice.
- No answer that says "I hold this" or "vote for me, my log ends here" leaves before the log is.
- A leader counts its own copy of an entry only then (section 10.2.1), and nobody applies what its own disk lacks.

A pending write may be overwritten: entries 5 and 6 of term 2 are on their way to the disk when a leader of term 3
replaces them. When the first write finishes, it says nothing about what is at 5 now, even if a later leader has put the
very same entries back meanwhile: the write between may still destroy them. So truncation lowers what each pending write
is worth, and answers wait for the newest write, not for the one that happens to hold the same entries.
"""

import collections
import dataclasses

from consensus.identity import LogIndex
from consensus.raft.interface import Send
from consensus.raft.messages import AppendEntriesReply, RequestVote

__all__ = ("Durability",)


@dataclasses.dataclass(slots=True)
class _Write:
    token: int
    upto: LogIndex  # the log is on the disk to here once this is done


class Durability:
    """Tokens, the stable end of the log, and the messages that wait.

    Attributes:
        stable_index: The log is on our disk up to here.
        written_index: And is on its way there up to here.
    """

    def __init__(self, last_index: LogIndex) -> None:
        self.stable_index = last_index
        self.written_index = last_index
        self._issued = 0
        self._done = 0
        self._vote_token = 0  # of the newest write with a new term or vote
        self._pending: collections.deque[_Write] = collections.deque()
        self._held: dict[int, list[Send]] = {}

    @property
    def is_vote_stable(self) -> bool:
        """Whether the newest term and vote that were written are on the disk."""
        return self._vote_token <= self._done

    def on_truncate(self, first: LogIndex) -> None:
        """Everything from `first` on was replaced."""
        last = LogIndex(first - 1)
        self.stable_index = min(self.stable_index, last)
        self.written_index = min(self.written_index, last)
        for write in self._pending:
            write.upto = min(write.upto, last)

    def issue(self, upto: LogIndex, *, vote: bool) -> int:
        """A token for a write after which the log is on the disk up to `upto`."""
        self._issued += 1
        self._pending.append(_Write(self._issued, upto))
        self.written_index = upto
        if vote:
            self._vote_token = self._issued
        return self._issued

    def on_persisted(self, token: int) -> list[Send]:
        """This write and all before it are done. Returns what waited for them, in order."""
        token = min(token, self._issued)
        while self._pending and self._pending[0].token <= token:
            self.stable_index = max(self.stable_index, self._pending.popleft().upto)
        self._done = max(self._done, token)
        ready = [held for held in self._held if held <= self._done]
        return [send for held in sorted(ready) for send in self._held.pop(held)]

    def hold(self, send: Send, *, log: bool) -> bool:
        """Keep a message until what it says is on the disk; False if it may leave now.

        Args:
            send: The message.
            log: It speaks of our log, not only of our term.
        """
        token = self._issued if log else self._vote_token
        if token <= self._done:
            return False
        waiting = self._held.setdefault(token, [])
        if isinstance(send.message, AppendEntriesReply) and not send.message.rejected:
            # One acceptance says all that the earlier ones did. Without this, a disk that hangs would pile them up.
            waiting[:] = [it for it in waiting if not _is_covered(it, send.peer, send.message)]
        waiting.append(send)
        return True

    def drop_candidacy(self) -> None:
        """Requests for votes that still wait are for nothing, and may speak of entries that are truncated next."""
        for token, waiting in self._held.items():
            self._held[token] = [it for it in waiting if not isinstance(it.message, RequestVote)]


def _is_covered(held: Send, peer: str, by: AppendEntriesReply) -> bool:
    it = held.message
    return (
        held.peer == peer
        and isinstance(it, AppendEntriesReply)
        and not it.rejected
        and it.term == by.term
        and it.match_index <= by.match_index
    )
