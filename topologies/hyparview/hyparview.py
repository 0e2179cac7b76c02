"""HyParView: an overlay in which each node holds a handful of links, and the whole stays connected when most nodes die.

The problem: with n nodes a full mesh costs n - 1 links each. HyParView (Leitao, Pereira, Rodrigues, DSN 2007) gives
every node two partial views. The *active view* are its neighbours: few, symmetric, each with an open link that detects
failures as it is used; broadcasts flood it. The *passive view* are peers to try when neighbours fail: many, without
links, kept fresh by shuffles. A new node joins through any member, whose neighbours send word of it on random walks.

Invariants: an active view never exceeds its bound. At rest, A is B's neighbour where B is A's. No peer is in both
views. A link is held for a neighbour, for one that is being asked, for one that drains, for a pinned one, and for
nobody else.

Where we depart from the paper, and why:

- A neighbour is added when both sides know. `Join` and `Neighbor` are answered by `Accept`, and a walk ends with a
  `Neighbor` that the new node may refuse: its slots are few, and whoever asked has lost nothing.
- Each side numbers a neighbourship, and messages about it name the receiver's number: a `Disconnect` of an earlier life
  of a link does not end the present one. A node that holds us for a neighbour, and is none of ours, is told so when
  it walks a message through us; each neighbour is shuffled with in turn, so that this is found out.
- Demotion has two phases. The demoted neighbour leaves `neighbours()` and is sent `Disconnect`, the last message that
  it gets as one; its link is closed when its `Drained` says that everything before has arrived.
- `Disconnect` names whoever took the place, and the demoted node asks that one first. A join that splits the edge C-D
  thus leaves C-J-D, not an orphan: many nodes that join at the same instant do not end up on islands.
- A node that has many links to drain demotes nobody else; it sends those who join on to one of its neighbours. A
  cluster that starts at one instant through one node is spread by that over all who are in already.
- Nodes trade neighbours now and then, and more of them when members come back: after a partition all views are full,
  nobody misses a neighbour, and the paper's rules would keep the halves apart for ever. Of a trade both partners drop a
  neighbour each, and these two are introduced to one another, so that no slot stays empty.
- Membership (SWIM) has the last word on who is dead or has left: such a peer is dropped from everywhere, and a shuffle
  that mentions that life of it does not bring it back.

The driver's duties are those of every overlay (`topologies.overlay`).
"""

import dataclasses
import enum
import math
import random
from collections.abc import Mapping
from typing import assert_never

from topologies.held_links import HeldLinks
from topologies.hyparview.interface import HyParViewStats
from topologies.hyparview.messages import (
    PEERS_MAX,
    Accept,
    Disconnect,
    Drained,
    ForwardJoin,
    Join,
    Neighbor,
    Peer,
    Priority,
    Reject,
    Shuffle,
    ShuffleReply,
    is_sane,
)
from topologies.hyparview.passive_view import PassiveView
from topologies.hyparview.roster import Roster
from topologies.hyparview.search import Search
from topologies.hyparview.settings import HyParViewSettings
from topologies.identity import NodeId
from topologies.overlay import (
    LinkDown,
    LinkUp,
    OverlayEffect,
    OverlayInput,
    OverlayMessage,
    OverlayReceived,
    OverlaySend,
    Pinned,
)
from topologies.swim.interface import MemberChanged, Tick
from topologies.swim.messages import Claim, Status

__all__ = ("HyParView",)

_LIVE = (Status.ALIVE, Status.SUSPECT)


class _Why(enum.Enum):
    """Why a peer is asked to be a neighbour."""

    JOIN = enum.auto()  # we are alone, and it may take us in
    FILL = enum.auto()  # we have a free slot
    WALK = enum.auto()  # it is new, and its walk ended here
    TRADE = enum.auto()  # for the sake of mixing


@dataclasses.dataclass(slots=True)
class _Neighbor:
    peer: Peer
    mine: int  # our number of this neighbourship, which the peer's messages name
    theirs: int


@dataclasses.dataclass(slots=True)
class _Request:
    peer: Peer
    mine: int
    why: _Why
    give_up_at: float
    is_sent: bool = False
    is_high: bool = False


@dataclasses.dataclass(slots=True)
class _Draining:
    mine: int
    theirs: int
    close_at: float


