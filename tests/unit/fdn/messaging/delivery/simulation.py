"""The pure cores on a bad network, in virtual time: a small event loop, and what the driver does, in as few lines."""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from fdn.messaging.delivery.backoff import Backoff
from fdn.messaging.delivery.causal import CausalPast
from fdn.messaging.delivery.frames import Dependency, MessageId
from fdn.messaging.delivery.receiver import Arrival, Outcome, Receiver
from fdn.messaging.delivery.sender import Consignment, Effect, GaveUp, Message, Reroute, Sender, Transmission
from fdn.messaging.delivery.window import DedupWindow

__all__ = ("TRANSIT_S_MAX", "Network", "Party")

SHARE = 0.1  # of what is lost, duplicated, delayed and reordered, each
TRANSIT_S_MAX = 0.5


class Network:
    """Delivers between parties, badly, and is what their timers run on.

    Attributes:
        now: Virtual seconds.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.parties: dict[str, Party] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._line: dict[tuple[str, str], float] = {}  # when the last one in order arrives
        self._epoch: dict[frozenset[str], int] = {}  # of the connection; odd while it is cut

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._serial), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until

    def is_open(self, one: str, other: str) -> bool:
        return self._epoch.get(frozenset((one, other)), 0) % 2 == 0

    def cut(self, one: str, other: str) -> None:
        """What is under way is lost."""
        if self.is_open(one, other):
            self._epoch[frozenset((one, other))] = self._epoch.get(frozenset((one, other)), 0) + 1

    def heal(self, one: str, other: str) -> None:
        """A new connection, of which both hear."""
        if not self.is_open(one, other):
            self._epoch[frozenset((one, other))] += 1
            self.parties[one].on_open(other)
            self.parties[other].on_open(one)

    def cut_by_chance(self, until: float) -> None:
        """Cut each connection for a while, now and then."""
        for one, other in itertools.combinations(self.parties, 2):
            at = self.rng.uniform(0, until / 2)
            self.at(at, lambda pair=(one, other): self.cut(*pair))  # type: ignore[misc]
            self.at(at + self.rng.uniform(0.1, until / 2), lambda pair=(one, other): self.heal(*pair))  # type: ignore[misc]

    def send(self, source: str, target: str, act: Callable[[], None]) -> None:
        """Lose it, delay it, do it twice, or let others overtake it; if nothing of that, do it in order."""
        pair = frozenset((source, target))
        epoch = self._epoch.get(pair, 0)
        chance = self.rng.random

        def arrive() -> None:
            if self._epoch.get(pair, 0) == epoch:
                act()

        for _ in range(2 if chance() < SHARE else 1):
            if epoch % 2 or chance() < SHARE:
                continue
            at = self.now + self.rng.uniform(0.001, 0.004)
            if chance() < SHARE:
                at += self.rng.uniform(0.05, 0.4)  # delayed, and overtaken
            else:
                if chance() < SHARE:
                    at += self.rng.uniform(0.01, 0.05)  # delayed, with all behind it
                at = self._line[source, target] = max(at, self._line.get((source, target), 0.0))
            self.at(at, arrive)


class Party:
    """One node.

    Args:
        takes: Judges what is handed over; None accepts all but one in twenty, which then comes again.
        knobs: Bounds other than the usual.

    Attributes:
        handled: What was accepted: (to, payload), in order.
        attempts: For each of these how often it was sent before.
        gave_up: What was given up.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        *,
        takes: Callable[[Message], Outcome] | None = None,
        retransmits: bool = True,
        remembers: bool = True,
        reroutes: bool = True,
        **knobs: Any,
    ) -> None:
        self.network = network
        self.name = name
        self.alive = True
        self.handled: list[tuple[str, Any]] = []
        self.handled_at: list[float] = []
        self.attempts: list[int] = []
        self.gave_up: list[Consignment] = []
        self.on_handled: Callable[[str, Any], None] = lambda to, payload: None
        self.members: Sequence[str] = ()  # of the only queue group
        self._takes = takes or self._usually
        self._retransmits = retransmits
        self._reroutes = reroutes
        self._wake_at = float("inf")
        rng = network.rng
        bounds: dict[str, Any] = {"window_max": 64, "held_max": 64, "hold_max_s": 30.0, "streams_max": 16} | knobs
        least = 0.1 if retransmits else 1e9
        self.sender = Sender(
            copies_max=10_000,
            bytes_max=10**9,
            window_max=bounds["window_max"],
            backoff=Backoff(least, max(least, 1.0), rng),
            rng=rng,
        )
        dedup = DedupWindow(1000, 16) if remembers else _Forgetful(1, 1)
        self.receiver = Receiver(name, lambda node: network.parties[node].alive, dedup=dedup, **bounds)
        self.past = CausalPast(name, 16, 256)
        network.parties[name] = self

    def publish(
        self,
        to: str,
        payload: Any,
        nodes: Sequence[str] = (),
        *,
        group: str = "",
        key: str = "",
        label: str = "",
        identity: MessageId | None = None,
        deadline_at: float = 0.0,
    ) -> Message:
        message = Message(14, to, {}, None, key=key, identity=identity, deadline_at=deadline_at)
        message.waiter = payload
        copies = [((node, "events"), "") for node in nodes]
        if group:
            way = self.sender.holder(group, key) if key else None
            copies.append((way or (self.network.rng.choice(self.members), "events"), group))
        before = [] if not label else self.past.before(label, self._is_open)
        consignments = self.sender.submit(message, copies)
        if label:
            own = [
                Dependency(self.name, way[0], self.sender.stream_of(way), consignment.number)
                for (way, _), consignment in zip(copies, consignments, strict=True)
            ]
            message.meta = {"label": label, "past": (*before, *own)}  # type: ignore[dict-item]
            self.past.on_sent(label, own)
        self.pump()
        return message

    def kill(self) -> None:
        """It is gone, and everybody is told."""
        self.alive = False
        for other in self.network.parties.values():
            if other.alive:
                other.on_gone(self.name)

    # -- what the driver does

    def pump(self) -> None:
        if not self.alive:
            return
        now = self.network.now
        self.apply(self.sender.on_time(now))
        for way in self.sender.ways():
            self.sender.remind(way, now)
            while self.network.is_open(self.name, way[0]):
                transmission = self.sender.take(way, now)
                if transmission is None:
                    break
                self._send(transmission)
        for peer, ack in self.receiver.take_acks():
            self.network.send(self.name, peer, lambda peer=peer, ack=ack: self._acked(peer, ack))  # type: ignore[misc]
        open_ways = [way for way in self.sender.ways() if self.network.is_open(self.name, way[0])]
        deadlines = [self.sender.next_deadline(way) for way in open_ways]
        deadlines += [self.sender.next_expiry(), self.receiver.next_deadline()]
        wake_at = min((at for at in deadlines if at is not None), default=float("inf"))
        if wake_at < self._wake_at or self._wake_at <= now:
            self._wake_at = max(wake_at, now + 1e-6)
            if self._wake_at < float("inf"):
                self.network.at(self._wake_at, self._on_time)

    def apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reroute):
                for consignment in effect.consignments:
                    others = [node for node in self.members if self.network.parties[node].alive]
                    key = consignment.message.key
                    held = self.sender.holder(consignment.group, key) if key else None
                    if others and self._reroutes:
                        self.sender.redirect(consignment, held or (self.network.rng.choice(others), "events"))
                    else:
                        self.apply(self.sender.give_up(consignment, effect.reason))
            elif isinstance(effect, GaveUp):
                self.gave_up.append(effect.consignment)

    def on_open(self, peer: str) -> None:
        if self.alive and self._retransmits:
            self.sender.on_open((peer, "events"))
            self.pump()

    def on_gone(self, peer: str) -> None:
        self.past.on_gone(peer)
        self.apply(self.sender.on_gone(peer, "it is dead"))
        self._hand_over(self.receiver.on_gone(peer))
        self.pump()

    def on_message(self, peer: str, transmission: Transmission, sends: int, number: int, left_s: float) -> None:
        if not self.alive:
            return
        message = transmission.consignment.message
        item = (message, sends - 1, self.network.now + left_s)
        meta: Any = message.meta
        ready = self.receiver.on_message(
            peer, transmission.tag, number, item, self.network.now, message.identity, meta.get("past", ())
        )
        self._hand_over(ready)
        self.pump()

    def _send(self, transmission: Transmission) -> None:
        consignment = transmission.consignment
        target = self.network.parties[consignment.way[0]]
        sends, number = consignment.sends, consignment.number
        deadline_at = consignment.message.deadline_at
        left_s = deadline_at - self.network.now if deadline_at else float("inf")  # clocks are not compared
        self.network.send(
            self.name, target.name, lambda: target.on_message(self.name, transmission, sends, number, left_s)
        )

    def _acked(self, peer: str, ack: Any) -> None:
        party = self.network.parties[peer]
        if party.alive:
            party.apply(party.sender.on_ack((self.name, "events"), ack, self.network.now))
            party.pump()

    def _hand_over(self, ready: list[Arrival]) -> None:
        queue = list(ready)
        while queue:
            arrival = queue.pop(0)
            message, attempt, deadline_at = arrival.item
            if self.network.now >= deadline_at:
                outcome = Outcome.ACCEPTED  # the driver drops what has expired, and counts it
            else:
                outcome = self._takes(message)
                if outcome is Outcome.ACCEPTED:
                    self.handled.append((message.to, message.waiter))
                    self.handled_at.append(self.network.now)
                    self.attempts.append(attempt)
                    if arrival.past:
                        self.past.on_delivered(message.meta["label"], arrival.past)
                    self.on_handled(message.to, message.waiter)
            queue += self.receiver.on_outcome(arrival, outcome, self.network.now)

    def _on_time(self) -> None:
        if self.alive:
            self._hand_over(self.receiver.on_time(self.network.now))
            self.pump()

    def _usually(self, message: Message) -> Outcome:
        return Outcome.FULL if self.network.rng.random() < 0.05 else Outcome.ACCEPTED

    def _is_open(self, dependency: Dependency) -> bool:
        return self.sender.is_open((dependency.dest, "events"), dependency.stream, dependency.sequence)


class _Forgetful(DedupWindow):
    """Effectively once without what makes it so."""

    def add(self, message: MessageId) -> None:
        pass
