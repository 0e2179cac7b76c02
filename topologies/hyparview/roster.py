"""What membership said, as far as an overlay needs it: who is gone, and whom to join through. Both are bounded."""

import random
from collections.abc import Collection

from topologies.hyparview.messages import Peer
from topologies.identity import Incarnation, NodeId

__all__ = ("Roster",)


class Roster:
    """The dead that must not come back by hearsay, and a random sample of the living.

    Args:
        contacts_max: Members kept to join through.
        gone_max: Dead and left members remembered; past it the oldest is forgotten.
        rng: Chooses the sample.
    """

    __slots__ = ("_contacts", "_contacts_max", "_gone", "_gone_max", "_rng", "_seen", "live_count")

    def __init__(self, contacts_max: int, gone_max: int, rng: random.Random) -> None:
        self._contacts_max = contacts_max
        self._gone_max = gone_max
        self._rng = rng
        self._contacts: dict[NodeId, Peer] = {}
        self._gone: dict[NodeId, Incarnation] = {}
        self._seen = 0  # members ever offered to the sample
        self.live_count = 0  # members alive or suspect, ourselves excluded

    def contacts(self, but: Collection[NodeId] = ()) -> list[Peer]:
        return [peer for node, peer in self._contacts.items() if node not in but]

    def is_gone(self, peer: Peer) -> bool:
        """Whether membership holds this life of a peer to be over."""
        gone = self._gone.get(peer.node)
        return gone is not None and peer.incarnation <= gone

    def welcome(self, peer: Peer) -> None:
        """It lives. Reservoir sampling: each member ever heard of is a contact with the same probability."""
        self._gone.pop(peer.node, None)
        if peer.node not in self._contacts:
            self._seen += 1
            if len(self._contacts) >= self._contacts_max:
                if self._rng.random() >= self._contacts_max / self._seen:
                    return
                del self._contacts[self._rng.choice(list(self._contacts))]
        self._contacts[peer.node] = peer

    def bury(self, node: NodeId, incarnation: Incarnation | None) -> None:
        """This life of it is over; None: it is forgotten, and may be spoken of again."""
        self._contacts.pop(node, None)
        self._gone.pop(node, None)
        if incarnation is not None:
            if len(self._gone) >= self._gone_max:
                del self._gone[next(iter(self._gone))]
            self._gone[node] = incarnation