class HyParView:
    """One node's overlay core. An `Overlay`.

    Args:
        me: Ourselves as others are to reach us.
        settings: See there.
        rng: Seeded by the driver; the only source of chance.
    """

    __slots__ = (
        "_active",
        "_asked_count",
        "_demoted_count",
        "_draining",
        "_failed_count",
        "_ignored_count",
        "_is_joined",
        "_join_count",
        "_last_link",
        "_links",
        "_lost_count",
        "_me",
        "_mix_at",
        "_neighbours",
        "_now",
        "_out",
        "_passive",
        "_pinned",
        "_refused_count",
        "_requests",
        "_rng",
        "_roster",
        "_search",
        "_settings",
        "_shuffle_at",
        "_shuffle_number",
        "_shuffled",
        "_stale_count",
    )

    def __init__(self, me: Peer, settings: HyParViewSettings, rng: random.Random) -> None:
        self._me = me
        self._settings = settings
        self._rng = rng
        self._active: dict[NodeId, _Neighbor] = {}
        self._passive = PassiveView(settings.passive_max, rng)
        self._requests: dict[NodeId, _Request] = {}
        self._draining: dict[NodeId, _Draining] = {}
        self._pinned: dict[NodeId, Mapping[str, str] | None] = {}  # None while it is dead
        self._links = HeldLinks()
        self._roster = Roster(settings.contacts_max, settings.gone_max, rng)
        self._search = Search(settings, rng)
        self._is_joined = False  # whether we ever had a neighbour
        self._shuffle_at = self._mix_at = math.inf
        self._shuffle_number = 0
        self._shuffled: tuple[NodeId, ...] = ()  # whom we told of in our last shuffle
        # Numbers must differ between our lives, and need only be unlikely to meet: an old peer's memory is short.
        self._last_link = rng.getrandbits(52)
        self._neighbours: frozenset[NodeId] | None = None
        self._now = -math.inf
        self._out: list[OverlayEffect | OverlaySend] = []
        self._join_count = self._asked_count = self._refused_count = self._failed_count = 0
        self._demoted_count = self._lost_count = self._stale_count = self._ignored_count = 0

    def handle(self, input: OverlayInput, now: float) -> list[OverlayEffect | OverlaySend]:
        """Take in one input; see `topologies.overlay` for what the effects ask."""
        self._now = now
        match input:
            case OverlayReceived(sender, message):
                self._on_message(sender, message)
            case LinkUp(peer):
                self._on_link_up(peer)
            case LinkDown(peer, why):
                self._on_link_down(peer, why)
            case MemberChanged():
                self._on_member_changed(input)
            case Pinned(peers):
                self._on_pinned(peers)
            case Tick():
                self._on_tick()
            case _:
                assert_never(input)
        self._fill()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        due = math.inf if self._search.retry_at is None else self._search.retry_at
        if self._active:
            due = min(due, self._shuffle_at, self._mix_at)
        for request in self._requests.values():
            due = min(due, request.give_up_at)
        for draining in self._draining.values():
            due = min(due, draining.close_at)
        return None if due == math.inf else due

    def neighbours(self) -> frozenset[NodeId]:
        """The active view, and the pinned peers that live. The same object until it changes."""
        if self._neighbours is None:
            pinned = [node for node, endpoints in self._pinned.items() if endpoints is not None]
            self._neighbours = frozenset(self._active).union(pinned)
        return self._neighbours

    def active_view(self) -> tuple[NodeId, ...]:
        """The neighbours that HyParView chose."""
        return tuple(self._active)

    def passive_view(self) -> tuple[NodeId, ...]:
        """Whom it would try next."""
        return tuple(self._passive)

    def stats(self) -> HyParViewStats:
        return HyParViewStats(
            active=len(self._active),
            passive=len(self._passive),
            links=len(self._links),
            joins=self._join_count,
            asked=self._asked_count,
            refused=self._refused_count,
            failed=self._failed_count,
            demoted=self._demoted_count,
            lost=self._lost_count,
            stale=self._stale_count,
            ignored=self._ignored_count,
        )

    # -- messages

    def _on_message(self, sender: NodeId, message: OverlayMessage) -> None:
        match message:
            case Shuffle():
                self._on_shuffle(sender, message)
            case ForwardJoin():
                self._on_forward_join(sender, message)
            case Join(link, peer):
                self._on_join(sender, link, peer)
            case Neighbor():
                self._on_neighbor(sender, message)
            case Accept():
                self._on_accept(sender, message)
            case Reject():
                self._on_reject(sender, message)
            case Disconnect():
                self._on_disconnect(sender, message)
            case Drained(your_link):
                draining = self._draining.get(sender)
                if draining is not None and draining.mine == your_link:
                    self._end_drain(sender, "drained")
            case ShuffleReply(number, peers):
                if number == self._shuffle_number and self._shuffled:
                    self._integrate(peers, self._shuffled)
                    self._shuffled = ()
                else:
                    self._stale_count += 1
            case _:
                self._ignored_count += 1  # another overlay's: we are being switched, or the peer is

    def _on_join(self, sender: NodeId, link: int, peer: Peer) -> None:
        if not self._is_senders(sender, peer):
            return
        if not self._has_room_for(sender, is_needy=True):
            self._refuse(peer, link, is_needy=True)
            return
        self._join_count += 1
        self._take_in(peer, link, is_trade=False)
        for node, neighbor in self._active.items():
            if node != sender:
                self._send(neighbor.peer, ForwardJoin(neighbor.mine, peer, self._settings.arwl))

    def _on_forward_join(self, sender: NodeId, message: ForwardJoin) -> None:
        self._expect_neighbor(sender, message.link)
        peer, ttl = message.peer, min(message.ttl, self._settings.arwl)
        if not self._is_welcome(peer):
            return
        next_hop = self._any_neighbor(sender, peer.node)
        if ttl <= 0 or next_hop is None:
            if peer.node not in self._active:
                self._passive.add(peer)
                self._ask(peer, _Why.WALK)
            return
        if ttl == self._settings.prwl and peer.node not in self._active:
            self._passive.add(peer)
        self._send(next_hop.peer, ForwardJoin(next_hop.mine, peer, ttl - 1))

    def _on_neighbor(self, sender: NodeId, message: Neighbor) -> None:
        if not self._is_senders(sender, message.peer):
            return
        is_needy = message.priority is not Priority.LOW
        if self._has_room_for(sender, is_needy):
            self._take_in(message.peer, message.link, is_trade=message.priority is Priority.TRADE)
        else:
            self._refuse(message.peer, message.link, is_needy)

    def _on_accept(self, sender: NodeId, message: Accept) -> None:
        request, neighbor = self._requests.get(sender), self._active.get(sender)
        if request is not None and request.mine == message.your_link:
            del self._requests[sender]
            self._on_accepted(request, message)
        elif neighbor is not None:
            if neighbor.mine == message.your_link:
                neighbor.theirs = message.link  # both had asked at the same time
            else:
                self._stale_count += 1
        else:
            self._stale_count += 1  # it came too late; there must not be a neighbour on one side only
            self._say(sender, Disconnect(message.link))

    def _on_accepted(self, request: _Request, message: Accept) -> None:
        peer = request.peer
        if len(self._active) >= self._settings.active_max:
            if request.why is _Why.FILL:  # somebody else has filled the slot
                self._passive.add(peer)
                self._drain(peer, request.mine, message.link, None)
                return
            other = message.evicted if message.evicted is not None and self._is_welcome(message.evicted) else peer
            self._demote_one(instead=other)
        self._add(peer, request.mine, message.link)

    def _on_reject(self, sender: NodeId, message: Reject) -> None:
        request = self._requests.get(sender)
        if request is None or request.mine != message.your_link:
            self._stale_count += 1
            return
        self._refused_count += 1
        if request.why is _Why.FILL:
            self._search.refused()
        self._give_up(sender, "it has no room")
        other = message.instead
        if other is not None and self._is_welcome(other) and other.node not in self._search.tried:
            self._ask(other, request.why)

    def _on_disconnect(self, sender: NodeId, message: Disconnect) -> None:
        neighbor, draining = self._active.get(sender), self._draining.get(sender)
        if neighbor is not None and neighbor.mine == message.your_link:
            self._remove(sender)
            self._passive.add(neighbor.peer)
            self._drain(neighbor.peer, neighbor.mine, neighbor.theirs, None, Drained(neighbor.theirs))
            self._look_for_another(message.instead, but=sender)
        elif draining is not None and draining.mine == message.your_link:
            self._say(sender, Drained(draining.theirs))  # both had the same idea
        else:
            self._stale_count += 1

    def _on_shuffle(self, sender: NodeId, message: Shuffle) -> None:
        self._expect_neighbor(sender, message.link)
        origin, ttl = message.origin, min(message.ttl, self._settings.shuffle_walk) - 1
        if not self._is_welcome(origin):
            return
        next_hop = self._any_neighbor(sender, origin.node) if ttl > 0 else None
        if next_hop is not None:
            onwards = Shuffle(next_hop.mine, origin, ttl, message.number, message.peers[:PEERS_MAX])
            self._send(next_hop.peer, onwards)
            return
        answer = tuple(self._passive.sample(min(len(message.peers), PEERS_MAX)))
        self._send(origin, ShuffleReply(message.number, answer))
        self._integrate((origin, *message.peers), tuple(peer.node for peer in answer))

    # -- links and members

    def _on_link_up(self, node: NodeId) -> None:
        self._links.mark(node, is_up=True)
        request = self._requests.get(node)
        if request is not None and not request.is_sent:
            self._send_request(request)

    def _on_link_down(self, node: NodeId, why: str) -> None:
        if node not in self._links:
            return
        self._links.mark(node, is_up=False)
        if node in self._requests:
            self._failed_count += 1
            self._passive.discard(node)
            self._give_up(node, why)
        if node in self._draining:
            self._end_drain(node, why)
        neighbor = self._active.get(node)
        if neighbor is not None:
            self._lose(node, why)
            # Only our way there may be broken: then it would take us for its neighbour for some time yet.
            self._send(neighbor.peer, Disconnect(neighbor.theirs))

    def _on_member_changed(self, change: MemberChanged) -> None:
        node, after = change.subject, change.after
        was_live = change.before is not None and change.before.status in _LIVE
        is_live = after is not None and after.status in _LIVE
        self._roster.live_count += is_live - was_live
        if node == self._me.node:
            return
        if after is None or not is_live:
            self._bury(node, after)
        else:
            self._welcome(Peer(node, after.incarnation, after.endpoints), is_back=not was_live)

    def _bury(self, node: NodeId, claim: Claim | None) -> None:
        why = "forgotten" if claim is None else f"{claim.status.value}: {claim.reason}"
        self._roster.bury(node, None if claim is None else claim.incarnation)
        neighbor = self._active.get(node)
        if neighbor is not None and claim is not None and neighbor.peer.incarnation[0] > claim.incarnation[0]:
            return  # it has restarted, and we are neighbours of its new life already
        self._passive.discard(node)
        self._requests.pop(node, None)
        self._draining.pop(node, None)
        if self._pinned.get(node) is not None:
            self._pinned[node] = None
            self._neighbours = None
        if neighbor is not None:
            self._lose(node, why)
        self._release(node, why)

    def _welcome(self, peer: Peer, is_back: bool) -> None:
        node = peer.node
        self._roster.welcome(peer)
        neighbor = self._active.get(node)
        if neighbor is not None and neighbor.peer.incarnation[0] < peer.incarnation[0]:
            self._lose(node, "it has restarted")
            neighbor = None
        if node in self._pinned:
            self._pinned[node] = peer.endpoints
            self._neighbours = None
            self._hold(node, peer.endpoints)
        if neighbor is not None:
            if neighbor.peer.endpoints != peer.endpoints:
                self._hold(node, peer.endpoints)
            neighbor.peer = peer
            return
        if node in self._passive or not self._passive.is_full:
            self._passive.add(peer)
        if is_back:
            self._search.tried.discard(node)
            if not self._active:
                self._search.restart()
            elif self._rng.random() < self._settings.mix_fan / max(1, self._roster.live_count):
                self._trade(peer)

    def _on_pinned(self, peers: Mapping[NodeId, Mapping[str, str]]) -> None:
        former, self._pinned = self._pinned, {node: it for node, it in peers.items() if node != self._me.node}
        self._neighbours = None
        for node, endpoints in peers.items():
            if node in self._pinned:
                self._hold(node, endpoints)
        for node in former:
            self._release(node, "no longer pinned")

    # -- time

    def _on_tick(self) -> None:
        now = self._now
        self._search.tick(now)
        for node in [node for node, request in self._requests.items() if request.give_up_at <= now]:
            self._failed_count += 1
            self._passive.discard(node)
            self._give_up(node, "no answer")
        for node in [node for node, draining in self._draining.items() if draining.close_at <= now]:
            self._end_drain(node, "drained for long enough")
        if self._active and self._shuffle_at <= now:
            self._shuffle_at = now + self._settings.shuffle_interval_s * self._rng.uniform(0.75, 1.25)
            self._shuffle()
        if self._active and self._mix_at <= now:
            self._mix_at = now + self._settings.mix_interval_s * self._rng.uniform(0.5, 1.5)
            self._mix()

    def _shuffle(self) -> None:
        settings = self._settings
        target = next(iter(self._active))
        neighbor = self._active.pop(target)
        self._active[target] = neighbor  # to the end: each in turn
        others = [other.peer for node, other in self._active.items() if node != target]
        count = min(settings.shuffle_active_count, len(others))
        sample = self._rng.sample(others, count) + self._passive.sample(settings.shuffle_passive_count)
        self._shuffle_number += 1
        self._shuffled = tuple(peer.node for peer in sample)
        self._send(
            neighbor.peer,
            Shuffle(neighbor.mine, self._me, settings.shuffle_walk, self._shuffle_number, (self._me, *sample)),
        )

    def _mix(self) -> None:
        candidates = {peer.node: peer for peer in self._roster.contacts(but=self._active)}
        candidates.update((peer.node, peer) for peer in self._passive.sample(len(self._passive)))
        if candidates:
            self._trade(self._rng.choice(list(candidates.values())))

    # -- asking

    def _fill(self) -> None:
        """Ask peers to be neighbours until all slots are taken or spoken for."""
        while self._search.retry_at is None and len(self._active) + len(self._requests) < self._settings.active_max:
            enough = self._active and self._search.is_refused_enough
            found = None if enough else self._candidate()
            if found is not None:
                self._ask(*found)
                continue
            if not self._requests and (self._passive or self._roster.contacts(but=self._active)):
                self._search.pause(self._now)
            return

    def _candidate(self) -> tuple[Peer, _Why] | None:
        if self._is_joined and self._passive:
            peer = self._passive.choose({*self._requests, *self._search.tried})
            if peer is not None:
                return peer, _Why.FILL
        if self._active or self._requests:
            return None
        contacts = self._roster.contacts(but=self._search.tried)
        return (self._rng.choice(contacts), _Why.JOIN) if contacts else None

    def _trade(self, peer: Peer) -> None:
        """Become this peer's neighbour, at the cost of another if the view is full."""
        if not any(request.why is _Why.TRADE for request in self._requests.values()):
            self._ask(peer, _Why.TRADE)

    def _look_for_another(self, instead: Peer | None, but: NodeId) -> None:
        """We were demoted. Ask the one that was named first, else leave it a moment to ask us."""
        self._search.restart()
        self._search.tried.add(but)  # it has no room for us
        if instead is not None and self._is_welcome(instead) and instead.node not in self._active:
            self._ask(instead, _Why.FILL)
        elif self._active:
            self._search.wait_a_moment(self._now)

    def _ask(self, peer: Peer, why: _Why) -> None:
        node = peer.node
        if node in self._active or node in self._requests or len(self._requests) >= 2 * self._settings.active_max:
            return
        self._asked_count += 1
        self._search.tried.add(node)
        self._draining.pop(node, None)  # its link is needed after all
        request = _Request(peer, self._next_link(), why, self._now + self._settings.request_timeout_s)
        self._requests[node] = request
        self._hold(node, peer.endpoints)
        if self._links.is_up(node):
            self._send_request(request)

    def _send_request(self, request: _Request) -> None:
        request.is_sent = True
        if request.why is _Why.JOIN:
            self._send(request.peer, Join(request.mine, self._me))
            return
        priority = Priority.LOW
        if request.why is _Why.TRADE:
            priority = Priority.TRADE
        elif not self._active and not any(other.is_high for other in self._requests.values()):
            # One at a time: each of these costs somebody a neighbour.
            request.is_high = True
            priority = Priority.HIGH
        self._send(request.peer, Neighbor(request.mine, self._me, priority))

    def _give_up(self, node: NodeId, why: str) -> None:
        del self._requests[node]
        self._release(node, why)
        # Those asked at the same time went out as LOW, and whoever was to be HIGH has failed.
        for request in self._requests.values():
            request.is_high = False

    # -- the active view

    def _has_room_for(self, node: NodeId, is_needy: bool) -> bool:
        """Whether to become a neighbour of one that asks; for one in need somebody else makes room."""
        if len(self._active) < self._settings.active_max or node in self._active or node in self._requests:
            return True
        return is_needy and len(self._draining) < self._settings.draining_max

    def _refuse(self, peer: Peer, link: int, is_needy: bool) -> None:
        other = self._any_neighbor(peer.node) if is_needy else None
        self._send(peer, Reject(link, None if other is None else other.peer))

    def _take_in(self, peer: Peer, theirs: int, is_trade: bool) -> None:
        node = peer.node
        neighbor = self._active.get(node)
        if neighbor is not None:
            neighbor.theirs = theirs
            neighbor.peer = peer
            self._send(peer, Accept(neighbor.mine, theirs))
            return
        request = self._requests.pop(node, None)
        mine = self._next_link() if request is None else request.mine
        evicted = None
        if len(self._active) >= self._settings.active_max:
            evicted = self._demote_one(instead=None if is_trade else peer)
        self._add(peer, mine, theirs)
        self._send(peer, Accept(mine, theirs, evicted if is_trade else None))

    def _add(self, peer: Peer, mine: int, theirs: int) -> None:
        node = peer.node
        if not self._active:
            self._shuffle_at = self._now + self._settings.shuffle_interval_s * self._rng.random()
            self._mix_at = self._now + self._settings.mix_interval_s * self._rng.uniform(0.5, 1.5)
        self._active[node] = _Neighbor(peer, mine, theirs)
        self._neighbours = None
        self._is_joined = True
        self._passive.discard(node)
        self._draining.pop(node, None)
        self._search.succeeded()
        self._hold(node, peer.endpoints)

    def _remove(self, node: NodeId) -> _Neighbor:
        self._neighbours = None
        return self._active.pop(node)

    def _lose(self, node: NodeId, why: str) -> None:
        self._lost_count += 1
        self._remove(node)
        self._release(node, why)
        self._shuffle_at = self._now  # others may have gone with it, which only shows when their links are used
        self._search.restart()

    def _demote_one(self, instead: Peer | None) -> Peer:
        """Make room (dropRandomElementFromActiveView). The link drains before it is closed."""
        self._demoted_count += 1
        neighbor = self._remove(self._rng.choice(list(self._active)))
        self._passive.add(neighbor.peer)
        self._drain(neighbor.peer, neighbor.mine, neighbor.theirs, instead)
        return neighbor.peer

    def _drain(
        self, peer: Peer, mine: int, theirs: int, instead: Peer | None, last_words: Drained | None = None
    ) -> None:
        """Say goodbye, and keep the link until that has arrived."""
        if len(self._draining) >= self._settings.draining_max + 2 * self._settings.active_max:
            self._end_drain(next(iter(self._draining)), "too many are draining")
        self._draining[peer.node] = _Draining(mine, theirs, self._now + self._settings.drain_timeout_s)
        self._send(peer, Disconnect(theirs, instead) if last_words is None else last_words)

    def _end_drain(self, node: NodeId, why: str) -> None:
        del self._draining[node]
        self._release(node, why)

    # -- what follows from them

    def _expect_neighbor(self, sender: NodeId, link: int) -> None:
        """Tell a peer that takes us for its neighbour, and is none of ours, what it missed."""
        if sender not in self._active and sender not in self._draining and sender not in self._requests:
            self._stale_count += 1
            self._say(sender, Disconnect(link))

    def _any_neighbor(self, *but: NodeId) -> _Neighbor | None:
        others = [neighbor for node, neighbor in self._active.items() if node not in but]
        return self._rng.choice(others) if others else None

    def _integrate(self, peers: tuple[Peer, ...], rather_forget: tuple[NodeId, ...]) -> None:
        for peer in peers[:PEERS_MAX]:
            if peer.node not in self._active and self._is_welcome(peer):
                self._passive.add(peer, rather_forget)

    def _is_senders(self, sender: NodeId, peer: Peer) -> bool:
        """Whether a peer that asks for itself is who it says; it lives, whatever was said of it."""
        if peer.node == sender and sender != self._me.node and is_sane(peer):
            return True
        self._ignored_count += 1
        return False

    def _is_welcome(self, peer: Peer) -> bool:
        """Whether a peer that somebody mentions may enter a view."""
        if peer.node == self._me.node:
            return False
        if self._roster.is_gone(peer):
            return False
        if is_sane(peer):
            return True
        self._ignored_count += 1
        return False

    def _hold(self, node: NodeId, endpoints: Mapping[str, str]) -> None:
        self._out += self._links.hold(node, endpoints)

    def _release(self, node: NodeId, why: str) -> None:
        """Give up a link if nobody needs it any more."""
        needed = node in self._active or node in self._requests or node in self._draining
        if not needed and self._pinned.get(node) is None:
            self._out += self._links.release(node, why)

    def _send(self, peer: Peer, message: OverlayMessage) -> None:
        self._out.append(OverlaySend(peer.node, message, peer.endpoints))

    def _say(self, node: NodeId, message: OverlayMessage) -> None:
        """To somebody whose endpoints we need not know: it has just spoken to us."""
        self._out.append(OverlaySend(node, message, self._links.endpoints(node)))

    def _next_link(self) -> int:
        self._last_link += 1
        return self._last_link
