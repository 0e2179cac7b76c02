"""Which way messages to each member take, as one node decides it. See the package for the theory.

The driver's duties, in order:

1. `LinksUp` whenever the set of members changes to which our links are open and which speak relaying; `PeerGone` when
   a member is dead, has left or is forgotten.
2. `InUse` when the set of members changes that messages are sent to, or whether a direct connection for messages to
   one of them has failed. While a route is not direct, it tries the direct connection now and then, and tells.
3. `Adopt` when a member has reached us over relays: its answers go back that way. `Undeliverable` when a relay says
   that it could not pass on.
4. Carry out the effects; `RelaySend` never waits and may fail. `RouteChanged`: send that way from now on.
5. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
"""

import dataclasses
import random
from collections.abc import Mapping
from typing import Final, assert_never

from topologies.identity import NodeId
from topologies.relay.measure import Direct
from topologies.relay.messages import Ask, Echo, Path, Probe, RelayMessage
from topologies.relay.settings import RelaySettings
from topologies.swim.interface import Tick

__all__ = (
    "Adopt",
    "InUse",
    "LinksUp",
    "PeerGone",
    "Received",
    "RelayEffect",
    "RelayInput",
    "RelayRoutes",
    "RelaySend",
    "RelayStats",
    "Route",
    "RouteChanged",
    "Undeliverable",
)

Route = tuple[NodeId, ...]
"""The relays to a member, in order; empty is the direct way."""

_DIRECT: Final[Route] = ()

# -- inputs


@dataclasses.dataclass(frozen=True, slots=True)
class LinksUp:
    """Links to exactly these are open now, and they speak relaying."""

    peers: frozenset[NodeId]


