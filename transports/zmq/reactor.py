"""ZeroMQ sockets on an asyncio loop, without a future for every message.

`zmq.asyncio` costs about 30 us a message. Here the loop watches a socket's file descriptor and each wake-up drains the
socket, up to a budget. Two things make this subtle:

- The descriptor is edge-triggered: it says that *something happened*, once. Reading `ZMQ_EVENTS` consumes that, and so
  does any send or receive. Whoever touches the socket must read `ZMQ_EVENTS` afterwards and act on what it says, or the
  socket stalls with messages inside: `Pump.turn` after every receive, `Pump.writable_after_send` after every send.
- With `Limits.spin_s` a reactor that has just sent or received keeps on asking its data sockets for that long, at
  every pass of the loop, before it lets the loop sleep. It spares the wake-ups, and takes a core for it.
- A flood on one socket must not starve the others. A socket that has used up its budget goes to the back: the backlog
  is worked off on later passes of the loop, coordination first, and events with half the time that data has.
"""

import asyncio
import os
from collections.abc import Callable
from typing import cast

import zmq

from transports.channel import Channel
from transports.limits import Limits

__all__ = ("Pump", "Reactor")

_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
_EVENTS = zmq.EVENTS
_LOOKS_PER_PASS = 8
# The I/O threads, and whoever else waits for this core, go first.
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: None)

# (turn in a pass, share of `drain_s_max`)
_WEIGHTS = {
    Channel.COORDINATION: (0, 1.0),
    Channel.GOSSIP: (1, 1.0),
    Channel.DATA: (2, 1.0),
    Channel.EVENTS: (3, 0.5),
}


class Reactor:
    """The sockets of one transport on one loop, and those of them that still have something to read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.loop = loop
        self.limits = limits
        self._backlog: set[Pump] = set()
        self._spin_s = limits.spin_s
        self._spun: list[Pump] = []  # whom to ask while spinning
        self._spin_until = 0.0
        self._spinning = False

    def again(self, pump: "Pump") -> None:
        """Give `pump` another turn, after everything that the loop has ready now."""
        if not self._backlog:
            self.loop.call_soon(self._turns)
        self._backlog.add(pump)

    def watch(self, pump: "Pump") -> bool:
        """Ask it while spinning. Returns whether this reactor ever does, so that `stir` is wanted."""
        if not self._spin_s or not pump.carries_payloads:
            return False
        self._spun.append(pump)
        return True

    def unwatch(self, pump: "Pump") -> None:
        """Ask it no more. Idempotent."""
        if pump in self._spun:
            self._spun.remove(pump)

    def stir(self) -> None:
        """Something was sent or received: an answer, or the next, may follow soon."""
        self._spin_until = self.loop.time() + self._spin_s
        if not self._spinning:
            self._spinning = True
            self.loop.call_soon(self._spin)

    def _spin(self) -> None:
        # A few times in one callback: a pass of the loop costs as much as twenty looks.
        try:
            for _ in range(_LOOKS_PER_PASS):
                found = [pump.look() for pump in tuple(self._spun)]  # all of them have their turn
                if True in found:
                    break
                _give_way()
        except BaseException:
            self._spinning = False
            raise
        if self._spun and self.loop.time() < self._spin_until:
            self.loop.call_soon(self._spin)
        else:
            self._spinning = False

    def _turns(self) -> None:
        backlog, self._backlog = self._backlog, set()
        for pump in sorted(backlog, key=_rank):
            pump.turn()


class Pump:
    """One socket in a reactor.

    Args:
        reactor: The reactor.
        socket: Must not be touched without reading its events afterwards; see the module.
        channel: Decides the turn and the time it gets.
        read: Receives one message, without blocking; called while there is one.
        on_writable: Called whenever the socket would take a message.
    """

    def __init__(
        self,
        reactor: Reactor,
        socket: "zmq.Socket[bytes]",
        channel: Channel,
        read: Callable[[], None],
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        self.rank, share = _WEIGHTS[channel]
        self.carries_payloads = channel.carries_payloads
        self._reactor = reactor
        self._get = cast(Callable[[int], int], socket.get)  # the options read here are numbers
        self._read = read
        self._on_writable = on_writable
        self._now = reactor.loop.time
        self._messages_max = reactor.limits.drain_messages_max
        self._turn_s_max = reactor.limits.drain_s_max * share
        self._fd = self._get(zmq.FD)
        self._open = True
        self._stirs = reactor.watch(self)
        reactor.loop.add_reader(self._fd, self.turn)
        reactor.again(self)  # what happened before we watched has left no edge

    def turn(self) -> None:
        """Read what there is, up to the budget."""
        turn_ends = 0.0
        left = self._messages_max
        try:
            while self._open:
                events = self._get(_EVENTS)
                if events & _POLLOUT and self._on_writable is not None:
                    self._on_writable()
                if not events & _POLLIN:
                    return
                if left < self._messages_max:  # one message is always read, and most turns have no second
                    turn_ends = turn_ends or self._now() + self._turn_s_max
                    if left <= 0 or self._now() >= turn_ends:
                        self._reactor.again(self)
                        return
                left -= 1
                self._read()
                if self._stirs:
                    self._reactor.stir()
        except BaseException:
            # The edge is consumed: without another turn a bug in one handler would silence the socket for ever.
            self._reactor.again(self)
            raise

    def look(self) -> bool:
        """Take a turn if there is something to do; whether there was."""
        if not self._open or not self._get(_EVENTS) & _POLLIN:
            return False
        self.turn()
        return True

    def writable_after_send(self) -> bool:
        """Read the events after a send: whether another would be taken. What arrived meanwhile gets a turn."""
        if self._stirs:
            self._reactor.stir()
        events = self._get(_EVENTS)
        if events & _POLLIN:
            self._reactor.again(self)
        return bool(events & _POLLOUT)

    def readable(self) -> bool:
        """Whether a message is there."""
        return bool(self._get(_EVENTS) & _POLLIN)

    def close(self) -> None:
        """Stop watching; to be called before the socket is closed. Idempotent."""
        if self._open:
            self._open = False
            self._reactor.unwatch(self)
            self._reactor.loop.remove_reader(self._fd)


def _rank(pump: Pump) -> int:
    return pump.rank
