"""Which way the data plane takes to each member, and what the control plane must know to choose it.

The control plane chooses (`topologies.relay`) and tells in its views. What it cannot see from where it is: to whom
messages are sent, and whether a direct connection for them can be had.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from fdn.runtime.link import Link, LinkState

__all__ = ("DataRoutes", "Relays")

Relays = tuple[str, ...]
_KEEP_S: Final = 15.0  # a member is in use for so long after its last link was: a new way begins without one
_CONFIRM_S: Final = 2.0  # an adopted way that the control plane does not know by then is given up


class DataRoutes:
    """See the module.

    Args:
        loop: For the time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._routes: dict[str, Relays] = {}
        self._adopted: dict[str, float] = {}
        self._failing: set[str] = set()  # members to which the last direct attempt has failed
        self._used_at: dict[str, float] = {}
        self._reported: Mapping[str, bool] = {}

    def __contains__(self, node: str) -> bool:
        return node in self._routes

    def of(self, node: str) -> Relays:
        """The relays to a member, in order; empty is the direct way."""
        return self._routes.get(node, ())

    def set(self, node: str, relays: Relays) -> bool:
        """Take this way from now on. Returns whether it is another one."""
        if self._routes.get(node, ()) == relays:
            return False
        if relays:
            self._routes[node] = relays
        else:
            del self._routes[node]
        return True

    def adopt(self, node: str, relays: Relays) -> bool:
        """A member has reached us over these relays, and will be answered over them, unless another way is chosen.

        Returns:
            Whether that is another way.
        """
        if node in self._routes:
            return False
        self._adopted[node] = self._loop.time()
        return self.set(node, relays)

    def confirmed(self, node: str) -> None:
        """The control plane has chosen."""
        self._adopted.pop(node, None)

    def unconfirmed(self) -> list[str]:
        """Members whose adopted way the control plane has not taken over in time; each is named once."""
        now = self._loop.time()
        late = [node for node, at in self._adopted.items() if now - at > _CONFIRM_S]
        for node in late:
            del self._adopted[node]
        return late

    def attempted(self, node: str, opened: bool) -> None:
        """A direct connection to a member has opened, or could not be had."""
        if opened:
            self._failing.discard(node)
        else:
            self._failing.add(node)

    def failing(self) -> list[str]:
        """Members that are talked to over others because a direct connection could not be had."""
        return [node for node in self._failing if node in self._routes]

    def forget(self, node: str) -> None:
        """A member is dead, has left or is forgotten."""
        self._routes.pop(node, None)
        self._adopted.pop(node, None)
        self._used_at.pop(node, None)
        self._failing.discard(node)

    def report(self, links: Iterable[Link]) -> Mapping[str, bool] | None:
        """Members in use, each with whether a direct connection can be had as far as is known; None: as before."""
        now = self._loop.time()
        self._used_at |= {link.peer: now for link in links if link.state is not LinkState.IDLE}
        for node in [node for node, at in self._used_at.items() if now - at > _KEEP_S]:
            del self._used_at[node]
        used = dict.fromkeys(self._used_at, True)
        for node in list(self._failing):
            if node in self._routes and node not in used:
                self._failing.discard(node)  # nobody has talked to it for long: the next to do so will see
            else:
                used[node] = False
        if used == self._reported:
            return None
        self._reported = used
        return used
