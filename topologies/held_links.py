"""The links that an overlay holds: each is asked for once, however many reasons there are for it."""

import dataclasses
from collections.abc import Mapping

from topologies.identity import NodeId
from topologies.overlay import Connect, Disconnect, OverlayEffect

__all__ = ("HeldLinks",)


@dataclasses.dataclass(slots=True)
class _Link:
    endpoints: Mapping[str, str]
    is_up: bool = False


class HeldLinks:
    """Links by peer, and whether they are open."""

    __slots__ = ("_links",)

    def __init__(self) -> None:
        self._links: dict[NodeId, _Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, node: NodeId) -> bool:
        return node in self._links

    def is_up(self, node: NodeId) -> bool:
        link = self._links.get(node)
        return link is not None and link.is_up

    def mark(self, node: NodeId, is_up: bool) -> None:
        """A link has opened, or was lost; news of one that is no longer held means nothing."""
        link = self._links.get(node)
        if link is not None:
            link.is_up = is_up

    def endpoints(self, node: NodeId) -> Mapping[str, str]:
        """Where a peer with a link listens; empty for all others."""
        link = self._links.get(node)
        return {} if link is None else link.endpoints

    def hold(self, node: NodeId, endpoints: Mapping[str, str]) -> list[OverlayEffect]:
        """Want a link; returns what has to be done for it."""
        link = self._links.get(node)
        if link is not None and link.endpoints == endpoints:
            return []
        self._links[node] = _Link(endpoints)
        connect = Connect(node, endpoints)
        return [connect] if link is None else [Disconnect(node, "it moved"), connect]

    def release(self, node: NodeId, why: str) -> list[OverlayEffect]:
        """Want it no more."""
        return [] if self._links.pop(node, None) is None else [Disconnect(node, why)]
