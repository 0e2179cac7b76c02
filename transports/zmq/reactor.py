"""ZeroMQ sockets on an asyncio loop, without a future for every message.

`zmq.asyncio` costs about 30 us a message. Here the loop watches a socket's file descriptor and each wake-up drains the
socket, up to a budget. Two things make this subtle:

- The descriptor is edge-triggered: it says that *something happened*, once. Reading `ZMQ_EVENTS` consumes that, and so
  does any send or receive. Whoever touches the socket must read `ZMQ_EVENTS` afterwards and act on what it says, or the
  socket stalls with messages inside: `Pump.turn` after every receive, `Pump.writable_after_send` after every send.
- A flood on one socket must not starve the others. A socket that has used up its budget goes to the back: the backlog
  is worked off on later passes of the loop, coordination first, and events with half the time that data has.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import zmq

from transports.channel import Channel
from transports.limits import Limits

__all__ = ("Pump", "Reactor")

_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
_EVENTS = zmq.EVENTS

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

    def again(self, pump: "Pump") -> None:
        """Give `pump` another turn, after everything that the loop has ready now."""
        if not self._backlog:
            self.loop.call_soon(self._turns)
        self._backlog.add(pump)

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
        self._reactor = reactor
        self._get = cast(Callable[[int], int], socket.get)  # the options read here are numbers
        self._read = read
        self._on_writable = on_writable
        self._now = reactor.loop.time
        self._messages_max = reactor.limits.drain_messages_max
        self._turn_s_max = reactor.limits.drain_s_max * share
        self._fd = self._get(zmq.FD)
        self._open = True
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
        except BaseException:
            # The edge is consumed: without another turn a bug in one handler would silence the socket for ever.
            self._reactor.again(self)
            raise

    def writable_after_send(self) -> bool:
        """Read the events after a send: whether another would be taken. What arrived meanwhile gets a turn."""
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
            self._reactor.loop.remove_reader(self._fd)


def _rank(pump: Pump) -> int:
    return pump.rank
