"""Plumtree: broadcasts that cost one message a node, and survive what breaks the tree.

The problem: flooding an overlay is reliable and sends each message several times to everybody; a tree sends it once
and breaks with each node. Plumtree (Leitao, Pereira, Rodrigues, SRDS 2007, "Epidemic Broadcast Trees") grows a tree
inside a gossip overlay: a message is pushed to the *eager* neighbours, and only announced to the *lazy* ones. Whoever
gets a message twice prunes the later sender, so that after the first messages the eager links are a tree; whoever is
told of a message that does not come grafts the announcer back in. The flood's other links are what mends the tree.

Invariants: each message is delivered once. A neighbour is either eager or lazy on each tree. Whoever has delivered a
message pushes or announces it to every neighbour but the one it came from.

Where we depart from the paper, and why:

- Trees of single roots beside the shared one. A shared tree is short for the root that formed it and long for the
  others, which the paper counts as the price of many senders. A root that sends often has its own, which begins as a
  copy of the shared one (a tree reaches everybody whoever the root is), and is shortened for it by the optimisation of
  section 3.8. Their number is bounded; a forgotten one begins anew as a copy.
- Announcements are collected for a moment (the paper allows it and measures without). One that comes after the message
  itself may still show a shorter way, so the rounds are compared then, too.
- Ids are (root, life of the root, number), so that what was seen takes a floor per root instead of a list.
- What nobody sends although it was announced is `Missed`: the business of anti-entropy, which tells us what it
  brought with `Learned`. And so is what was never announced to us: while a node had no neighbours, say.

The driver's duties, in order:

1. `NeighborUp` and `NeighborDown` as `neighbours()` of the overlay changes.
2. Carry out the effects in their order. `PlumtreeSend` never waits and may fail.
3. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
"""

import math
from typing import assert_never

from topologies.identity import NodeId
from topologies.plumtree.interface import (
    Broadcast,
    Delivered,
    Learned,
    Missed,
    NeighborDown,
    NeighborUp,
    PlumtreeEffect,
    PlumtreeInput,
    PlumtreeReceived,
    PlumtreeSend,
    PlumtreeStats,
)
from topologies.plumtree.messages import (
    ID_MAX,
    ROUND_MAX,
    SHARED,
    Announcement,
    Gossip,
    Graft,
    IHave,
    Message,
    MessageId,
    Prune,
    is_sane,
)
from topologies.plumtree.missing import Missing
from topologies.plumtree.received import Received
from topologies.plumtree.settings import PlumtreeSettings
from topologies.plumtree.store import Store, Stored
from topologies.plumtree.trees import Trees
from topologies.swim.interface import Tick

__all__ = ("Plumtree",)