@dataclasses.dataclass(frozen=True, slots=True)
class InUse:
    """Messages are sent to exactly these; false where a direct connection for them cannot be had."""

    targets: Mapping[NodeId, bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Adopt:
    """A member has reached us over these relays (in the order in which we would use them)."""

    target: NodeId
    relays: Route


@dataclasses.dataclass(frozen=True, slots=True)
class Undeliverable:
    """These relays do not pass on to `target`."""

    target: NodeId
    relays: Route


@dataclasses.dataclass(frozen=True, slots=True)
class PeerGone:
    """It is dead, has left, or is forgotten."""

    peer: NodeId


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message came in from a living member."""

    sender: NodeId
    message: RelayMessage


RelayInput = LinksUp | InUse | Adopt | Undeliverable | PeerGone | Received | Tick

# -- effects


@dataclasses.dataclass(frozen=True, slots=True)
class RelaySend:
    """Send to `peer`, directly, if there is a way; may be lost."""

    peer: NodeId
    message: RelayMessage


@dataclasses.dataclass(frozen=True, slots=True)
class RouteChanged:
    """Messages to `target` take this way from now on."""

    target: NodeId
    before: Route
    after: Route
    why: str


RelayEffect = RelaySend | RouteChanged


@dataclasses.dataclass(frozen=True, slots=True)
class RelayStats:
    """What is known now, and counters since the start."""

    in_use: int  # members whose direct way is measured
    relayed: int  # of these, those that are talked to over others
    changes: int  # of routes
    asked: int  # questions of others that were answered
    ignored: int  # answers to nothing that was asked, or that make no path


@dataclasses.dataclass(slots=True)
class _Offer:
    relays: Route
    rtt_s: float | None  # None: not measured yet


class _Target:
    def __init__(self) -> None:
        self.direct = Direct()
        self.used = False
        self.connects = True  # as far as is known
        self.asked_until = 0.0
        self.ttl = 0  # how long a path we look for
        self.avoid: Route = ()
        self.offers: dict[NodeId, _Offer] = {}  # by the neighbour that told
        self.questions: dict[int, tuple[NodeId, float]] = {}
        self.route = _DIRECT
        self.since: float | None = None  # for so long another way has been better
        self.why = "nothing speaks against it"


class RelayRoutes:
    """One node's routes.

    Args:
        me: Our node id.
        settings: See there.
        rng: Whom to ask, and the first sequence number.
    """

    def __init__(self, me: NodeId, settings: RelaySettings, rng: random.Random) -> None:
        self._me = me
        self._settings = settings
        self._rng = rng
        self._seq = rng.getrandbits(32)
        self._up: frozenset[NodeId] = frozenset()
        self._targets: dict[NodeId, _Target] = {}
        self._tick_at = 0.0
        self._out: list[RelayEffect] = []
        self._n_changes = self._n_asked = self._n_ignored = 0

    def routes(self) -> dict[NodeId, Route]:
        """All routes that are not direct."""
        return {node: target.route for node, target in self._targets.items() if target.route}

    def explain(self, node: NodeId) -> str:
        """Why messages to a member take the way that they take, for people."""
        target = self._targets.get(node)
        if target is None:
            return "direct: not in use"
        way = f"over {', '.join(target.route)}" if target.route else "direct"
        rtt = target.direct.rtt_s
        state = "down" if self._is_down(node, target) else "up"
        known = [f"direct {state}" + ("" if rtt is None else f" {rtt * 1e3:.1f} ms")]
        known += [
            f"{'+'.join(offer.relays)} {'?' if offer.rtt_s is None else f'{offer.rtt_s * 1e3:.1f}'} ms"
            for offer in sorted(target.offers.values(), key=_rank)
        ]
        return f"{way}: {target.why} ({'; '.join(known)})"

    def stats(self) -> RelayStats:
        return RelayStats(len(self._targets), len(self.routes()), self._n_changes, self._n_asked, self._n_ignored)

    def handle(self, input: RelayInput, now: float) -> list[RelayEffect]:
        """Take in one input; returns what to do, in this order."""
        match input:
            case LinksUp(peers):
                self._on_links(peers, now)
            case InUse(targets):
                self._on_in_use(targets, now)
            case Adopt(node, relays):
                self._on_adopt(node, relays, now)
            case Undeliverable(node, relays):
                self._on_undeliverable(node, relays, now)
            case PeerGone(peer):
                self._on_gone(peer, now)
            case Received(sender, message):
                self._on_received(sender, message, now)
            case Tick():
                if self._targets and now >= self._tick_at:
                    self._tick_at = now + self._settings.interval_s * self._rng.uniform(0.9, 1.1)
                    self._on_tick(now)
            case _:
                assert_never(input)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When the next `Tick` is due; None while nobody is in use."""
        return self._tick_at if self._targets else None

    # -- inputs

    def _on_links(self, peers: frozenset[NodeId], now: float) -> None:
        former, self._up = self._up, peers
        for node, target in self._targets.items():
            if (node in peers) != (node in former):
                target.direct.forget()
                self._look(node, target, now)
            for gone in target.offers.keys() - peers:
                del target.offers[gone]
                self._decide(node, target, now)

    def _on_in_use(self, targets: Mapping[NodeId, bool], now: float) -> None:
        for node, target in list(self._targets.items()):
            if node not in targets:
                target.used, target.connects, target.ttl = False, True, 0
        for node, connects in targets.items():
            if node not in self._targets and len(self._targets) >= self._settings.targets_max:
                self._make_room()
            known = self._want(node, now)
            if known is None:
                continue
            failed = known.connects and not connects
            known.used, known.connects, known.ttl, known.avoid = True, connects, self._settings.ttl, ()
            if failed:
                self._look(node, known, now)

    def _on_adopt(self, node: NodeId, relays: Route, now: float) -> None:
        target = self._want(node, now)
        if target is None or target.route or not self._makes_path(node, relays, self._settings.ttl):
            return
        target.used = True  # until the driver says otherwise
        target.ttl = max(target.ttl, self._settings.ttl)
        target.offers.setdefault(relays[0], _Offer(relays, None))
        self._take(node, target, relays, "it reaches us that way", now)

    def _on_undeliverable(self, node: NodeId, relays: Route, now: float) -> None:
        target = self._targets.get(node)
        if target is None or not relays:
            return
        offer = target.offers.get(relays[0])
        if offer is not None and offer.relays == relays:
            del target.offers[relays[0]]
        if target.route == relays:
            self._look(node, target, now)

    def _on_gone(self, peer: NodeId, now: float) -> None:
        target = self._targets.pop(peer, None)
        if target is not None and target.route:
            self._n_changes += 1
            self._out.append(RouteChanged(peer, target.route, _DIRECT, "it is gone"))
        for node, other in self._targets.items():
            broken = [via for via, offer in other.offers.items() if peer in offer.relays]
            for via in broken:
                del other.offers[via]
            if broken:
                self._look(node, other, now)

    def _on_received(self, sender: NodeId, message: RelayMessage, now: float) -> None:
        match message:
            case Probe(seq):
                self._send(sender, Echo(seq))
            case Echo(seq):
                target = self._targets.get(sender)
                if target is None or not target.direct.on_echo(seq, now):
                    self._n_ignored += 1
                else:
                    self._decide(sender, target, now)
            case Ask():
                self._on_ask(sender, message, now)
            case Path():
                self._on_path(sender, message, now)
            case _:
                assert_never(message)

    def _on_ask(self, sender: NodeId, ask: Ask, now: float) -> None:
        self._n_asked += 1
        node, avoid = ask.target, {sender, self._me, *ask.avoid}
        target = None if node in avoid else self._want(node, now)
        if target is None:
            self._send(sender, Path(ask.seq, node, False))
            return
        target.asked_until = now + self._settings.asked_s
        if not target.used:
            target.ttl, target.avoid = ask.ttl - 1, (*ask.avoid, sender)
        if not self._is_down(node, target):
            self._send(sender, Path(ask.seq, node, True, (), _us(target.direct.rtt_s)))
        elif target.route and len(target.route) < ask.ttl and avoid.isdisjoint(target.route):
            offer = target.offers.get(target.route[0])
            rtt_us = _us(None if offer is None else offer.rtt_s)
            self._send(sender, Path(ask.seq, node, True, target.route, rtt_us))
        else:
            self._send(sender, Path(ask.seq, node, False))

    def _on_path(self, sender: NodeId, path: Path, now: float) -> None:
        target = self._targets.get(path.target)
        asked = None if target is None else target.questions.get(path.seq)
        if target is None or asked is None or asked[0] != sender:
            self._n_ignored += 1
            return
        del target.questions[path.seq]
        relays = (sender, *path.relays)
        if not path.reached:
            target.offers.pop(sender, None)
        elif not self._makes_path(path.target, relays, target.ttl):
            self._n_ignored += 1
            target.offers.pop(sender, None)
        else:
            rtt_s = now - asked[1] + path.rtt_us / 1e6 if path.rtt_us else None
            target.offers[sender] = _Offer(relays, rtt_s)
        self._decide(path.target, target, now)

    def _on_tick(self, now: float) -> None:
        for node, target in list(self._targets.items()):
            target.direct.expire(now, self._settings.timeout_s)
            for seq, (peer, sent) in list(target.questions.items()):
                if now - sent >= self._settings.timeout_s:
                    del target.questions[seq]
                    target.offers.pop(peer, None)
            if not target.used and target.asked_until <= now:
                self._drop(node, target)
                continue
            if node in self._up:
                self._seq += 1
                target.direct.on_sent(self._seq, now)
                self._send(node, Probe(self._seq))
            self._look(node, target, now)

    # -- what follows from them

    def _want(self, node: NodeId, now: float) -> _Target | None:
        target = self._targets.get(node)
        if target is None and node != self._me and len(self._targets) < self._settings.targets_max:
            if not self._targets:
                self._tick_at = now
            target = self._targets[node] = _Target()
        return target

    def _make_room(self) -> None:
        """What others ask for must not keep us from measuring whom we talk to."""
        for node, target in self._targets.items():
            if not target.used:
                self._drop(node, target)
                return

    def _drop(self, node: NodeId, target: _Target) -> None:
        del self._targets[node]
        if target.route:
            self._n_changes += 1
            self._out.append(RouteChanged(node, target.route, _DIRECT, "not in use any more"))

    def _is_down(self, node: NodeId, target: _Target) -> bool:
        return node not in self._up or not target.connects or target.direct.missed >= self._settings.missed_max

    def _look(self, node: NodeId, target: _Target, now: float) -> None:
        """Decide by what is known, and ask for what is not, where the direct way leaves something to be desired."""
        self._decide(node, target, now)
        rtt_s = target.direct.rtt_s
        bad = self._is_down(node, target) or (rtt_s is not None and rtt_s > self._settings.gain_s)
        if target.ttl < 1 or not (bad or target.route):
            return
        open_to = {peer for peer, _ in target.questions.values()}
        for peer in self._candidates(node, target):
            if peer in open_to:
                continue
            self._seq += 1
            target.questions[self._seq] = peer, now
            self._send(peer, Ask(self._seq, node, target.ttl, target.avoid))

    def _candidates(self, node: NodeId, target: _Target) -> list[NodeId]:
        """Whom to ask: the relay in use, the best one known, and others by chance."""
        known = sorted(target.offers.values(), key=_rank)
        chosen = dict.fromkeys([*target.route[:1], *(offer.relays[0] for offer in known[:1])])
        others = sorted(self._up - {node, *target.avoid} - chosen.keys())
        room = self._settings.candidates - len(chosen)
        if room > 0:
            chosen.update(dict.fromkeys(self._rng.sample(others, min(room, len(others)))))
        return [peer for peer in chosen if peer in self._up]

    def _makes_path(self, node: NodeId, relays: Route, ttl: int) -> bool:
        return 0 < len(relays) <= ttl and len({self._me, node, *relays}) == len(relays) + 2

    def _decide(self, node: NodeId, target: _Target, now: float) -> None:
        best = min(target.offers.values(), key=_rank, default=None)
        down = self._is_down(node, target)
        current = target.offers.get(target.route[0]) if target.route else None
        if target.route and current is None:
            # Whoever passed our messages on does so no more.
            why = "its relay is gone, or does not reach it"
            self._take(node, target, _DIRECT if best is None or not down else best.relays, why, now)
        elif target.route and current is not None and current.relays != target.route:
            self._take(node, target, current.relays, "its relay takes another way", now)
        elif not target.route and down and best is not None:
            self._take(node, target, best.relays, self._complaint(node, target), now)
        else:
            self._weigh(node, target, current, best, down, now)

    def _weigh(
        self, node: NodeId, target: _Target, current: _Offer | None, best: _Offer | None, down: bool, now: float
    ) -> None:
        """Is another way better than the one in use? It must have been for a while."""
        direct_s = None if down else target.direct.rtt_s
        better: Route | None = None
        why = ""
        if not target.route:
            if best is not None and self._much_faster(best.rtt_s, direct_s):
                better, why = best.relays, "the direct way is much slower"
        elif self._is_good(direct_s, None if current is None else current.rtt_s):
            better, why = _DIRECT, "the direct way is good again"
        elif best is not None and current is not None and self._much_faster(best.rtt_s, current.rtt_s):
            better, why = best.relays, "another relay is much faster"
        if better is None:
            target.since = None
        elif target.since is None:
            target.since = now
        elif now - target.since >= self._settings.hold_s:
            self._take(node, target, better, why, now)

    def _much_faster(self, one_s: float | None, other_s: float | None) -> bool:
        if one_s is None or other_s is None:
            return False
        return one_s * self._settings.factor <= other_s and other_s - one_s >= self._settings.gain_s

    def _is_good(self, direct_s: float | None, relayed_s: float | None) -> bool:
        """Whether the direct way would not be left again at once."""
        return direct_s is not None and (relayed_s is None or direct_s <= max(relayed_s, self._settings.gain_s))

    def _complaint(self, node: NodeId, target: _Target) -> str:
        if node not in self._up:
            return "our link to it is down"
        return "it cannot be connected to directly" if not target.connects else "it does not answer directly"

    def _take(self, node: NodeId, target: _Target, route: Route, why: str, now: float) -> None:
        target.since = None
        if route == target.route:
            return
        before, target.route, target.why = target.route, route, why
        self._n_changes += 1
        self._out.append(RouteChanged(node, before, route, why))

    def _send(self, peer: NodeId, message: RelayMessage) -> None:
        self._out.append(RelaySend(peer, message))


def _rank(offer: _Offer) -> tuple[bool, float, int, Route]:
    """The fastest first; what was not measured last."""
    return offer.rtt_s is None, offer.rtt_s or 0.0, len(offer.relays), offer.relays


def _us(rtt_s: float | None) -> int:
    return 0 if rtt_s is None else max(1, min(round(rtt_s * 1e6), 3_600_000_000))
