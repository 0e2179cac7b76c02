"""The membership of production in a simulated process: SWIM, an overlay and the healer, and a driver for them.

With an overlay, messages travel over links as they do in production: dialled with a handshake, redialled when lost, and
what a link tells is evidence for SWIM. Without one each message is a datagram to whoever runs under that name: that is
the setting of the SWIM and Lifeguard papers, and a thousand members fit in one process because there are no links.
"""

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, assert_never

from fdn.sim.network import DialOutcome
from fdn.sim.process import Process
from topologies.full_mesh import FullMesh
from topologies.healer import Healer, HealerSettings, SeedAnswered
from topologies.identity import NodeId
from topologies.overlay import (
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    Overlay,
    OverlayEffect,
    OverlayInput,
    OverlayMessage,
    OverlayReceived,
    OverlaySend,
)
from topologies.swim import (
    Claim,
    Effect,
    Evidence,
    EvidenceKind,
    Input,
    MemberChanged,
    Met,
    Neighbours,
    Received,
    Refuted,
    Send,
    Status,
    Swim,
    SwimSettings,
    Tick,
)
from topologies.swim.messages import CLAIMS_MAX, PushPull

__all__ = ("Member", "MemberSettings")

_CHANNEL: Final = "gossip"
_SCHEME: Final = "sim://"
_PENDING_MAX: Final = 64  # messages for a link that is being dialled; past it the oldest go


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """What a member is made of.

    Attributes:
        swim: Its settings.
        healer: Its settings.
        seeds: Names of processes to join through.
        overlay: Makes the overlay of a life from our own claim and chance; None: no links, every message is a datagram.
        is_partial: Not everybody is linked to everybody, so SWIM is told who our neighbours are. What it has to say to
            others goes over a connection made for it, in the place of the relays of production.
        core: Makes the SWIM core of a life.
        redial_least_s: Pause before the first redial of a lost link. It doubles each time, jittered by half.
        redial_most_s: At most.
    """

    swim: SwimSettings = dataclasses.field(default_factory=SwimSettings)
    healer: HealerSettings = dataclasses.field(default_factory=HealerSettings)
    seeds: tuple[str, ...] = ()
    overlay: Callable[[Claim, random.Random], Overlay] | None = lambda claim, rng: FullMesh()
    is_partial: bool = False
    core: Callable[[Claim, SwimSettings, random.Random], Swim] = Swim
    redial_least_s: float = 0.05
    redial_most_s: float = 2.0


@dataclasses.dataclass(slots=True, eq=False)
class _Link:
    opened: bool = False
    attempts: int = 0
    redial_at: float | None = None
    pending: list[Any] = dataclasses.field(default_factory=list)


