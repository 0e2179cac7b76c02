"""SWIM: who is alive, as one node sees it.

The problem: n nodes want to know of each other who is alive, without a central watcher, at a cost per node that does
not grow with n. SWIM (Das, Gupta, Motivala, DSN 2002) has each node probe one member per interval, directly and
then through helpers (`probe`), gives a member that did not answer time to refute (`suspicion`), and lets the news ride
on the probes (`dissemination`). What outranks what is a table (`membership`). From Lifeguard (Dadgar, Phillips, Currey,
2017): suspicions shortened by independent confirmations, each message to a suspect tells it first that it is one, and a
node that gets no answers doubts itself first (`awareness`).
From memberlist: a gossip round of its own while there is news, and push-pull.

Where we depart, and why:

- Connections are evidence. A connection that ended has its peer probed at once; a refused redial proves that nobody
  listens where the member listened, so the suspect has one probe interval to refute instead of several.
- DEAD is not final (see `membership`). Whoever hears from a member that it holds dead tells it so, and the member
  refutes: that is how a stopped process comes back and a partition heals, once someone has dialled (`healer`).
- DEAD that arrives by push-pull about a member that we hold alive only makes it suspect: after a partition each side
  holds the whole other side dead, and one exchange would otherwise bury everybody twice.
- Whoever still holds a member suspect after two or three intervals probes it out of turn, and says so: if it lives, it
  answers that it has refuted long ago. Gossip reaches all but a few, and those would declare it dead.
- Under an overlay of few links (`Neighbours`) neighbours alone are probed, by way of their other neighbours, whom they
  name in their Acks; suspicions and verdicts spread by gossip along the links. Every member still hears of everybody.
  But a link that was lost has its peer probed though it is a neighbour no more, and now and then everybody probes a
  member that is none: else nobody would miss one that died together with all its neighbours.
- Time when this node itself did not run (a stopped process, a long pause of the host) counts against nobody: all timers
  that would accuse a peer move by as much.

The driver's duties, in order:

1. Build the core with our own claim: ALIVE, incarnation (boot generation, 0), all endpoints known.
2. For each input call `handle(input, now)` and carry out the effects in their order: `MemberChanged` comes before the
   `Send`s that it calls for, so that the overlay can open a link first. `Send` never waits and may fail.
3. Give `Met` for each HELLO and WELCOME of a member that was believed (not of clients), `Evidence` when a link to a
   member ends, its redial is refused or times out; not of links to addresses that a member no longer has.
4. On `Refuted` greet with the new incarnation from then on.
5. A `Send` to a peer that is no neighbour (dead, or just met) needs a connection made for it: without one nobody ever
   learns that it must refute. And a driver that stops believing a dead peer's connection must end it, or tell the
   peer so: a process that was stopped and goes on would otherwise talk into that connection for ever.
6. Call `handle(Tick(), now)` when `next_deadline()` has come; ask for it again after every input.
7. To leave: `Leave`, carry out its effects, let the links flush, stop.
"""

import math
import random
from collections.abc import Mapping
from typing import assert_never

import msgspec

from topologies.identity import NodeId
from topologies.swim.awareness import Awareness
from topologies.swim.dissemination import Dissemination, transmissions_max
from topologies.swim.interface import (
    Effect,
    Evidence,
    EvidenceKind,
    Input,
    Leave,
    MemberChanged,
    Met,
    Neighbours,
    Received,
    Refuted,
    Send,
    SwimStats,
    Tick,
)
from topologies.swim.membership import Membership, outranks
from topologies.swim.messages import (
    CLAIMS_MAX,
    NEIGHBOURS_MAX,
    Ack,
    Claim,
    Gossip,
    Message,
    Nack,
    Ping,
    PingReq,
    PushPull,
    Status,
    flaw,
)
from topologies.swim.probe import AskHelpers, PingPeer, ProbeEvent, ProbeFailed, Prober, TellRequester
from topologies.swim.settings import SwimSettings
from topologies.swim.statements import Statement, Statements
from topologies.swim.suspicion import Suspicion

__all__ = ("Swim",)

_LIVE = (Status.ALIVE, Status.SUSPECT)
_REASON_CHARS_MAX = 512
_STRETCH_ABOVE = 32  # members; memberlist's pushPullScale


