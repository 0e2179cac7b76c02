"""One simulated machine: a process that runs a program, with its clock and its disk; killed, stopped, started again.

A program is the shell around one or several cores, and the counterpart of a driver in `fdn.runtime`: it feeds them
what comes in and carries out their effects with what the process offers. It never waits. What takes time is given a
function, which is called when it is over, in this life only.
"""

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from fdn.sim.clock import Clock
from fdn.sim.disk import Disk, DiskOutcome
from fdn.sim.network import DialOutcome, Network
from fdn.sim.world import World

__all__ = ("Core", "CoreProgram", "Process", "Program")

_IDLE_TICKS_MAX: Final = 1000

_Input_contra = TypeVar("_Input_contra", contravariant=True)
_Effect_co = TypeVar("_Effect_co", covariant=True)
_Input = TypeVar("_Input")
_Effect = TypeVar("_Effect")


class Program(Protocol):
    """What a process runs during one of its lives. The factory that makes it is handed the process."""

    def on_start(self) -> None:
        """The process runs; what an earlier life left is on `process.disk`."""

    def on_message(self, sender: str, message: Any) -> None:
        """A message came in."""

    def on_tick(self) -> None:
        """`next_deadline()` has come."""

    def next_deadline(self) -> float | None:
        """When to be called next, by the clock of this machine; asked after everything that the program does."""

    def on_greeting(self, sender: str, greeting: Any) -> Any:
        """Somebody dialled us; returns what to answer."""

    def on_closed(self, peer: str) -> None:
        """The link that we hold to `peer` is gone."""


