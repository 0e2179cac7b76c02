"""Who wants a subject: the publisher's table, made from the interests in all members' offers.

A look-up is a local read. Routes are kept for subjects that were asked for, up to a bound; a change of the cluster that
concerns interests voids them.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from fdn.messaging.offers import Interest, decode_offers
from fdn.messaging.subjects import Patterns, is_pattern
from fdn.runtime.view import Member, NodeState, View

__all__ = ("Group", "Interests", "Route")

_ROUTES_MAX: Final = 4096


class Group:
    """The nodes of one queue group, taken in turn.

    Attributes:
        name: The group's.
        nodes: At least one: those that are well, or if there are none, those that may yet take it.
        next: Returns the node whose turn it is.
    """

    __slots__ = ("name", "next", "nodes")

    def __init__(self, name: str, nodes: tuple[str, ...], first: int) -> None:
        self.name = name
        self.nodes = nodes
        first %= len(nodes)
        self.next: Callable[[], str] = itertools.cycle((*nodes[first:], *nodes[:first])).__next__

    def next_but(self, avoid: Collection[str]) -> str | None:
        """The node whose turn it is and which is not in `avoid`; None if all are."""
        for _ in self.nodes:
            node = self.next()
            if node not in avoid:
                return node
        return None


class Route:
    """Who gets the events of one subject.

    Attributes:
        nodes: Node ids with plain subscribers: each gets every event.
        groups: Queue groups: one node of each gets an event.
        only: The one node, if there is but one and no group; else empty.
    """

    __slots__ = ("groups", "nodes", "only")

    def __init__(self, nodes: tuple[str, ...], groups: tuple[Group, ...]) -> None:
        self.nodes = nodes
        self.groups = groups
        self.only = nodes[0] if len(nodes) == 1 and not groups else ""


class Interests:
    """See the module. What this node wants itself is known at once.

    Args:
        me: Our node id.
        own: Tells what this node wants; call `own_changed` when that is something else.
    """

    def __init__(self, me: str, own: Callable[[], Iterable[Interest]] = tuple) -> None:
        self._me = me
        self._own = own
        self._decoded: dict[bytes, tuple[Interest, ...]] = {}
        self._wants: dict[str, tuple[tuple[Interest, ...], bool]] = {}  # node -> its interests, and whether it is well
        self._own_drains = False
        self._patterns: Patterns[tuple[str, str]] | None = None  # (node, group) by pattern; None: to be made
        self._groups: dict[tuple[str, tuple[str, ...]], Group] = {}
        self._changes = 0
        self.routes: dict[str, Route] = {}

    def on_view(self, view: View) -> None:
        """The cluster has changed."""
        former, self._decoded = self._decoded, {}
        wants: dict[str, tuple[tuple[Interest, ...], bool]] = {}
        for node, encoded in sorted(view.offers.items()):
            interests = former[encoded] if encoded in former else _readable(decode_offers(encoded).interests)
            self._decoded[encoded] = interests
            member = view.members.get(node)
            if interests and member is not None and node != self._me and _takes_events(member):
                wants[node] = interests, _is_well(member)
        me = view.members.get(self._me)
        drains = me is not None and me.state is NodeState.DRAINING
        if wants != self._wants or drains != self._own_drains:
            self._wants, self._own_drains = wants, drains
            self._forget()

    def own_changed(self) -> None:
        """This node wants something else from now on."""
        self._forget()

    def route(self, subject: str) -> Route:
        """Who gets the events of a subject, which must be one. It may be nobody."""
        route = self.routes.get(subject)
        if route is None:
            if len(self.routes) >= _ROUTES_MAX:
                self.routes.clear()  # subjects that are not used again cost one look-up in so many
            route = self.routes[subject] = self._make(subject)
        return route

    def _forget(self) -> None:
        self._patterns = None
        self.routes.clear()  # not replaced: the publisher holds on to it
        self._groups.clear()
        self._changes += 1

    def _make(self, subject: str) -> Route:
        if self._patterns is None:
            self._patterns = Patterns()
            for pattern, node, group in self._all():
                self._patterns.add(pattern, (node, group))
        plain: dict[str, None] = {}
        groups: dict[str, dict[str, None]] = {}
        for node, name in self._patterns.matching(subject):
            if name:
                groups.setdefault(name, {})[node] = None
            else:
                plain[node] = None
        return Route(tuple(plain), tuple(self._group(name, nodes) for name, nodes in sorted(groups.items())))

    def _group(self, name: str, nodes: Iterable[str]) -> Group:
        well = tuple(sorted(node for node in nodes if self._well(node))) or tuple(sorted(nodes))
        # Shared by all subjects: with a turn each, the first node would get the first event of every subject.
        group = self._groups.get((name, well))
        if group is None:
            group = self._groups[name, well] = Group(name, well, self._changes)
        return group

    def _well(self, node: str) -> bool:
        return not self._own_drains if node == self._me else self._wants[node][1]

    def _all(self) -> Iterator[tuple[str, str, str]]:
        for interest in self._own():
            yield interest.pattern, self._me, interest.queue
        for node, (interests, _) in self._wants.items():
            for interest in interests:
                yield interest.pattern, node, interest.queue


def _readable(interests: tuple[Interest, ...]) -> tuple[Interest, ...]:
    """Without what a peer should not have written."""
    return tuple(interest for interest in interests if is_pattern(interest.pattern))


def _is_well(member: Member) -> bool:
    return member.status == "alive" and member.state is NodeState.SERVING


def _takes_events(member: Member) -> bool:
    return member.status in ("alive", "suspect") and member.state in (NodeState.SERVING, NodeState.STALLED)
