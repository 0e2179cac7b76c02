"""The network between simulated processes: messages, handshakes, connections, and all that goes wrong with them.

Each direction of each pair has its own conditions (`Path`). A fault is a rule over sources and targets that replaces
the path for a while, or cuts it: a partition is two rules, a one-way cut is one.

Two ways to talk, and a program may mix them:

- `send` alone is a datagram: whoever runs under that name gets it, unless it is lost.
- `dial` shakes hands: it is answered, refused (nobody runs there) or not answered in time. `link` keeps the connection
  that an answered dial has made: from then on `send` uses it, and its loss is told, as a kernel does: at once when the
  peer's process ends, never while the path is cut, and with the next message when the peer has started again or hung
  up meanwhile.
"""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from fdn.sim.latency import Latency, Uniform
from fdn.sim.world import World

if TYPE_CHECKING:
    from fdn.sim.process import Process

__all__ = ("DialOutcome", "Network", "NetworkStats", "Path", "Rule")

_ARRIVALS_MAX: Final = 65536  # past this, what has arrived is forgotten
_HUNG_UP: Final = 0  # no life has this number


class DialOutcome(enum.Enum):
    """What came of dialling."""

    ANSWERED = "answered"
    REFUSED = "refused"  # the machine is there, nobody listens
    UNREACHABLE = "unreachable"  # no answer in time


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What one direction between two processes is like.

    Attributes:
        latency: Of each message.
        loss: Chance that a message does not arrive.
        duplication: Chance that it arrives a second time, one more latency later.
        reordering: Chance that it is held up by `held_up_s`, while later ones overtake it.
        held_up_s: At most; any time up to it is equally likely.
        ordered: Nothing overtakes but what `reordering` holds up, as on one TCP connection.
    """

    latency: Latency = dataclasses.field(default_factory=functools.partial(Uniform, 0.0002, 0.002))
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    held_up_s: float = 0.05
    ordered: bool = True

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reordering"):
            chance = getattr(self, name)
            if not 0.0 <= chance <= 1.0:
                raise ValueError(f"{name} is {chance}; it is a chance, from 0 to 1")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """For what goes from any of `sources` to any of `targets`: another path, or none at all."""

    sources: frozenset[str]
    targets: frozenset[str]
    path: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkStats:
    """Counters since the start."""

    sent: int
    arrived: int
    dropped: int  # lost, cut, or nobody there
    duplicated: int
    dials: int
    bytes: int  # of what was sent, while `weigh` was set


class Network:
    """Carries messages between the processes of one world.

    Args:
        world: Time and chance.
        path: Where no rule says otherwise.
        dial_timeout_s: When a dial that nobody answers has failed.

    Attributes:
        weigh: How many bytes a message has; None: they are not counted, which saves time.
    """

    def __init__(self, world: World, path: Path | None = None, dial_timeout_s: float = 2.0) -> None:
        self._world = world
        self._path = path or Path()
        self._dial_timeout_s = dial_timeout_s
        self._processes: dict[str, Process] = {}
        self._rules: list[Rule] = []
        self._ruled: dict[tuple[str, str], Path | None] = {}  # what the rules say of pairs that were asked for
        self._arrivals: dict[tuple[str, str], float] = {}  # the last one of each pair, for `ordered`
        self._links: dict[str, dict[str, int]] = {}  # target -> source -> the life of the target that was dialled
        self._latency_rng = world.rng("network latency")
        self._loss_rng = world.rng("network loss")
        self._duplication_rng = world.rng("network duplication")
        self._reordering_rng = world.rng("network reordering")
        self.weigh: Callable[[Any], int] | None = None
        self._bytes = 0
        self._sent = self._arrived = self._dropped = self._duplicated = self._dials = 0

    def attach(self, process: "Process") -> None:
        """Make a process reachable under its name, whether or not it runs."""
        self._processes[process.name] = process

    def stats(self) -> NetworkStats:
        return NetworkStats(self._sent, self._arrived, self._dropped, self._duplicated, self._dials, self._bytes)

    # -- faults

    def impose(self, sources: Collection[str], targets: Collection[str], path: Path | None) -> Rule:
        """Replace the path from these to those, until `lift`; None cuts it.

        Of several rules for one pair the latest holds, unless one of them cuts.
        """
        rule = Rule(frozenset(sources), frozenset(targets), path)
        self._rules.append(rule)
        self._ruled.clear()
        return rule

    def lift(self, rule: Rule) -> None:
        """Take a rule away."""
        self._rules.remove(rule)
        self._ruled.clear()

    def path(self, source: str, target: str) -> Path | None:
        """What holds from `source` to `target` now; None where nothing goes through."""
        if not self._rules:
            return self._path
        pair = (source, target)
        try:
            return self._ruled[pair]
        except KeyError:
            found: Path | None = self._path
            for rule in self._rules:
                if source in rule.sources and target in rule.targets and found is not None:
                    found = rule.path
            self._ruled[pair] = found
            return found

    # -- what processes do

    def send(self, source: str, target: str, message: Any) -> None:
        """Carry a message, over the link if there is one."""
        self._sent += 1
        if self.weigh is not None:
            self._bytes += self.weigh(message)
        path = self.path(source, target)
        latency_s = (path or self._path).latency.draw(self._latency_rng)  # also for the lost: the next draw stays put
        if path is None or (path.loss and self._loss_rng.random() < path.loss):
            self._dropped += 1
            return
        links = self._links.get(target)
        life = links.get(source) if links is not None else None
        arrives = self._world.now + latency_s
        if path.reordering and self._reordering_rng.random() < path.reordering:
            arrives += path.held_up_s * self._reordering_rng.random()
        elif path.ordered:
            arrives = self._in_order(source, target, arrives)
        self._world.at(arrives, self._arrive, source, target, message, life)
        if path.duplication and self._duplication_rng.random() < path.duplication:
            self._duplicated += 1
            later_s = path.latency.draw(self._duplication_rng)
            self._world.at(arrives + later_s, self._arrive, source, target, message, life)

    def dial(self, source: str, target: str, attempt: int, greeting: Any) -> None:
        """Shake hands; the source's process is told the outcome of its `attempt`."""
        self._dials += 1
        dialler = self._processes[source]
        self._world.after(
            self._dial_timeout_s, dialler.on_dialled, dialler.life, attempt, DialOutcome.UNREACHABLE, None
        )
        latency_s = self._one_way_s(source, target)
        if latency_s is not None:
            self._world.after(latency_s, self._on_syn, source, dialler.life, target, attempt, greeting)

    def link(self, source: str, target: str) -> None:
        """Keep the connection from `source` to `target` that was just made."""
        self._links.setdefault(target, {})[source] = self._processes[target].life

    def unlink(self, source: str, target: str) -> None:
        """The dialler's end: it is gone, and nobody is told."""
        self._links.get(target, {}).pop(source, None)

    def hang_up(self, source: str, target: str) -> None:
        """The listener's end: `target` ends the connection from `source`, who hears of it by using it at the latest."""
        links = self._links.get(target, {})
        if source in links:
            links[source] = _HUNG_UP
            self._tell_closed(target, source)

    def on_ended(self, name: str) -> None:
        """A process ended: its kernel closes its connections, and whoever can be reached is told."""
        for links in self._links.values():
            links.pop(name, None)
        for source in self._links.get(name, {}):
            self._tell_closed(name, source)

    # -- on its way

    def _arrive(self, source: str, target: str, message: Any, life: int | None) -> None:
        process = self._processes.get(target)
        if process is None or (self._rules and self.path(source, target) is None):
            self._dropped += 1
            return
        if life is not None and (self._links[target].get(source) != life or life != process.life or not process.up):
            self._dropped += 1
            if process.up or source in self._links[target]:
                self._tell_closed(target, source)
            return
        if not process.up:
            self._dropped += 1
            return
        self._arrived += 1
        process.on_message(source, message)

    def _on_syn(self, source: str, life: int, target: str, attempt: int, greeting: Any) -> None:
        process = self._processes.get(target)
        if self.path(source, target) is None:
            return
        if process is None or not process.up:
            self._answer_dial(source, life, target, attempt, DialOutcome.REFUSED, None)
            return
        process.on_greeting(
            source,
            greeting,
            lambda reply: self._answer_dial(source, life, target, attempt, DialOutcome.ANSWERED, reply),
        )

    def _answer_dial(self, source: str, life: int, target: str, attempt: int, outcome: DialOutcome, reply: Any) -> None:
        latency_s = self._one_way_s(target, source)
        if latency_s is not None:
            self._world.after(latency_s, self._processes[source].on_dialled, life, attempt, outcome, reply)

    def _tell_closed(self, target: str, source: str) -> None:
        latency_s = self._one_way_s(target, source)
        if latency_s is not None:
            self._world.after(latency_s, self._on_fin, target, source)

    def _on_fin(self, target: str, source: str) -> None:
        links = self._links.get(target, {})
        life = links.get(source)
        process = self._processes[target]
        if life is None or (life == process.life and process.up):
            return  # given up, or made anew, in the meantime
        if self.path(target, source) is not None:
            del links[source]
            self._processes[source].on_closed(target)

    def _one_way_s(self, source: str, target: str) -> float | None:
        """How long a packet that the kernel repeats takes; None when it gets through neither now nor soon."""
        path = self.path(source, target)
        latency_s = (path or self._path).latency.draw(self._latency_rng)
        if path is None or (path.loss and self._loss_rng.random() < path.loss**3):
            return None  # repeated twice, in vain
        return latency_s

    def _in_order(self, source: str, target: str, arrives: float) -> float:
        pair = (source, target)
        last = self._arrivals.get(pair, -math.inf)
        if last > arrives:
            arrives = last
        self._arrivals[pair] = arrives
        if len(self._arrivals) > _ARRIVALS_MAX:
            now = self._world.now
            self._arrivals = {pair: at for pair, at in self._arrivals.items() if at > now}
        return arrives