class Process:
    """One machine.

    Args:
        world: Time and chance.
        network: Where it is reachable under its name.
        name: Its name.
        program: Makes the program of a life.

    Attributes:
        life: Counts the lives; the first is 1, and before it 0.
        up: It runs, or is stopped; it has not ended.
        stopped: It exists and gets no processor.
        program: Of this life, or what the last one left.
    """

    def __init__(self, world: World, network: Network, name: str, program: Callable[["Process"], Program]) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.life = 0
        self.up = False
        self.stopped = False
        self._held: list[tuple[bool, str, Any]] | None = None  # messages that wait: outward or not, whom with, what
        self.clock = Clock(world, offset_s=world.rng("clock offsets").uniform(0.0, 1e5))
        self.disk = Disk(world, name)
        self.rng: random.Random = world.rng(f"{name}, life 0")
        self.program: Program
        self._make = program
        self._inbox: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # what waits while it is stopped
        self._armed: float | None = None  # when it will be woken
        self._idle_ticks = (0.0, 0)
        self._attempts: dict[int, Callable[[DialOutcome, Any], object]] = {}
        self._attempt_count = 0
        network.attach(self)

    # -- what programs use

    @property
    def now(self) -> float:
        """What this machine takes for the time."""
        return self.clock.now

    def send(self, peer: str, message: Any) -> None:
        """Send; may be lost. See `Network`."""
        if self._held is not None:
            self._held.append((True, peer, message))
            return
        self.network.send(self.name, peer, message)

    def dial(self, peer: str, greeting: Any, done: Callable[[DialOutcome, Any], object]) -> None:
        """Shake hands; `done` is given the outcome and what the peer's `on_greeting` returned."""
        self._attempt_count += 1
        self._attempts[self._attempt_count] = done
        self.network.dial(self.name, peer, self._attempt_count, greeting)

    def link(self, peer: str) -> None:
        """Keep the connection of a dial that was answered; `on_closed` tells when it is lost."""
        self.network.link(self.name, peer)

    def unlink(self, peer: str) -> None:
        """End our link to `peer`."""
        self.network.unlink(self.name, peer)

    def hang_up(self, peer: str) -> None:
        """End the link that `peer` holds to us."""
        self.network.hang_up(peer, self.name)

    def persist(
        self, records: Sequence[bytes], done: Callable[[DiskOutcome], object], *, rewrite: bool = False
    ) -> None:
        """Write to the disk and sync; see `Disk.persist`."""
        life = self.life
        self.disk.persist(records, lambda outcome: self._in_life(life, done, outcome), rewrite=rewrite)

    def fail(self, reason: str, restart_after_s: float) -> None:
        """Give up this life, as on a fault that only a fresh start can cure; its supervisor starts it again."""
        self.note("gives up", reason)
        self.crash(power=False)
        self.world.after(restart_after_s, self.start)

    def note(self, what: str, *facts: Any) -> None:
        """Have something in the report of the run."""
        self.world.note(what, self.name, *facts)

    # -- what happens to it

    def start(self) -> None:
        """Begin a life. Does nothing to one that is up."""
        if self.up:
            return
        self.life += 1
        self.up = True
        self.rng = self.world.rng(f"{self.name}, life {self.life}")
        self.note("starts", self.life)
        self.program = self._make(self)
        self._run(self.program.on_start, ())

    def crash(self, *, power: bool = True) -> None:
        """End this life without warning.

        Args:
            power: The whole machine goes down, and its disk may lose what was not synced. Else only the process was
                killed, and what it has written is safe in the kernel.
        """
        if not self.up:
            return
        self.note("crashes" if power else "is killed")
        self.up = self.stopped = False
        self._inbox.clear()
        self._held = None
        self._attempts.clear()
        self._armed = None
        self.disk.crash(power=power)
        self.network.on_ended(self.name)

    def stop(self) -> None:
        """SIGSTOP: it does nothing, its connections stay, and what comes in waits."""
        if self.up and not self.stopped:
            self.note("is stopped")
            self.stopped = True

    def resume(self) -> None:
        """SIGCONT. Whether it finds its timers or its messages first is chance."""
        if not self.stopped:
            return
        self.note("goes on")
        self.stopped = False
        ticks_first = self.world.rng("timers first").random() < 0.5
        if ticks_first:
            self._tick_if_due()
        waiting, self._inbox = self._inbox, []
        for act, arguments in waiting:
            if self.up:
                self._run(act, arguments)
        self._armed = None
        self._arm()

    def hold_messages(self) -> None:
        """From now on messages wait, those that it sends and those that it gets, while its timers run on.

        That is what a member looks like whose threads starve each other: the anomaly of the Lifeguard paper.
        """
        if self.up and self._held is None:
            self.note("holds messages")
            self._held = []

    def release_messages(self) -> None:
        """All that waited goes its way, what it had sent first."""
        waiting, self._held = self._held or [], None
        self.note("releases messages", len(waiting))
        waiting.sort(key=lambda it: not it[0])
        for outward, peer, message in waiting:
            if outward:
                self.send(peer, message)
            else:
                self.on_message(peer, message)

    def call(self, act: Callable[..., object], *arguments: Any) -> None:
        """Have something done inside, as by the user of the program; waits while it is stopped, or is lost."""
        self._in_life(self.life, act, *arguments)

    def on_message(self, sender: str, message: Any) -> None:
        """From the network."""
        if self._held is not None:
            self._held.append((False, sender, message))
        else:
            self._in_life(self.life, self.program.on_message, sender, message)

    def on_greeting(self, sender: str, greeting: Any, reply: Callable[[Any], object]) -> None:
        """From the network."""
        self._in_life(self.life, lambda: reply(self.program.on_greeting(sender, greeting)))

    def on_dialled(self, life: int, attempt: int, outcome: DialOutcome, reply: Any) -> None:
        """From the network: the first of answer, refusal and timeout counts."""
        if life == self.life and attempt in self._attempts:
            self._in_life(life, self._attempts.pop(attempt), outcome, reply)

    def on_closed(self, peer: str) -> None:
        """From the network."""
        self._in_life(self.life, self.program.on_closed, peer)

    def on_clock_changed(self) -> None:
        """Whoever has turned the clock says so: timers are due at another true time."""
        self._armed = None
        if self.up:
            self._arm()

    # -- inside

    def _in_life(self, life: int, act: Callable[..., object], *arguments: Any) -> None:
        if life != self.life or not self.up:
            return
        if self.stopped:
            self._inbox.append((act, arguments))
        else:
            self._run(act, arguments)

    def _run(self, act: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        act(*arguments)
        if self.up:
            self._arm()

    def _arm(self) -> None:
        if self.stopped:
            return
        due = self.program.next_deadline()
        if due is None:
            return
        when = self.clock.when(due)
        if self._armed is None or when < self._armed:  # else it will be woken before, and asks again
            self._armed = when
            self.world.at(when, self._on_timer, self.life, when)

    def _on_timer(self, life: int, when: float) -> None:
        if life != self.life or not self.up or when != self._armed:
            return
        self._armed = None
        if not self.stopped:
            self._tick_if_due()
            if self.up:
                self._arm()

    def _tick_if_due(self) -> None:
        due = self.program.next_deadline()
        if due is None or due > self.clock.now:
            return
        at, count = self._idle_ticks
        self._idle_ticks = (self.world.now, count + 1 if at == self.world.now else 1)
        if self._idle_ticks[1] > _IDLE_TICKS_MAX:
            raise RuntimeError(
                f"{self.name} was ticked {_IDLE_TICKS_MAX} times in one instant, and still wants to be woken at {due}; "
                "after on_tick, next_deadline() must lie in the future"
            )
        self.program.on_tick()


class Core(Protocol[_Input_contra, _Effect_co]):
    """A pure core: decides, and does nothing."""

    def handle(self, input: _Input_contra, now: float) -> Iterable[_Effect_co]:
        """Take in one input; returns what is to be done."""

    def next_deadline(self) -> float | None:
        """When to be handed a tick."""


@dataclasses.dataclass(slots=True)
class CoreProgram(Generic[_Input, _Effect]):
    """The program of a process that runs one core, for cores that need messages and ticks only.

    Attributes:
        process: Where it runs.
        core: The core.
        tick: The input that says that a deadline has come.
        received: Makes the input of a message from its sender and the message.
        carry_out: Does what an effect says: `process.send`, `process.persist` and so on.
    """

    process: Process
    core: Core[_Input, _Effect]
    tick: _Input
    received: Callable[[str, Any], _Input]
    carry_out: Callable[[_Effect], object]

    def feed(self, input: _Input) -> None:
        """Hand the core one input and carry out what it returns."""
        for effect in self.core.handle(input, self.process.now):
            self.carry_out(effect)

    def on_start(self) -> None:
        """Nothing: the core was made with all it needs."""

    def on_message(self, sender: str, message: Any) -> None:
        self.feed(self.received(sender, message))

    def on_tick(self) -> None:
        self.feed(self.tick)

    def next_deadline(self) -> float | None:
        return self.core.next_deadline()

    def on_greeting(self, sender: str, greeting: Any) -> None:
        """Whoever dials is answered."""

    def on_closed(self, peer: str) -> None:
        """Nothing: such a core knows no links."""
