"""The traffic classes: one socket, one connection and one queue each, so that none waits behind another."""

import enum

__all__ = ("Channel",)


class Channel(enum.StrEnum):
    """A traffic class. The value is its name on the wire (`docs/spec/0001-wire.md`, section 3).

    Distributed Erlang multiplexes everything on one connection per pair, so that a large message
    stalls heartbeats. Here each class has its own ROUTER, its own DEALERs and its own TCP connections.
    """

    COORDINATION = "coordination"
    GOSSIP = "gossip"
    DATA = "data"
    EVENTS = "events"

    @property
    def port_offset(self) -> int:
        """Distance of this channel's port from a node's base port."""
        return _PORT_OFFSETS[self]

    __hash__ = str.__hash__  # as it is equal to the string; that of an enum is a function in Python

    @property
    def carries_payloads(self) -> bool:
        """Whether it carries what users send, and is read on their loop, which may stall."""
        return self in (Channel.DATA, Channel.EVENTS)


_PORT_OFFSETS = {channel: offset for offset, channel in enumerate(Channel)}