class Plumtree:
    """One node's broadcast core.

    Args:
        me: Our node id, the root of our broadcasts.
        generation: Of our boot: a later life of ours must have a higher one.
        settings: See there.
    """

    __slots__ = (
        "_announced_count",
        "_delivered_count",
        "_duplicate_count",
        "_flush_at",
        "_generation",
        "_graft_count",
        "_ignored_count",
        "_me",
        "_missed_count",
        "_missing",
        "_now",
        "_number",
        "_optimisation_count",
        "_out",
        "_prune_count",
        "_received",
        "_settings",
        "_store",
        "_to_announce",
        "_trees",
    )

    def __init__(self, me: NodeId, generation: int, settings: PlumtreeSettings) -> None:
        self._me = me
        self._generation = generation
        self._settings = settings
        self._number = 0  # of our last broadcast
        self._trees = Trees(settings.trees_max)
        self._received = Received(settings.received_window, settings.roots_max)
        self._store = Store(settings.store_max, settings.store_bytes_max)
        self._missing = Missing(settings.missing_max)
        self._to_announce: dict[NodeId, list[Announcement]] = {}
        self._flush_at = math.inf
        self._now = -math.inf
        self._out: list[PlumtreeEffect] = []
        self._announced_count = self._delivered_count = self._duplicate_count = self._graft_count = 0
        self._ignored_count = self._missed_count = self._optimisation_count = self._prune_count = 0

    def handle(self, input: PlumtreeInput, now: float) -> list[PlumtreeEffect]:
        """Take in one input.

        Raises:
            ValueError: A payload to broadcast is too large.
        """
        self._now = now
        match input:
            case PlumtreeReceived(sender, message):
                self._on_message(sender, message)
            case Broadcast(payload):
                self._on_broadcast(payload)
            case NeighborUp(peer):
                self._trees.add(peer)
            case NeighborDown(peer):
                self._trees.remove(peer)
                self._missing.forget(peer)
                self._to_announce.pop(peer, None)
            case Learned(id):
                self._missing.arrived(id)
                self._received.add(id)
            case Tick():
                self._on_tick()
            case _:
                assert_never(input)
        if self._flush_at <= now:
            self._flush()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        due = min(self._flush_at, self._missing.next_deadline())
        return None if due == math.inf else due

    def eager_push_peers(self, root: NodeId = SHARED) -> list[NodeId]:
        """Whom we push to, on the tree of a root or on the shared one."""
        return self._trees.eager_push_peers(root)

    def lazy_push_peers(self, root: NodeId = SHARED) -> list[NodeId]:
        """To whom we only announce."""
        return self._trees.lazy_push_peers(root)

    def stats(self) -> PlumtreeStats:
        return PlumtreeStats(
            neighbours=self._trees.neighbor_count,
            eager_push_peers=len(self._trees.eager_push_peers(SHARED)),
            trees=self._trees.root_count,
            missing=len(self._missing),
            stored=len(self._store),
            delivered=self._delivered_count,
            duplicates=self._duplicate_count,
            announced=self._announced_count,
            grafts=self._graft_count,
            prunes=self._prune_count,
            optimisations=self._optimisation_count,
            missed=self._missed_count,
            ignored=self._ignored_count,
        )

    # -- what happens

    def _on_broadcast(self, payload: bytes) -> None:
        if len(payload) > self._settings.payload_bytes_max:
            raise ValueError(
                f"a payload of {len(payload)} bytes exceeds payload_bytes_max={self._settings.payload_bytes_max}; "
                "broadcast where it can be fetched"
            )
        self._number += 1
        id = MessageId(self._me, self._generation, self._number)
        tree = self._me if self._number > self._settings.own_tree_after else SHARED
        self._received.add(id)
        self._accept(id, Stored(payload, 0, None, tree))

    def _on_message(self, sender: NodeId, message: Message) -> None:
        match message:
            case Gossip():
                self._on_gossip(sender, message)
            case IHave(announcements):
                for announcement in announcements[: self._settings.ihave_batch_max]:
                    self._on_announcement(sender, announcement)
            case Graft(tree) | Prune(tree) if len(tree) > ID_MAX:
                self._ignored_count += 1
            case Graft(tree, id):
                self._trees.make_eager(tree, sender)
                stored = None if id is None else self._store.get(id)
                if id is not None and stored is not None:
                    self._push(sender, id, stored)
            case Prune(tree):
                self._trees.make_lazy(tree, sender)
            case _:
                assert_never(message)

    def _on_gossip(self, sender: NodeId, message: Gossip) -> None:
        id, round, tree = message.id, message.round, message.tree
        if not is_sane(id, round, tree) or len(message.payload) > self._settings.payload_bytes_max:
            self._ignored_count += 1
            return
        if id.root == self._me or not self._received.add(id):
            self._duplicate_count += 1
            self._prune(tree, sender)
            return
        self._trees.make_eager(tree, sender)
        announcements = self._missing.arrived(id)
        stored = Stored(message.payload, round, sender, tree)
        self._accept(id, stored)
        for peer, announcement in announcements.items():
            self._optimise(peer, announcement, stored)

    def _on_announcement(self, sender: NodeId, announcement: Announcement) -> None:
        id = announcement.id
        if not is_sane(id, announcement.round, announcement.tree):
            self._ignored_count += 1
        elif id in self._received:
            stored = self._store.get(id)
            if stored is not None:
                self._optimise(sender, announcement, stored)
        elif id.root != self._me and not self._missing.announced(
            sender, announcement, self._now + self._settings.graft_timeout_s
        ):
            self._ignored_count += 1

    def _on_tick(self) -> None:
        while True:
            gone = self._missing.given_up(self._now)
            if gone is not None:
                self._missed_count += 1
                self._out.append(Missed(*gone))
                continue
            ask = self._missing.next_to_ask(self._now, self._settings.graft_retry_s)
            if ask is None:
                return
            id, peer, announcement = ask
            self._graft(announcement.tree, peer, id)

    # -- what follows from it

    def _accept(self, id: MessageId, stored: Stored) -> None:
        """Deliver a message that is new, and send it on (EagerPush, LazyPush)."""
        self._delivered_count += 1
        self._store.put(id, stored)
        self._out.append(Delivered(id, stored.payload, stored.round))
        for peer in self._trees.eager_push_peers(stored.tree):
            if peer != stored.parent:
                self._push(peer, id, stored)
        announcement = Announcement(id, min(stored.round + 1, ROUND_MAX), stored.tree)
        for peer in self._trees.lazy_push_peers(stored.tree):
            self._announce(peer, announcement)

    def _push(self, peer: NodeId, id: MessageId, stored: Stored) -> None:
        self._send(peer, Gossip(id, min(stored.round + 1, ROUND_MAX), stored.payload, stored.tree))

    def _announce(self, peer: NodeId, announcement: Announcement) -> None:
        self._announced_count += 1
        waiting = self._to_announce.setdefault(peer, [])
        waiting.append(announcement)
        if len(waiting) >= self._settings.ihave_batch_max:
            del self._to_announce[peer]
            self._send(peer, IHave(tuple(waiting)))
        elif self._flush_at == math.inf:
            self._flush_at = self._now + self._settings.ihave_interval_s

    def _flush(self) -> None:
        self._flush_at = math.inf
        for peer, announcements in self._to_announce.items():
            self._send(peer, IHave(tuple(announcements)))
        self._to_announce.clear()

    def _optimise(self, peer: NodeId, announcement: Announcement, stored: Stored) -> None:
        """Take a shorter way into the tree, in the place of the longer (section 3.8)."""
        settings, tree = self._settings, stored.tree
        threshold = settings.shared_threshold if tree == SHARED else settings.threshold
        parent = stored.parent
        if (
            parent is None
            or peer == parent
            or stored.round - announcement.round < threshold
            or peer not in self._trees
            or not self._trees.is_eager(tree, parent)
        ):
            return
        self._optimisation_count += 1
        self._graft(tree, peer, None)
        self._prune(tree, parent)
        stored.parent, stored.round = peer, announcement.round

    def _graft(self, tree: NodeId, peer: NodeId, id: MessageId | None) -> None:
        self._graft_count += 1
        self._trees.make_eager(tree, peer)
        self._send(peer, Graft(tree, id))

    def _prune(self, tree: NodeId, peer: NodeId) -> None:
        self._prune_count += 1
        self._trees.make_lazy(tree, peer)
        self._send(peer, Prune(tree))

    def _send(self, peer: NodeId, message: Message) -> None:
        self._out.append(PlumtreeSend(peer, message))
