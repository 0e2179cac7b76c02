"""What waits to leave with a priority, or under a name that a newer message supersedes.

Higher priorities leave first, but none starves: of eight batches one is taken from the classes in rotation, so that
each of n classes that wait gets one batch in 8n at least. Messages without either are one class, of priority 0, which
the outbox keeps itself, because it is the one whose speed matters; named ones of priority 0 are a class beside it.

Within a class, order is that of sending. A newer message of a name takes the place of the older one: it would otherwise
be put off for ever where names are updated faster than the queue moves.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from transports.parcel import Buffer
from transports.wire.envelope import Envelope

__all__ = ("ROTATION", "RankedQueue")

ROTATION: Final = 8  # each so many-th batch is not the most urgent one's

_Timed = tuple[Envelope, float, Callable[[Envelope], None] | None]


class _Waiting:
    __slots__ = ("attachments", "deadline_at", "envelope", "name", "on_expired", "size")

    def __init__(
        self,
        envelope: Envelope,
        size: int,
        deadline_at: float,
        on_expired: Callable[[Envelope], None] | None,
        name: tuple[str, str] | None,
        attachments: Sequence[Buffer],
    ) -> None:
        self.attachments = attachments
        self.envelope = envelope
        self.size = size
        self.deadline_at = deadline_at
        self.on_expired = on_expired
        self.name = name


class RankedQueue:
    """See the module. It has no bound of its own: the outbox counts what waits here among the rest.

    Args:
        batch_messages_max: Envelopes of one batch.
        batch_bytes_max: Estimated bytes of one batch; one envelope at least.

    Attributes:
        superseded: Messages that never left because a newer one of their name took their place.
    """

    def __init__(self, batch_messages_max: int, batch_bytes_max: int) -> None:
        self._messages_max = batch_messages_max
        self._bytes_max = batch_bytes_max
        self._classes: dict[int, deque[_Waiting]] = {}  # by priority; none of them empty
        self._named: dict[tuple[str, str], _Waiting] = {}  # by address and name
        self._count = 0
        self._turn = 0
        self._rotated = 0  # what had its turn by rotation last, as in `choose`
        self._chosen = 0
        self.superseded = 0

    def __len__(self) -> int:
        return self._count

    def put(
        self,
        envelope: Envelope,
        size: int,
        priority: int,
        latest: str = "",
        deadline_at: float = 0.0,
        on_expired: Callable[[Envelope], None] | None = None,
        attachments: Sequence[Buffer] = (),
    ) -> tuple[int, int]:
        """Queue one envelope; returns by how many messages and bytes the queue has grown.

        Args:
            envelope: Needs credit.
            size: Its estimated bytes.
            priority: Higher leaves first.
            latest: The name under which it supersedes, per address; empty for none.
            deadline_at: Loop time after which it must not be sent, or 0.0.
            on_expired: Called with it when that happens.
            attachments: Its own; it is then larger than a batch.
        """
        name = (envelope.to, latest) if latest else None
        older = self._named.get(name) if name is not None else None
        if older is not None:
            self.superseded += 1
            grown = size - older.size
            older.envelope, older.size = envelope, size
            older.deadline_at, older.on_expired, older.attachments = deadline_at, on_expired, attachments
            return 0, grown
        waiting = _Waiting(envelope, size, deadline_at, on_expired, name, attachments)
        self._classes.setdefault(priority, deque()).append(waiting)
        if name is not None:
            self._named[name] = waiting
        self._count += 1
        return 1, size

    def choose(self, ordinary: bool) -> bool:
        """Whose turn it is: true for a class here (`pop` it), false for the ordinary ones.

        Args:
            ordinary: Whether ordinary messages wait too.
        """
        if not self._count:
            return False
        self._turn += 1
        # Doubled, so that the ordinary ones find room between named ones of priority 0 and those below.
        order = sorted(2 * priority for priority in self._classes)
        if ordinary:
            order = sorted([*order, _ORDINARY])
        if self._turn % ROTATION:
            chosen = order[-1]
        else:
            chosen = next((each for each in order if each > self._rotated), order[0])
            self._rotated = chosen
        self._chosen = chosen // 2
        return chosen != _ORDINARY

    def pop(self) -> tuple[list[Envelope], int, list[_Timed], Sequence[Buffer]]:
        """One batch of the class that was chosen: its envelopes, bytes, those with a deadline, its attachments."""
        waiting = self._classes[self._chosen]
        envelopes: list[Envelope] = []
        timed: list[_Timed] = []
        attachments: Sequence[Buffer] = ()
        size = 0
        while (
            waiting and len(envelopes) < self._messages_max and (not size or size + waiting[0].size <= self._bytes_max)
        ):
            first = waiting.popleft()
            envelopes.append(first.envelope)
            size += first.size
            attachments = attachments or first.attachments
            if first.deadline_at:
                timed.append((first.envelope, first.deadline_at, first.on_expired))
            if first.name is not None:
                del self._named[first.name]
        if not waiting:
            del self._classes[self._chosen]
        self._count -= len(envelopes)
        return envelopes, size, timed, attachments

    def shed(self, priority: int, size: int) -> tuple[list[Envelope], int]:
        """Drop what makes room for a message of this priority and size: of the classes below it that are below 0, the
        lowest first, and in each the oldest first. Nothing, if that would not be enough.

        Returns:
            What was dropped, and its estimated bytes.
        """
        classes = sorted(each for each in self._classes if each < min(0, priority))
        if sum(waiting.size for each in classes for waiting in self._classes[each]) < size:
            return [], 0
        dropped: list[Envelope] = []
        freed = 0
        for each in classes:
            waiting = self._classes[each]
            while waiting and (freed < size or not dropped):
                oldest = waiting.popleft()
                dropped.append(oldest.envelope)
                freed += oldest.size
                if oldest.name is not None:
                    del self._named[oldest.name]
            if not waiting:
                del self._classes[each]
        self._count -= len(dropped)
        return dropped, freed

    def clear(self) -> None:
        """Drop everything."""
        self._classes.clear()
        self._named.clear()
        self._count = 0


_ORDINARY: Final = -1  # just below named ones of priority 0
