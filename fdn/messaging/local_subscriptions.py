"""The subscriptions of this node: which of them get an event, and what the cluster is told that is wanted here."""

import collections
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fdn.messaging.offers import Interest
from fdn.messaging.subjects import Patterns
from fdn.messaging.subscriptions import Subscription

__all__ = ("Local", "LocalSubscriptions", "Turns")

_SUBJECTS_MAX: Final = 4096  # subjects whose subscriptions are remembered


class Turns:
    """The members of one queue group on this node."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: Sequence[Subscription[Any]], first: int = 0) -> None:
        first %= len(members)
        self._members = (*members[first:], *members[:first])
        self._next = itertools.cycle(self._members).__next__

    @property
    def has_room(self) -> bool:
        """Whether any of them has room."""
        return any(member.has_room for member in self._members)

    def next(self) -> Subscription[Any]:
        """The one whose turn it is; one that has room, if there is any."""
        for _ in self._members:
            member = self._next()
            if member.has_room:
                return member
        return self._next()


class Local:
    """The subscriptions here that match one subject.

    Attributes:
        plain: Those in no queue group: each gets every event.
        groups: By name: one of each gets an event.
    """

    __slots__ = ("groups", "plain")

    def __init__(self, plain: Sequence[Subscription[Any]], groups: dict[str, Turns]) -> None:
        self.plain = tuple(plain)
        self.groups = groups


class LocalSubscriptions:
    """See the module."""

    def __init__(self) -> None:
        self._all: dict[Subscription[Any], None] = {}
        self._wanted: collections.Counter[tuple[str, str]] = collections.Counter()  # by pattern and queue group
        self._withdrawn: set[Subscription[Any]] = set()
        self._patterns: Patterns[Subscription[Any]] = Patterns()
        self._turns: dict[tuple[Subscription[Any], ...], Turns] = {}
        self._changes = 0
        self._gone = [0, 0, 0]  # dropped, failed and expired in subscriptions that were closed
        self.by_subject: dict[str, Local] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscription[Any]]:
        """All, in the order of their making; it may change meanwhile."""
        return iter(tuple(self._all))

    def __contains__(self, subscription: Subscription[Any]) -> bool:
        return subscription in self._all

    def add(self, subscription: Subscription[Any]) -> bool:
        """Give it events from now on. Returns whether the node wants something that it has not wanted before."""
        self._all[subscription] = None
        self._patterns.add(subscription.pattern, subscription)
        self._forget()
        return self._count(subscription, 1)

    def withdraw(self, subscription: Subscription[Any]) -> bool:
        """Tell the cluster no longer that it wants something, but give it what still comes. Returns whether the node
        wants less than before.
        """
        if subscription in self._withdrawn or subscription not in self._all:
            return False
        self._withdrawn.add(subscription)
        return self._count(subscription, -1)

    def discard(self, subscription: Subscription[Any]) -> bool:
        """Give it nothing more. Returns whether the node wants less than before."""
        if subscription not in self._all:
            return False
        wants_less = self.withdraw(subscription)
        del self._all[subscription]
        self._withdrawn.discard(subscription)
        self._patterns.discard(subscription.pattern, subscription)
        for index, count in enumerate((subscription.dropped, subscription.failed, subscription.expired)):
            self._gone[index] += count
        self._forget()
        return wants_less

    def interests(self) -> tuple[Interest, ...]:
        """What the cluster is told, sorted."""
        return tuple(Interest(pattern, queue) for pattern, queue in sorted(self._wanted))

    def match(self, subject: str) -> Local:
        """Who gets the events of a subject; `by_subject` remembers it until something changes."""
        plain: list[Subscription[Any]] = []
        members: dict[str, list[Subscription[Any]]] = {}
        for subscription in self._patterns.matching(subject):
            if subscription.queue:
                members.setdefault(subscription.queue, []).append(subscription)
            else:
                plain.append(subscription)
        if len(self.by_subject) >= _SUBJECTS_MAX:
            self.by_subject.clear()
        local = Local(plain, {name: self._turns_of(tuple(group)) for name, group in members.items()})
        self.by_subject[subject] = local
        return local

    def counts(self) -> tuple[int, int, int]:
        """Events dropped, failed and expired, those of closed subscriptions included."""
        dropped, failed, expired = self._gone
        for subscription in self._all:
            dropped += subscription.dropped
            failed += subscription.failed
            expired += subscription.expired
        return dropped, failed, expired

    def _count(self, subscription: Subscription[Any], change: int) -> bool:
        key = (subscription.pattern, subscription.queue)
        self._wanted[key] += change
        if not self._wanted[key]:
            del self._wanted[key]
            return True
        return change > 0 and self._wanted[key] == 1

    def _forget(self) -> None:
        self._changes += 1
        self.by_subject.clear()
        self._turns.clear()

    def _turns_of(self, members: tuple[Subscription[Any], ...]) -> Turns:
        # One for all subjects, as with the nodes of a group. It begins elsewhere after each change, so that the first
        # of the members is not favoured.
        turns = self._turns.get(members)
        if turns is None:
            turns = self._turns[members] = Turns(members, self._changes)
        return turns