class Swim:
    """One node's membership core.

    Args:
        me: Our claim about ourselves: ALIVE, with all that others need to reach us.
        settings: See there.
        rng: Seeded by the driver; the only source of chance.
    """

    def __init__(self, me: Claim, settings: SwimSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._membership = Membership(me, settings)
        self._awareness = Awareness(settings.health_score_max)
        self._prober = Prober(settings, self._awareness, rng)
        self._statements = Statements(settings.statements_max)
        self._news = Dissemination(subjects_max=settings.members_max)
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._neighbours: frozenset[NodeId] | None = None  # None: all members
        self._stray_at = math.inf  # when a member that is no neighbour is probed
        self._told_all: dict[NodeId, float] = {}  # when a live member was last sent everything
        self._gossip_at = 0.0
        self._push_pull_at = 0.0
        self._rise_at = 0.0
        self._last_now: float | None = None
        self._out: list[Effect] = []
        self._suspicion_count = self._death_count = self._refutation_count = 0
        self._ignored_count = self._pause_count = 0

    @property
    def me(self) -> Claim:
        """What we say of ourselves."""
        return self._membership.me

    def members(self) -> Mapping[NodeId, Claim]:
        """Everything we believe, ourselves included, as a new map."""
        return {claim.subject: claim for claim in self._membership.claims(self._last_now or 0.0)}

    def held(self, peer: NodeId) -> Claim | None:
        """What we believe of one other member."""
        return self._membership.get(peer)

    def rtt_s(self, peer: NodeId) -> float | None:
        """Smoothed round trip of direct probes in seconds, None until there was one."""
        return self._prober.rtt_s(peer)

    def why(self, peer: NodeId) -> tuple[Statement, ...]:
        """What led to what we believe of another member: who accused it, who confirmed that, when it refuted."""
        return self._statements.about(peer)

    def stats(self) -> SwimStats:
        return SwimStats(
            members=self._membership.live_count,
            remembered=self._membership.grave_count,
            probes=self._prober.probes_count,
            probes_failed=self._prober.failed_count,
            indirect_probes=self._prober.indirect_count,
            suspicions=self._suspicion_count,
            deaths=self._death_count,
            refutations=self._refutation_count,
            claims_ignored=self._ignored_count + self._membership.refused_count,
            health_score=self._awareness.score,
            acks_unexpected=self._prober.unexpected_count,
            pauses=self._pause_count,
        )

    def handle(self, input: Input, now: float) -> list[Effect]:
        """Take in one input.

        Args:
            input: What happened.
            now: Monotonic seconds.

        Returns:
            What to do, in this order.
        """
        self._allow_for_pause(now)
        match input:
            case Tick():
                self._on_tick(now)
            case Received(sender, message):
                self._on_received(sender, message, now)
            case Met(claim):
                self._on_met(claim, now)
            case Evidence():
                self._on_evidence(input, now)
            case Neighbours(peers):
                self._on_neighbours(peers, now)
            case Leave(reason):
                self._on_leave(reason)
            case _:
                assert_never(input)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When the next `Tick` is due; may have passed already. None: nothing to wait for."""
        deadlines = [self._membership.next_deadline()]
        if self._membership.live_count:
            if self._news:
                deadlines.append(self._gossip_at)
            if not self._left:
                deadlines.append(self._push_pull_at)
        if not self._left:
            deadlines.append(self._prober.next_deadline())
            if self._stray_at != math.inf:
                deadlines.append(self._stray_at)
            deadlines.extend(min(it.deadline, it.look_at) for it in self._suspicions.values())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def _left(self) -> bool:
        return self._membership.me.status is Status.LEFT

    # -- inputs

    def _allow_for_pause(self, now: float) -> None:
        due = self.next_deadline()
        if due is not None and self._last_now is not None:
            lag_s = now - max(due, self._last_now)
            if lag_s > self._settings.ack_timeout_s:
                self._pause_count += 1
                self._prober.postpone(lag_s)
                for suspicion in self._suspicions.values():
                    suspicion.postpone(lag_s)
        self._last_now = now

    def _on_tick(self, now: float) -> None:
        for change in self._membership.forget_due(now):
            self._on_changed(change, now, self.me.subject)
        if not self._left:
            self._carry_out(self._prober.tick(now), now)
            if now >= self._stray_at:
                self._probe_a_stranger(now)
            for peer in [peer for peer, suspicion in self._suspicions.items() if suspicion.look_at <= now]:
                self._suspicions[peer].look_at = math.inf
                if self._neighbours is None or peer in self._neighbours:  # else everybody would, over many hops
                    self._carry_out(self._prober.probe_now(peer, now), now)
            for peer in [peer for peer, suspicion in self._suspicions.items() if suspicion.deadline <= now]:
                self._declare_dead(peer, now)
            if self._membership.live_count and now >= self._push_pull_at:
                linked = self._linked()
                if linked:
                    self._push_pull(self._rng.choice(linked), now, reply=True)
                self._push_pull_at = now + self._push_pull_pause_s()
        if self._news and now >= self._gossip_at:
            self._gossip(now)

    def _on_received(self, sender: NodeId, message: Message, now: float) -> None:
        if sender == self.me.subject:
            self._ignored_count += len(message.claims)
            return
        refutations = self._refutation_count
        lives_in_the_past = self._accuses_a_past_life(message)
        self._hear(message, sender, now)
        match message:
            case Ping(seq):
                self._send(sender, self._ack(seq, sender))
            case PingReq(seq, target):
                self._on_ping_req(sender, seq, target, now)
            case Ack(seq, _, neighbours):
                if neighbours:
                    self._prober.on_neighbours(sender, tuple(filter(self._is_live, neighbours[:NEIGHBOURS_MAX])))
                relay = self._prober.on_ack(sender, seq, now)
                if relay is not None:
                    self._send(relay.requester, Ack(relay.seq, self._claims_for(relay.requester)))
            case Nack(seq):
                self._prober.on_nack(sender, seq)
            case Gossip():
                pass
            case PushPull():
                if message.reply:
                    self._answer_push_pull(sender, now)
            case _:
                assert_never(message)
        held = self._membership.get(sender)
        # One that has really left says so itself, and does not listen. Of one that does not say so it was a lie.
        goodbye = any(claim.subject == sender and claim.status is Status.LEFT for claim in message.claims)
        accused = held is not None and held.status in (Status.DEAD, Status.LEFT) and not goodbye
        if (accused or refutations != self._refutation_count) and not isinstance(message, Ping):
            self._send(sender, Gossip(self._claims_for(sender)))  # an Ack has carried it otherwise
        if lives_in_the_past:
            self._send(sender, Gossip((self.me,)))

    def _accuses_a_past_life(self, message: Message) -> bool:
        """Whether the sender holds against us what we have refuted, by now old news to everybody else.

        That we answer it refutes nothing: it would go on to declare us dead, and only a push-pull would help it.
        """
        me = self.me
        return not self._left and any(
            claim.subject == me.subject
            and claim.status in (Status.SUSPECT, Status.DEAD)
            and claim.incarnation < me.incarnation
            for claim in message.claims[:CLAIMS_MAX]
        )

    def _on_ping_req(self, sender: NodeId, seq: int, target: NodeId, now: float) -> None:
        if target == self.me.subject:
            self._send(sender, self._ack(seq, sender))
            return
        held = self._membership.get(target)
        if not self._left and held is not None and held.status in _LIVE:
            self._carry_out(self._prober.help(sender, seq, target, now), now)

    def _on_met(self, claim: Claim, now: float) -> None:
        self._apply(claim, claim.subject, now)
        held = self._membership.get(claim.subject)
        if held is None:
            return
        # It does not know what is said of it, or that a later life of it is believed in: tell it, and it rises above.
        if held.status is not Status.ALIVE or held.incarnation > claim.incarnation:
            self._send(claim.subject, Gossip((self._membership.dated(held, now),)))

    def _on_evidence(self, evidence: Evidence, now: float) -> None:
        peer = evidence.peer
        held = self._membership.get(peer)
        if self._left or held is None or held.status not in _LIVE:
            return
        match evidence.kind:
            case EvidenceKind.CLOSED:
                self._carry_out(self._prober.probe_now(peer, now), now)
            case EvidenceKind.UNREACHABLE:
                self._carry_out(self._prober.direct_failed(peer, now), now)
            case EvidenceKind.REFUSED:
                self._suspect(peer, f"connection refused{': ' if evidence.detail else ''}{evidence.detail}", now)
                self._suspicions[peer].hasten(now + self._settings.probe_interval_s)
            case _:
                assert_never(evidence.kind)

    def _on_neighbours(self, peers: frozenset[NodeId] | None, now: float) -> None:
        self._neighbours = peers
        if peers is None:
            self._stray_at = math.inf
        elif self._stray_at == math.inf:
            self._stray_at = now + self._stray_pause_s()
        for peer in self._membership.live():
            if peers is None or peer in peers:
                self._prober.watch(peer, now)
            else:
                self._prober.leave_out(peer)

    def _probe_a_stranger(self, now: float) -> None:
        self._stray_at = now + self._stray_pause_s()
        linked = self._neighbours or frozenset()
        others = [peer for peer in self._membership.live() if peer not in linked]
        if others:
            self._carry_out(self._prober.probe_now(self._rng.choice(others), now), now)

    def _stray_pause_s(self) -> float:
        settings = self._settings
        return settings.stranger_intervals * settings.probe_interval_s * self._rng.uniform(0.5, 1.5)

    def _on_leave(self, reason: str) -> None:
        if self._left:
            return
        self._membership.leave(reason[:_REASON_CHARS_MAX])
        self._news.put(self.me)
        for peer in self._linked():
            self._send(peer, Gossip((self.me,)))

    # -- claims

    def _hear(self, message: Message, sender: NodeId, now: float) -> None:
        self._ignored_count += max(0, len(message.claims) - CLAIMS_MAX)
        for claim in message.claims[:CLAIMS_MAX]:
            if isinstance(message, PushPull) and claim.status is Status.DEAD:
                held = self._membership.get(claim.subject)
                if held is not None and held.status in _LIVE:
                    claim = msgspec.structs.replace(claim, status=Status.SUSPECT, age_s=0.0)
            self._apply(claim, sender, now)

    def _apply(self, claim: Claim, sender: NodeId, now: float) -> None:
        subject = claim.subject
        held = self.me if subject == self.me.subject else self._membership.get(subject)
        confirms = (
            held is not None and held.status is claim.status is Status.SUSPECT and held.incarnation == claim.incarnation
        )
        if held is not None and not confirms and not outranks(claim, held):
            return  # most of what is heard is known
        if flaw(claim) is not None:
            self._ignored_count += 1
            return
        if held is self.me:
            self._defend(claim, now)
            return
        if confirms:
            if self._suspicions[subject].confirm(claim.by):
                self._statements.add(claim, sender, now, confirms=True)
                self._wake_gossip(now)
                self._news.put_confirmation(claim)
            return
        for change in self._membership.on_claim(claim, now):
            self._on_changed(change, now, sender)

    def _defend(self, heard: Claim, now: float) -> None:
        """Answer news of ourselves that outranks what we say."""
        if self._left:
            return
        if heard.status is Status.ALIVE:
            # Somebody believes in a later life of ours: a data directory was restored, or it runs twice. Two that run
            # would outbid each other for ever, so this is done at a walk.
            if now < self._rise_at:
                return
            self._rise_at = now + self._settings.probe_interval_s
        if not self._membership.rise_above(heard.incarnation):
            self._ignored_count += 1
            return
        self._refutation_count += 1
        self._awareness.accused()
        self._out.append(Refuted(self.me, heard))
        self._spread(self.me, now)

    def _on_changed(self, change: MemberChanged, now: float, sender: NodeId) -> None:
        before, after, peer = change.before, change.after, change.subject
        self._out.append(change)
        self._suspicions.pop(peer, None)
        if after is None:
            self._news.forget(peer)
            self._statements.forget(peer)
            return
        if before is not None or after.status is not Status.ALIVE:  # that somebody has joined needs no witnesses
            self._statements.add(after, sender, now)
        self._spread(after, now)
        if after.status not in _LIVE:
            self._death_count += after.status is Status.DEAD
            self._told_all.pop(peer, None)
            self._prober.unwatch(peer)
            return
        if self._membership.live_count == 1 and (before is None or before.status not in _LIVE):
            self._push_pull_at = now + self._push_pull_pause_s()
        if before is not None and after.incarnation[0] > before.incarnation[0]:
            self._told_all.pop(peer, None)  # started again, it knows nothing of what its former life was told
        if self._neighbours is None or peer in self._neighbours:
            self._prober.watch(peer, now)
        if after.status is Status.SUSPECT:
            self._suspicion_count += 1
            suspicion = Suspicion(after.by, self._membership.live_count + 1, self._settings, now)
            suspicion.look_at = self._second_look_at(now)
            self._suspicions[peer] = suspicion
        elif peer == sender and (before is None or before.status not in _LIVE):
            # Two parts of the cluster may be meeting here for the first time, or again.
            self._push_pull(peer, now, reply=True)

    def _second_look_at(self, now: float) -> float:
        """When a refutation has reached all whom gossip reaches; whom it missed would wait for a push-pull."""
        return now + self._settings.probe_interval_s * self._rng.uniform(2.0, 3.0)

    def _suspect(self, peer: NodeId, reason: str, now: float) -> None:
        held = self._membership.get(peer)
        assert held is not None
        accusation = msgspec.structs.replace(
            held, status=Status.SUSPECT, by=self.me.subject, reason=reason[:_REASON_CHARS_MAX]
        )
        self._apply(accusation, self.me.subject, now)

    def _declare_dead(self, peer: NodeId, now: float) -> None:
        held = self._membership.get(peer)
        assert held is not None
        reason = f"{held.reason[:_REASON_CHARS_MAX]}; not refuted"
        verdict = msgspec.structs.replace(held, status=Status.DEAD, by=self.me.subject, reason=reason)
        self._apply(verdict, self.me.subject, now)

    # -- telling others

    def _carry_out(self, events: list[ProbeEvent], now: float) -> None:
        for event in events:
            match event:
                case PingPeer(peer, seq):
                    self._send(peer, Ping(seq, self._claims_for(peer)))
                case AskHelpers(peer, seq, helpers):
                    for helper in helpers:
                        self._send(helper, PingReq(seq, peer, self._claims_for(helper)))
                case TellRequester(requester, seq):
                    self._send(requester, Nack(seq, self._claims_for(requester)))
                case ProbeFailed(peer, waited_s, helpers):
                    asked = f", nor through {len(helpers)} others" if helpers else ""
                    self._suspect(peer, f"no answer in {waited_s:.2f} s{asked}", now)
                case _:
                    assert_never(event)

    def _wake_gossip(self, now: float) -> None:
        """Before news is put: if there was none, the round starts now, not at the time of some round long ago."""
        if not self._news:
            self._gossip_at = max(self._gossip_at, now)

    def _spread(self, claim: Claim, now: float) -> None:
        self._wake_gossip(now)
        self._news.put(claim)

    def _gossip(self, now: float) -> None:
        self._gossip_at = now + self._settings.gossip_interval_s
        linked = self._linked()
        for peer in self._rng.sample(linked, min(self._settings.gossip_fan, len(linked))):
            claims = self._claims_for(peer)
            if claims:
                self._send(peer, Gossip(claims))

    def _linked(self) -> list[NodeId]:
        """Whom to talk to unasked."""
        return self._membership.live() if self._neighbours is None else self._prober.watched

    def _is_live(self, peer: NodeId) -> bool:
        """Whether this is another member that is alive or suspect."""
        held = self._membership.get(peer)
        return held is not None and held.status in _LIVE

    def _ack(self, seq: int, peer: NodeId) -> Ack:
        neighbours = () if self._neighbours is None else tuple(sorted(self._neighbours)[:NEIGHBOURS_MAX])
        return Ack(seq, self._claims_for(peer), neighbours)

    def _claims_for(self, peer: NodeId) -> tuple[Claim, ...]:
        """What to tell `peer` along with a message: first what is held against it (Lifeguard's buddy system)."""
        held = self._membership.get(peer)
        against = []
        if self._settings.tells_suspects and held is not None and held.status is not Status.ALIVE:
            against = [self._membership.dated(held, self._last_now or 0.0)]
        sent_max = transmissions_max(self._settings.retransmit_multiplier, self._membership.live_count + 1)
        picked = self._news.pick(self._settings.claims_per_message_max - len(against), sent_max)
        return (*against, *picked)

    def _push_pull(self, peer: NodeId, now: float, *, reply: bool) -> None:
        self._told_all[peer] = now
        claims = self._membership.claims(now)
        size = self._settings.push_pull_claims_max
        for start in range(0, len(claims), size):
            self._send(peer, PushPull(tuple(claims[start : start + size]), reply=reply and start == 0))

    def _answer_push_pull(self, peer: NodeId, now: float) -> None:
        held = self._membership.get(peer)
        if self._left or held is None or held.status not in _LIVE:
            return
        # Both sides of a first meeting ask; and nobody can make us repeat everything at will.
        told_at = self._told_all.get(peer)
        if told_at is None or now - told_at >= self._settings.probe_interval_s:
            self._push_pull(peer, now, reply=False)

    def _push_pull_pause_s(self) -> float:
        doublings = (max(0, self._membership.live_count - 1) // _STRETCH_ABOVE).bit_length()
        return self._settings.push_pull_interval_s * (1 + doublings) * self._rng.uniform(0.75, 1.25)

    def _send(self, peer: NodeId, message: Message) -> None:
        self._out.append(Send(peer, message))
