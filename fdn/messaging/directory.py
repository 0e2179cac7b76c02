"""Who serves this name? The protocol, and the table behind it that is made from gossiped offers.

A lookup is a local read. Names are dotted; `service.method` calls a method, `service` alone a plain function, and
`@node` behind either picks one node by name or id.
"""

import difflib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from fdn.errors import NotFound, Unreachable
from fdn.messaging.offers import Offer, decode_offers
from fdn.runtime.view import Member, NodeState, View

__all__ = ("Directory", "OffersDirectory", "Route")


class Route:
    """The nodes that serve one target, taken in turn.

    Attributes:
        to: What goes on the wire.
        nodes: Node ids, at least one: those that are well, or if there are none, those that may yet answer.
        next: Returns the node whose turn it is.
        only: The node, if there is but one; else empty.
    """

    __slots__ = ("next", "nodes", "only", "to")

    def __init__(self, to: str, nodes: Sequence[str], first: int = 0) -> None:
        self.to = to
        self.nodes = (*nodes[first:], *nodes[:first])
        self.only = nodes[0] if len(nodes) == 1 else ""
        self.next: Callable[[], str] = itertools.cycle(self.nodes).__next__

    def next_but(self, avoid: Collection[str]) -> str:
        """The node whose turn it is; one not in `avoid` if there is any."""
        for _ in self.nodes:
            node = self.next()
            if node not in avoid:
                return node
        return self.next()


class Directory(Protocol):
    """Who serves, or wants, this name?

    Attributes:
        routes: Those that need not be looked up again; always the same mapping. What is not in it, `route` knows.
    """

    @property
    def routes(self) -> Mapping[str, Route]: ...

    def route(self, target: str) -> Route:
        """Where a call to `target` may go.

        Raises:
            NotFound: No member offers it.
            Unreachable: The one that was asked for by name is not there, or cannot take work.
        """

    def on_view(self, view: View) -> None:
        """The cluster has changed; called on the data plane's loop."""


class OffersDirectory:
    """Routes from the offers records of all members. Costs O(members) per change, O(1) per lookup."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._decoded: dict[bytes, tuple[Offer, ...]] = {}
        self._serving: dict[str, list[str]] = {}  # target -> nodes that are well
        self._fallback: dict[str, list[str]] = {}  # target -> nodes that are suspect or stalled
        self.routes: dict[str, Route] = {}
        self._changes = 0

    def on_view(self, view: View) -> None:
        former, self._decoded = self._decoded, {}
        routed = list(self.routes)
        self._view = view
        self._serving, self._fallback = {}, {}
        self.routes.clear()
        for node, encoded in sorted(view.offers.items()):
            offers = former.get(encoded) or decode_offers(encoded).services
            self._decoded[encoded] = offers
            member = view.members.get(node)
            table = None if member is None else self._table_for(member)
            if table is None:
                continue
            for offer in offers:
                for target in _targets(offer):
                    table.setdefault(target, []).append(node)
        self._changes += 1
        for target in routed:
            nodes = self._nodes(target)
            if nodes:  # turns begin elsewhere with each change, so that the first in order is not favoured
                self.routes[target] = Route(target, nodes, self._changes % len(nodes))

    def route(self, target: str) -> Route:
        route = self.routes.get(target)
        if route is not None:
            return route
        name, at, node = target.partition("@")
        if at:
            return self._route_to(name, node)
        nodes = self._nodes(target)
        if not nodes:
            raise self._not_found(target)
        route = self.routes[target] = Route(target, nodes)
        return route

    def offers(self) -> Mapping[str, tuple[Offer, ...]]:
        """What each living member offers, by node id."""
        if self._view is None:
            return {}
        return {node: self._decoded[encoded] for node, encoded in self._view.offers.items()}

    def _nodes(self, target: str) -> list[str]:
        return self._serving.get(target) or self._fallback.get(target) or []

    def _table_for(self, member: Member) -> dict[str, list[str]] | None:
        if member.status == "alive" and member.state is NodeState.SERVING:
            return self._serving
        if member.status in ("alive", "suspect") and member.state in (NodeState.SERVING, NodeState.STALLED):
            return self._fallback
        return None

    def _route_to(self, target: str, node: str) -> Route:
        member = None if self._view is None else self._view.named(node)
        if member is None:
            raise NotFound(f"no member is named {node!r}", hint="`fdn members` lists them")
        if member.status not in ("alive", "suspect"):
            raise Unreachable(f"node {node!r} is {member.status}: {member.reason}", hint="call any other, without @")
        return Route(target, (member.node,))

    def _not_found(self, target: str) -> NotFound:
        known = sorted(set(self._serving) | set(self._fallback))
        close = difflib.get_close_matches(target, known, n=1)
        service = target.rpartition(".")[0]
        siblings = [name for name in known if service and name.startswith(f"{service}.")]
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif siblings:
            hint = f"{service!r} has {', '.join(siblings[:8])}"
        else:
            hint = "`fdn service ls` shows what is offered"
        return NotFound(f"no node offers {target!r}", hint=hint)


def _targets(offer: Offer) -> list[str]:
    return [f"{offer.name}.{method}" for method in offer.methods] or [offer.name]
