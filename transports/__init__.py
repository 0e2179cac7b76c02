"""Frames between processes: the wire format, ZeroMQ sockets and their in-memory twin, the channels they keep apart.

Nothing in this room imports `fdn`, `topologies` or `consensus`, or knows who is alive.
"""

__all__ = ()
