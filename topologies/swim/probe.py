"""Who is probed when, and what came of it. SWIM sections 3.1 and 4.3.

Every probe interval the next member of a shuffled list is sent a Ping. If no Ack comes within `ack_timeout_s`, a few
helpers are sent a PingReq; if none of them brings an Ack by the end of the interval, the probe has failed. The list is
gone through round robin and shuffled anew after each round, and who joins is inserted at a random place: each member
is probed at least once in 2n - 1 intervals, and the mean first detection by anyone takes e / (e - 1) intervals.

All times are stretched by our own health (`awareness`). A helper whose Ping is not answered in time says so (`Nack`),
so that the requester can tell silence of the target from its own deafness.
"""

import dataclasses
import math
import random

from topologies.identity import NodeId
from topologies.swim.awareness import Awareness
from topologies.swim.settings import SwimSettings

__all__ = ("AskHelpers", "PingPeer", "ProbeEvent", "ProbeFailed", "Prober", "Relay", "TellRequester")

_RELAYS_MAX = 1024
_RTT_GAIN = 1 / 8  # RFC 6298


@dataclasses.dataclass(frozen=True, slots=True)
class PingPeer:
    """Send a Ping with this `seq`."""

    peer: NodeId
    seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class AskHelpers:
    """Send each helper a PingReq with this `seq`."""

    peer: NodeId
    seq: int
    helpers: tuple[NodeId, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeFailed:
    """Neither the peer nor a helper answered in time."""

    peer: NodeId
    waited_s: float
    helpers: tuple[NodeId, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class TellRequester:
    """Send a Nack: the one whom we pinged for `requester` has not answered yet."""

    requester: NodeId
    seq: int


ProbeEvent = PingPeer | AskHelpers | ProbeFailed | TellRequester


@dataclasses.dataclass(frozen=True, slots=True)
class Relay:
    """The Ack that came is for `requester`, who knows it as `seq`."""

    requester: NodeId
    seq: int
    target: NodeId
    nack_at: float  # infinite once it was sent
    expires: float


@dataclasses.dataclass(slots=True)
class _Probe:
    peer: NodeId
    started: float
    ask_at: float
    fail_at: float
    asked: bool = False
    helpers: tuple[NodeId, ...] = ()
    nacked: set[NodeId] = dataclasses.field(default_factory=set)


class Prober:
    """The probes of one node.

    Args:
        settings: Intervals and counts.
        awareness: Our health; moved by what comes of the probes.
        rng: Order, helpers and the first sequence number: random at each start, so that an Ack meant for an earlier
            life answers nothing.
    """

    def __init__(self, settings: SwimSettings, awareness: Awareness, rng: random.Random) -> None:
        self._settings = settings
        self._awareness = awareness
        self._rng = rng
        self._seq = rng.getrandbits(32)
        self._round: list[NodeId] = []
        self._position = 0
        self._watched: dict[NodeId, float | None] = {}  # smoothed round trip, seconds
        self._linked: dict[NodeId, tuple[NodeId, ...]] = {}  # of those watched, who else is linked to them, if they say
        self._probes: dict[int, _Probe] = {}
        self._probed: dict[NodeId, int] = {}  # the probe under way for a peer
        self._relays: dict[int, Relay] = {}
        self._next_at = 0.0
        self.probes_count = self.failed_count = self.indirect_count = self.unexpected_count = 0

    def watch(self, peer: NodeId, now: float) -> None:
        """Probe this peer from now on. Idempotent."""
        if peer in self._watched:
            return
        if not self._watched:
            self._next_at = now + self._rng.uniform(0.0, self._settings.probe_interval_s)
        self._watched[peer] = None
        # Only among those still to come: an insertion before the position would have to move it.
        self._round.insert(self._rng.randint(self._position, len(self._round)), peer)

    def unwatch(self, peer: NodeId) -> None:
        """Probe it no more, and forget a probe under way. Idempotent."""
        self.leave_out(peer)
        self._drop(peer)

    def leave_out(self, peer: NodeId) -> None:
        """Probe it no more in turn; a probe under way goes on. Idempotent."""
        if peer not in self._watched:
            return
        del self._watched[peer]
        place = self._round.index(peer)
        del self._round[place]
        self._linked.pop(peer, None)
        if place < self._position:
            self._position -= 1

    @property
    def watched(self) -> list[NodeId]:
        """Who is probed."""
        return list(self._watched)

    def on_neighbours(self, peer: NodeId, neighbours: tuple[NodeId, ...]) -> None:
        """A peer has said to whom it is linked: those are its helpers."""
        if peer in self._watched:
            self._linked[peer] = neighbours

    def rtt_s(self, peer: NodeId) -> float | None:
        """Smoothed round trip of direct probes, seconds."""
        return self._watched.get(peer)

    def probe_now(self, peer: NodeId, now: float) -> list[ProbeEvent]:
        """Probe out of turn, watched or not, unless a probe is under way."""
        if peer in self._probed:
            return []
        return [self._start(peer, now)]

    def direct_failed(self, peer: NodeId, now: float) -> list[ProbeEvent]:
        """A Ping would not get through: ask the helpers at once."""
        if peer not in self._probed:
            self._start(peer, now)
        probe = self._probes[self._probed[peer]]
        return self._ask(self._probed[peer], probe) if not probe.asked else []

    def help(self, requester: NodeId, seq: int, target: NodeId, now: float) -> list[ProbeEvent]:
        """A PingReq came: ping its target for the requester."""
        if len(self._relays) >= _RELAYS_MAX:
            return []
        self._seq += 1
        settings = self._settings
        # The requester, who began an ack timeout ago, waits for the rest of its interval: half of that is for the Ack.
        nack_at = now + (settings.probe_interval_s - settings.ack_timeout_s) / 2
        self._relays[self._seq] = Relay(requester, seq, target, nack_at, now + settings.probe_interval_s)
        return [PingPeer(target, self._seq)]

    def on_ack(self, sender: NodeId, seq: int, now: float) -> Relay | None:
        """An Ack came. Returns where it must be passed on to, if it was asked for on another's behalf."""
        relay = self._relays.get(seq)
        if relay is not None and relay.target == sender:
            del self._relays[seq]
            return relay
        probe = self._probes.get(seq)
        if probe is None or (sender != probe.peer and sender not in probe.helpers):
            self.unexpected_count += 1
            return None
        if sender == probe.peer:
            self._measure(sender, now - probe.started)
        self._awareness.answered()
        self._drop(probe.peer)
        return None

    def on_nack(self, sender: NodeId, seq: int) -> None:
        """A helper has had no answer either."""
        probe = self._probes.get(seq)
        if probe is None or sender not in probe.helpers:
            self.unexpected_count += 1
        else:
            probe.nacked.add(sender)

    def tick(self, now: float) -> list[ProbeEvent]:
        """What is due."""
        events: list[ProbeEvent] = []
        for seq, probe in list(self._probes.items()):
            if now >= probe.fail_at:
                self.failed_count += 1
                self._awareness.unanswered(len(probe.helpers), len(probe.nacked))
                self._drop(probe.peer)
                events.append(ProbeFailed(probe.peer, now - probe.started, probe.helpers))
            elif now >= probe.ask_at and not probe.asked:
                events.extend(self._ask(seq, probe))
        for seq in [seq for seq, relay in self._relays.items() if now >= relay.expires]:
            del self._relays[seq]
        for seq, relay in self._relays.items():
            if now >= relay.nack_at:
                self._relays[seq] = dataclasses.replace(relay, nack_at=math.inf)
                events.append(TellRequester(relay.requester, relay.seq))
        if self._watched and now >= self._next_at:
            interval_s = self._settings.probe_interval_s * self._awareness.stretch
            self._next_at += interval_s
            if self._next_at <= now:  # beats that were missed are not made up for
                self._next_at = now + interval_s
            peer = self._next_peer()
            if peer not in self._probed:
                events.append(self._start(peer, now))
        return events

    def next_deadline(self) -> float | None:
        deadlines = [
            probe.fail_at if probe.asked else min(probe.ask_at, probe.fail_at) for probe in self._probes.values()
        ]
        deadlines.extend(min(relay.nack_at, relay.expires) for relay in self._relays.values())
        if self._watched:
            deadlines.append(self._next_at)
        return min(deadlines, default=None)

    def postpone(self, lag_s: float) -> None:
        """We ourselves were not running; nobody is to blame for not answering meanwhile."""
        for probe in self._probes.values():
            probe.ask_at += lag_s
            probe.fail_at += lag_s
        self._relays = {
            seq: dataclasses.replace(relay, nack_at=relay.nack_at + lag_s, expires=relay.expires + lag_s)
            for seq, relay in self._relays.items()
        }

    def _next_peer(self) -> NodeId:
        if self._position >= len(self._round):
            last = self._round[-1]
            self._rng.shuffle(self._round)
            if self._round[0] == last:  # never the same twice in a row: with two peers they simply take turns
                self._round[0], self._round[-1] = self._round[-1], self._round[0]
            self._position = 0
        self._position += 1
        return self._round[self._position - 1]

    def _start(self, peer: NodeId, now: float) -> PingPeer:
        self.probes_count += 1
        self._seq += 1
        settings, stretch = self._settings, self._awareness.stretch
        self._probes[self._seq] = _Probe(
            peer, now, now + settings.ack_timeout_s * stretch, now + settings.probe_interval_s * stretch
        )
        self._probed[peer] = self._seq
        return PingPeer(peer, self._seq)

    def _ask(self, seq: int, probe: _Probe) -> list[ProbeEvent]:
        probe.asked = True
        others = [peer for peer in self._linked.get(probe.peer, self._watched) if peer != probe.peer]
        probe.helpers = tuple(self._rng.sample(others, min(self._settings.indirect_count, len(others))))
        if not probe.helpers:
            return []
        self.indirect_count += 1
        return [AskHelpers(probe.peer, seq, probe.helpers)]

    def _measure(self, peer: NodeId, sample_s: float) -> None:
        if peer not in self._watched:
            return
        smoothed = self._watched.get(peer)
        self._watched[peer] = sample_s if smoothed is None else smoothed + _RTT_GAIN * (sample_s - smoothed)

    def _drop(self, peer: NodeId) -> None:
        seq = self._probed.pop(peer, None)
        if seq is not None:
            del self._probes[seq]