class Member:
    """The program of one member. Make it with `functools.partial(Member, settings)`.

    Args:
        settings: See there.
        process: Where it runs; its name is the node id, and its life the boot generation.

    Attributes:
        swim: The core, to be looked at.
        changes: All that it came to believe in this life.
    """

    def __init__(self, settings: MemberSettings, process: Process) -> None:
        self._settings = settings
        self._process = process
        me = NodeId(process.name)
        endpoints = {_CHANNEL: _SCHEME + me}
        claim = Claim(me, (process.life, 0), Status.ALIVE, name=me, endpoints=endpoints, by=me)
        self.swim = settings.core(claim, settings.swim, process.rng)
        self.changes: list[MemberChanged] = []
        self._healer = Healer(me, [_SCHEME + seed for seed in settings.seeds], _CHANNEL, settings.healer, process.rng)
        self._overlay = settings.overlay(claim, process.rng) if settings.overlay is not None else None
        self._links: dict[NodeId, _Link] = {}
        self._asides: dict[NodeId, list[Any]] = {}  # for peers that are no neighbours, until a dial is answered
        self._neighbours: frozenset[NodeId] = frozenset()
        self._believed: set[str] = set()  # who has greeted, and has not been declared dead since

    def view(self) -> dict[str, Status]:
        """What is believed of whom, ourselves included."""
        return {subject: claim.status for subject, claim in self.swim.members().items()}

    def linked(self) -> set[str]:
        """To whom there is an open link."""
        return {peer for peer, link in self._links.items() if link.opened}

    def learn(self, claims: Sequence[Claim]) -> None:
        """Hear of members from one of them, as after joining: saves simulating how a large cluster forms."""
        others = [claim for claim in claims if claim.subject != self._process.name]
        if others:
            for start in range(0, len(others), CLAIMS_MAX):
                told = PushPull(tuple(others[start : start + CLAIMS_MAX]))
                self._feed(Received(others[0].subject, told))

    # -- the program

    def on_start(self) -> None:
        """Nothing: the healer dials the seeds with its first tick."""

    def on_message(self, sender: str, message: Any) -> None:
        if self._overlay is not None and sender not in self._believed:
            self._process.hang_up(sender)  # it takes us for one that knows it, and has to greet again
            return
        if isinstance(message, OverlayMessage):
            self._feed_overlay(OverlayReceived(NodeId(sender), message))
        else:
            self._feed(Received(NodeId(sender), message))

    def on_greeting(self, sender: str, greeting: Claim) -> Claim:
        if sender != self._process.name:
            self._believed.add(sender)
            self._feed(Met(greeting))
        return self.swim.me

    def on_closed(self, peer: str) -> None:
        link = self._links.get(NodeId(peer))
        if link is not None and link.opened:
            self._lost(NodeId(peer), link, EvidenceKind.CLOSED)

    def on_tick(self) -> None:
        now = self._process.now
        due = self.swim.next_deadline()
        if due is not None and due <= now:
            self._feed(Tick())
        for dial in self._healer.handle(Tick(), now):
            self._dial_once(dial.endpoint)
        if self._overlay is not None:
            self._feed_overlay(Tick())
            for peer, link in list(self._links.items()):
                if link.redial_at is not None and link.redial_at <= now:
                    self._dial(peer, link)

    def next_deadline(self) -> float | None:
        deadlines = [self.swim.next_deadline(), self._healer.next_deadline()]
        if self._overlay is not None:
            deadlines.append(self._overlay.next_deadline())
            deadlines.extend(link.redial_at for link in self._links.values() if link.redial_at is not None)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # -- carrying out

    def _feed(self, input: Input) -> None:
        self._carry_out(self.swim.handle(input, self._process.now))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self._send(peer, message)
                case MemberChanged():
                    self._on_changed(effect)
                case Refuted(me):
                    self._process.note("refutes", *me.incarnation)
                case _:
                    assert_never(effect)

    def _on_changed(self, change: MemberChanged) -> None:
        peer, after = change.subject, change.after
        self.changes.append(change)
        if after is None:
            self._process.note("forgets", peer)
        else:
            self._process.note(f"holds {after.status.value}", peer, *after.incarnation, after.by, after.reason)
        self._healer.handle(change, self._process.now)
        if self._overlay is not None:
            self._feed_overlay(change)
            if after is None or after.status in (Status.DEAD, Status.LEFT):
                self._believed.discard(peer)
                self._process.hang_up(peer)

    def _feed_overlay(self, input: OverlayInput) -> None:
        if self._overlay is not None:
            self._connect(self._overlay.handle(input, self._process.now))
            if self._settings.is_partial and self._overlay.neighbours() != self._neighbours:
                self._neighbours = self._overlay.neighbours()
                self._feed(Neighbours(self._neighbours))

    def _connect(self, effects: Iterable[OverlayEffect | OverlaySend]) -> None:
        for effect in effects:
            match effect:
                case OverlaySend(peer, message):
                    self._send(peer, message)
                case Connect(peer):
                    self._links[peer] = _Link()
                    self._dial(peer, self._links[peer])
                case Disconnect(peer):
                    self._links.pop(peer, None)
                    self._process.unlink(peer)
                case _:
                    assert_never(effect)

    def _send(self, peer: NodeId, message: Any) -> None:
        link = self._links.get(peer)
        if self._overlay is None or (link is not None and link.opened):
            self._process.send(peer, message)
        elif link is not None:
            link.pending = [*link.pending[1 - _PENDING_MAX :], message]
        elif peer in self._asides:
            self._asides[peer] = [*self._asides[peer][1 - _PENDING_MAX :], message]
        else:
            self._asides[peer] = [message]
            self._process.dial(peer, self.swim.me, lambda outcome, reply: self._on_aside(peer, outcome))

    def _on_aside(self, peer: NodeId, outcome: DialOutcome) -> None:
        for message in self._asides.pop(peer):
            if outcome is DialOutcome.ANSWERED:
                self._process.send(peer, message)

    def _dial_once(self, endpoint: str) -> None:
        def on_dialled(outcome: DialOutcome, reply: Claim) -> None:
            if outcome is not DialOutcome.ANSWERED:
                return
            self._healer.handle(SeedAnswered(endpoint, reply.subject), self._process.now)
            if reply.subject != self._process.name:
                self._feed(Met(reply))

        self._process.dial(endpoint.removeprefix(_SCHEME), self.swim.me, on_dialled)

    def _dial(self, peer: NodeId, link: _Link) -> None:
        link.attempts += 1
        link.redial_at = None
        self._process.dial(peer, self.swim.me, lambda outcome, reply: self._on_dialled(peer, link, outcome, reply))

    def _on_dialled(self, peer: NodeId, link: _Link, outcome: DialOutcome, reply: Claim) -> None:
        if self._links.get(peer) is not link:
            return
        match outcome:
            case DialOutcome.ANSWERED:
                link.opened = True
                link.attempts = 0
                self._process.link(peer)
                self._feed(Met(reply))
                pending, link.pending = link.pending, []
                for message in pending:
                    self._send(peer, message)
                self._feed_overlay(LinkUp(peer))
            case DialOutcome.REFUSED:
                self._lost(peer, link, EvidenceKind.REFUSED)
            case DialOutcome.UNREACHABLE:
                self._lost(peer, link, EvidenceKind.UNREACHABLE)
            case _:
                assert_never(outcome)

    def _lost(self, peer: NodeId, link: _Link, kind: EvidenceKind) -> None:
        link.opened = False
        link.pending = []
        settings = self._settings
        pause_s = min(settings.redial_most_s, settings.redial_least_s * 2.0 ** min(link.attempts, 16))
        link.redial_at = self._process.now + pause_s * self._process.rng.uniform(0.5, 1.0)
        self._feed_overlay(LinkDown(peer, kind.value))
        self._feed(Evidence(peer, kind))
