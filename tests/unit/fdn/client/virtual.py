"""A client's core without sockets or time: a test is the node, the network and the clock."""

import random
from collections.abc import Generator
from typing import Any

import msgpack

from fdn.client.codec import Received, decode
from fdn.client.connection import Dial, Hang, Sweep
from fdn.client.core import Core, Effect
from fdn.client.signals import Wait
from fdn.client.verbs import Verbs

__all__ = ("World", "welcome")


ENDPOINTS = {"coordination": "tcp://n1:1", "data": "tcp://n1:3", "events": "tcp://n1:4"}


def welcome(
    endpoints: dict[str, str] | None = None, credit: tuple[int, int] = (0, 0), **identity: Any
) -> tuple[int, str, int, int, None, Any]:
    """The envelope."""
    who = {"node": "n1-1", "name": "n1", "endpoints": endpoints or ENDPOINTS} | identity
    return 2, "", 0, 0, None, {"version": 1, "cluster": "fdn", "identity": who, "epoch": 1, "credit": credit}


class World:
    """See the module.

    Attributes:
        done: Effects carried out, in order; what `take` returned already is not among them.
    """

    def __init__(self, *seeds: str, **settings: Any) -> None:
        self.now = 100.0
        defaults: dict[str, Any] = {
            "cluster": "fdn",
            "node": "client-1",
            "name": "a test",
            "timeout_s": 5.0,
            "reconnect": True,
            "chance": random.Random(7).random,
            "number": 1000,
        }
        self.core = Core(seeds or ("tcp://n1:1",), **defaults | settings)
        self.verbs = Verbs(self.core, lambda: self.now, random.Random(8).random, 5.0)
        self.links = self.core.connection.links

    def effects(self, *kinds: type) -> list[Effect]:
        """What the core wants now."""
        found = [effect for effect in self.core.take_effects() if not isinstance(effect, Sweep)]
        return [effect for effect in found if not kinds or isinstance(effect, kinds)]

    def dialled(self) -> list[tuple[str, str]]:
        return [(effect.channel, effect.endpoint) for effect in self.effects(Dial) if isinstance(effect, Dial)]

    def hung(self) -> list[str]:
        return [effect.channel for effect in self.effects(Hang) if isinstance(effect, Hang)]

    def sent(self, channel: str) -> list[Received]:
        """What goes out on a channel now."""
        frames = iter(lambda: self.links[channel].next_frame(self.now), None)
        return [each for frame in frames for each in decode(frame)]

    def hear(self, channel: str, *envelopes: Any) -> None:
        """These come in, as one batch."""
        self.core.on_frame(channel, b"\x01" + msgpack.packb(envelopes), self.now)

    def lose(self, channel: str) -> None:
        """The connection ends."""
        self.core.connection.on_lost(channel, self.now)
        self.settle()

    def settle(self) -> None:
        """What was to be swept is: nothing else had come."""
        self.core.tick(self.now)
        self.core.connection.on_swept(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def connect(self, *channels: str, credit: tuple[int, int] = (0, 0)) -> None:
        """Until these are ready, coordination among them; nothing of it is left in `effects` and `sent`."""
        self.core.connection.want("coordination", self.now)
        for channel in ("coordination", *channels):
            if not self.links[channel].ready:
                self.core.connection.want(channel, self.now)
                self.hear(channel, welcome(credit=credit))
            self.sent(channel)
        self.core.take_effects()

    def run(self, steps: Generator[Wait, None, Any]) -> "Running":
        """Begin a verb."""
        return Running(self, steps)


class Running:
    """A verb under way: goes on when it is woken, or when time has passed."""

    def __init__(self, world: World, steps: Generator[Wait, None, Any]) -> None:
        self._world = world
        self._steps = steps
        self._wait: Wait | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False
        self._woken = True
        self.go()

    def go(self) -> "Running":
        """As far as it goes."""
        while not self.over and (self._woken or (self._wait is not None and self._world.now >= self._wait.until)):
            self._woken = False
            if self._wait is not None:
                self._wait.signal.discard(self._wake)
            try:
                self._wait = next(self._steps)
            except StopIteration as done:
                self.over, self.result = True, done.value
            except Exception as error:
                self.over, self.error = True, error
            else:
                self._wait.signal.add(self._wake)
        return self

    def close(self) -> None:
        """Whoever waits gives up."""
        self._steps.close()
        self.over = True

    def value(self) -> Any:
        self.go()
        assert self.over, "it still waits"
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def waits(self) -> bool:
        self.go()
        return not self.over

    def _wake(self) -> None:
        self._woken = True
